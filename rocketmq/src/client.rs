//! What producers, consumers and administrative calls of one process share: connections, routes, heartbeats.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, PoisonError, RwLock, Weak},
    time::Duration,
};

use tokio::{task::AbortHandle, time::Instant};

use crate::{
    codes::{request, response},
    connection::expect_success,
    credentials::CredentialsSource,
    error::{Error, ErrorKind, Result},
    frame::{Command, DEFAULT_MAX_FRAME_BYTES, Encode, Request},
    heartbeat::Registry,
    inbound::Inbound,
    name_server::NameServers,
    pool::Pool,
    route::{ClusterInfo, TopicRoute},
    signing::Signing,
    tls::{Tls, TlsOptions},
};

/// How a [`Client`] behaves.
#[non_exhaustive]
#[derive(Clone, Debug)]
pub struct ClientOptions {
    /// Name servers, each `host:port`. They are asked in turn until one answers.
    pub name_servers: Vec<String>,
    /// The id under which the brokers list this client. Two clients with one id split a group's queues wrongly: make it unique.
    pub client_id: String,
    /// For the connection itself; a TLS handshake on it may take 10 s. Default 3 s.
    pub connect_timeout: Duration,
    /// For every request without a timeout of its own. Default 3 s.
    pub request_timeout: Duration,
    /// How often routes are asked for again. Default 30 s.
    pub route_refresh: Duration,
    /// How often the brokers hear of producers and consumers; they forget after 120 s. Default 15 s.
    pub heartbeat: Duration,
    /// Larger frames end the connection. Default [`DEFAULT_MAX_FRAME_BYTES`].
    pub max_frame_bytes: usize,
    /// Who signs the requests, those to name servers as well. Default: nobody.
    pub credentials: Option<Arc<dyn CredentialsSource>>,
    /// TLS for every connection. Default: none.
    pub tls: Option<TlsOptions>,
}

impl ClientOptions {
    /// The defaults.
    #[must_use]
    pub fn new(
        name_servers: impl IntoIterator<Item = impl Into<String>>,
        client_id: impl Into<String>,
    ) -> Self {
        ClientOptions {
            name_servers: name_servers.into_iter().map(Into::into).collect(),
            client_id: client_id.into(),
            connect_timeout: Duration::from_secs(3),
            request_timeout: Duration::from_secs(3),
            route_refresh: Duration::from_secs(30),
            heartbeat: Duration::from_secs(15),
            max_frame_bytes: DEFAULT_MAX_FRAME_BYTES,
            credentials: None,
            tls: None,
        }
    }
}

/// A client of one RocketMQ cluster. Clones share everything; the last one dropped ends all tasks and connections at once.
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

pub(crate) struct Inner {
    options: ClientOptions,
    client_id: Arc<str>,
    name_servers: NameServers,
    pool: Pool,
    topics: Mutex<HashMap<Arc<str>, Weak<TopicEntry>>>,
    registry: Arc<Registry>,
    tasks: Mutex<Vec<AbortHandle>>,
}

/// A topic's route, kept fresh while somebody holds it.
#[derive(Debug)]
pub(crate) struct TopicEntry {
    pub(crate) topic: Arc<str>,
    route: RwLock<Arc<Routed>>,
    /// When it was last asked for; held while asking, so that one answer serves everybody.
    asked: tokio::sync::Mutex<Instant>,
}

/// A route and what is derived from it once.
#[derive(Debug, Default)]
pub(crate) struct Routed {
    pub(crate) route: TopicRoute,
    /// The queues that take sends, with their masters' addresses.
    pub(crate) writable: Vec<(Arc<str>, u32, Arc<str>)>,
}

impl Client {
    /// A client; nothing is connected before it is needed. Must be called inside a tokio runtime. Reads the files of credentials and certificates.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] for a name server that is no `host:port`, an empty client id, or a file of certificates that cannot be used;
    /// [`ErrorKind::Unsupported`] for TLS in a build without the feature `tls`; as [`CredentialsSource::read`].
    pub fn new(options: ClientOptions) -> Result<Client> {
        if options.client_id.is_empty() {
            return Err(Error::new(
                ErrorKind::InvalidInput,
                "the client id is empty",
            ));
        }
        let name_servers = NameServers::new(&options.name_servers)?;
        let source = options.credentials.clone();
        let signing = source.map(Signing::new).transpose()?;
        let tls = options.tls.as_ref().map(Tls::new).transpose()?;
        let registry = Arc::new(Registry::default());
        let inner = Arc::new(Inner {
            client_id: options.client_id.as_str().into(),
            name_servers,
            pool: Pool::new(
                options.connect_timeout,
                options.max_frame_bytes,
                signing,
                tls,
                Arc::new(Inbound::new(&registry)),
            ),
            topics: Mutex::default(),
            registry,
            tasks: Mutex::default(),
            options,
        });
        let tasks = [
            tokio::spawn(refresh_routes(
                Arc::downgrade(&inner),
                inner.options.route_refresh,
            )),
            tokio::spawn(crate::heartbeat::run(
                Arc::downgrade(&inner),
                Arc::clone(&inner.registry),
                inner.options.heartbeat,
            )),
            tokio::spawn(crate::transaction::run(
                Arc::downgrade(&inner),
                Arc::clone(&inner.registry),
            )),
        ];
        *inner.tasks.lock().unwrap_or_else(PoisonError::into_inner) = tasks
            .iter()
            .map(tokio::task::JoinHandle::abort_handle)
            .collect();
        Ok(Client { inner })
    }

