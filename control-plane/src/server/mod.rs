//! The control plane in one piece, for the program, the demo and tests.

mod http;
mod options;

use std::{fmt, net::SocketAddr, sync::Arc, time::Duration};

use crossfade::Side;
use tokio::{
    net::TcpListener,
    runtime::{Builder, Runtime},
    sync::{Semaphore, oneshot, watch},
    time::timeout,
};

pub(crate) use http::connection;
pub use options::ServeOptions;

use crate::{
    Operator,
    api::{self, App, Token},
    coordinator::{Config, Coordinator},
    store::{SqliteStore, Store, StoreError},
    watch::{Clusters, Driver},
};

/// Polls kept open at the same time.
pub(crate) const MAX_POLLS: usize = 10_000;
/// How long closing the connections to the clusters may take.
const CLOSE: Duration = Duration::from_secs(5);
/// How long a cluster has to answer at the start; after that it goes on without, and a warning says so.
const ASK: Duration = Duration::from_secs(5);
/// Threads of the server's own runtime.
const THREADS: usize = 2;

/// A running control plane, on a runtime of its own. Dropping it is a crash: everything ends at once, nothing is said to anybody.
pub struct Server {
    url: String,
    address: SocketAddr,
    operator: Operator,
    stop: watch::Sender<bool>,
    ended: Option<oneshot::Receiver<Result<(), StoreError>>>,
    _runtime: OwnRuntime,
}

/// Everything that the server runs; dropping it ends all of it without waiting, as an asynchronous context needs it.
struct OwnRuntime(Option<Runtime>);

impl Server {
    /// Listens, reads the store, then takes an epoch in it, which ends a control plane that runs on it.
    ///
    /// # Behavior
    /// All that can keep it from going on is looked at first: whoever runs on the store goes on when this fails.
    ///
    /// # Errors
    /// A sentence that says what, where and what to do: an address that cannot be used, a store that cannot be read, tokens that are missing.
    ///
    /// # Cancellation
    /// Everything that was begun ends.
    pub async fn start(options: ServeOptions) -> Result<Self, String> {
        let listen = options.check()?;
        let runtime = Builder::new_multi_thread()
            .worker_threads(THREADS)
            .thread_name("crossfade-control-plane")
            .enable_all()
            .build()
            .map_err(|error| format!("no threads for the control plane: {error}"))?;
        let (ready_tx, ready) = oneshot::channel();
        let (ended_tx, ended) = oneshot::channel();
        let (stop, stopping) = watch::channel(false);
        runtime.spawn(async move {
            match prepare(listen, options, stopping).await {
                Ok(running) => {
                    // Whoever started it may have gone; then the runtime is being dropped.
                    let _ = ready_tx.send(Ok((running.address, running.operator.clone())));
                    let _ = ended_tx.send(running.run().await);
                }
                Err(why) => drop(ready_tx.send(Err(why))),
            }
        });
        // From here on a return ends what was begun.
        let own = OwnRuntime(Some(runtime));
        let (address, operator) = ready
            .await
            .map_err(|_| "the control plane ended while it started".to_owned())??;
        Ok(Server {
            url: url(address),
            address,
            operator,
            stop,
            ended: Some(ended),
            _runtime: own,
        })
    }

    /// Where it listens: `http://host:port`.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// A client of it, with the operator's token.
    #[must_use]
    pub fn operator(&self) -> Operator {
        self.operator.clone()
    }

    /// Waits until it ends by itself: only when another control plane has taken over its store.
    ///
    /// # Errors
    /// Why it ended.
    ///
    /// # Cancellation
    /// Waiting again is safe.
    pub async fn ended(&mut self) -> Result<(), StoreError> {
        let Some(ended) = &mut self.ended else {
            return Ok(());
        };
        let outcome = ended.await;
        self.ended = None;
        outcome.unwrap_or(Ok(()))
    }

    /// Stops in good order: open polls are answered, requests end, connections to the clusters are closed. Takes at most about ten seconds.
    ///
    /// # Errors
    /// Why it had ended before.
    ///
    /// # Cancellation
    /// As a crash.
    pub async fn shutdown(mut self) -> Result<(), StoreError> {
        self.stop.send_replace(true);
        self.ended().await
    }

