//! Parts that do not what they promise: the simulator must find each of them, or it finds nothing.

use std::{str::FromStr, sync::Arc};

use crossfade::{
    BoxFuture, IdempotencyKey, Result, Side,
    backend::{Backend, fault::Layered},
    dedup::{Claim, DedupStore, Owner},
};
use serde::{Deserialize, Serialize};

use crate::{fault::word, mutant::Mutant};

/// What is broken on purpose.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Mutation {
    /// A seal is confirmed and shown, and closes only.
    SealOnlyCloses,
    /// A change of access that was given up lands long after the broker's own bound.
    AccessLandsTooLate,
    /// What a group must retry is not counted as owed.
    RetryNotOwed,
    /// Delayed messages are not counted as owed.
    DelayedNotOwed,
    /// What nobody has read yet is not counted as owed.
    BacklogNotOwed,
    /// A consumer drops what it receives first on the target, as one that starts at the latest offset does.
    TargetStartsLate,
    /// A send that is perhaps stored is called not stored.
    AmbiguousCalledDefinite,
    /// One send in fifty succeeds and is not stored.
    SuccessWithoutStore,
    /// Messages are acked as they are received.
    AckAtReceive,
    /// A message that is given back is acked.
    GivenBackIsAcked,
    /// Every claim is the first.
    DedupForgets,
    /// A failed handler's claim stays committed.
    DedupKeepsFailed,
    /// Consumers are told `SourceOnly` where the plan says `DualRead`.
    PlanRewritten,
}

impl Mutation {
    /// All of them.
    pub const ALL: [Mutation; 13] = [
        Mutation::SealOnlyCloses,
        Mutation::AccessLandsTooLate,
        Mutation::RetryNotOwed,
        Mutation::DelayedNotOwed,
        Mutation::BacklogNotOwed,
        Mutation::TargetStartsLate,
        Mutation::AmbiguousCalledDefinite,
        Mutation::SuccessWithoutStore,
        Mutation::AckAtReceive,
        Mutation::GivenBackIsAcked,
        Mutation::DedupForgets,
        Mutation::DedupKeepsFailed,
        Mutation::PlanRewritten,
    ];

    /// As on the command line: `seal_only_closes`.
    #[must_use]
    pub fn name(self) -> String {
        word(&self)
    }
}

impl FromStr for Mutation {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut all = Mutation::ALL.into_iter();
        all.find(|mutation| mutation.name() == text).ok_or_else(|| {
            let names = Mutation::ALL.map(Mutation::name).join(", ");
            format!("{text:?} is no mutation: {names}")
        })
    }
}

/// A cluster as an instance sees it.
pub(crate) fn backend(
    mutation: Option<Mutation>,
    side: Side,
    inner: Arc<dyn Backend>,
    seed: u64,
) -> Arc<dyn Backend> {
    match mutation {
        Some(mutation) => Arc::new(Layered::over(inner, Mutant::new(mutation, side, seed))),
        None => inner,
    }
}

/// A store as an instance sees it.
pub(crate) fn dedup(mutation: Option<Mutation>, inner: Arc<dyn DedupStore>) -> Arc<dyn DedupStore> {
    match mutation {
        Some(mutation @ (Mutation::DedupForgets | Mutation::DedupKeepsFailed)) => {
            Arc::new(MutantDedup { mutation, inner })
        }
        _ => inner,
    }
}

#[derive(Debug)]
struct MutantDedup {
    mutation: Mutation,
    inner: Arc<dyn DedupStore>,
}

impl DedupStore for MutantDedup {
    fn claim<'a>(
        &'a self,
        scope: &'a str,
        key: &'a IdempotencyKey,
        owner: &'a Owner,
    ) -> BoxFuture<'a, Result<Claim>> {
        Box::pin(async move {
            if self.mutation == Mutation::DedupForgets {
                return Ok(Claim::First);
            }
            let claim = self.inner.claim(scope, key, owner).await?;
            if claim == Claim::First {
                self.inner.commit(scope, key, owner).await?;
            }
            Ok(claim)
        })
    }

    fn commit<'a>(
        &'a self,
        _scope: &'a str,
        _key: &'a IdempotencyKey,
        _owner: &'a Owner,
    ) -> BoxFuture<'a, Result<()>> {
        Box::pin(async { Ok(()) })
    }

    fn release<'a>(
        &'a self,
        _scope: &'a str,
        _key: &'a IdempotencyKey,
        _owner: &'a Owner,
    ) -> BoxFuture<'a, Result<()>> {
        Box::pin(async { Ok(()) })
    }

    fn renew<'a>(&'a self, owner: &'a Owner) -> BoxFuture<'a, Result<()>> {
        self.inner.renew(owner)
    }
}
