//! The way between an instance and the control plane: calls, or HTTP.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use crossfade::{
    BoxFuture, Error, ErrorKind, Result,
    control::{
        HttpPlans, PlanSource, Token,
        wire::{SyncRequest, SyncResponse},
    },
    stage::Stage,
};
use crossfade_control_plane::embedded::{Caller, Endpoint};
use tokio::time::{sleep, timeout};

use crate::{
    gate::Gate,
    http::{self, Http},
    wire::Wire,
};

/// How long a request without an answer takes to fail, beyond the wait that it asks for.
const NO_ANSWER: Duration = Duration::from_secs(2);

/// Where the control plane is now; nobody, while it is down.
#[derive(Clone, Debug, Default)]
pub(crate) struct Address {
    now: Arc<Mutex<Option<(Caller, Endpoint)>>>,
}

impl Address {
    pub(crate) fn set(&self, now: Option<(Caller, Endpoint)>) {
        *self.now.lock().unwrap_or_else(PoisonError::into_inner) = now;
    }

    pub(crate) fn caller(&self) -> Option<Caller> {
        let now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        now.as_ref().map(|(caller, _)| caller.clone())
    }

    pub(crate) fn endpoint(&self) -> Option<Endpoint> {
        let now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        now.as_ref().map(|(_, endpoint)| endpoint.clone())
    }
}

/// One instance's way to the control plane.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) wire: Wire,
    address: Address,
    gate: Gate,
    /// The library's own HTTP, over connections in memory.
    http: Option<HttpPlans>,
    /// A mutation: whoever is told of `DualRead` hears `SourceOnly`.
    blinds: bool,
}

impl Link {
    pub(crate) fn new(
        address: Address,
        gate: Gate,
        wire: Wire,
        http: Option<http::Counts>,
        blinds: bool,
    ) -> Result<Self> {
        let http = http.map(|counts| {
            let transport = Http::new(address.clone(), wire.clone(), counts);
            HttpPlans::over(
                Arc::new(transport),
                http::ADDRESS,
                Token::Text(http::SDK_TOKEN.to_owned()),
            )
        });
        Ok(Link {
            http: http.transpose()?,
            wire,
            address,
            gate,
            blinds,
        })
    }

    async fn call(&self, request: &SyncRequest) -> Result<SyncResponse> {
        self.delay().await;
        if self.wire.loses_request() {
            sleep(NO_ANSWER).await;
            return Err(failed(ErrorKind::Timeout, "the request was lost"));
        }
        let caller = self
            .address
            .caller()
            .filter(|_| !self.wire.is_refused())
            .ok_or_else(|| failed(ErrorKind::Unavailable, "nobody listens"))?;
        if let Some(after) = self.wire.doubled() {
            let (caller, request) = (caller.clone(), request.clone());
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
        if self.wire.loses_answer() {
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

    async fn delay(&self) {
        let delay = self.wire.delay();
        if !delay.is_zero() {
            sleep(delay).await;
        }
    }

    async fn asked(&self, request: &SyncRequest) -> Result<SyncResponse> {
        let mut response = match &self.http {
            Some(http) => http.sync(request).await?,
            None => self.call(request).await?,
        };
        for plan in &mut response.plans.plans {
            if self.blinds && plan.stage == Stage::DualRead {
                plan.stage = Stage::SourceOnly;
            }
        }
        Ok(response)
    }
}

impl PlanSource for Link {
    fn sync<'a>(&'a self, request: &'a SyncRequest) -> BoxFuture<'a, Result<SyncResponse>> {
        Box::pin(self.gate.through(self.asked(request)))
    }
}

fn failed(kind: ErrorKind, why: &str) -> Error {
    Error::new(kind, "sync", why)
}
