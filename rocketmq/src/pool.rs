//! One connection for each address, made when it is needed and made again after it ended, with pauses that grow while it fails.

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use rand::RngExt as _;
use tokio::{sync::OwnedMutexGuard, task::AbortHandle, time::Instant};

use crate::{
    connection::{Connection, Listener},
    error::{Error, ErrorKind, Result},
    frame::{Command, Encode, Request},
    signing::Signing,
    tls::Tls,
};

const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

pub(crate) struct Pool {
    connect_timeout: Duration,
    max_frame_bytes: usize,
    signing: Option<Signing>,
    tls: Option<Tls>,
    listener: Arc<dyn Listener>,
    slots: RwLock<HashMap<Arc<str>, Arc<Slot>>>,
    closed: AtomicBool,
}

#[derive(Default)]
struct Slot {
    connection: Mutex<Option<Arc<Connection>>>,
    /// Held while connecting, so that one attempt serves everybody.
    connecting: Arc<tokio::sync::Mutex<Failures>>,
    /// The last attempt.
    attempt: Mutex<Option<AbortHandle>>,
}

#[derive(Default)]
struct Failures {
    count: u32,
    /// No attempt before this, and what the last one said.
    last: Option<(Instant, ErrorKind, String)>,
}

impl Pool {
    pub(crate) fn new(
        connect_timeout: Duration,
        max_frame_bytes: usize,
        signing: Option<Signing>,
        tls: Option<Tls>,
        listener: Arc<dyn Listener>,
    ) -> Pool {
        Pool {
            connect_timeout,
            max_frame_bytes,
            signing,
            tls,
            listener,
            slots: RwLock::default(),
            closed: AtomicBool::new(false),
        }
    }

    /// The open connection to `address`, if there is one.
    pub(crate) fn existing(&self, address: &str) -> Option<Arc<Connection>> {
        let slots = self.slots.read().unwrap_or_else(PoisonError::into_inner);
        slots.get(address)?.open()
    }

    /// The connection to `address`.
    ///
    /// # Errors
    /// Definite. While the pause after a failed attempt lasts, that attempt's error at once.
    ///
    /// # Cancellation
    /// An attempt to connect goes on, for whoever asks next: a broker that is slow to shake hands would never be reached by callers that have less time.
    pub(crate) async fn get(&self, address: &Arc<str>) -> Result<Arc<Connection>> {
        let slot = self.slot(address);
        if let Some(connection) = slot.open() {
            return Ok(connection);
        }
        let failures = Arc::clone(&slot.connecting).lock_owned().await;
        if self.closed.load(Ordering::Acquire) {
            return Err(Error::new(ErrorKind::Closed, "the client is closed"));
        }
        if let Some(connection) = slot.open() {
            return Ok(connection);
        }
        if let Some((until, kind, message)) = &failures.last
            && Instant::now() < *until
        {
            return Err(Error::new(*kind, message.clone()).with_address(address));
        }
        let attempt = tokio::spawn(Arc::clone(&slot).connect(failures, self.opening(address)));
        *slot.attempt() = Some(attempt.abort_handle());
        if self.closed.load(Ordering::Acquire) {
            attempt.abort();
        }
        attempt.await.unwrap_or_else(|_| {
            Err(Error::new(ErrorKind::Closed, "the client is closed").with_address(address))
        })
    }

