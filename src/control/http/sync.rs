//! `POST /v1/sync`.

use std::{sync::Arc, time::Duration};

use super::{Fetcher, HttpTransport, Token};
use crate::{
    BoxFuture,
    control::{
        PlanSource,
        wire::{SyncRequest, SyncResponse},
    },
    error::{Error, ErrorKind, Result},
};

/// A control plane.
#[derive(Debug)]
pub struct HttpPlans {
    fetcher: Fetcher,
}

impl HttpPlans {
    /// The control plane at `address`: `http://host:port`. Nothing is asked yet.
    ///
    /// # Errors
    /// `InvalidConfig` when the address cannot be used, `Unsupported` for `https` without the cargo feature.
    pub fn new(address: &str, token: Token) -> Result<Self> {
        let fetcher = Fetcher::new(address, Some("/v1/sync"), token, None)?;
        Ok(HttpPlans { fetcher })
    }

    /// As [`Self::new`], over a transport of the caller's.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn over(transport: Arc<dyn HttpTransport>, address: &str, token: Token) -> Result<Self> {
        let fetcher = Fetcher::new(address, Some("/v1/sync"), token, Some(transport))?;
        Ok(HttpPlans { fetcher })
    }
}

impl PlanSource for HttpPlans {
    fn sync<'a>(&'a self, request: &'a SyncRequest) -> BoxFuture<'a, Result<SyncResponse>> {
        Box::pin(async move {
            let body = serde_json::to_vec(request).map_err(|error| {
                Error::new(
                    ErrorKind::Unexpected,
                    "sync",
                    "the request cannot be written",
                )
                .with_source(error)
            })?;
            let wait = Duration::from_millis(request.wait_ms);
            let fetched = self.fetcher.fetch("POST", wait, None, Some(body)).await?;
            serde_json::from_slice(&fetched.body).map_err(|error| {
                Error::new(
                    ErrorKind::InvalidPlan,
                    "sync",
                    format!(
                        "{} answered {} with something else than plans ({error}); is this a control plane?",
                        self.fetcher.url, fetched.status
                    ),
                )
                .with_source(error)
            })
        })
    }
}
