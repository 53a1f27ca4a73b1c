//! The one error of this crate.

use std::{error::Error as StdError, fmt, sync::Arc};

use crate::codes::{self, Denial, response};

/// What the fallible functions of this crate return.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum ErrorKind {
    /// The caller's input cannot be used: an address, a topic name, a property with a forbidden character.
    InvalidInput,
    /// The message is larger than this client or the broker allows.
    TooLarge,
    /// No connection, or it broke before the answer came.
    Unavailable,
    /// No answer in time.
    Timeout,
    /// The peer sent what the protocol does not allow.
    Protocol,
    /// The address answers, but it is no RocketMQ name server.
    NotNameServer,
    /// The name server or the broker does not know the topic.
    TopicNotFound,
    /// The topic has no queue that takes sends, by its route or by the broker's refusal.
    Sealed,
    /// The broker is busy and did not take the request.
    Throttled,
    /// Wrong credentials, or not enough rights.
    PermissionDenied,
    /// Any other refusal by a broker: see [`Error::code`].
    Broker,
    /// A delivery that this consumer no longer owns.
    Stale,
    /// The client, producer or consumer was closed.
    Closed,
    /// The peer or this client does not know how.
    Unsupported,
}

/// Whether the broker kept the message of a failed send.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Persisted {
    /// It did not: the failure is definite.
    No,
    /// Nobody can tell: the failure is ambiguous.
    Maybe,
}

/// What failed, where, and whether a message may have been stored.
pub struct Error {
    inner: Box<Inner>,
}

struct Inner {
    kind: ErrorKind,
    persisted: Persisted,
    address: Option<Arc<str>>,
    code: Option<i32>,
    /// And nobody has said yet which.
    lacks_right: bool,
    message: String,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl Error {
    /// A definite error.
    #[must_use]
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Error {
            inner: Box::new(Inner {
                kind,
                persisted: Persisted::No,
                address: None,
                code: None,
                lacks_right: false,
                message: message.into(),
                source: None,
            }),
        }
    }

    /// A refusal: the response's code and remark, under the kind that fits the code.
    #[must_use]
    pub fn refused(operation: &str, code: i32, remark: Option<&str>) -> Self {
        // Remarks can carry a Java stack trace; the first line says it all.
        let remark = remark
            .and_then(|text| text.lines().next())
            .unwrap_or("no remark");
        let denial = codes::denial(code, remark);
        let words = match denial {
            Some(Denial::Unsigned) => {
                format!(
                    "{operation} was refused: the cluster wants signed requests, and no access key is set ({remark})"
                )
            }
            Some(Denial::Credentials) => {
                format!("{operation} was refused: wrong access key or secret key ({remark})")
            }
            Some(Denial::Right) => {
                format!("{operation} was refused: the user lacks a right ({remark})")
            }
            None if codes::is_group_disabled(code, remark) => {
                format!(
                    "{operation} was refused: the group itself may not consume, its consumeEnable is false ({remark})"
                )
            }
            None if codes::is_filter_disabled(code, remark) => {
                format!(
                    "{operation} was refused: the broker filters by tags only, unless enablePropertyFilter=true is set in its configuration and it is started anew ({remark})"
                )
            }
            None if code == response::SUBSCRIPTION_PARSE_FAILED => {
                format!("{operation} was refused: the broker cannot read the expression ({remark})")
            }
            None => format!("{operation} was refused with code {code}: {remark}"),
        };
        let mut error = Error::new(kind_of(code, remark), words);
        error.inner.code = Some(code);
        error.inner.lacks_right = denial == Some(Denial::Right);
        error
    }

    /// Says before the message what it is about.
    #[must_use]
    pub fn with_context(mut self, context: &str) -> Self {
        self.inner.message = format!("{context}: {}", self.inner.message);
        self
    }

    /// Says which right a request of this code takes, if that is what is missing.
    pub(crate) fn with_right(mut self, request_code: i32) -> Self {
        if std::mem::take(&mut self.inner.lacks_right) {
            let right = codes::right(request_code);
            self.inner.message.push_str("; it takes the right ");
            self.inner.message.push_str(right);
        }
        self
    }

    /// Replaces the kind.
    #[must_use]
    pub fn with_kind(mut self, kind: ErrorKind) -> Self {
        self.inner.kind = kind;
        self
    }

    /// Says whether a message may have been stored.
    #[must_use]
    pub fn with_persisted(mut self, persisted: Persisted) -> Self {
        self.inner.persisted = persisted;
        self
    }

    /// Names the peer.
    #[must_use]
    pub fn with_address(mut self, address: &Arc<str>) -> Self {
        self.inner.address = Some(Arc::clone(address));
        self
    }

    /// Keeps the cause, for `source()`.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.inner.source = Some(source.into());
        self
    }

    /// What went wrong.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.inner.kind
    }

    /// Whether a message may have been stored. [`Persisted::No`] for calls that send none.
    #[must_use]
    pub fn persisted(&self) -> Persisted {
        self.inner.persisted
    }

    /// The peer, where one was reached for.
    #[must_use]
    pub fn address(&self) -> Option<&str> {
        self.inner.address.as_deref()
    }

    /// The response code of a refusal; see [`crate::codes::response`].
    #[must_use]
    pub fn code(&self) -> Option<i32> {
        self.inner.code
    }

    /// The sentence without the address.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.inner.message
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.inner.address {
            Some(address) => write!(f, "{} ({address})", self.inner.message),
            None => f.write_str(&self.inner.message),
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Error")
            .field("kind", &self.inner.kind)
            .field("persisted", &self.inner.persisted)
            .field("address", &self.inner.address)
            .field("code", &self.inner.code)
            .field("message", &self.inner.message)
            .field("source", &self.inner.source)
            .finish()
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.inner.source.as_deref().map(|source| source as _)
    }
}

/// The kind of error that a response code stands for. 4.9 says much by [`response::SYSTEM_ERROR`] and its remark alone.
fn kind_of(code: i32, remark: &str) -> ErrorKind {
    match code {
        _ if codes::denial(code, remark).is_some() => ErrorKind::PermissionDenied,
        _ if codes::is_filter_disabled(code, remark) => ErrorKind::Unsupported,
        response::SUBSCRIPTION_PARSE_FAILED => ErrorKind::InvalidInput,
        response::SYSTEM_BUSY | response::FLOW_CONTROL => ErrorKind::Throttled,
        response::REQUEST_CODE_NOT_SUPPORTED | response::VERSION_NOT_SUPPORTED => {
            ErrorKind::Unsupported
        }
        response::SERVICE_NOT_AVAILABLE => ErrorKind::Unavailable,
        response::NO_PERMISSION => ErrorKind::PermissionDenied,
        response::TOPIC_NOT_EXIST => ErrorKind::TopicNotFound,
        _ => ErrorKind::Broker,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codes::request;

    #[test]
    fn group_that_may_not_consume_is_no_matter_of_rights() {
        let remark = Some("subscription group no permission, billing");
        let error = Error::refused("the pull", response::NO_PERMISSION, remark)
            .with_right(request::PULL_MESSAGE);
        assert_eq!(error.kind(), ErrorKind::PermissionDenied);
        assert_eq!(error.code(), Some(response::NO_PERMISSION));
        assert!(error.message().contains("consumeEnable"), "{error}");
        assert!(!error.message().contains("the right"), "{error}");
    }
}
