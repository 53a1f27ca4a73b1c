//! Deduplication in two phases: claim before the handler, commit after it succeeded, release when it failed.
//!
//! The check is exact: a false "committed" would be a lost message.

mod memory;

use std::{fmt, sync::Arc};

pub use memory::{MemoryDedup, MemoryDedupOptions};

use crate::{BoxFuture, error::Result, message::IdempotencyKey};

/// What a claim found.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Claim {
    /// Nobody has this key: the caller may enter the handler, and owes a commit or a release.
    First,
    /// Somebody is in the handler with it and may still fail: ask again later.
    Pending,
    /// Handled: ack and drop.
    Committed,
}

/// How full a store is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Fill {
    /// Keys remembered, pending and committed.
    pub keys: u64,
    /// The most it takes.
    pub limit: u64,
}

/// One consumer of one process life, as the store knows it.
pub type Owner = Arc<str>;

/// Names what handles a key once: one group's reading of one topic. The same key in another topic is another message.
#[must_use]
pub fn scope(topic: &str, group: &str) -> String {
    // No broker allows the slash in a name.
    format!("{topic}/{group}")
}

/// Where keys are claimed. The scope of "once" is the scope of the store: one process, or all that share it.
pub trait DedupStore: fmt::Debug + Send + Sync + 'static {
    /// Claims `key` in `scope`, made by [`scope`], for `owner`.
    ///
    /// # Errors
    /// `Unavailable` when the store cannot be asked: the message is delivered later. `Throttled` when the window is full.
    ///
    /// # Cancellation
    /// The key may be claimed; the claim ends with its owner, or by `release`.
    fn claim<'a>(
        &'a self,
        scope: &'a str,
        key: &'a IdempotencyKey,
        owner: &'a Owner,
    ) -> BoxFuture<'a, Result<Claim>>;

    /// The handler succeeded.
    ///
    /// # Errors
    /// `StaleDelivery` when the claim is not (or no longer) the owner's; `Unavailable`.
    ///
    /// # Cancellation
    /// Committed or not; repeating is safe.
    fn commit<'a>(
        &'a self,
        scope: &'a str,
        key: &'a IdempotencyKey,
        owner: &'a Owner,
    ) -> BoxFuture<'a, Result<()>>;

    /// The handler failed. A claim that is not the owner's is left alone.
    ///
    /// # Errors
    /// `Unavailable`.
    ///
    /// # Cancellation
    /// Released or not; repeating is safe.
    fn release<'a>(
        &'a self,
        scope: &'a str,
        key: &'a IdempotencyKey,
        owner: &'a Owner,
    ) -> BoxFuture<'a, Result<()>>;

    /// Tells that `owner` is alive, every second. A store that other processes share gives owners a lease: the pending claims of one that was not
    /// renewed for so long fall free. A store in this process needs none, because [`Self::forget`] tells it; then this does nothing.
    ///
    /// # Errors
    /// `Unavailable`.
    ///
    /// # Cancellation
    /// Renewed or not.
    fn renew<'a>(&'a self, owner: &'a Owner) -> BoxFuture<'a, Result<()>>;

    /// The owner is gone, in good order or not: its pending claims fall free. Must not block. A store whose owners have a lease may leave them to it,
    /// which is the default.
    fn forget(&self, _owner: &Owner) {}

    /// How full it is, for the metrics; `None` for a store that cannot tell at once.
    fn fill(&self) -> Option<Fill> {
        None
    }
}
