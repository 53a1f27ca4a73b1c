//! The clock of one machine, which may go wrong.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use crossfade::clock::Clock;
use tokio::time::Instant;

use crate::{effect::Effects, fault::Fault};

#[derive(Debug)]
struct State {
    /// What it showed at `since`.
    shown: Duration,
    since: Instant,
    /// How fast it goes, in parts per thousand of the true one.
    per_mille: u32,
    wrong: bool,
}

/// Clones are the same clock.
#[derive(Clone, Debug)]
pub(crate) struct MachineClock {
    state: Arc<Mutex<State>>,
    effects: Effects,
}

impl MachineClock {
    pub(crate) fn new(effects: Effects) -> Self {
        let state = State {
            shown: Duration::ZERO,
            since: Instant::now(),
            per_mille: 1_000,
            wrong: false,
        };
        MachineClock {
            state: Arc::new(Mutex::new(state)),
            effects,
        }
    }

    /// From now on it goes at another rate, and first jumps ahead: all its timers stood still as long as that.
    pub(crate) fn set(&self, per_mille: u32, jump: Duration) {
        let state = &mut *self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.shown = state.now() + jump;
        state.since = Instant::now();
        state.wrong = per_mille != 1_000 || !jump.is_zero();
        state.per_mille = per_mille;
    }
}

impl State {
    fn now(&self) -> Duration {
        self.shown + self.since.elapsed() * self.per_mille / 1_000
    }
}

impl Clock for MachineClock {
    fn boot_time(&self) -> Duration {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.wrong {
            self.effects.touch(Fault::ClockSkew);
        }
        state.now()
    }

    fn wall_time(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + self.boot_time()
    }
}
