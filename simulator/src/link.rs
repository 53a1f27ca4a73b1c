//! The network between an instance and the control plane.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use crossfade::{
    BoxFuture, Error, ErrorKind, Result,
    control::{
        PlanSource,
        wire::{SyncRequest, SyncResponse},
    },
};
use crossfade_control_plane::embedded::Caller;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use tokio::time::{sleep, timeout};

use crate::gate::Gate;

/// How long a request without an answer takes to fail, beyond the wait that it asks for.
const NO_ANSWER: Duration = Duration::from_secs(2);

/// What the link does with requests and answers.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct LinkFaults {
    /// No request arrives.
    pub(crate) requests_cut: bool,
    /// Requests arrive, no answer does.
    pub(crate) answers_cut: bool,
    /// Share of answers that are lost.
    pub(crate) lost: f64,
    /// Share of requests that arrive twice, the second time later.
    pub(crate) doubled: f64,
    /// The longest delay each way, in milliseconds.
    pub(crate) delay_ms: u64,
}

/// Where the control plane is now; nobody, while it is down.
#[derive(Clone, Debug, Default)]
pub(crate) struct Address {
    caller: Arc<Mutex<Option<Caller>>>,
}

impl Address {
    pub(crate) fn set(&self, caller: Option<Caller>) {
        *self.caller.lock().unwrap_or_else(PoisonError::into_inner) = caller;
    }

    pub(crate) fn get(&self) -> Option<Caller> {
        let caller = self.caller.lock();
        caller.unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// One instance's way to the control plane.
#[derive(Debug)]
pub(crate) struct Link {
    address: Address,
    gate: Gate,
    state: Mutex<(LinkFaults, StdRng)>,
}

impl Link {
    pub(crate) fn new(address: Address, gate: Gate, seed: u64) -> Self {
        Link {
            address,
            gate,
            state: Mutex::new((LinkFaults::default(), StdRng::seed_from_u64(seed))),
        }
    }

    pub(crate) fn set(&self, faults: LinkFaults) {
        self.state().0 = faults;
    }

    fn state(&self) -> MutexGuard<'_, (LinkFaults, StdRng)> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn faults(&self) -> LinkFaults {
        self.state().0
    }

    fn chance(&self, share: f64) -> bool {
        share > 0.0 && self.state().1.random_bool(share)
    }

    async fn delay(&self) {
        let longest = self.faults().delay_ms;
        if longest > 0 {
            let drawn = self.state().1.random_range(0..=longest);
            sleep(Duration::from_millis(drawn)).await;
        }
    }

    async fn call(&self, request: &SyncRequest) -> Result<SyncResponse> {
        self.delay().await;
        if self.faults().requests_cut {
            sleep(NO_ANSWER).await;
            return Err(failed(ErrorKind::Timeout, "the request was lost"));
        }
        let Some(caller) = self.address.get() else {
            return Err(failed(ErrorKind::Unavailable, "nobody listens"));
        };
        if self.chance(self.faults().doubled) {
            let (caller, request) = (caller.clone(), request.clone());
            let after = Duration::from_millis(self.state().1.random_range(0..3_000));
            tokio::spawn(async move {
                sleep(after).await;
                // The instance never sees this answer.
                let _ = caller.sync(request).await;
            });
        }
        let wait = NO_ANSWER + Duration::from_millis(request.wait_ms);
        let answer = match timeout(wait, caller.sync(request.clone())).await {
            Ok(answer) => answer,
            Err(_) => return Err(failed(ErrorKind::Timeout, "no answer")),
        };
        if self.faults().answers_cut || self.chance(self.faults().lost) {
            sleep(NO_ANSWER).await;
            return Err(failed(ErrorKind::Timeout, "the answer was lost"));
        }
        self.delay().await;
        match answer {
            Ok(Some(response)) => Ok(response),
            Ok(None) => Err(failed(
                ErrorKind::Superseded,
                "a newer process runs under this name",
            )),
            Err(refusal) => Err(failed(ErrorKind::Unavailable, &refusal.message)),
        }
    }
}

impl PlanSource for Link {
    fn sync<'a>(&'a self, request: &'a SyncRequest) -> BoxFuture<'a, Result<SyncResponse>> {
        Box::pin(self.gate.through(self.call(request)))
    }
}

fn failed(kind: ErrorKind, why: &str) -> Error {
    Error::new(kind, "sync", why)
}
