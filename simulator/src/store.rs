//! The control plane's store: what was applied survives its crash.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crossfade::BoxFuture;
use crossfade_control_plane::{
    record::{Change, Kind, Record},
    store::{AuditLine, Store, StoreError, StoreErrorKind},
};

use crate::{effect::Effects, fault::Fault};

/// What becomes of one write.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Torn {
    /// Not written, and the writer is told.
    Refused,
    /// Written, but the writer is told otherwise.
    AnswerLost,
}

#[derive(Debug, Default)]
struct Rows {
    epoch: u64,
    rows: BTreeMap<(Kind, String), Record>,
    audit: Vec<(u64, crossfade_control_plane::record::AuditEntry)>,
    torn: VecDeque<Torn>,
}

/// The disk; every start of a control plane opens it anew.
#[derive(Clone, Debug)]
pub(crate) struct Disk {
    rows: Arc<Mutex<Rows>>,
    effects: Effects,
}

impl Disk {
    pub(crate) fn new(effects: Effects) -> Self {
        Disk {
            rows: Arc::default(),
            effects,
        }
    }

    /// Takes a new epoch.
    pub(crate) fn open(&self) -> Arc<dyn Store> {
        let mut rows = self.lock();
        rows.epoch += 1;
        Arc::new(Opened {
            epoch: rows.epoch,
            disk: self.clone(),
        })
    }

    /// The next write that meets nothing else meets this.
    pub(crate) fn tear(&self, torn: Torn) {
        self.lock().torn.push_back(torn);
    }

    pub(crate) fn heal(&self) {
        self.lock().torn.clear();
    }

    /// How often an action was audited.
    pub(crate) fn audited(&self, action: &str) -> usize {
        let rows = self.lock();
        let lines = rows.audit.iter();
        lines.filter(|(_, entry)| entry.action == action).count()
    }

    fn lock(&self) -> MutexGuard<'_, Rows> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug)]
struct Opened {
    epoch: u64,
    disk: Disk,
}

impl Opened {
    fn held(&self) -> Result<MutexGuard<'_, Rows>, StoreError> {
        let rows = self.disk.lock();
        if rows.epoch == self.epoch {
            return Ok(rows);
        }
        Err(StoreError::new(
            StoreErrorKind::Superseded,
            "another control plane has started on this store",
        ))
    }
}

impl Store for Opened {
    fn epoch(&self) -> u64 {
        self.epoch
    }

    fn load(&self) -> BoxFuture<'_, Result<Vec<Record>, StoreError>> {
        Box::pin(async move { Ok(self.held()?.rows.values().cloned().collect()) })
    }

    fn apply(&self, change: Change) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move {
            let mut rows = self.held()?;
            let torn = rows.torn.pop_front();
            if torn.is_some() {
                self.disk.effects.touch(Fault::TornWrite);
            }
            let lost = || StoreError::new(StoreErrorKind::Unavailable, "the disk does not answer");
            if torn == Some(Torn::Refused) {
                return Err(lost());
            }
            for record in change.puts {
                rows.rows.insert((record.kind, record.key.clone()), record);
            }
            for key in change.deletes {
                rows.rows.remove(&key);
            }
            let epoch = self.epoch;
            rows.audit
                .extend(change.audit.into_iter().map(|entry| (epoch, entry)));
            match torn {
                Some(_) => Err(lost()),
                None => Ok(()),
            }
        })
    }

    fn audit(
        &self,
        _before: Option<u64>,
        limit: u32,
    ) -> BoxFuture<'_, Result<Vec<AuditLine>, StoreError>> {
        Box::pin(async move {
            let rows = self.held()?;
            let newest = (1..).zip(&rows.audit).collect::<Vec<_>>().into_iter().rev();
            let lines = newest
                .take(limit as usize)
                .map(|(number, (epoch, entry))| AuditLine {
                    number,
                    at_ms: 0,
                    epoch: *epoch,
                    entry: entry.clone(),
                });
            Ok(lines.collect())
        })
    }

    fn check(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move { self.held().map(drop) })
    }
}