    fn opening(
        &self,
        address: &Arc<str>,
    ) -> impl Future<Output = Result<Connection>> + Send + 'static {
        let (address, listener) = (Arc::clone(address), Arc::clone(&self.listener));
        let (tls, connect_timeout, max_frame_bytes) =
            (self.tls.clone(), self.connect_timeout, self.max_frame_bytes);
        async move {
            Connection::open(
                &address,
                connect_timeout,
                max_frame_bytes,
                tls.as_ref(),
                listener,
            )
            .await
        }
    }

    /// [`Connection::invoke`], signed where requests are.
    ///
    /// # Errors
    /// As there.
    ///
    /// # Cancellation
    /// As there.
    pub(crate) async fn invoke(
        &self,
        connection: &Connection,
        request: impl Encode,
        wait: Duration,
    ) -> Result<Command> {
        match &self.signing {
            None => connection.invoke(request, wait).await,
            Some(signing) => {
                let request = request.into_request();
                signing.invoke(connection, request, wait).await
            }
        }
    }

    /// [`Connection::oneway`], signed where requests are.
    ///
    /// # Errors
    /// As there.
    pub(crate) fn oneway(&self, connection: &Connection, mut request: Request) -> Result<()> {
        if let Some(signing) = &self.signing {
            signing.sign(&mut request);
        }
        connection.oneway(&request)
    }

    /// Closes every connection; there will be no new ones.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Release);
        let mut slots = self.slots.write().unwrap_or_else(PoisonError::into_inner);
        for slot in slots.drain().map(|(_, slot)| slot) {
            if let Some(attempt) = slot.attempt().take() {
                attempt.abort();
            }
            slot.connection().take();
        }
    }

    fn slot(&self, address: &Arc<str>) -> Arc<Slot> {
        let slots = self.slots.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(slot) = slots.get(address) {
            return Arc::clone(slot);
        }
        drop(slots);
        let mut slots = self.slots.write().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(slots.entry(Arc::clone(address)).or_default())
    }
}

impl Slot {
    /// One attempt.
    async fn connect(
        self: Arc<Self>,
        mut failures: OwnedMutexGuard<Failures>,
        opening: impl Future<Output = Result<Connection>>,
    ) -> Result<Arc<Connection>> {
        match opening.await {
            Ok(connection) => {
                let connection = Arc::new(connection);
                *failures = Failures::default();
                *self.connection() = Some(Arc::clone(&connection));
                Ok(connection)
            }
            Err(error) => {
                let pause = FIRST_PAUSE
                    .saturating_mul(1 << failures.count.min(8))
                    .min(LONGEST_PAUSE);
                // Clients that lost the same broker should not come back in step.
                let pause = pause.mul_f64(rand::rng().random_range(0.5..1.0));
                failures.count = failures.count.saturating_add(1);
                failures.last = Some((
                    Instant::now() + pause,
                    error.kind(),
                    error.message().to_owned(),
                ));
                Err(error)
            }
        }
    }

    fn attempt(&self) -> MutexGuard<'_, Option<AbortHandle>> {
        self.attempt.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn connection(&self) -> MutexGuard<'_, Option<Arc<Connection>>> {
        self.connection
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn open(&self) -> Option<Arc<Connection>> {
        let connection = self.connection();
        connection
            .as_ref()
            .filter(|connection| connection.is_open())
            .map(Arc::clone)
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Client, ClientOptions, test_peer};

    /// A caller that begins an attempt and is gone.
    async fn begin(client: &Client, address: &Arc<str>) {
        tokio::select! {
            biased;
            _ = client.pool().get(address) => panic!("no attempt is over at once"),
            () = std::future::ready(()) => {}
        }
    }

    #[tokio::test]
    async fn attempt_outlives_a_caller_that_has_less_time() {
        let peer = test_peer::serve(|command| test_peer::success(command, "")).await;
        let client = Client::new(ClientOptions::new([&*peer], "c")).unwrap();
        begin(&client, &peer).await;
        let deadline = Instant::now() + Duration::from_secs(10);
        while client.pool().existing(&peer).is_none() {
            assert!(Instant::now() < deadline, "nobody went on connecting");
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn attempt_ends_with_its_client() {
        let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address: Arc<str> = silent.local_addr().unwrap().to_string().into();
        let client = Client::new(ClientOptions::new([&*address], "c")).unwrap();
        begin(&client, &address).await;
        client.pool().close();
        let error = client.pool().get(&address).await.err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Closed);
    }
}
