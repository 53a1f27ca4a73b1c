//! One TCP connection: many requests at a time, told apart by their opaque number.
//!
//! A request's frame is written into the outgoing buffer; the writer task takes whatever is there and writes it at once, so that
//! concurrent requests share a system call. The reader task hands out the answers.

mod waiters;

use std::{
    fmt,
    future::poll_fn,
    io,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering},
    },
    task::Waker,
    time::Duration,
};

use bytes::BytesMut;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    sync::{Notify, Semaphore},
    task::AbortHandle,
    time::{Instant, timeout, timeout_at},
};

use self::waiters::Waiters;
use crate::{
    codes,
    error::{Error, ErrorKind, Persisted, Result},
    frame::{self, Command, Encode, Request},
    stream::{self, ReadHalf, WriteHalf},
    tls::Tls,
};

/// Requests that may wait for their answers on one connection; further ones wait for a place.
const MAX_PENDING: usize = 16_384;
/// Bytes that may wait to be written; a request above it is refused.
const MAX_UNWRITTEN_BYTES: usize = 64 << 20;
/// A buffer that grew above this is given back after use.
const KEPT_BUFFER_BYTES: usize = 256 << 10;
/// When a request of at least this timeout gets no answer and the peer said nothing else meanwhile, the connection is given up.
const SILENCE: Duration = Duration::from_secs(3);

/// How long what was handed in before the end (an unregister) may take to be written: a peer that does not read must not keep the socket.
const LAST_TRY: Duration = Duration::from_millis(100);

/// What the owner of connections wants to hear.
pub(crate) trait Listener: Send + Sync + 'static {
    /// A request of the broker's own. The answer is sent back unless it wanted none.
    fn request(&self, address: &Arc<str>, command: &Command) -> (i32, &'static str);

    /// There is a connection.
    fn opened(&self, address: &Arc<str>);

    /// The connection has ended; its requests have failed.
    fn closed(&self, address: &Arc<str>);
}

/// One connection. Dropping it fails the requests that wait at once, and closes the socket within [`LAST_TRY`].
pub(crate) struct Connection {
    shared: Arc<Shared>,
    reader: AbortHandle,
}

struct Shared {
    address: Arc<str>,
    state: Mutex<State>,
    /// Something to write, or the end.
    work: Notify,
    places: Semaphore,
    opaque: AtomicI32,
    open: AtomicBool,
    started: Instant,
    /// Milliseconds since `started` at which bytes last came.
    last_read_ms: AtomicU64,
}

#[derive(Default)]
struct State {
    waiters: Waiters,
    outgoing: BytesMut,
    /// Why it ended.
    end: Option<(ErrorKind, String)>,
}

impl Connection {
    /// Connects.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`] or [`ErrorKind::Timeout`], definite both.
    pub(crate) async fn open(
        address: &Arc<str>,
        connect_timeout: Duration,
        max_frame_bytes: usize,
        tls: Option<&Tls>,
        listener: Arc<dyn Listener>,
    ) -> Result<Connection> {
        let connected = stream::connect(address, connect_timeout, tls).await;
        let (read, write) = connected.map_err(|error| error.with_address(address))?;
        let shared = Arc::new(Shared {
            address: Arc::clone(address),
            state: Mutex::default(),
            work: Notify::new(),
            places: Semaphore::new(MAX_PENDING),
            opaque: AtomicI32::new(0),
            open: AtomicBool::new(true),
            started: Instant::now(),
            last_read_ms: AtomicU64::new(0),
        });
        listener.opened(address);
        let reader = tokio::spawn(Arc::clone(&shared).read(read, max_frame_bytes, listener));
        tokio::spawn(Arc::clone(&shared).write(write));
        Ok(Connection {
            shared,
            reader: reader.abort_handle(),
        })
    }

    pub(crate) fn is_open(&self) -> bool {
        self.shared.open.load(Ordering::Acquire)
    }

    /// When it began.
    pub(crate) fn since(&self) -> Instant {
        self.shared.started
    }

