//! Plan documents that are read as a whole: from a file, or with `GET /v1/plan`.

use std::{
    collections::BTreeSet,
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use crate::{
    BoxFuture,
    control::{
        PlanSource,
        wire::{MAX_DOCUMENT_BYTES, PlanDocument, SyncRequest, SyncResponse, VERSION},
    },
    error::{Error, ErrorKind, Result},
    side::Revision,
};

/// Reads a document from `origin` (named in errors).
pub(super) fn parse(bytes: &[u8], origin: &str) -> Result<PlanDocument> {
    let refuse = |why: String| Error::new(ErrorKind::InvalidPlan, "read plans", why);
    if bytes.len() > MAX_DOCUMENT_BYTES {
        return Err(too_large(origin));
    }
    let document: PlanDocument = serde_json::from_slice(bytes).map_err(|error| {
        refuse(format!("{origin} is not a plan document: {error}")).with_source(error)
    })?;
    check_version(document.version, origin)?;
    Ok(document)
}

pub(super) fn check_version(version: u32, origin: &str) -> Result<()> {
    if version == VERSION {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::InvalidPlan,
        "read plans",
        format!("{origin} has version {version}; this library reads version {VERSION}"),
    ))
}

pub(super) fn too_large(origin: &str) -> Error {
    Error::new(
        ErrorKind::InvalidPlan,
        "read plans",
        format!("{origin} gives more than {MAX_DOCUMENT_BYTES} bytes: it is not read"),
    )
}

/// Where a whole document comes from.
pub(super) trait ReadDocument: fmt::Debug + Send + Sync + 'static {
    /// The document, if it has changed since the last call that returned one.
    fn read(&self) -> BoxFuture<'_, Result<Option<PlanDocument>>>;
}

/// Makes a plan source of documents: reads again every so often, and says which topics are gone.
#[derive(Debug)]
pub(super) struct Watched<R> {
    reader: R,
    every: Duration,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The document read last, with the topics that one before it had and it has not.
    current: Option<Arc<PlanDocument>>,
    /// Every topic that a document has named.
    named: BTreeSet<Arc<str>>,
    answered: bool,
}

impl<R: ReadDocument> Watched<R> {
    pub(super) fn new(reader: R, every: Duration) -> Self {
        Watched {
            reader,
            every,
            state: Mutex::default(),
        }
    }

    pub(super) fn reader(&self) -> &R {
        &self.reader
    }

    fn keep(&self, mut next: PlanDocument) {
        // A document written by hand may forget to count; cursor 0 would ask for everything again and again.
        let rows = next.plans.iter().map(|plan| plan.revision);
        next.revision = rows.fold(next.revision.max(Revision(1)), Revision::max);
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let rows = next.plans.iter().map(|plan| &plan.topic);
        let unread = next.malformed.iter().map(|row| &row.topic);
        let mut present: BTreeSet<_> = rows.chain(unread).cloned().collect();
        // A row that names no topic may be anybody's: then nobody's absence is sure.
        if !present.remove("") {
            let gone = state.named.difference(&present);
            let unsaid = gone.filter(|topic| !next.removed.contains(topic));
            let unsaid: Vec<_> = unsaid.cloned().collect();
            next.removed.extend(unsaid);
        }
        state.named.extend(present);
        state.current = Some(Arc::new(next));
        state.answered = false;
    }

    /// The document, if it is news to the caller.
    fn news(&self, all: bool) -> Option<PlanDocument> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.answered && !all {
            return None;
        }
        state.answered = true;
        state.current.as_deref().cloned()
    }
}

impl<R: ReadDocument> PlanSource for Watched<R> {
    fn sync<'a>(&'a self, request: &'a SyncRequest) -> BoxFuture<'a, Result<SyncResponse>> {
        Box::pin(async move {
            let until = Instant::now() + Duration::from_millis(request.wait_ms);
            loop {
                // From here to the return nothing is awaited: a dropped call loses no news.
                if let Some(next) = self.reader.read().await? {
                    self.keep(next);
                }
                if let Some(plans) = self.news(request.known_revision.0 == 0) {
                    return Ok(SyncResponse {
                        plans,
                        ..SyncResponse::default()
                    });
                }
                let left = until.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    return Ok(unchanged(request));
                }
                tokio::time::sleep(self.every.min(left)).await;
            }
        })
    }
}

/// "Nothing new", without a lease.
pub(super) fn unchanged(request: &SyncRequest) -> SyncResponse {
    SyncResponse {
        plans: PlanDocument {
            version: VERSION,
            revision: request.known_revision,
            ..PlanDocument::default()
        },
        ..SyncResponse::default()
    }
}
