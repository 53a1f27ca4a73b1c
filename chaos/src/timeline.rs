//! What was done to whom and when, on the clock that the histories use.

use std::sync::{Mutex, PoisonError};

use crossfade::{Side, clock::Clock as _, clock::SystemClock};
use serde::Serialize;

use crate::schedule::Who;

/// Something that a message may have felt.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Happening {
    /// SIGKILL of an instance.
    Killed {
        /// Whom.
        who: Who,
    },
    /// SIGSTOP of an instance.
    Stopped {
        /// Whom.
        who: Who,
    },
    /// SIGCONT of an instance.
    WentOn {
        /// Whom.
        who: Who,
    },
    /// An instance was started.
    Started {
        /// Whom.
        who: Who,
    },
    /// An instance has ended by itself.
    Ended {
        /// Whom.
        who: Who,
    },
    /// SIGKILL of the control plane.
    ControlKilled,
    /// It serves again.
    ControlServes,
    /// SIGSTOP of the control plane.
    ControlStopped,
    /// SIGCONT of the control plane.
    ControlWentOn,
    /// SIGKILL of a broker.
    BrokerKilled {
        /// Whose.
        side: Side,
    },
    /// It answers again.
    BrokerAnswers {
        /// Whose.
        side: Side,
    },
}

/// One happening and its time.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Entry {
    /// `CLOCK_BOOTTIME`, in microseconds.
    pub at_us: u64,
    /// What.
    #[serde(flatten)]
    pub happening: Happening,
}

/// All of them, in the order of their times.
#[derive(Debug, Default)]
pub struct Timeline {
    entries: Mutex<Vec<Entry>>,
}

impl Timeline {
    /// Notes what happens now.
    pub fn note(&self, happening: Happening) {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let at_us = now_us();
        entries.push(Entry { at_us, happening });
    }

    /// What was noted so far.
    #[must_use]
    pub fn entries(&self) -> Vec<Entry> {
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        entries.clone()
    }
}

/// `CLOCK_BOOTTIME`, in microseconds.
#[must_use]
pub fn now_us() -> u64 {
    u64::try_from(SystemClock.boot_time().as_micros()).unwrap_or(u64::MAX)
}
