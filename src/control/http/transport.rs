//! What carries a request: sockets, or a simulator's network.

use std::{error::Error as StdError, fmt, time::Duration};

use reqwest::{
    Method, Response, StatusCode,
    header::{self, HeaderMap, HeaderValue},
};

use crate::{
    BoxFuture,
    control::{document, wire::MAX_DOCUMENT_BYTES},
    error::{Error, ErrorKind, Result},
};

/// How long connecting may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// One request.
#[non_exhaustive]
#[derive(Clone, Debug)]
pub struct HttpRequest {
    /// `GET` or `POST`.
    pub method: Method,
    /// Where to, with the scheme.
    pub url: String,
    /// Everything but `Host` and `Content-Length`.
    pub headers: HeaderMap,
    /// The body; none in a `GET`.
    pub body: Option<Vec<u8>>,
    /// How long everything may take, the body of the answer included.
    pub timeout: Duration,
}

impl HttpRequest {
    /// A request that takes and gives JSON, without a token.
    ///
    /// # Errors
    /// `InvalidConfig` for a method that is none.
    pub fn new(
        method: &str,
        url: impl Into<String>,
        body: Option<Vec<u8>>,
        timeout: Duration,
    ) -> Result<Self> {
        let json = HeaderValue::from_static("application/json");
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, json.clone());
        if body.is_some() {
            headers.insert(header::CONTENT_TYPE, json);
        }
        let method = method.parse().map_err(|error| {
            let wrong = Error::new(ErrorKind::InvalidConfig, "request", "no HTTP method");
            wrong.with_source(error)
        })?;
        Ok(HttpRequest {
            method,
            url: url.into(),
            headers,
            body,
            timeout,
        })
    }

    /// Sent with this token, which no `Debug` shows.
    ///
    /// # Errors
    /// `InvalidConfig` for a token that no header can carry.
    pub fn with_bearer(mut self, token: &str) -> Result<Self> {
        let mut bearer = HeaderValue::from_str(&format!("Bearer {token}")).map_err(|_| {
            Error::new(
                ErrorKind::InvalidConfig,
                "request",
                "the token has characters that no HTTP header can carry",
            )
        })?;
        bearer.set_sensitive(true);
        self.headers.insert(header::AUTHORIZATION, bearer);
        Ok(self)
    }
}

/// A whole answer, of any status.
#[derive(Clone, Debug)]
pub struct HttpResponse {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The whole body.
    pub body: Vec<u8>,
}

/// Carries requests to a control plane. Everything above it (paths, headers, tokens, JSON, what a status means) is the library's own.
///
/// # Behavior
/// - A body of more than [`MAX_DOCUMENT_BYTES`] is refused with `InvalidPlan` before it is kept.
/// - A redirect is an answer, and is not followed.
pub trait HttpTransport: fmt::Debug + Send + Sync + 'static {
    /// Sends one request and reads the whole answer.
    ///
    /// # Errors
    /// `Timeout`; `Unavailable` when nobody listens or the answer is not whole.
    ///
    /// # Cancellation
    /// The request may or may not have arrived.
    fn exchange(&self, request: HttpRequest) -> BoxFuture<'_, Result<HttpResponse>>;
}

/// Sockets, with a pool of connections.
#[derive(Debug)]
pub(super) struct Sockets {
    client: reqwest::Client,
}

impl Sockets {
    pub(super) fn new() -> reqwest::Result<Self> {
        let client = reqwest::Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            // A redirect would take the token, and the registration, somewhere else.
            .redirect(reqwest::redirect::Policy::none())
            // A control plane is inside; a proxy for the way outside does not know it.
            .no_proxy()
            .tcp_nodelay(true)
            .build()?;
        Ok(Sockets { client })
    }
}

impl HttpTransport for Sockets {
    fn exchange(&self, request: HttpRequest) -> BoxFuture<'_, Result<HttpResponse>> {
        Box::pin(async move {
            let url = &*request.url;
            let mut asking = self
                .client
                .request(request.method, url)
                .timeout(request.timeout)
                .headers(request.headers);
            if let Some(body) = request.body {
                asking = asking.body(body);
            }
            let mut response = asking.send().await.map_err(|error| failed(url, error))?;
            Ok(HttpResponse {
                status: response.status(),
                headers: std::mem::take(response.headers_mut()),
                body: read(&mut response, url).await?,
            })
        })
    }
}

/// Counts before it keeps.
async fn read(response: &mut Response, url: &str) -> Result<Vec<u8>> {
    let limit = MAX_DOCUMENT_BYTES;
    if response
        .content_length()
        .is_some_and(|length| length > limit as u64)
    {
        return Err(document::too_large(url));
    }
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| failed(url, error))? {
        if body.len() + chunk.len() > limit {
            return Err(document::too_large(url));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

fn failed(url: &str, error: reqwest::Error) -> Error {
    let error = error.without_url();
    let (kind, what) = if error.is_timeout() {
        (ErrorKind::Timeout, "did not answer in time")
    } else if error.is_connect() {
        (ErrorKind::Unavailable, "cannot be reached")
    } else if error.is_builder() {
        (ErrorKind::InvalidConfig, "cannot be asked")
    } else {
        (ErrorKind::Unavailable, "gave no whole HTTP answer")
    };
    // The cause is what helps ("connection refused"); the outer texts only say that a request failed.
    let mut cause: &dyn StdError = &error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    let message = format!("{url} {what}: {cause}");
    Error::new(kind, "sync", message).with_source(error)
}
