//! What the network between one process and the control plane does to requests and answers.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use rand::{RngExt, SeedableRng, rngs::StdRng};

use crate::{
    effect::{Effects, FaultSet},
    fault::Fault,
};

/// Share of answers that a bad link loses, and of requests that it brings twice.
const BAD_SHARE: f64 = 0.2;
/// The longest delay of a bad link, each way, in milliseconds.
const BAD_DELAY_MS: u64 = 400;
/// The longest time between a request and its second arrival, in milliseconds.
const DOUBLED_MS: u64 = 3_000;

/// What the network does. The default: nothing.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct LinkFaults {
    /// Nobody listens, as far as this process can see.
    pub(crate) refused: bool,
    /// No request arrives, because of these.
    pub(crate) requests_cut: FaultSet,
    /// Requests arrive, no answer does, because of these.
    pub(crate) answers_cut: FaultSet,
    /// Answers are lost, requests arrive twice, everything is late.
    pub(crate) bad: bool,
}

/// One process's network. Clones are the same one.
#[derive(Clone, Debug)]
pub(crate) struct Wire {
    state: Arc<Mutex<(LinkFaults, StdRng)>>,
    effects: Effects,
}

impl Wire {
    pub(crate) fn new(effects: Effects, seed: u64) -> Self {
        let state = (LinkFaults::default(), StdRng::seed_from_u64(seed));
        Wire {
            state: Arc::new(Mutex::new(state)),
            effects,
        }
    }

    pub(crate) fn change(&self, change: impl FnOnce(&mut LinkFaults)) {
        change(&mut self.state().0);
    }

    fn state(&self) -> MutexGuard<'_, (LinkFaults, StdRng)> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn is_refused(&self) -> bool {
        self.state().0.refused
    }

    pub(crate) fn loses_request(&self) -> bool {
        let cut = self.state().0.requests_cut;
        self.effects.touch_all(cut);
        !cut.is_empty()
    }

    pub(crate) fn loses_answer(&self) -> bool {
        let cut = self.state().0.answers_cut;
        self.effects.touch_all(cut);
        !cut.is_empty() || self.happens(BAD_SHARE)
    }

    /// How much later a request arrives a second time.
    pub(crate) fn doubled(&self) -> Option<Duration> {
        self.happens(BAD_SHARE)
            .then(|| Duration::from_millis(self.state().1.random_range(0..DOUBLED_MS)))
    }

    pub(crate) fn delay(&self) -> Duration {
        let (faults, random) = &mut *self.state();
        if !faults.bad {
            return Duration::ZERO;
        }
        self.effects.touch(Fault::BadLink);
        Duration::from_millis(random.random_range(0..=BAD_DELAY_MS))
    }

    /// A place to break off among `bytes`.
    pub(crate) fn breaks_within(&self, bytes: usize) -> Option<usize> {
        self.happens(BAD_SHARE / 2.0)
            .then(|| self.state().1.random_range(0..bytes))
    }

    fn happens(&self, share: f64) -> bool {
        let (faults, random) = &mut *self.state();
        let happens = faults.bad && random.random_bool(share);
        if happens {
            self.effects.touch(Fault::BadLink);
        }
        happens
    }
}
