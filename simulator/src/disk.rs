//! The disk of an instance: its last known plans outlive a crash, or are lost, older than they were, or broken.

use std::sync::{Arc, Mutex, PoisonError};

use crossfade::{BoxFuture, Result, control::PlanStore};
use rand::{RngExt, rngs::StdRng};

use crate::{effect::Effects, fault::Fault};

/// Versions that are kept to go back to.
const VERSIONS: usize = 16;

#[derive(Debug, Default)]
struct State {
    /// The last one is what the disk holds.
    versions: Vec<Vec<u8>>,
    /// What the next read is an effect of.
    damage: Option<Fault>,
}

/// One instance's disk, over all its lives. Clones are the same one.
#[derive(Clone, Debug)]
pub(crate) struct PlanDisk {
    state: Arc<Mutex<State>>,
    effects: Effects,
}

impl PlanDisk {
    pub(crate) fn new(effects: Effects) -> Self {
        PlanDisk {
            state: Arc::default(),
            effects,
        }
    }

    /// What becomes of the disk while its process is down. There is no effect where there was nothing to lose.
    pub(crate) fn suffer(&self, fault: Fault, random: &mut StdRng) {
        let state = &mut *self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(held) = state.versions.pop_if(|held| !held.is_empty()) else {
            return;
        };
        state.damage = Some(fault);
        match fault {
            Fault::DiskLost => state.versions.clear(),
            Fault::DiskOutdated => {
                let older = state.versions.iter().filter(|older| **older != held);
                let older: Vec<_> = older.cloned().collect();
                if older.is_empty() {
                    state.versions.push(held);
                    state.damage = None;
                } else {
                    let chosen = random.random_range(0..older.len());
                    state.versions.push(older[chosen].clone());
                }
            }
            Fault::DiskTorn => {
                let mut torn = held;
                let place = random.random_range(0..torn.len());
                match random.random_bool(0.5) {
                    true => torn.truncate(place),
                    false => torn[place] ^= 1 << random.random_range(0..8),
                }
                state.versions.push(torn);
            }
            _ => state.versions.push(held),
        }
    }
}

impl PlanDisk {
    /// Whether there is something older to go back to.
    pub(crate) fn has_been_written_over(&self) -> bool {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let held = state.versions.last();
        state.versions.iter().any(|older| Some(older) != held)
    }
}

impl PlanStore for PlanDisk {
    fn read(&self) -> BoxFuture<'_, Result<Option<Vec<u8>>>> {
        Box::pin(async move {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(damage) = state.damage.take() {
                self.effects.touch(damage);
            }
            Ok(state.versions.last().cloned())
        })
    }

    fn write(&self, bytes: Vec<u8>) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            state.damage = None;
            if state.versions.len() == VERSIONS {
                state.versions.remove(0);
            }
            state.versions.push(bytes);
            Ok(())
        })
    }

    fn place(&self) -> String {
        "the simulated disk".to_owned()
    }
}