    /// Ends at once, as a crash would.
    pub fn abort(self) {
        drop(self);
    }
}

impl Drop for OwnRuntime {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("url", &self.url)
            .finish_non_exhaustive()
    }
}

struct Running {
    address: SocketAddr,
    operator: Operator,
    listener: TcpListener,
    router: axum::Router,
    driver: Driver,
    clusters: Arc<Clusters>,
    stopping: watch::Receiver<bool>,
}

async fn prepare(
    listen: SocketAddr,
    options: ServeOptions,
    stopping: watch::Receiver<bool>,
) -> Result<Running, String> {
    let listener = TcpListener::bind(listen)
        .await
        .map_err(|error| format!("cannot listen on {listen}: {error}"))?;
    let address = listener
        .local_addr()
        .map_err(|error| format!("cannot listen on {listen}: {error}"))?;
    let token = options.tokens.operator.as_ref().map(Token::as_str);
    let operator = Operator::new(&url(address), token).map_err(|error| error.to_string())?;
    let clusters = Arc::new(Clusters::new(options.source, options.target));
    let mut config = Config {
        timing: options.timing,
        limits: options.limits,
        epoch: 0,
        clusters: clusters.public(),
        accept_new_addresses: options.accept_new_addresses,
    };
    // Taking an epoch ends a control plane that runs on this store. So first: can this one go on from what is there?
    let rows = SqliteStore::peek(&options.store).await;
    let rows = rows.map_err(|error| error.to_string())?;
    Coordinator::restore(config.clone(), rows, Duration::ZERO)
        .map_err(|why| format!("store {}: {why}", options.store))?;
    clusters.can_be_used(ASK).await?;
    let store = SqliteStore::open(&options.store)
        .await
        .map_err(|error| error.to_string())?;
    let store: Arc<dyn Store> = Arc::new(store);
    config.epoch = store.epoch();
    if config.epoch > 1 {
        tracing::info!(
            "epoch {}: goes on where epoch {} ended; if that control plane still runs, it stops",
            config.epoch,
            config.epoch - 1
        );
    }
    let (handle, driver) = Driver::start(Arc::clone(&store), config, Arc::clone(&clusters))
        .await
        .map_err(|error| error.to_string())?;
    driver.bind().await.map_err(|error| error.to_string())?;
    for side in Side::BOTH {
        tokio::spawn(ask(Arc::clone(&clusters), side));
    }
    tokio::spawn(tell_apart(Arc::clone(&clusters)));
    let router = api::router(App {
        handle,
        store,
        tokens: Arc::new(options.tokens),
        polls: Arc::new(Semaphore::new(MAX_POLLS)),
        stopping: stopping.clone(),
    });
    Ok(Running {
        address,
        operator,
        listener,
        router,
        driver,
        clusters,
        stopping,
    })
}

fn url(address: SocketAddr) -> String {
    format!("http://{address}")
}

/// Says at once, and not with the first topic, that a cluster does not answer. Nothing waits for it.
async fn ask(clusters: Arc<Clusters>, side: Side) {
    let asking = async { clusters.admin(side).await?.producers().await };
    match timeout(ASK, asking).await {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => tracing::warn!(
            "the {side} cannot be asked: {}. Topics stay where they are until it can; it is tried again with every look",
            error.with_side(side)
        ),
        Err(_) => tracing::warn!(
            "the {side} has not answered within {ASK:?}. Topics stay where they are until it does; it is tried again with every look"
        ),
    }
}

/// Says at once, and not with the first topic, that both addresses lead to one cluster.
async fn tell_apart(clusters: Arc<Clusters>) {
    if let Ok(Err(refusal)) = timeout(ASK, clusters.told_apart()).await
        && refusal.code == "conflict"
    {
        tracing::error!("{}", refusal.message);
    }
}

impl Running {
    async fn run(self) -> Result<(), StoreError> {
        let serving = http::serve(self.listener, self.router, self.stopping);
        let outcome = tokio::select! {
            outcome = self.driver.run() => outcome,
            () = serving => Ok(()),
        };
        if timeout(CLOSE, self.clusters.close()).await.is_err() {
            tracing::warn!("the connections to the clusters did not close within {CLOSE:?}");
        }
        outcome
    }
}
