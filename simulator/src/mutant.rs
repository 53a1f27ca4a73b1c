//! The clusters of mutations.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use crossfade::{
    Access, BoxFuture, Error, ErrorKind, Persisted, Result, Side,
    backend::{
        AckToken, BackendAdmin, BackendConsumer, BackendProducer, Backlog, Incoming, Outgoing,
        QueueId, Stored, TopicDescription, TopicSettings, fault::Layer,
    },
};
use tokio::time::sleep;

use crate::mutation::Mutation;

/// A cluster that breaks what the mutation says.
#[derive(Debug)]
pub(crate) struct Mutant {
    mutation: Mutation,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    sent: u64,
    /// What comes first is dropped.
    skips: bool,
    /// The access that was asked for last.
    asked: Option<Access>,
}

impl Mutant {
    pub(crate) fn new(mutation: Mutation, side: Side, seed: u64) -> Self {
        Mutant {
            mutation,
            state: Mutex::new(State {
                sent: seed,
                skips: mutation == Mutation::TargetStartsLate && side == Side::Target,
                asked: None,
            }),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Layer for Mutant {
    fn send<'a>(
        &'a self,
        inner: &'a Arc<dyn BackendProducer>,
        outgoing: Outgoing<'a>,
        timeout: Duration,
    ) -> BoxFuture<'a, Result<Stored>> {
        Box::pin(async move {
            let number = {
                let mut state = self.state();
                state.sent = state.sent.wrapping_add(1);
                state.sent
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
                    inner.send(outgoing, timeout).await?;
                    Err(
                        Error::new(ErrorKind::InvalidMessage, "send", "not stored, it says")
                            .with_persisted(Persisted::No),
                    )
                }
                _ => inner.send(outgoing, timeout).await,
            }
        })
    }

    fn receive<'a>(
        &'a self,
        inner: &'a Arc<dyn BackendConsumer>,
        max: usize,
        wait: Duration,
    ) -> BoxFuture<'a, Result<Vec<Incoming>>> {
        Box::pin(async move {
            let received = inner.receive(max, wait).await?;
            let skips = !received.is_empty() && std::mem::take(&mut self.state().skips);
            if skips || self.mutation == Mutation::AckAtReceive {
                for incoming in &received {
                    inner.ack(incoming.token).await?;
                }
            }
            Ok(if skips { Vec::new() } else { received })
        })
    }

    fn ack<'a>(
        &'a self,
        inner: &'a Arc<dyn BackendConsumer>,
        token: AckToken,
    ) -> BoxFuture<'a, Result<()>> {
        match self.mutation {
            Mutation::AckAtReceive => Box::pin(async { Ok(()) }),
            _ => inner.ack(token),
        }
    }

    fn nack<'a>(
        &'a self,
        inner: &'a Arc<dyn BackendConsumer>,
        token: AckToken,
        delay: Duration,
    ) -> BoxFuture<'a, Result<()>> {
        match self.mutation {
            Mutation::AckAtReceive => Box::pin(async { Ok(()) }),
            Mutation::GivenBackIsAcked => inner.ack(token),
            _ => inner.nack(token, delay),
        }
    }

    fn set_access<'a>(
        &'a self,
        inner: &'a Arc<dyn BackendAdmin>,
        topic: &'a str,
        settings: &'a TopicSettings,
        access: Access,
    ) -> BoxFuture<'a, Result<()>> {
        self.state().asked = Some(access);
        if self.mutation == Mutation::AccessLandsTooLate && access != Access::Sealed {
            let inner = Arc::clone(inner);
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
        inner.set_access(topic, settings, made)
    }

    fn described(&self, mut topic: TopicDescription) -> TopicDescription {
        if self.mutation == Mutation::SealOnlyCloses && topic.access == Access::Closed {
            topic.access = self.state().asked.unwrap_or(topic.access);
        }
        topic
    }

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
