//! Real HTTP/1.1 between the library and the control plane's server, over connections in memory that delay, break and go silent.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use crossfade::{
    BoxFuture, Error, ErrorKind, Result,
    control::{HttpRequest, HttpResponse, HttpTransport, wire::MAX_DOCUMENT_BYTES},
};
use crossfade_control_plane::api::{Token, Tokens};
use http_body_util::{BodyExt, Full, Limited};
use hyper::{Request, client::conn::http1::SendRequest, header};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf, duplex, split},
    task::JoinHandle,
    time::{sleep, timeout},
};

use crate::{link::Address, wire::Wire};

/// What the control plane is called; there are no sockets behind it.
pub(crate) const ADDRESS: &str = "http://control-plane:7070";
pub(crate) const SDK_TOKEN: &str = "for-applications";
pub(crate) const READER_TOKEN: &str = "for-those-who-look";
pub(crate) const OPERATOR_TOKEN: &str = "for-operators";
/// What a connection holds on its way.
const BUFFER: usize = 64 * 1024;

/// The tokens that the control plane takes.
pub(crate) fn tokens() -> Tokens {
    let token = |text| match Token::new(text) {
        Ok(token) => Some(token),
        Err(why) => unreachable!("{why}"),
    };
    Tokens {
        sdk: token(SDK_TOKEN),
        read_only: token(READER_TOKEN),
        operator: token(OPERATOR_TOKEN),
    }
}

/// What came over HTTP, in numbers.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize)]
pub struct HttpReport {
    /// Connections made.
    pub connections: u64,
    /// Whole answers with a status of success.
    pub ok: u64,
    /// Answers 304: the plans are those that the reader has.
    pub not_modified: u64,
    /// Whole answers with any other status.
    pub refused: u64,
    /// Requests without a whole answer: nobody listened, the connection broke, or nothing came in time.
    pub unanswered: u64,
}

/// Counts for a whole run. Clones count together.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counts {
    counts: Arc<[AtomicU64; 5]>,
}

impl Counts {
    fn add(&self, place: usize) {
        self.counts[place].fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn report(&self) -> HttpReport {
        let [connections, ok, not_modified, refused, unanswered] =
            [0, 1, 2, 3, 4].map(|place: usize| self.counts[place].load(Ordering::Relaxed));
        HttpReport {
            connections,
            ok,
            not_modified,
            refused,
            unanswered,
        }
    }
}

/// The transport of one process. Keeps its connection while it is whole.
#[derive(Debug)]
pub(crate) struct Http {
    network: Network,
    idle: Mutex<Option<Connection>>,
}

#[derive(Clone, Debug)]
struct Network {
    address: Address,
    wire: Wire,
    counts: Counts,
}

/// Ends with its owner, as the sockets of a process do.
#[derive(Debug)]
struct Connection {
    sender: SendRequest<Full<Bytes>>,
    tasks: [JoinHandle<()>; 2],
}

impl Drop for Connection {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

impl Http {
    pub(crate) fn new(address: Address, wire: Wire, counts: Counts) -> Self {
        Http {
            network: Network {
                address,
                wire,
                counts,
            },
            idle: Mutex::new(None),
        }
    }

    async fn whole(&self, request: HttpRequest) -> Result<HttpResponse> {
        if let Some(after) = self.network.wire.doubled() {
            let (network, request) = (self.network.clone(), request.clone());
            tokio::spawn(async move {
                sleep(after).await;
                // Nobody waits for this answer.
                let again = async { network.connect().await?.ask(request).await };
                let _ = timeout(Duration::from_secs(5), again).await;
            });
        }
        let kept = self.kept();
        let mut connection = match kept {
            Some(connection) => connection,
            None => self.network.connect().await?,
        };
        let response = connection.ask(request).await?;
        *self.idle.lock().unwrap_or_else(PoisonError::into_inner) = Some(connection);
        Ok(response)
    }

