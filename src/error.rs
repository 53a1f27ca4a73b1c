//! The one error of the library.

use std::{error::Error as StdError, fmt, time::Duration};

use crate::side::Side;

/// What the fallible functions of this crate return.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong. Callers branch on [`Error::retry`] and [`Error::persisted`] first.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum ErrorKind {
    /// A broken invariant or an answer that makes no sense.
    Unexpected,
    /// A configuration key or value that cannot be used.
    InvalidConfig,
    /// A message that no broker may be given: too large, a forbidden character, an empty key.
    InvalidMessage,
    /// The producer, the consumer or the client was shut down.
    Closed,
    /// The backend cannot do this; see its capability.
    Unsupported,
    /// A delivery that this consumer no longer owns: acked before, or its queue went to another member.
    StaleDelivery,
    /// No answer in time.
    Timeout,
    /// The cluster cannot be reached.
    Unavailable,
    /// The broker is busy.
    Throttled,
    /// A topic, group or broker that does not exist.
    NotFound,
    /// Wrong credentials, or none, or not enough rights.
    PermissionDenied,
    /// The topic takes no sends on this side: the broker refused this one.
    Sealed,
    /// No plan is known for the topic.
    StageUnknown,
    /// The lease is over and the lease mode is `stop`.
    LeaseOver,
    /// A newer process runs under this instance name.
    Superseded,
    /// A plan that breaks a rule: malformed, older, two stages away, not supported.
    InvalidPlan,
    /// A stage change that the stage table does not have.
    IllegalTransition,
}

impl ErrorKind {
    /// A stable number, the same in the C header: 1xx this library, 2xx brokers, 3xx the control plane. Never reused.
    #[must_use]
    pub fn code(self) -> i32 {
        match self {
            ErrorKind::Unexpected => 199,
            ErrorKind::InvalidConfig => 102,
            ErrorKind::InvalidMessage => 103,
            ErrorKind::Closed => 104,
            ErrorKind::Unsupported => 106,
            ErrorKind::StaleDelivery => 107,
            ErrorKind::Timeout => 200,
            ErrorKind::Unavailable => 201,
            ErrorKind::Throttled => 202,
            ErrorKind::NotFound => 203,
            ErrorKind::PermissionDenied => 204,
            ErrorKind::Sealed => 205,
            ErrorKind::StageUnknown => 300,
            ErrorKind::LeaseOver => 301,
            ErrorKind::Superseded => 302,
            ErrorKind::InvalidPlan => 303,
            ErrorKind::IllegalTransition => 304,
        }
    }

    fn default_retry(self) -> Retry {
        match self {
            ErrorKind::Timeout
            | ErrorKind::Unavailable
            | ErrorKind::Throttled
            | ErrorKind::LeaseOver => Retry::After(Duration::from_millis(100)),
            ErrorKind::Sealed => Retry::Now,
            _ => Retry::Never,
        }
    }
}

/// Whether trying again can help.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Retry {
    /// The same call fails the same way.
    Never,
    /// At once.
    Now,
    /// After this pause.
    After(Duration),
}

/// Whether the broker kept the message of a failed send.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Persisted {
    /// It did not: the failure is definite.
    No,
    /// Nobody can tell: the failure is ambiguous.
    Maybe,
    /// It did; something after the storing failed.
    Yes,
}

/// What failed, where, whether a retry helps, and whether the message was kept.
pub struct Error {
    inner: Box<Inner>,
}

struct Inner {
    kind: ErrorKind,
    retry: Retry,
    persisted: Persisted,
    side: Option<Side>,
    operation: &'static str,
    message: String,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl Error {
    /// A definite error: nothing was persisted, and the retry advice is the kind's own.
    /// `operation` names the call ("send", "sync"); `message` says what, where and what to do.
    #[must_use]
    pub fn new(kind: ErrorKind, operation: &'static str, message: impl Into<String>) -> Self {
        Error {
            inner: Box::new(Inner {
                kind,
                retry: kind.default_retry(),
                persisted: Persisted::No,
                side: None,
                operation,
                message: message.into(),
                source: None,
            }),
        }
    }

    /// Replaces the retry advice.
    #[must_use]
    pub fn with_retry(mut self, retry: Retry) -> Self {
        self.inner.retry = retry;
        self
    }

    /// Says whether the message was kept.
    #[must_use]
    pub fn with_persisted(mut self, persisted: Persisted) -> Self {
        self.inner.persisted = persisted;
        self
    }

    /// Names the side it happened on.
    #[must_use]
    pub fn with_side(mut self, side: Side) -> Self {
        self.inner.side = Some(side);
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

    /// Whether trying again can help.
    #[must_use]
    pub fn retry(&self) -> Retry {
        self.inner.retry
    }

    /// Whether the broker kept the message. [`Persisted::No`] for calls that send none.
    #[must_use]
    pub fn persisted(&self) -> Persisted {
        self.inner.persisted
    }

    /// The side it happened on, where there is one.
    #[must_use]
    pub fn side(&self) -> Option<Side> {
        self.inner.side
    }

    /// The call that failed.
    #[must_use]
    pub fn operation(&self) -> &'static str {
        self.inner.operation
    }

    /// The sentence without kind, operation and side.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.inner.message
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner {
            operation,
            side,
            message,
            ..
        } = &*self.inner;
        write!(f, "{operation}")?;
        if let Some(side) = side {
            write!(f, " ({side})")?;
        }
        write!(f, ": {message}")
    }
}

impl fmt::Debug for Error {
    /// As `Display`, because a `main` that returns it prints this; every field with `{:#?}`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !f.alternate() {
            return fmt::Display::fmt(self, f);
        }
        let inner = &*self.inner;
        f.debug_struct("Error")
            .field("kind", &inner.kind)
            .field("operation", &inner.operation)
            .field("side", &inner.side)
            .field("persisted", &inner.persisted)
            .field("retry", &inner.retry)
            .field("message", &inner.message)
            .field("source", &inner.source)
            .finish()
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.inner.source.as_deref().map(|source| source as _)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_that_a_main_returns_reads_as_it_is_displayed() {
        let error = Error::new(ErrorKind::Timeout, "send", "no answer").with_side(Side::Source);
        assert_eq!(format!("{error:?}"), error.to_string());
        assert!(format!("{error:#?}").contains("kind: Timeout"));
    }
}
