//! A cluster as the control plane sees it: changes of access can lose their answer, or land late.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use crossfade::{
    Access, BoxFuture, Error, ErrorKind, Result,
    backend::{
        Backend, BackendAdmin, BackendConsumer, BackendProducer, Backlog, Capability,
        ConnectedClient, GroupMembers, QueueId, Subscription, TopicDescription, TopicSettings,
    },
};
use tokio::time::sleep;

use crate::{effect::Effects, fault::Fault};

/// What becomes of one change of access.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum AccessFate {
    /// Made; nobody hears of it.
    AnswerLost,
    /// Not made; nobody can know.
    RequestLost,
    /// As the last for the caller, but made so much later.
    Late(Duration),
}

/// How long a change without an answer takes to fail.
const NO_ANSWER: Duration = Duration::from_secs(1);

/// Chooses the fates of the next changes.
#[derive(Clone, Debug)]
pub(crate) struct Fates {
    next: Arc<Mutex<Vec<AccessFate>>>,
    effects: Effects,
}

impl Fates {
    pub(crate) fn new(effects: Effects) -> Self {
        Fates {
            next: Arc::default(),
            effects,
        }
    }

    pub(crate) fn push(&self, fate: AccessFate) {
        self.lock().push(fate);
    }

    pub(crate) fn clear(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> MutexGuard<'_, Vec<AccessFate>> {
        self.next.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A cluster with such changes.
#[derive(Debug)]
pub(crate) struct Brokers {
    pub(crate) inner: Arc<dyn Backend>,
    pub(crate) fates: Fates,
}

#[derive(Debug)]
struct Admin {
    inner: Arc<dyn BackendAdmin>,
    fates: Fates,
}

impl Backend for Brokers {
    fn scheme(&self) -> &'static str {
        self.inner.scheme()
    }

    fn capability(&self) -> Capability {
        self.inner.capability()
    }

    fn client_id(&self) -> &str {
        self.inner.client_id()
    }

    fn producer<'a>(&'a self, topic: &'a str) -> BoxFuture<'a, Result<Arc<dyn BackendProducer>>> {
        self.inner.producer(topic)
    }

    fn consumer<'a>(
        &'a self,
        subscription: &'a Subscription,
    ) -> BoxFuture<'a, Result<Arc<dyn BackendConsumer>>> {
        self.inner.consumer(subscription)
    }

    fn admin(&self) -> Arc<dyn BackendAdmin> {
        Arc::new(Admin {
            inner: self.inner.admin(),
            fates: self.fates.clone(),
        })
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        self.inner.close()
    }
}

impl BackendAdmin for Admin {
    fn set_access<'a>(
        &'a self,
        topic: &'a str,
        settings: &'a TopicSettings,
        access: Access,
    ) -> BoxFuture<'a, Result<()>> {
        let fate = self.fates.lock().pop();
        if fate.is_some() {
            self.fates.effects.touch(Fault::AccessInFlight);
        }
        let no_answer = || Err(Error::new(ErrorKind::Timeout, "set access", "no answer"));
        Box::pin(async move {
            match fate {
                None => self.inner.set_access(topic, settings, access).await,
                Some(AccessFate::AnswerLost) => {
                    self.inner.set_access(topic, settings, access).await?;
                    sleep(NO_ANSWER).await;
                    no_answer()
                }
                Some(AccessFate::RequestLost) => {
                    sleep(NO_ANSWER).await;
                    no_answer()
                }
                Some(AccessFate::Late(after)) => {
                    let inner = Arc::clone(&self.inner);
                    let (topic, settings) = (topic.to_owned(), settings.clone());
                    tokio::spawn(async move {
                        sleep(NO_ANSWER + after).await;
                        // Nobody waits for it.
                        let _ = inner.set_access(&topic, &settings, access).await;
                    });
                    sleep(NO_ANSWER).await;
                    no_answer()
                }
            }
        })
    }

    fn topics(&self) -> BoxFuture<'_, Result<Vec<String>>> {
        self.inner.topics()
    }

    fn topic<'a>(&'a self, topic: &'a str) -> BoxFuture<'a, Result<Option<TopicDescription>>> {
        self.inner.topic(topic)
    }

    fn create_topic<'a>(&'a self, topic: &'a str, queues: u32) -> BoxFuture<'a, Result<()>> {
        self.inner.create_topic(topic, queues)
    }

    fn delete_topic<'a>(&'a self, topic: &'a str) -> BoxFuture<'a, Result<()>> {
        self.inner.delete_topic(topic)
    }

    fn create_group<'a>(&'a self, group: &'a str) -> BoxFuture<'a, Result<()>> {
        self.inner.create_group(group)
    }

    fn delete_group<'a>(&'a self, group: &'a str) -> BoxFuture<'a, Result<()>> {
        self.inner.delete_group(group)
    }

    fn group_exists<'a>(&'a self, group: &'a str) -> BoxFuture<'a, Result<bool>> {
        self.inner.group_exists(group)
    }

    fn groups<'a>(&'a self, topic: &'a str) -> BoxFuture<'a, Result<Vec<String>>> {
        self.inner.groups(topic)
    }

    fn commit_first_offsets<'a>(
        &'a self,
        topic: &'a str,
        group: &'a str,
        settings: &'a TopicSettings,
    ) -> BoxFuture<'a, Result<()>> {
        self.inner.commit_first_offsets(topic, group, settings)
    }

    fn backlog<'a>(
        &'a self,
        topic: &'a str,
        group: &'a str,
        settings: &'a TopicSettings,
    ) -> BoxFuture<'a, Result<Backlog>> {
        self.inner.backlog(topic, group, settings)
    }

    fn backlogs<'a>(
        &'a self,
        topic: &'a str,
        groups: &'a [Arc<str>],
        settings: &'a TopicSettings,
    ) -> BoxFuture<'a, Result<BTreeMap<Arc<str>, Backlog>>> {
        self.inner.backlogs(topic, groups, settings)
    }

    fn ends<'a>(
        &'a self,
        topic: &'a str,
        settings: &'a TopicSettings,
    ) -> BoxFuture<'a, Result<BTreeMap<QueueId, u64>>> {
        self.inner.ends(topic, settings)
    }

    fn members<'a>(&'a self, group: &'a str) -> BoxFuture<'a, Result<GroupMembers>> {
        self.inner.members(group)
    }

    fn pops<'a>(&'a self, topic: &'a str, group: &'a str) -> BoxFuture<'a, Result<bool>> {
        self.inner.pops(topic, group)
    }

    fn producers(&self) -> BoxFuture<'_, Result<Option<Vec<ConnectedClient>>>> {
        self.inner.producers()
    }
}
