//! A cluster as the control plane sees it: changes of access can lose their answer, or land late.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use crossfade::{
    Access, BoxFuture, Error, ErrorKind, Result,
    backend::{BackendAdmin, TopicSettings, fault::Layer},
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
impl Layer for Fates {
    fn set_access<'a>(
        &'a self,
        inner: &'a Arc<dyn BackendAdmin>,
        topic: &'a str,
        settings: &'a TopicSettings,
        access: Access,
    ) -> BoxFuture<'a, Result<()>> {
        let fate = self.lock().pop();
        if fate.is_some() {
            self.effects.touch(Fault::AccessInFlight);
        }
        let no_answer = || Err(Error::new(ErrorKind::Timeout, "set access", "no answer"));
        Box::pin(async move {
            match fate {
                None => inner.set_access(topic, settings, access).await,
                Some(AccessFate::AnswerLost) => {
                    inner.set_access(topic, settings, access).await?;
                    sleep(NO_ANSWER).await;
                    no_answer()
                }
                Some(AccessFate::RequestLost) => {
                    sleep(NO_ANSWER).await;
                    no_answer()
                }
                Some(AccessFate::Late(after)) => {
                    let inner = Arc::clone(inner);
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
}