    pub(crate) fn upgrade(inner: &Weak<Inner>) -> Option<Client> {
        inner.upgrade().map(|inner| Client { inner })
    }

    /// The id under which the brokers list this client.
    #[must_use]
    pub fn client_id(&self) -> &Arc<str> {
        &self.inner.client_id
    }

    #[cfg(test)]
    pub(crate) fn pool(&self) -> &Pool {
        &self.inner.pool
    }

    pub(crate) fn options(&self) -> &ClientOptions {
        &self.inner.options
    }

    pub(crate) fn registry(&self) -> &Arc<Registry> {
        &self.inner.registry
    }

    /// Sends a request to a broker and waits for its answer, whatever the answer's code is.
    ///
    /// # Errors
    /// [`Persisted::Maybe`](crate::Persisted::Maybe) once the request may have been written.
    ///
    /// # Cancellation
    /// The request may or may not take effect.
    pub async fn invoke(
        &self,
        address: &Arc<str>,
        request: Request,
        timeout: Duration,
    ) -> Result<Command> {
        self.exchange(address, request, timeout).await
    }

    /// [`Self::invoke`] with a request of any kind.
    ///
    /// # Errors
    /// As there.
    ///
    /// # Cancellation
    /// As there.
    pub(crate) async fn exchange(
        &self,
        address: &Arc<str>,
        request: impl Encode,
        timeout: Duration,
    ) -> Result<Command> {
        let begun = Instant::now();
        let connection = match self.inner.pool.existing(address) {
            Some(connection) => connection,
            None => {
                let connected = tokio::time::timeout(timeout, self.inner.pool.get(address)).await;
                connected.map_err(|_| {
                    let text = format!("cannot connect within {} ms", timeout.as_millis());
                    Error::new(ErrorKind::Timeout, text).with_address(address)
                })??
            }
        };
        let left = timeout.saturating_sub(begun.elapsed());
        self.inner.pool.invoke(&connection, request, left).await
    }

    /// [`Self::invoke`] within the client's own timeout, which begins once there is a connection; an answer other than success is an error. `operation` names the call in it.
    ///
    /// # Errors
    /// As [`Self::invoke`], and the broker's refusal.
    ///
    /// # Cancellation
    /// The request may or may not take effect.
    pub async fn call(
        &self,
        address: &Arc<str>,
        operation: &str,
        request: Request,
    ) -> Result<Command> {
        let code = request.code();
        let connection = self.inner.pool.get(address).await?;
        let timeout = self.inner.options.request_timeout;
        let command = self
            .inner
            .pool
            .invoke(&connection, request, timeout)
            .await?;
        expect_success(command, address, operation).map_err(|error| error.with_right(code))
    }

    /// The brokers that know this client's groups: they were sent a heartbeat, and the connection is still there.
    pub(crate) fn told(&self) -> Vec<Arc<str>> {
        let connected = |address: &Arc<str>| self.inner.pool.existing(address).is_some();
        self.inner.registry.told(connected)
    }

    /// When the connection to a broker began, if there is one.
    pub(crate) fn connected_since(&self, address: &str) -> Option<Instant> {
        let connection = self.inner.pool.existing(address)?;
        Some(connection.since())
    }

    /// Hands a request that wants no answer to the connection, if there is one.
    pub(crate) fn oneway(&self, address: &str, request: Request) {
        if let Some(connection) = self.inner.pool.existing(address) {
            // A connection that has just ended: the broker knows already.
            let _ = self.inner.pool.oneway(&connection, request);
        }
    }

    /// Asks a name server; an answer other than success is an error. `operation` names the call in it.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`] or [`ErrorKind::Timeout`] when none answers, [`ErrorKind::NotNameServer`], or the refusal.
    ///
    /// # Cancellation
    /// Leaves nothing behind for requests that read.
    pub async fn call_name_server(&self, operation: &str, request: Request) -> Result<Command> {
        let Inner {
            name_servers,
            pool,
            options,
            ..
        } = &*self.inner;
        let (command, address) = name_servers
            .invoke(pool, &request, options.request_timeout)
            .await?;
        expect_success(command, &address, operation)
    }