    fn kept(&self) -> Option<Connection> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.take()
            .filter(|connection| connection.sender.is_ready())
    }
}

impl HttpTransport for Http {
    fn exchange(&self, request: HttpRequest) -> BoxFuture<'_, Result<HttpResponse>> {
        Box::pin(async move {
            let within = request.timeout;
            let outcome = timeout(within, self.whole(request)).await;
            let outcome = outcome.unwrap_or_else(|_| {
                let why = format!("no whole answer within {within:?}");
                Err(Error::new(ErrorKind::Timeout, "sync", why))
            });
            self.network.counts.add(match &outcome {
                Ok(response) if response.status.is_success() => 1,
                Ok(response) if response.status.as_u16() == 304 => 2,
                Ok(_) => 3,
                Err(_) => 4,
            });
            outcome
        })
    }
}

impl Network {
    async fn connect(&self) -> Result<Connection> {
        let endpoint = self.address.endpoint();
        let endpoint = endpoint
            .filter(|_| !self.wire.is_refused())
            .ok_or_else(|| broken(&"nobody listens"))?;
        let (client, near) = duplex(BUFFER);
        let (far, server) = duplex(BUFFER);
        endpoint.serve(server);
        self.counts.add(0);
        let carrying = tokio::spawn(carry(near, far, self.wire.clone()));
        let shaking = hyper::client::conn::http1::handshake(TokioIo::new(client));
        let (sender, connection) = shaking.await.map_err(|error| broken(&error))?;
        let speaking = tokio::spawn(async move {
            // Whoever waits for an answer hears of the end.
            let _ = connection.await;
        });
        Ok(Connection {
            sender,
            tasks: [carrying, speaking],
        })
    }
}

impl Connection {
    async fn ask(&mut self, request: HttpRequest) -> Result<HttpResponse> {
        let mut asking = Request::new(Full::new(Bytes::from(request.body.unwrap_or_default())));
        *asking.method_mut() = request.method;
        let path = request.url[url_path(&request.url)..].parse();
        *asking.uri_mut() = path.map_err(|error| broken(&error))?;
        *asking.headers_mut() = request.headers;
        asking.headers_mut().insert(
            header::HOST,
            header::HeaderValue::from_static("control-plane:7070"),
        );
        self.sender.ready().await.map_err(|error| broken(&error))?;
        let response = self.sender.send_request(asking).await;
        let (parts, body) = response.map_err(|error| broken(&error))?.into_parts();
        let body = Limited::new(body, MAX_DOCUMENT_BYTES).collect().await;
        Ok(HttpResponse {
            status: parts.status,
            headers: parts.headers,
            body: body.map_err(|error| broken(&error))?.to_bytes().to_vec(),
        })
    }
}

fn broken(why: &dyn std::fmt::Display) -> Error {
    Error::new(ErrorKind::Unavailable, "sync", why.to_string())
}

/// What is on its way in one direction.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Way {
    Request,
    Answer,
}

/// Both directions of one connection, until either ends.
async fn carry(near: DuplexStream, far: DuplexStream, wire: Wire) {
    let ((from_near, to_near), (from_far, to_far)) = (split(near), split(far));
    tokio::select! {
        biased;
        () = forward(from_near, to_far, &wire, Way::Request) => {}
        () = forward(from_far, to_near, &wire, Way::Answer) => {}
    }
}

async fn forward(
    mut from: ReadHalf<DuplexStream>,
    mut to: WriteHalf<DuplexStream>,
    wire: &Wire,
    way: Way,
) {
    let mut buffer = vec![0; 16 * 1024];
    // A connection that has lost bytes carries no more of them.
    let mut silent = false;
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        silent |= match way {
            Way::Request => wire.loses_request(),
            Way::Answer => wire.loses_answer(),
        };
        if silent {
            continue;
        }
        let delay = wire.delay();
        if !delay.is_zero() {
            sleep(delay).await;
        }
        let cut = wire.breaks_within(read);
        if to.write_all(&buffer[..cut.unwrap_or(read)]).await.is_err() || cut.is_some() {
            return;
        }
    }
}

/// Where the path begins in an absolute address.
fn url_path(url: &str) -> usize {
    let host = url.find("://").map_or(0, |scheme| scheme + 3);
    url[host..].find('/').map_or(url.len(), |path| host + path)
}
