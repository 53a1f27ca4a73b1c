//! What survives a restart: rows, the audit log, and the epoch that says which control plane may still write.

mod sqlite;

use std::{error::Error as StdError, fmt};

use crossfade::BoxFuture;
use serde::{Deserialize, Serialize};

pub use sqlite::SqliteStore;

use crate::record::{AuditEntry, Change, Record};

/// The most audit lines that one page may have.
pub const MAX_AUDIT_PAGE: u32 = 1_000;

/// Keeps what the coordinator decides.
///
/// # Behavior
/// - A change is written whole or not at all, and is on disk when the call returns.
/// - The newest 200 000 lines of the audit log are kept.
/// - Opening takes a new epoch; from then on every write of an older one fails with [`StoreErrorKind::Superseded`].
pub trait Store: fmt::Debug + Send + Sync + 'static {
    /// The epoch that this start has taken; grows with every start.
    fn epoch(&self) -> u64;

    /// All rows, by kind and key.
    ///
    /// # Errors
    /// [`StoreErrorKind::Unreadable`], [`StoreErrorKind::Unavailable`].
    ///
    /// # Cancellation
    /// Leaves nothing behind.
    fn load(&self) -> BoxFuture<'_, Result<Vec<Record>, StoreError>>;

    /// Writes a change.
    ///
    /// # Errors
    /// [`StoreErrorKind::Superseded`] once another control plane has started on the same store; [`StoreErrorKind::Unavailable`].
    /// Nothing of the change is kept then.
    ///
    /// # Cancellation
    /// The change may be written or not, always whole.
    fn apply(&self, change: Change) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Audit lines with a number below `before` (all when `None`), newest first, at most `limit` and [`MAX_AUDIT_PAGE`].
    ///
    /// # Errors
    /// As [`Self::load`].
    ///
    /// # Cancellation
    /// Leaves nothing behind.
    fn audit(
        &self,
        before: Option<u64>,
        limit: u32,
    ) -> BoxFuture<'_, Result<Vec<AuditLine>, StoreError>>;

    /// Whether a write would be taken now.
    ///
    /// # Errors
    /// As [`Self::apply`].
    ///
    /// # Cancellation
    /// Leaves nothing behind.
    fn check(&self) -> BoxFuture<'_, Result<(), StoreError>>;
}

/// One line of the audit log as it was stored.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct AuditLine {
    /// Its number; grows with time.
    pub number: u64,
    /// When it was stored, in milliseconds since 1970, by this machine's clock.
    pub at_ms: u64,
    /// Which control plane decided.
    pub epoch: u64,
    /// What happened.
    #[serde(flatten)]
    pub entry: AuditEntry,
}

/// What went wrong with the store.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum StoreErrorKind {
    /// The address cannot be used.
    InvalidAddress,
    /// The file is not a store, was written by a newer program, or is damaged.
    Unreadable,
    /// Another control plane has started on the same store.
    Superseded,
    /// The disk refused, is full, or the file is locked.
    Unavailable,
}

/// What, where, and what to do.
#[derive(Debug)]
pub struct StoreError {
    kind: StoreErrorKind,
    message: String,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl StoreError {
    /// An error without a cause.
    #[must_use]
    pub fn new(kind: StoreErrorKind, message: impl Into<String>) -> Self {
        StoreError {
            kind,
            message: message.into(),
            source: None,
        }
    }

    fn with_source(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// What went wrong.
    #[must_use]
    pub fn kind(&self) -> StoreErrorKind {
        self.kind
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl StdError for StoreError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}
