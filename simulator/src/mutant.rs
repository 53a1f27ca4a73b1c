//! The clusters of mutations.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use crossfade::{
    Access, BoxFuture, Error, ErrorKind, Persisted, Result, Side,
    backend::{
        AckToken, Backend, BackendAdmin, BackendConsumer, BackendProducer, Backlog, Capability,
        ConnectedClient, GroupMembers, Incoming, Outgoing, QueueId, Stored, Subscription,
        TopicDescription, TopicSettings, Unreadable,
    },
};
use tokio::time::sleep;

use crate::mutation::Mutation;

/// A cluster that breaks what the mutation says.
#[derive(Debug)]
pub(crate) struct Mutant {
    mutation: Mutation,
    side: Side,
    inner: Arc<dyn Backend>,
    seed: u64,
    /// The access that was asked for last.
    asked: Arc<Mutex<Option<Access>>>,
}

impl Mutant {
    pub(crate) fn new(mutation: Mutation, side: Side, inner: Arc<dyn Backend>, seed: u64) -> Self {
        Mutant {
            mutation,
            side,
            inner,
            seed,
            asked: Arc::default(),
        }
    }
}

impl Backend for Mutant {
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
        Box::pin(async move {
            let producer = MutantProducer {
                mutation: self.mutation,
                inner: self.inner.producer(topic).await?,
                sent: Mutex::new(self.seed),
            };
            Ok(Arc::new(producer) as Arc<dyn BackendProducer>)
        })
    }

    fn consumer<'a>(
        &'a self,
        subscription: &'a Subscription,
    ) -> BoxFuture<'a, Result<Arc<dyn BackendConsumer>>> {
        Box::pin(async move {
            let inner = self.inner.consumer(subscription).await?;
            let late = self.mutation == Mutation::TargetStartsLate && self.side == Side::Target;
            let consumer = MutantConsumer {
                mutation: self.mutation,
                inner: Arc::clone(&inner),
                skips: Mutex::new(late),
            };
            Ok(Arc::new(consumer) as Arc<dyn BackendConsumer>)
        })
    }

    fn admin(&self) -> Arc<dyn BackendAdmin> {
        Arc::new(MutantAdmin {
            mutation: self.mutation,
            inner: self.inner.admin(),
            asked: Arc::clone(&self.asked),
        })
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        self.inner.close()
    }
}

#[derive(Debug)]
struct MutantProducer {
    mutation: Mutation,
    inner: Arc<dyn BackendProducer>,
    sent: Mutex<u64>,
}

impl BackendProducer for MutantProducer {
    fn send<'a>(
        &'a self,
        outgoing: Outgoing<'a>,
        timeout: Duration,
    ) -> BoxFuture<'a, Result<Stored>> {
        Box::pin(async move {
            let number = {
                let mut sent = self.sent.lock().unwrap_or_else(PoisonError::into_inner);
                *sent = sent.wrapping_add(1);
                *sent
            };
            match self.mutation {
                Mutation::SuccessWithoutStore if number % 50 == 0 => Ok(Stored {
                    message_id: format!("lost-{number}"),
                    queue: QueueId {
                        broker: "memory".into(),
                        queue: 0,
                    },
                    offset: None,
                }),
                // One in twenty is stored, and told otherwise.
                Mutation::AmbiguousCalledDefinite if number % 20 == 0 => {
                    self.inner.send(outgoing, timeout).await?;
                    Err(
                        Error::new(ErrorKind::InvalidMessage, "send", "not stored, it says")
                            .with_persisted(Persisted::No),
                    )
                }
                _ => self.inner.send(outgoing, timeout).await,
            }
        })
    }

    fn ambiguity_bound(&self) -> Duration {
        self.inner.ambiguity_bound()
    }
}

#[derive(Debug)]
struct MutantConsumer {
    mutation: Mutation,
    inner: Arc<dyn BackendConsumer>,
    /// What comes first is dropped.
    skips: Mutex<bool>,
}

