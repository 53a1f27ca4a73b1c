//! A control plane without sockets, inside another program: for simulations of whole fleets, and for tests.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use axum::Router;
use crossfade::{
    control::wire::{SyncRequest, SyncResponse},
    stage::Routing,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::{Semaphore, watch},
    task::{JoinHandle, JoinSet},
};

use crate::{
    api::{self, App, Tokens},
    coordinator::{Actor, Command, Config, InstanceView, Refusal, Timing, TopicView},
    server::{MAX_POLLS, connection},
    store::{Store, StoreError},
    watch::{Cluster, Clusters, Driver, Handle},
};

/// A running control plane. Dropping it ends it at once, as a crash would: calls to the brokers that are under way are given up, connections end.
#[derive(Debug)]
pub struct Embedded {
    handle: Handle,
    store: Arc<dyn Store>,
    driver: JoinHandle<Result<(), StoreError>>,
    connections: Arc<Mutex<JoinSet<()>>>,
    /// Nothing stops in good order here.
    stopping: watch::Sender<bool>,
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
        let (handle, driver) = Driver::start(Arc::clone(&store), config, clusters).await?;
        Ok(Embedded {
            handle,
            store,
            driver: tokio::spawn(driver.run()),
            connections: Arc::default(),
            stopping: watch::Sender::new(false),
        })
    }

    /// The HTTP API, for connections that the caller makes itself.
    #[must_use]
    pub fn endpoint(&self, tokens: Tokens) -> Endpoint {
        let router = api::router(App {
            handle: self.handle.clone(),
            store: Arc::clone(&self.store),
            tokens: Arc::new(tokens),
            polls: Arc::new(Semaphore::new(MAX_POLLS)),
            stopping: self.stopping.subscribe(),
        });
        Endpoint {
            router,
            connections: Arc::downgrade(&self.connections),
        }
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

/// Where HTTP connections to an [`Embedded`] control plane end.
#[derive(Clone, Debug)]
pub struct Endpoint {
    router: Router,
    connections: Weak<Mutex<JoinSet<()>>>,
}

impl Endpoint {
    /// Serves one connection in a task of its own, as the server does with one of its listener, until either end closes it. After the end of the
    /// control plane it is closed at once.
    pub fn serve(&self, io: impl AsyncRead + AsyncWrite + Send + Unpin + 'static) {
        let Some(connections) = self.connections.upgrade() else {
            return;
        };
        let connection = connection(io, self.router.clone());
        let mut connections = connections.lock().unwrap_or_else(PoisonError::into_inner);
        // What has ended is forgotten here, so that the set stays as small as what is open.
        while connections.try_join_next().is_some() {}
        connections.spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection ended early");
            }
        });
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

    /// Manages a topic, as both clusters describe it now. Whether somebody uses it on the target, which is sealed, is for the caller to know: the
    /// API looks, this does not.
    ///
    /// # Errors
    /// As [`Self::command`]; `unavailable` when a cluster does not answer.
    ///
    /// # Cancellation
    /// As [`Self::command`].
    pub async fn add(&self, topic: &str, groups: &[&str]) -> Result<(), Refusal> {
        self.add_as(topic, groups, Routing::Unordered).await
    }

    /// As [`Self::add`], with a routing.
    ///
    /// # Errors
    /// As [`Self::add`]; `conflict` when a side cannot be read in order and that is asked for.
    ///
    /// # Cancellation
    /// As [`Self::command`].
    pub async fn add_as(
        &self,
        topic: &str,
        groups: &[&str],
        routing: Routing,
    ) -> Result<(), Refusal> {
        self.handle.can_move(routing).await?;
        let described = self.handle.describe(topic).await?;
        let command = Command::Add {
            accepted: None,
            topic: topic.into(),
            groups: groups.iter().map(|group| (*group).into()).collect(),
            weight: None,
            routing,
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
