//! One connection for each address, made when it is needed and made again after it ended, with pauses that grow while it fails.

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use rand::RngExt as _;
use tokio::time::Instant;

use crate::{
    connection::{Connection, Listener},
    error::{Error, ErrorKind, Result},
    frame::{Command, Request},
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
    connecting: tokio::sync::Mutex<Failures>,
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

    /// The connection to `address`; the flag says whether it is a new one.
    ///
    /// # Errors
    /// Definite. While the pause after a failed attempt lasts, that attempt's error at once.
    ///
    /// # Cancellation
    /// An attempt to connect is given up.
    pub(crate) async fn get(&self, address: &Arc<str>) -> Result<(Arc<Connection>, bool)> {
        let slot = self.slot(address);
        if let Some(connection) = slot.open() {
            return Ok((connection, false));
        }
        let mut failures = slot.connecting.lock().await;
        if self.closed.load(Ordering::Acquire) {
            return Err(Error::new(ErrorKind::Closed, "the client is closed"));
        }
        if let Some(connection) = slot.open() {
            return Ok((connection, false));
        }
        if let Some((until, kind, message)) = &failures.last
            && Instant::now() < *until
        {
            return Err(Error::new(*kind, message.clone()).with_address(address));
        }
        let opened = Connection::open(
            address,
            self.connect_timeout,
            self.max_frame_bytes,
            self.tls.as_ref(),
            Arc::clone(&self.listener),
        )
        .await;
        match opened {
            Ok(connection) => {
                let connection = Arc::new(connection);
                *failures = Failures::default();
                *slot
                    .connection
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&connection));
                Ok((connection, true))
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
        request: Request,
        wait: Duration,
    ) -> Result<Command> {
        match &self.signing {
            None => connection.invoke(request, wait).await,
            Some(signing) => signing.invoke(connection, request, wait).await,
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
            slot.connection
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take();
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
    fn open(&self) -> Option<Arc<Connection>> {
        let connection = self
            .connection
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
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