    /// Sends a request and waits for its answer, whatever its code is.
    ///
    /// # Errors
    /// [`Persisted::No`] while nothing was handed to the writer, else [`Persisted::Maybe`].
    ///
    /// # Cancellation
    /// The request may have been sent; its answer is dropped.
    pub(crate) async fn invoke(&self, request: impl Encode, wait: Duration) -> Result<Command> {
        let begun = Instant::now();
        let deadline = begun + wait;
        let shared = &self.shared;
        let code = request.code();
        let late = |persisted| {
            Error::new(
                ErrorKind::Timeout,
                format!("no answer to request {code} within {} ms", wait.as_millis()),
            )
            .with_persisted(persisted)
            .with_address(&shared.address)
        };
        let Ok(place) = timeout_at(deadline, shared.places.acquire()).await else {
            return Err(late(Persisted::No));
        };
        let _place = place.map_err(|_| shared.ended(Persisted::No))?;
        let answer = self.submit(&request)?;
        // It is written: whoever waits for an answer needs no memory for the question.
        drop(request);
        match timeout_at(deadline, answer.come()).await {
            Ok(Some(command)) => Ok(command),
            Ok(None) => Err(shared.ended(Persisted::Maybe)),
            Err(_) => {
                if wait >= SILENCE && shared.last_read() <= begun {
                    let reason = format!("the peer has said nothing for {} ms", wait.as_millis());
                    shared.end(ErrorKind::Unavailable, reason);
                }
                Err(late(Persisted::Maybe))
            }
        }
    }

    fn submit(&self, request: &impl Encode) -> Result<Answer<'_>> {
        let shared = &*self.shared;
        // Wrapping is no harm: 2^31 requests never wait at once.
        let opaque = shared.opaque.fetch_add(1, Ordering::Relaxed) & i32::MAX;
        shared.enqueue(request.expected_bytes(), |state| {
            state.waiters.add(opaque);
            request.encode(opaque, false, &mut state.outgoing);
        })?;
        Ok(Answer { shared, opaque })
    }

    /// Hands a request that wants no answer to the writer.
    ///
    /// # Errors
    /// Definite.
    pub(crate) fn oneway(&self, request: &Request) -> Result<()> {
        let opaque = self.shared.opaque.fetch_add(1, Ordering::Relaxed) & i32::MAX;
        self.shared.enqueue(request.expected_bytes(), |state| {
            request.encode(opaque, true, &mut state.outgoing);
        })
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.shared
            .end(ErrorKind::Closed, "closed by this client".to_owned());
        self.reader.abort();
        // The writer ends by itself, after a last try to write what was handed in (an unregister).
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("address", &self.shared.address)
            .field("open", &self.is_open())
            .finish_non_exhaustive()
    }
}

/// A request that waits; dropping it forgets the request.
struct Answer<'a> {
    shared: &'a Shared,
    opaque: i32,
}

impl Answer<'_> {
    /// None when the connection ends first.
    async fn come(&self) -> Option<Command> {
        poll_fn(|context| {
            let mut state = self.shared.state();
            state.waiters.poll(self.opaque, context.waker())
        })
        .await
    }
}

