//! A control plane without HTTP, inside another program: for simulations of whole fleets, and for tests.

use std::sync::Arc;

use crossfade::control::wire::{SyncRequest, SyncResponse};
use tokio::task::JoinHandle;

use crate::{
    coordinator::{Actor, Command, Config, InstanceView, Refusal, Timing, TopicView},
    store::{Store, StoreError},
    watch::{Cluster, Clusters, Driver, Handle},
};

/// A running control plane. Dropping it ends it at once, as a crash would: calls to the brokers that are under way are given up.
#[derive(Debug)]
pub struct Embedded {
    handle: Handle,
    driver: JoinHandle<Result<(), StoreError>>,
}

impl Embedded {
    /// Continues from what `store` holds, on the current tokio runtime.
    ///
    /// # Errors
    /// What the store says.
    ///
    /// # Cancellation
    /// Leaves nothing behind.
    pub async fn start(
        store: Arc<dyn Store>,
        clusters: [Cluster; 2],
        timing: Timing,
    ) -> Result<Embedded, StoreError> {
        let [source, target] = clusters;
        let clusters = Arc::new(Clusters::new(source, target));
        let config = Config {
            timing,
            epoch: store.epoch(),
            clusters: clusters.public(),
            ..Config::default()
        };
        let (handle, driver) = Driver::start(store, config, clusters).await?;
        Ok(Embedded {
            handle,
            driver: tokio::spawn(driver.run()),
        })
    }

    /// How others reach it; usable after its end too, with errors.
    #[must_use]
    pub fn caller(&self) -> Caller {
        Caller {
            handle: self.handle.clone(),
        }
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// Calls to an [`Embedded`] control plane.
#[derive(Clone, Debug)]
pub struct Caller {
    handle: Handle,
}

impl Caller {
    /// `POST /v1/sync`; `None` when a newer process runs under the instance's name.
    ///
    /// # Errors
    /// A refusal `unavailable` after the end.
    ///
    /// # Cancellation
    /// The request may or may not have been taken.
    pub async fn sync(&self, request: SyncRequest) -> Result<Option<SyncResponse>, Refusal> {
        let known = request.known_revision;
        match self.handle.register(request).await? {
            None => Ok(None),
            Some((response, wait)) if wait.is_zero() => Ok(Some(response)),
            Some((_, wait)) => self.handle.news(known, wait).await.map(Some),
        }
    }

    /// An operator's word.
    ///
    /// # Errors
    /// The refusal, with the gates behind it.
    ///
    /// # Cancellation
    /// The command may or may not have been taken.
    pub async fn command(&self, name: &str, command: Command) -> Result<(), Refusal> {
        let actor = Actor {
            name: name.to_owned(),
            role: "operator".to_owned(),
        };
        self.handle.command(actor, command).await.map(drop)
    }

    /// Manages a topic, as both clusters describe it now.
    ///
    /// # Errors
    /// As [`Self::command`]; `unavailable` when a cluster does not answer.
    ///
    /// # Cancellation
    /// As [`Self::command`].
    pub async fn add(&self, topic: &str, groups: &[&str]) -> Result<(), Refusal> {
        let described = self.handle.describe(topic).await?;
        let command = Command::Add {
            topic: topic.into(),
            groups: groups.iter().map(|group| (*group).into()).collect(),
            weight: None,
            described,
        };
        self.command("operator", command).await
    }

    /// A topic as people see it.
    ///
    /// # Errors
    /// A refusal `unavailable` after the end.
    ///
    /// # Cancellation
    /// Leaves nothing behind.
    pub async fn topic(&self, topic: &str) -> Result<Option<TopicView>, Refusal> {
        let topic = topic.to_owned();
        let read = move |coordinator: &crate::coordinator::Coordinator, now| {
            coordinator.topic(&topic, now)
        };
        self.handle.read(read).await
    }

    /// All instances.
    ///
    /// # Errors
    /// A refusal `unavailable` after the end.
    ///
    /// # Cancellation
    /// Leaves nothing behind.
    pub async fn instances(&self) -> Result<Vec<InstanceView>, Refusal> {
        self.handle
            .read(|coordinator, now| coordinator.instances(now))
            .await
    }
}
