//! Processes that are frozen while others have their place, and names that are gone.

use std::time::Duration;

use crossfade_control_plane::coordinator::{InstanceView, Standing};
use tokio::time::Instant;

use crate::{effect::Effects, fault::Fault, instance::Life};

/// How long brokers list a client that says nothing.
const LISTED: Duration = Duration::from_secs(60);
/// How long they do after an operator has been told so and looked.
const LISTED_ONCE_CONFIRMED: Duration = Duration::from_millis(500);

/// A frozen process that is not in the fleet any more.
pub(crate) struct Ghost {
    name: String,
    pub(crate) life: Life,
    fault: Fault,
    /// It wakes when the faults are healed.
    pub(crate) wakes: bool,
    since: Instant,
    confirmed: Option<Instant>,
}

impl Ghost {
    pub(crate) fn new(name: &str, life: Life, fault: Fault, wakes: bool) -> Self {
        Ghost {
            name: name.to_owned(),
            life,
            fault,
            wakes,
            since: Instant::now(),
            confirmed: None,
        }
    }

    /// Its name, where it blocks and will not come back.
    pub(crate) fn to_confirm(&self, blocked: &str) -> Option<String> {
        // "producer-1 (" is not "producer-12 (".
        let blocks = blocked.contains(&format!("{} (", self.name));
        (blocks && !self.wakes && self.confirmed.is_none()).then(|| self.name.clone())
    }

    pub(crate) fn confirm(&mut self, effects: &Effects) {
        self.confirmed = Some(Instant::now());
        effects.touch(self.fault);
    }

    /// Whether the brokers have dropped it.
    pub(crate) fn is_forgotten(&self) -> bool {
        let confirmed = self.confirmed;
        !self.wakes
            && (self.since.elapsed() >= LISTED
                || confirmed.is_some_and(|at| at.elapsed() >= LISTED_ONCE_CONFIRMED))
    }
}

/// An instance that is gone for good, until the control plane has found it out.
pub(crate) struct Missing(pub(crate) String);

impl Missing {
    pub(crate) fn is_found(&self, instances: &[InstanceView], effects: &Effects) -> bool {
        let found = instances
            .iter()
            .any(|one| one.instance == self.0 && one.standing == Standing::Harmless);
        if found {
            effects.touch(Fault::Gone);
        }
        found
    }
}
