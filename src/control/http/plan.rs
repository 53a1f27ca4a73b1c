//! `GET /v1/plan`, or the same document from any static server.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use reqwest::{
    StatusCode,
    header::{ETAG, HeaderValue},
};

use super::{Fetcher, HttpTransport, Token};
use crate::{
    BoxFuture,
    control::{
        PlanSource,
        document::{self, ReadDocument, Watched},
        wire::{PlanDocument, SyncRequest, SyncResponse},
    },
    error::Result,
};

/// Reads a plan document again and again, with `If-None-Match` where the server gives an `ETag`. Takes no registrations and gives no lease.
#[derive(Debug)]
pub struct UrlPlans(Watched<UrlReader>);

#[derive(Debug)]
struct UrlReader {
    fetcher: Fetcher,
    read: Mutex<Option<Seen>>,
}

#[derive(Clone, Debug)]
struct Seen {
    etag: Option<HeaderValue>,
    /// For servers without `ETag`.
    checksum: u32,
    bytes: usize,
}

impl UrlPlans {
    /// The document at `address`, asked for `every` so often. Nothing is asked yet.
    ///
    /// # Errors
    /// `InvalidConfig` when the address cannot be used, `Unsupported` for `https` without the cargo feature.
    pub fn new(address: &str, token: Token, every: Duration) -> Result<Self> {
        Ok(UrlPlans::with(
            Fetcher::new(address, None, token, None)?,
            every,
        ))
    }

    /// As [`Self::new`], over a transport of the caller's.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn over(
        transport: Arc<dyn HttpTransport>,
        address: &str,
        token: Token,
        every: Duration,
    ) -> Result<Self> {
        Ok(UrlPlans::with(
            Fetcher::new(address, None, token, Some(transport))?,
            every,
        ))
    }

    fn with(fetcher: Fetcher, every: Duration) -> Self {
        let reader = UrlReader {
            fetcher,
            read: Mutex::default(),
        };
        UrlPlans(Watched::new(reader, every))
    }
}

impl PlanSource for UrlPlans {
    fn sync<'a>(&'a self, request: &'a SyncRequest) -> BoxFuture<'a, Result<SyncResponse>> {
        self.0.sync(request)
    }
}

impl ReadDocument for UrlReader {
    fn read(&self) -> BoxFuture<'_, Result<Option<PlanDocument>>> {
        Box::pin(async move {
            let seen = self
                .read
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .clone();
            let etag = seen.as_ref().and_then(|seen| seen.etag.clone());
            let fetched = self
                .fetcher
                .fetch("GET", Duration::ZERO, etag, None)
                .await?;
            if fetched.status == StatusCode::NOT_MODIFIED && seen.is_some() {
                return Ok(None);
            }
            let now = Seen {
                etag: fetched.headers.get(ETAG).cloned(),
                checksum: crc32fast::hash(&fetched.body),
                bytes: fetched.body.len(),
            };
            let same = |seen: Seen| (seen.checksum, seen.bytes) == (now.checksum, now.bytes);
            let document = match seen.is_some_and(same) {
                true => None,
                false => Some(document::parse(&fetched.body, self.fetcher.url.as_str())?),
            };
            *self.read.lock().unwrap_or_else(PoisonError::into_inner) = Some(now);
            Ok(document)
        })
    }
}
