//! Plans over HTTP: `POST /v1/sync` of a control plane, or `GET /v1/plan` of any server.

mod plan;
mod sync;
mod transport;

#[cfg(test)]
mod tests;

use std::{fmt, path::PathBuf, sync::Arc, time::Duration};

use reqwest::{StatusCode, Url, header};

use self::transport::Sockets;
use crate::{
    control::wire::Problem,
    error::{Error, ErrorKind, Result},
};

pub use plan::UrlPlans;
pub use sync::HttpPlans;
pub use transport::{HttpRequest, HttpResponse, HttpTransport};

/// How long an answer may take beyond the wait that was asked for.
const ANSWER_MARGIN: Duration = Duration::from_secs(10);
/// The longest token, in bytes.
const MAX_TOKEN_BYTES: u64 = 16 * 1024;

/// What proves to the control plane who asks. `Debug` never shows it.
#[derive(Clone, Default)]
pub enum Token {
    /// No token.
    #[default]
    None,
    /// This one.
    Text(String),
    /// The text of a file without surrounding white space, read again for each request, so that it can be replaced.
    File(PathBuf),
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Token::None => f.write_str("None"),
            Token::Text(_) => f.write_str("Text(***)"),
            Token::File(path) => f.debug_tuple("File").field(path).finish(),
        }
    }
}

impl Token {
    async fn read(&self) -> Result<Option<String>> {
        let path = match self {
            Token::None => return Ok(None),
            Token::Text(text) => return Ok(Some(text.clone())),
            Token::File(path) => path.clone(),
        };
        let wrong = |why: String| {
            Error::new(
                ErrorKind::PermissionDenied,
                "sync",
                format!("the token file {} {why}", path.display()),
            )
        };
        let file = path.clone();
        let read = tokio::task::spawn_blocking(move || {
            use std::io::Read;
            let mut text = String::new();
            std::fs::File::open(file)?
                .take(MAX_TOKEN_BYTES + 1)
                .read_to_string(&mut text)?;
            Ok::<_, std::io::Error>(text)
        });
        let text = match read.await {
            Ok(Ok(text)) => text,
            Ok(Err(error)) => return Err(wrong(format!("cannot be read: {error}"))),
            Err(error) => return Err(wrong(format!("cannot be read: {error}"))),
        };
        match text.trim() {
            "" => Err(wrong("is empty".into())),
            _ if text.len() as u64 > MAX_TOKEN_BYTES => {
                Err(wrong(format!("has more than {MAX_TOKEN_BYTES} bytes")))
            }
            token => Ok(Some(token.to_owned())),
        }
    }
}

/// One server, asked with bounds on time and size.
#[derive(Debug)]
struct Fetcher {
    transport: Arc<dyn HttpTransport>,
    url: Url,
    token: Token,
}

impl Fetcher {
    /// `path` is added to the address; without it the address is taken as it is.
    fn new(
        address: &str,
        path: Option<&str>,
        token: Token,
        transport: Option<Arc<dyn HttpTransport>>,
    ) -> Result<Fetcher> {
        let invalid = |why: String| {
            Error::new(
                ErrorKind::InvalidConfig,
                "control plane address",
                // What stands before an @ may be a password.
                format!(
                    "{:?} {why}: write http://host:port",
                    address.rsplit('@').next().unwrap_or_default()
                ),
            )
        };
        let mut url =
            Url::parse(address).map_err(|error| invalid(format!("is no URL ({error})")))?;
        if !url.username().is_empty() || url.password().is_some() {
            // The address itself would be the leak.
            return Err(Error::new(
                ErrorKind::InvalidConfig,
                "control plane address",
                "the address has a user or a password in it: use control.token or control.token_file",
            ));
        }
        if path.is_some() && (url.query().is_some() || url.fragment().is_some()) {
            return Err(invalid("has a query or a fragment".into()));
        }
        if let Some(path) = path {
            let whole = format!("{}{path}", url.path().trim_end_matches('/'));
            url.set_path(&whole);
        }
        match url.scheme() {
            "http" => {}
            "https" if cfg!(feature = "https") => {}
            "https" => {
                return Err(Error::new(
                    ErrorKind::Unsupported,
                    "control plane address",
                    "this build speaks no TLS; build it with the cargo feature `https`",
                ));
            }
            other => return Err(invalid(format!("has the scheme {other:?}"))),
        }
        let transport = match transport {
            Some(transport) => transport,
            None => {
                let sockets = Sockets::new();
                Arc::new(sockets.map_err(|error| invalid(format!("cannot be used: {error}")))?)
            }
        };
        Ok(Fetcher {
            transport,
            url,
            token,
        })
    }

    /// Gives success and 304; everything else is an error.
    async fn fetch(
        &self,
        method: &str,
        wait: Duration,
        etag: Option<header::HeaderValue>,
        body: Option<Vec<u8>>,
    ) -> Result<HttpResponse> {
        let timeout = wait + ANSWER_MARGIN;
        let mut request = HttpRequest::new(method, self.url.as_str(), body, timeout)?;
        if let Some(token) = self.token.read().await? {
            request = request.with_bearer(&token)?;
        }
        if let Some(etag) = etag {
            request.headers.insert(header::IF_NONE_MATCH, etag);
        }
        let response = self.transport.exchange(request).await?;
        let status = response.status;
        if status.is_success() || status == StatusCode::NOT_MODIFIED {
            return Ok(response);
        }
        Err(self.refused(status, &response.body))
    }

    fn refused(&self, status: StatusCode, body: &[u8]) -> Error {
        let problem = serde_json::from_slice::<Problem>(body).ok();
        let kind = match problem.as_ref().map(|problem| problem.code.as_str()) {
            Some("superseded") => ErrorKind::Superseded,
            Some("unauthorized" | "forbidden") => ErrorKind::PermissionDenied,
            Some("not_found") => ErrorKind::NotFound,
            Some("unavailable" | "conflict") => ErrorKind::Unavailable,
            _ => match status.as_u16() {
                401 | 403 => ErrorKind::PermissionDenied,
                404 | 405 => ErrorKind::NotFound,
                408 | 429 | 500..=599 => ErrorKind::Unavailable,
                _ => ErrorKind::Unexpected,
            },
        };
        let hint = match kind {
            ErrorKind::PermissionDenied => "; check control.token",
            ErrorKind::NotFound if problem.is_none() => "; is this a control plane?",
            _ => "",
        };
        let said = match &problem {
            Some(problem) => {
                let text: String = problem.message.chars().take(500).collect();
                format!(": {text}")
            }
            None => String::new(),
        };
        let message = format!("{} answered {status}{said}{hint}", self.url);
        Error::new(kind, "sync", message)
    }
}