    /// The clusters and brokers.
    ///
    /// # Errors
    /// As [`Self::call_name_server`].
    ///
    /// # Cancellation
    /// Leaves nothing behind.
    pub async fn cluster_info(&self) -> Result<ClusterInfo> {
        let request = Request::new(request::GET_BROKER_CLUSTER_INFO);
        let command = self.call_name_server("cluster info", request).await?;
        ClusterInfo::parse(&command.body).map_err(|error| error.with_kind(ErrorKind::NotNameServer))
    }

    /// A topic's route, asked for now.
    ///
    /// # Errors
    /// [`ErrorKind::TopicNotFound`]; as [`Self::call_name_server`].
    ///
    /// # Cancellation
    /// Leaves nothing behind.
    pub async fn route(&self, topic: &str) -> Result<TopicRoute> {
        let request = Request::new(request::GET_ROUTEINFO_BY_TOPIC)
            .text("topic", topic)
            .text("acceptStandardJsonOnly", "true");
        let operation = format!("route of topic {topic}");
        let command = self.call_name_server(&operation, request).await?;
        TopicRoute::parse(&command.body)
    }

    /// The shared entry of a topic, with a route that has been read at least once.
    pub(crate) async fn topic(&self, topic: &str) -> Result<Arc<TopicEntry>> {
        let (entry, new) = {
            let mut topics = self.inner.topics();
            match topics.get(topic).and_then(Weak::upgrade) {
                Some(entry) => (entry, false),
                None => {
                    topics.retain(|_, entry| entry.strong_count() > 0);
                    let topic: Arc<str> = topic.into();
                    let entry = Arc::new(TopicEntry::new(Arc::clone(&topic)));
                    topics.insert(topic, Arc::downgrade(&entry));
                    (entry, true)
                }
            }
        };
        // Somebody else's first read may still be under way, or have failed.
        if new || entry.routed().route.brokers.is_empty() {
            self.refresh(&entry, Instant::now()).await?;
        }
        Ok(entry)
    }

    /// Reads the topic's route again unless that was begun at or after `since`.
    ///
    /// # Errors
    /// As [`Self::route`]; the old route stays, except that an unknown topic has an empty one.
    pub(crate) async fn refresh(&self, entry: &TopicEntry, since: Instant) -> Result<Arc<Routed>> {
        let mut asked = entry.asked.lock().await;
        if *asked > since && !entry.routed().route.brokers.is_empty() {
            return Ok(entry.routed());
        }
        let begun = Instant::now();
        let answer = match self.route(&entry.topic).await {
            Ok(route) => Ok(entry.set(route)),
            Err(error) => {
                if error.code() == Some(response::TOPIC_NOT_EXIST) {
                    entry.set(TopicRoute::default());
                }
                Err(error)
            }
        };
        *asked = begun;
        answer
    }

    /// Closes the connections. What still uses them fails.
    pub fn close(&self) {
        self.inner.pool.close();
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("client_id", &self.inner.client_id)
            .field("name_servers", &self.inner.options.name_servers)
            .finish_non_exhaustive()
    }
}

impl Inner {
    fn topics(&self) -> std::sync::MutexGuard<'_, HashMap<Arc<str>, Weak<TopicEntry>>> {
        self.topics.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        let tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        for task in tasks.iter() {
            task.abort();
        }
    }
}

impl TopicEntry {
    /// Without a route.
    pub(crate) fn new(topic: Arc<str>) -> TopicEntry {
        TopicEntry {
            topic,
            route: RwLock::default(),
            asked: tokio::sync::Mutex::new(Instant::now()),
        }
    }

    pub(crate) fn routed(&self) -> Arc<Routed> {
        Arc::clone(&self.route.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn set(&self, route: TopicRoute) -> Arc<Routed> {
        let current = self.routed();
        if current.route == route {
            return current;
        }
        let writable = route
            .writable(&self.topic)
            .into_iter()
            .filter_map(|queue| {
                let master = Arc::clone(route.master(&queue.broker)?);
                Some((queue.broker, queue.queue, master))
            })
            .collect();
        let routed = Arc::new(Routed { route, writable });
        *self.route.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&routed);
        routed
    }
}

async fn refresh_routes(inner: Weak<Inner>, every: Duration) {
    loop {
        tokio::time::sleep(every).await;
        let Some(client) = Client::upgrade(&inner) else {
            return;
        };
        let entries: Vec<_> = client
            .inner
            .topics()
            .values()
            .filter_map(Weak::upgrade)
            .collect();
        for entry in entries {
            if let Err(error) = client.refresh(&entry, Instant::now()).await {
                tracing::warn!(topic = %entry.topic, %error, "the route could not be refreshed");
            }
        }
    }
}