impl BackendConsumer for MutantConsumer {
    fn receive(&self, max: usize, wait: Duration) -> BoxFuture<'_, Result<Vec<Incoming>>> {
        Box::pin(async move {
            let received = self.inner.receive(max, wait).await?;
            let skips = !received.is_empty() && {
                let mut skips = self.skips.lock().unwrap_or_else(PoisonError::into_inner);
                std::mem::take(&mut *skips)
            };
            if skips || self.mutation == Mutation::AckAtReceive {
                for incoming in &received {
                    self.inner.ack(incoming.token).await?;
                }
            }
            Ok(if skips { Vec::new() } else { received })
        })
    }

    fn ack(&self, token: AckToken) -> BoxFuture<'_, Result<()>> {
        match self.mutation {
            Mutation::AckAtReceive => Box::pin(async { Ok(()) }),
            _ => self.inner.ack(token),
        }
    }

    fn nack(&self, token: AckToken, delay: Duration) -> BoxFuture<'_, Result<()>> {
        match self.mutation {
            Mutation::AckAtReceive => Box::pin(async { Ok(()) }),
            Mutation::GivenBackIsAcked => self.inner.ack(token),
            _ => self.inner.nack(token, delay),
        }
    }

    fn ready(&self) -> BoxFuture<'_, Result<()>> {
        self.inner.ready()
    }

    fn assigned(&self) -> Vec<QueueId> {
        self.inner.assigned()
    }

    fn unreadable(&self) -> Vec<Unreadable> {
        self.inner.unreadable()
    }

    fn close(&self) -> BoxFuture<'_, Result<()>> {
        self.inner.close()
    }
}

#[derive(Debug)]
struct MutantAdmin {
    mutation: Mutation,
    inner: Arc<dyn BackendAdmin>,
    asked: Arc<Mutex<Option<Access>>>,
}

impl MutantAdmin {
    fn counted(&self, mut backlog: Backlog) -> Backlog {
        match self.mutation {
            Mutation::RetryNotOwed => {
                backlog.retry.clear();
                // What waits for its next try is delayed too.
                backlog.delayed = Some(0);
            }
            Mutation::DelayedNotOwed => backlog.delayed = Some(0),
            Mutation::BacklogNotOwed => {
                for queue in &mut backlog.queues {
                    queue.committed = Some(queue.end);
                }
            }
            _ => {}
        }
        backlog
    }
}

impl BackendAdmin for MutantAdmin {
    fn topics(&self) -> BoxFuture<'_, Result<Vec<String>>> {
        self.inner.topics()
    }

    fn topic<'a>(&'a self, topic: &'a str) -> BoxFuture<'a, Result<Option<TopicDescription>>> {
        Box::pin(async move {
            let mut described = self.inner.topic(topic).await?;
            if let Some(described) = &mut described
                && self.mutation == Mutation::SealOnlyCloses
                && described.access == Access::Closed
            {
                let asked = *self.asked.lock().unwrap_or_else(PoisonError::into_inner);
                described.access = asked.unwrap_or(described.access);
            }
            Ok(described)
        })
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

    fn set_access<'a>(
        &'a self,
        topic: &'a str,
        settings: &'a TopicSettings,
        access: Access,
    ) -> BoxFuture<'a, Result<()>> {
        *self.asked.lock().unwrap_or_else(PoisonError::into_inner) = Some(access);
        if self.mutation == Mutation::AccessLandsTooLate && access != Access::Sealed {
            let inner = Arc::clone(&self.inner);
            let (topic, settings) = (topic.to_owned(), settings.clone());
            tokio::spawn(async move {
                sleep(Duration::from_secs(4)).await;
                // Nobody waits for it.
                let _ = inner.set_access(&topic, &settings, access).await;
            });
        }
        let made = match (self.mutation, access) {
            (Mutation::SealOnlyCloses, Access::Sealed) => Access::Closed,
            _ => access,
        };
        self.inner.set_access(topic, settings, made)
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
        Box::pin(async move {
            let backlog = self.inner.backlog(topic, group, settings).await?;
            Ok(self.counted(backlog))
        })
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

    fn producers(&self) -> BoxFuture<'_, Result<Option<Vec<ConnectedClient>>>> {
        self.inner.producers()
    }
}
