//! Whether this instance may act on its plans: the session writes it, producers and consumers read it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::sync::watch;

use crate::{
    clock::{Clock, SystemClock},
    error::{Error, ErrorKind, Result},
    side::Side,
    stage::ReadPlan,
};

/// No moment at all.
const NEVER: u64 = u64::MAX;

/// What this instance knows of its own standing.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub enum ContactState {
    /// The lease is in force, or the source gives none.
    Valid,
    /// Started from disk, or out of contact for a lease, in mode `continue`: sends go on under the last plan, consumers read both sides.
    #[default]
    Lost,
    /// The lease is over in mode `stop`: sends are refused, deliveries pause, and consumers leave their queues to the others.
    Stopped,
    /// A newer process runs under this name. Final.
    Superseded,
}

impl ContactState {
    /// Whether a consumer reads `side`. Without contact the plan may be an old one: a consumer that reads both sides misses nothing. A stopped or
    /// superseded one reads nothing, and leaves its queues to others.
    #[must_use]
    pub fn reads(self, plan: ReadPlan, side: Side) -> bool {
        match self {
            ContactState::Valid => plan.includes(side),
            ContactState::Lost => true,
            ContactState::Stopped | ContactState::Superseded => false,
        }
    }
}

/// The state, cheap to read on the send path.
#[derive(Debug)]
pub struct Contact {
    state: watch::Sender<ContactState>,
    /// Grows whenever contact is lost or regained: a send that saw another number began in another lease session. 0 until the first contact.
    sessions: AtomicU64,
    /// Mode `stop`: when the lease ends, in nanoseconds of the clock's boot time. Asked before every send, because a process that was frozen or
    /// suspended may run a send before the session's own timer.
    stop_at: AtomicU64,
    clock: Arc<dyn Clock>,
}

impl Default for Contact {
    fn default() -> Self {
        Contact::new(Arc::new(SystemClock))
    }
}

impl Contact {
    /// No contact yet.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Contact {
            state: watch::Sender::new(ContactState::Lost),
            sessions: AtomicU64::new(0),
            stop_at: AtomicU64::new(NEVER),
            clock,
        }
    }

    /// The state now.
    #[must_use]
    pub fn state(&self) -> ContactState {
        *self.state.borrow()
    }

    /// Tells of every change.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<ContactState> {
        self.state.subscribe()
    }

    /// The lease session now; 0 before the first contact.
    #[must_use]
    pub fn session(&self) -> u64 {
        self.sessions.load(Ordering::Acquire)
    }

    /// Sets the state; `Superseded` is never left.
    pub fn set(&self, next: ContactState) {
        self.state.send_if_modified(|state| {
            if *state == next || *state == ContactState::Superseded {
                return false;
            }
            if (*state == ContactState::Valid) != (next == ContactState::Valid) {
                self.sessions.fetch_add(1, Ordering::AcqRel);
            }
            *state = next;
            true
        });
    }

    /// Sets the moment of the clock's boot time from which on [`check`](Self::check) refuses; `None` for never.
    pub fn set_stop_at(&self, moment: Option<Duration>) {
        let nanos = moment.map_or(NEVER, |moment| {
            u64::try_from(moment.as_nanos()).unwrap_or(NEVER)
        });
        self.stop_at.store(nanos, Ordering::Release);
    }

    /// Whether this process still has its name.
    ///
    /// # Errors
    /// [`ErrorKind::Superseded`].
    pub fn check_superseded(&self, operation: &'static str) -> Result<()> {
        match self.state() {
            ContactState::Superseded => self.check(operation),
            _ => Ok(()),
        }
    }

    fn lease_is_over(&self) -> bool {
        let stop_at = self.stop_at.load(Ordering::Acquire);
        stop_at != NEVER && self.clock.boot_time() >= Duration::from_nanos(stop_at)
    }

    /// `wanted`, or what is left of the lease in mode `stop` if that is less: nothing that a broker is asked outlives the lease.
    ///
    /// # Errors
    /// [`ErrorKind::LeaseOver`].
    pub fn within_lease(&self, operation: &'static str, wanted: Duration) -> Result<Duration> {
        let stop_at = self.stop_at.load(Ordering::Acquire);
        if stop_at == NEVER {
            return Ok(wanted);
        }
        match Duration::from_nanos(stop_at).checked_sub(self.clock.boot_time()) {
            None | Some(Duration::ZERO) => Err(lease_over(operation)),
            Some(left) => Ok(wanted.min(left)),
        }
    }

    /// Whether a send or a delivery may go on.
    ///
    /// # Errors
    /// [`ErrorKind::LeaseOver`] in mode `stop` without contact, [`ErrorKind::Superseded`].
    pub fn check(&self, operation: &'static str) -> Result<()> {
        match self.state() {
            ContactState::Valid | ContactState::Lost if !self.lease_is_over() => Ok(()),
            ContactState::Valid | ContactState::Lost | ContactState::Stopped => {
                Err(lease_over(operation))
            }
            ContactState::Superseded => Err(Error::new(
                ErrorKind::Superseded,
                operation,
                "a newer process runs under this instance name: give each process its own instance.name",
            )),
        }
    }
}

fn lease_over(operation: &'static str) -> Error {
    Error::new(
        ErrorKind::LeaseOver,
        operation,
        "the lease is over and lease.mode is `stop`: nothing is sent or delivered until the control plane answers again",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn superseded_is_final_and_refuses() {
        let contact = Contact::default();
        contact.set(ContactState::Valid);
        contact.set(ContactState::Superseded);
        contact.set(ContactState::Valid);
        assert_eq!(
            contact.check("send").unwrap_err().kind(),
            ErrorKind::Superseded
        );
    }

    #[tokio::test(start_paused = true)]
    async fn check_refuses_from_the_end_of_the_lease_before_any_timer_has_run() {
        let contact = Contact::new(Arc::new(crate::clock::TokioClock::default()));
        contact.set(ContactState::Valid);
        contact.set_stop_at(Some(Duration::from_secs(30)));
        contact.check("send").unwrap();
        tokio::time::advance(Duration::from_secs(30)).await;
        assert_eq!(
            contact.check("send").unwrap_err().kind(),
            ErrorKind::LeaseOver
        );
        contact.set_stop_at(Some(Duration::from_secs(60)));
        contact.check("send").unwrap();
    }

    #[test]
    fn losing_contact_and_regaining_it_each_begin_another_lease_session() {
        let contact = Contact::default();
        assert_eq!(contact.session(), 0);
        let mut seen = vec![0];
        for state in [ContactState::Valid, ContactState::Lost, ContactState::Valid] {
            contact.set(state);
            assert!(!seen.contains(&contact.session()));
            seen.push(contact.session());
        }
        contact.set(ContactState::Stopped);
        assert_eq!(
            contact.check("send").unwrap_err().kind(),
            ErrorKind::LeaseOver
        );
    }
}
