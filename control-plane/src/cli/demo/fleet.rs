//! The demo's applications: each instance is an SDK client on a runtime of its own, so that it can be killed without a word.

use std::{sync::Arc, time::Duration};

use crossfade::{
    Client, Delivery, Result,
    backend::Subscription,
    dedup::{DedupStore, MemoryDedup},
};
use tokio::{
    runtime::{Builder, Runtime},
    sync::{oneshot, watch},
};

use super::{kind::Kind, ledger::Ledger, pace::Pace, sender::Sender};

/// Sends that one producer has under way at once.
const IN_FLIGHT: usize = 8;
/// Every so many messages the first handler fails, so that retries take part in the journey.
const FAILS_ONCE_EVERY: u64 = 997;
/// How long a failed message waits: the shortest delay of RocketMQ's ladder.
const RETRY_DELAY: Duration = Duration::from_secs(1);
/// How long an instance may take to leave in good order.
const GOODBYE: Duration = Duration::from_secs(20);

/// What all instances share.
#[derive(Clone, Debug)]
pub(super) struct Fleet {
    pub(super) control: String,
    pub(super) topic: String,
    pub(super) group: String,
    pub(super) kind: Kind,
    pub(super) seed: u64,
    /// Further keys of the clients.
    pub(super) settings: Vec<(String, String)>,
    pub(super) dedup: Arc<MemoryDedup>,
    pub(super) ledger: Arc<Ledger>,
    pub(super) pace: Arc<Pace>,
}

/// What an instance is for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Job {
    Produce,
    Consume,
}

/// One running instance.
#[derive(Debug)]
pub(super) struct Instance {
    pub(super) name: String,
    runtime: Option<Runtime>,
    stop: watch::Sender<bool>,
    ended: oneshot::Receiver<Result<()>>,
}

impl Fleet {
    /// Starts an instance and waits until it is registered and at work. One with lease mode `stop` is known to be harmless when its lease is over.
    pub(super) async fn start(
        &self,
        name: &str,
        job: Job,
        lease_mode: &str,
    ) -> Result<Instance, String> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name(name)
            .enable_all()
            .build()
            .map_err(|error| format!("{name}: no runtime: {error}"))?;
        let (stop, stopped) = watch::channel(false);
        let (ready_tx, ready) = oneshot::channel();
        let (ended_tx, ended) = oneshot::channel();
        let (fleet, called, lease_mode) = (self.clone(), name.to_owned(), lease_mode.to_owned());
        let work = async move {
            let client = match fleet.client(&called, &lease_mode).await {
                Ok(client) => client,
                Err(error) => {
                    // Whoever asked is told; if it is gone, nobody needs to know.
                    let _ = ready_tx.send(Err(error));
                    return;
                }
            };
            let outcome = match job {
                Job::Produce => fleet.produce(&client, stopped, ready_tx).await,
                Job::Consume => fleet.consume(&client, stopped, ready_tx).await,
            };
            let outcome = outcome.and(client.shutdown(GOODBYE).await);
            // Nobody waits for the end of an instance that is being killed.
            let _ = ended_tx.send(outcome);
        };
        runtime.spawn(work);
        // From here on the runtime ends with the instance, also while it is waited for: dropped by itself in here, it would panic.
        let instance = Instance {
            name: name.to_owned(),
            runtime: Some(runtime),
            stop,
            ended,
        };
        let ready = ready
            .await
            .map_err(|_| format!("{name}: ended before it was ready"))?;
        ready.map_err(|error| format!("{name}: {error}"))?;
        Ok(instance)
    }

    async fn client(&self, instance: &str, lease_mode: &str) -> Result<Client> {
        let mut builder = Client::builder()
            .instance(instance)
            .control(&self.control)
            .set("lease.mode", lease_mode)?
            .set("random.seed", &self.seed.to_string())?
            .set(
                "producer.transaction_group",
                &format!("{}-sends", self.group),
            )?;
        for (key, value) in &self.settings {
            builder = builder.set(key, value)?;
        }
        builder
            .dedup(Arc::clone(&self.dedup) as Arc<dyn DedupStore>)
            .start()
            .await
    }

    async fn produce(
        &self,
        client: &Client,
        mut stopped: watch::Receiver<bool>,
        ready: oneshot::Sender<Result<()>>,
    ) -> Result<()> {
        let sender = match Sender::new(client, &self.topic, self.kind).await {
            Ok(sender) => sender,
            Err(error) => {
                let _ = ready.send(Err(error));
                return Ok(());
            }
        };
        let _ = ready.send(Ok(()));
        let mut senders = tokio::task::JoinSet::new();
        for _ in 0..IN_FLIGHT {
            let (fleet, sender, stopped) = (self.clone(), sender.clone(), stopped.clone());
            senders.spawn(async move {
                while !*stopped.borrow() {
                    if !fleet.pace.turn(|| fleet.ledger.begun()).await {
                        continue;
                    }
                    if !sender.send_next(&fleet.ledger, fleet.kind).await {
                        break;
                    }
                }
            });
        }
        while senders.join_next().await.is_some() {}
        // Until then it answers when a broker asks how a transaction ended.
        let _ = stopped.wait_for(|stopped| *stopped).await;
        drop(sender);
        Ok(())
    }

    async fn consume(
        &self,
        client: &Client,
        mut stopped: watch::Receiver<bool>,
        ready: oneshot::Sender<Result<()>>,
    ) -> Result<()> {
        let subscription = Subscription::new(&*self.topic, &*self.group);
        let consumer = match client.consumer(subscription).await {
            Ok(consumer) => consumer,
            Err(error) => {
                let _ = ready.send(Err(error));
                return Ok(());
            }
        };
        let _ = ready.send(Ok(()));
        while !*stopped.borrow() {
            let deliveries = tokio::select! {
                deliveries = consumer.receive(64, Duration::from_millis(500)) => deliveries?,
                _ = stopped.changed() => break,
            };
            for delivery in deliveries {
                let handling = self.ledger.enter_handler(&delivery.message.body);
                let fails = handling.is_some_and(|handling| {
                    delivery.attempt == 1 && handling.number() % FAILS_ONCE_EVERY == 0
                });
                // The handler is done now, whatever becomes of the ack: a second time would be a duplicate.
                if let Some(handling) = handling.filter(|_| !fails) {
                    self.ledger
                        .complete(&handling, delivery.side, routed_under(&delivery));
                }
                let done = if fails {
                    consumer.nack(&delivery, RETRY_DELAY).await
                } else {
                    consumer.ack(&delivery).await
                };
                if let Err(error) = done {
                    tracing::warn!(id = delivery.message_id, %error, "not acked");
                }
            }
        }
        Ok(())
    }
}

fn routed_under(delivery: &Delivery) -> crossfade::Revision {
    delivery.revision.unwrap_or_default()
}

impl Instance {
    /// Leaves in good order.
    pub(super) async fn stop(mut self) -> Result<(), String> {
        let _ = self.stop.send(true);
        let ended = tokio::time::timeout(GOODBYE * 2, &mut self.ended).await;
        self.kill();
        match ended {
            Ok(Ok(outcome)) => outcome.map_err(|error| format!("{}: {error}", self.name)),
            Ok(Err(_)) => Err(format!("{}: ended without a word", self.name)),
            Err(_) => Err(format!(
                "{}: did not end within {:?}",
                self.name,
                GOODBYE * 2
            )),
        }
    }

    /// Ends at once, in the middle of whatever it does: no goodbye, no commit, no ack.
    pub(super) fn kill(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        self.kill();
    }
}
