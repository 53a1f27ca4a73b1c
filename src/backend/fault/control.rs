//! What goes wrong, and the handle that says so.

use std::{
    collections::VecDeque,
    ops::RangeInclusive,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use rand::{RngExt, SeedableRng, rngs::StdRng};
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout_at},
};

use crate::{
    backend::Unreadable,
    error::{Error, ErrorKind, Result},
};

/// How long a call without a timeout of its own waits for a stalled cluster before it ends with `Unavailable`.
pub const STALL_TIMEOUT: Duration = Duration::from_secs(3);
/// The longest delay of [`FaultRules`]; longer ones are cut to it.
pub const MAX_DELAY: Duration = Duration::from_secs(60 * 60);

/// What becomes of one send.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum SendFate {
    /// Nothing special.
    Passed,
    /// Not stored, and the caller knows: `Unavailable`, `Persisted::No`.
    Refused,
    /// Turned away by flow control: not stored, and the caller knows: `Throttled`, `Persisted::No`.
    Busy,
    /// Stored, but the answer is lost: `Timeout`, `Persisted::Maybe`, after the send's timeout.
    AnswerLost,
    /// Not stored, and the caller cannot know: `Timeout`, `Persisted::Maybe`, after the send's timeout.
    RequestLost,
    /// As [`Self::RequestLost`] for the caller, but stored [`FaultRules::late_by`] after the timeout.
    Late,
    /// Stored twice; the answer is the first one's.
    Duplicated,
}

/// What goes wrong, and how often. The default is: nothing.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq)]
pub struct FaultRules {
    /// How long each call takes longer, drawn evenly. Default: 0.
    pub delay: RangeInclusive<Duration>,
    /// Fates of sends with their share, 0.0 to 1.0. What is left passes. Default: empty.
    pub sends: Vec<(SendFate, f64)>,
    /// When a [`SendFate::Late`] message is stored, counted from the send's timeout. Default: 1 s.
    pub late_by: Duration,
    /// Messages that every consumer says it cannot read; it reads on all the same. Default: empty.
    pub unreadable: Vec<Unreadable>,
}

impl Default for FaultRules {
    fn default() -> Self {
        FaultRules {
            delay: Duration::ZERO..=Duration::ZERO,
            sends: Vec::new(),
            late_by: Duration::from_secs(1),
            unreadable: Vec::new(),
        }
    }
}

/// Changes the rules at run time. Clones are the same control.
#[derive(Clone, Debug)]
pub struct FaultControl {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    stalled: watch::Sender<bool>,
}

/// How many calls have felt a fault.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct FaultCounts {
    /// Took longer.
    pub delayed: u64,
    /// Waited for a stalled cluster.
    pub stalled: u64,
    /// Sends whose fate was not [`SendFate::Passed`].
    pub sends: u64,
}

#[derive(Debug)]
struct State {
    counts: FaultCounts,
    rules: FaultRules,
    script: VecDeque<SendFate>,
    rng: StdRng,
}

impl FaultControl {
    /// No faults yet.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        FaultControl {
            shared: Arc::new(Shared {
                state: Mutex::new(State {
                    counts: FaultCounts::default(),
                    rules: FaultRules::default(),
                    script: VecDeque::new(),
                    rng: StdRng::seed_from_u64(seed),
                }),
                stalled: watch::Sender::new(false),
            }),
        }
    }

    /// The rules in force.
    #[must_use]
    pub fn rules(&self) -> FaultRules {
        self.state().rules.clone()
    }

    /// How many calls have felt a fault so far.
    #[must_use]
    pub fn counts(&self) -> FaultCounts {
        self.state().counts
    }

    /// Replaces the rules, for calls that begin from now on.
    pub fn set_rules(&self, rules: FaultRules) {
        self.state().rules = rules;
    }

    /// The fates of the next sends, in order, before the rules decide again. Adds to what is still waiting.
    pub fn script(&self, fates: impl IntoIterator<Item = SendFate>) {
        self.state().script.extend(fates);
    }

    /// From now on the cluster answers nothing.
    pub fn stall(&self) {
        self.shared.stalled.send_replace(true);
    }

    /// The cluster answers again; calls that still wait go on.
    pub fn resume(&self) {
        self.shared.stalled.send_replace(false);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        let state = self.shared.state.lock();
        // A panic elsewhere leaves rules and seed usable.
        state.unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn fate(&self) -> SendFate {
        let state = &mut *self.state();
        let fate = state.fate();
        state.counts.sends += u64::from(fate != SendFate::Passed);
        fate
    }

    fn delay(&self) -> Duration {
        let state = &mut *self.state();
        let least = (*state.rules.delay.start()).min(MAX_DELAY);
        let most = (*state.rules.delay.end()).min(MAX_DELAY);
        if most <= least {
            return least;
        }
        least + (most - least).mul_f64(state.rng.random())
    }

    pub(super) fn late_by(&self) -> Duration {
        self.state().rules.late_by.min(MAX_DELAY)
    }

    /// Passes once delay and stall are over.
    pub(super) async fn gate(&self) {
        let delay = self.delay();
        if !delay.is_zero() {
            self.state().counts.delayed += 1;
            sleep(delay).await;
        }
        if !*self.shared.stalled.borrow() {
            return;
        }
        self.state().counts.stalled += 1;
        let mut stalled = self.shared.stalled.subscribe();
        // The sender lives in `self`, so this cannot fail.
        let _ = stalled.wait_for(|stalled| !stalled).await;
    }

    /// Resolves when a stall begins, at once during one.
    pub(super) async fn stalled(&self) {
        let mut stalled = self.shared.stalled.subscribe();
        // As above.
        let _ = stalled.wait_for(|stalled| *stalled).await;
    }

    /// [`Self::gate`], but not for longer than that; whether it was passed.
    pub(super) async fn gate_until(&self, deadline: Instant) -> bool {
        // Nearly every call: without a timer of its own.
        let open = self.state().rules.delay.end().is_zero() && !*self.shared.stalled.borrow();
        open || timeout_at(deadline, self.gate()).await.is_ok()
    }

    /// [`Self::gate`] for calls that have no timeout of their own.
    pub(super) async fn bounded_gate(&self, operation: &'static str) -> Result<()> {
        // The delay is part of the rules, so it does not count.
        let bound = STALL_TIMEOUT + MAX_DELAY.min(*self.state().rules.delay.end());
        if self.gate_until(Instant::now() + bound).await {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::Unavailable,
            operation,
            "the cluster is stalled (fault injection)",
        ))
    }
}

impl State {
    fn fate(&mut self) -> SendFate {
        if let Some(fate) = self.script.pop_front() {
            return fate;
        }
        if self.rules.sends.is_empty() {
            return SendFate::Passed;
        }
        let mut draw: f64 = self.rng.random();
        for (fate, share) in &self.rules.sends {
            if draw < *share {
                return *fate;
            }
            draw -= share;
        }
        SendFate::Passed
    }
}