impl Drop for Answer<'_> {
    fn drop(&mut self) {
        self.shared.state().waiters.forget(self.opaque);
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        // No code that holds the lock can leave the state half changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets `encode` append a frame of about `bytes` bytes to what is to be written.
    fn enqueue(&self, bytes: usize, encode: impl FnOnce(&mut State)) -> Result<()> {
        let mut state = self.state();
        if state.end.is_some() {
            drop(state);
            return Err(self.ended(Persisted::No));
        }
        if state.outgoing.len() + bytes > MAX_UNWRITTEN_BYTES {
            return Err(Error::new(
                ErrorKind::Unavailable,
                format!("the peer does not read: {MAX_UNWRITTEN_BYTES} bytes wait to be written"),
            )
            .with_address(&self.address));
        }
        let was_empty = state.outgoing.is_empty();
        encode(&mut state);
        drop(state);
        if was_empty {
            self.work.notify_one();
        }
        Ok(())
    }

    /// Ends the connection; everybody who waits is told.
    fn end(&self, kind: ErrorKind, reason: String) {
        let mut state = self.state();
        if state.end.is_some() {
            return;
        }
        state.end = Some((kind, reason));
        let wakers = state.waiters.end();
        drop(state);
        self.open.store(false, Ordering::Release);
        self.places.close();
        wakers.into_iter().for_each(Waker::wake);
        self.work.notify_one();
    }

    fn ended(&self, persisted: Persisted) -> Error {
        let end = self.state().end.clone();
        let (kind, reason) = end.unwrap_or((ErrorKind::Unavailable, String::new()));
        Error::new(kind, format!("the connection ended: {reason}"))
            .with_persisted(persisted)
            .with_address(&self.address)
    }

    fn last_read(&self) -> Instant {
        self.started + Duration::from_millis(self.last_read_ms.load(Ordering::Relaxed))
    }

    async fn read(
        self: Arc<Self>,
        mut stream: ReadHalf,
        max_frame_bytes: usize,
        listener: Arc<dyn Listener>,
    ) {
        let mut buffer = BytesMut::with_capacity(64 << 10);
        let mut silent = true;
        let (kind, reason) = 'stream: loop {
            if buffer.capacity() - buffer.len() < 8 << 10 {
                buffer.reserve(64 << 10);
            }
            match stream.read_buf(&mut buffer).await {
                Ok(0) if silent => {
                    let why =
                        "the peer closed it without a word: is it a broker, and does it want TLS?";
                    break (ErrorKind::Unavailable, why.to_owned());
                }
                Ok(0) => break (ErrorKind::Unavailable, "the peer closed it".to_owned()),
                Ok(_) => silent = false,
                Err(error) => break (ErrorKind::Unavailable, error.to_string()),
            }
            let elapsed = self.started.elapsed().as_millis();
            self.last_read_ms.store(
                u64::try_from(elapsed).unwrap_or(u64::MAX),
                Ordering::Relaxed,
            );
            loop {
                match frame::decode(&mut buffer, max_frame_bytes) {
                    Ok(Some(command)) => self.received(command, &*listener),
                    Ok(None) => break,
                    Err(error) => break 'stream (ErrorKind::Protocol, error.message().to_owned()),
                }
            }
        };
        tracing::debug!(address = %self.address, reason, "connection ended");
        self.end(kind, reason);
        listener.closed(&self.address);
    }

    fn received(&self, command: Command, listener: &dyn Listener) {
        if command.is_response() {
            let opaque = command.opaque;
            let (awaited, waker) = self.state().waiters.answer(command);
            if !awaited {
                // The request's future was dropped.
                tracing::trace!(address = %self.address, opaque, "late answer dropped");
            }
            if let Some(waker) = waker {
                waker.wake();
            }
            return;
        }
        let (code, remark) = listener.request(&self.address, &command);
        if !command.is_oneway() {
            let frame = frame::encode_response(code, command.opaque, remark);
            // When it cannot be written, the connection is at its end anyway.
            let _ = self.enqueue(frame.len(), |state| {
                state.outgoing.extend_from_slice(&frame)
            });
        }
    }

    async fn write(self: Arc<Self>, mut stream: WriteHalf) {
        let mut buffer = BytesMut::with_capacity(16 << 10);
        loop {
            let ended = {
                let mut state = self.state();
                std::mem::swap(&mut buffer, &mut state.outgoing);
                state.end.is_some()
            };
            if buffer.is_empty() {
                if ended {
                    return;
                }
                self.work.notified().await;
                continue;
            }
            let written = self.write_all(&mut stream, &buffer, ended).await;
            if let Err(error) = written {
                self.end(ErrorKind::Unavailable, error.to_string());
                return;
            }
            if buffer.capacity() > KEPT_BUFFER_BYTES {
                buffer = BytesMut::new();
            }
            buffer.clear();
        }
    }

    /// Once the connection has `ended` nobody reads answers any more: one bounded try is left, also of a write that was begun before.
    async fn write_all(
        &self,
        stream: &mut WriteHalf,
        bytes: &[u8],
        mut ended: bool,
    ) -> io::Result<()> {
        let write = async {
            stream.write_all(bytes).await?;
            // TLS may hold the last of it back.
            stream.flush().await
        };
        tokio::pin!(write);
        while !ended {
            tokio::select! {
                biased;
                written = &mut write => return written,
                // More work or the end; the work is taken when this is written.
                () = self.work.notified() => ended = self.state().end.is_some(),
            }
        }
        let last = timeout(LAST_TRY, write).await;
        last.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }
}

/// The body of an answer, or the refusal as an error.
pub(crate) fn expect_success(
    command: Command,
    address: &Arc<str>,
    operation: &str,
) -> Result<Command> {
    if command.code == codes::response::SUCCESS {
        return Ok(command);
    }
    Err(Error::refused(operation, command.code, command.remark.as_deref()).with_address(address))
}

#[cfg(test)]
mod tests;
