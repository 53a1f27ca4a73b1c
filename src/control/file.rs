//! Plans from a file: a [`PlanDocument`](super::wire::PlanDocument) that somebody else writes.

use std::{
    fs::File,
    io::Read,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use crate::{
    BoxFuture,
    control::{
        PlanSource,
        document::{self, ReadDocument, Watched},
        wire::{MAX_DOCUMENT_BYTES, PlanDocument, SyncRequest, SyncResponse},
    },
    error::{Error, ErrorKind, Result},
};

/// Reads the file again when its time of change or its length is another one. Replace it as a whole (write beside it, then rename): a half
/// written file is an error, and the last good plans stay in force. Takes no registrations and gives no lease.
#[derive(Debug)]
pub struct FilePlans(Watched<FileReader>);

#[derive(Debug)]
struct FileReader {
    path: PathBuf,
    read: Mutex<Option<Stamp>>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Stamp {
    modified: SystemTime,
    bytes: u64,
}

impl FilePlans {
    /// The file at `path`, looked at `every` so often. It need not exist yet.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>, every: Duration) -> Self {
        let reader = FileReader {
            path: path.into(),
            read: Mutex::default(),
        };
        FilePlans(Watched::new(reader, every))
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0.reader().path
    }
}

impl PlanSource for FilePlans {
    fn sync<'a>(&'a self, request: &'a SyncRequest) -> BoxFuture<'a, Result<SyncResponse>> {
        self.0.sync(request)
    }
}

impl ReadDocument for FileReader {
    fn read(&self) -> BoxFuture<'_, Result<Option<PlanDocument>>> {
        Box::pin(async move {
            let known = *self.read.lock().unwrap_or_else(PoisonError::into_inner);
            let path = self.path.clone();
            let read = tokio::task::spawn_blocking(move || read(&path, known)).await;
            let read = read.map_err(|error| {
                Error::new(
                    ErrorKind::Unexpected,
                    "read plans",
                    "the reading task ended",
                )
                .with_source(error)
            })??;
            Ok(read.map(|(stamp, document)| {
                *self.read.lock().unwrap_or_else(PoisonError::into_inner) = Some(stamp);
                document
            }))
        })
    }
}

fn read(path: &Path, known: Option<Stamp>) -> Result<Option<(Stamp, PlanDocument)>> {
    let origin = format!("the plan file {}", path.display());
    let failed = |error: std::io::Error| {
        Error::new(
            ErrorKind::Unavailable,
            "read plans",
            format!("{origin} cannot be read: {error}"),
        )
        .with_source(error)
    };
    let mut file = File::open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    let stamp = Stamp {
        modified: metadata.modified().map_err(failed)?,
        bytes: metadata.len(),
    };
    if known == Some(stamp) {
        return Ok(None);
    }
    let mut bytes = Vec::new();
    let limit = MAX_DOCUMENT_BYTES as u64 + 1;
    Read::by_ref(&mut file)
        .take(limit)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    Ok(Some((stamp, document::parse(&bytes, &origin)?)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::side::Revision;

    fn request(known: u64, wait_ms: u64) -> SyncRequest {
        SyncRequest {
            known_revision: Revision(known),
            wait_ms,
            ..SyncRequest::default()
        }
    }

    fn plans(revision: u64, topics: &[&str]) -> String {
        let rows: Vec<String> = topics
            .iter()
            .map(|topic| {
                format!(
                    r#"{{"topic":"{topic}","stage":"source_only","weight_basis_points":0,"revision":{revision},"previous_revision":0}}"#
                )
            })
            .collect();
        format!(
            r#"{{"version":1,"revision":{revision},"plans":[{}]}}"#,
            rows.join(",")
        )
    }

    fn replace(path: &Path, text: &str) {
        let beside = path.with_extension("new");
        std::fs::write(&beside, text).unwrap();
        std::fs::rename(beside, path).unwrap();
    }

    #[tokio::test]
    async fn file_is_read_again_when_it_changed_and_gone_topics_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("plans.json");
        replace(&path, &plans(7, &["a", "bb"]));
        let source = FilePlans::new(&path, Duration::from_millis(5));
        let first = source.sync(&request(0, 0)).await.unwrap();
        assert_eq!((first.plans.plans.len(), first.lease_ms), (2, 0));
        let same = source.sync(&request(7, 0)).await.unwrap();
        assert_eq!((same.plans.plans.len(), same.plans.revision.0), (0, 7));
        replace(&path, &plans(8, &["bb"]));
        let next = source.sync(&request(7, 60_000)).await.unwrap();
        assert_eq!(next.plans.plans.len(), 1);
        assert_eq!(next.plans.removed, ["a".into()]);
    }

    #[tokio::test]
    async fn malformed_missing_or_foreign_files_are_errors_until_they_are_good() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("plans.json");
        let source = FilePlans::new(&path, Duration::from_millis(5));
        let kind = async |source: &FilePlans| source.sync(&request(0, 0)).await.unwrap_err().kind();
        assert_eq!(kind(&source).await, ErrorKind::Unavailable);
        for text in [
            "",
            "[]",
            "{\"version\":1",
            r#"{"version":2,"revision":1}"#,
            r#"{"version":1,"revision":1,"plans":{}}"#,
        ] {
            replace(&path, text);
            assert_eq!(kind(&source).await, ErrorKind::InvalidPlan, "{text}");
        }
        replace(&path, &plans(1, &["a"]));
        assert_eq!(
            source.sync(&request(0, 0)).await.unwrap().plans.plans.len(),
            1
        );
    }

    #[tokio::test]
    async fn row_that_is_no_plan_costs_only_itself_and_its_topic_is_not_gone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("plans.json");
        let source = FilePlans::new(&path, Duration::from_millis(5));
        replace(&path, &plans(7, &["a", "bb", "ccc"]));
        source.sync(&request(0, 0)).await.unwrap();
        let bad = plans(8, &["a", "bb"]).replacen("source_only", "triple_write", 1);
        replace(&path, &bad);
        let next = source.sync(&request(7, 0)).await.unwrap().plans;
        assert_eq!((&*next.plans[0].topic, next.plans.len()), ("bb", 1));
        assert_eq!(&*next.malformed[0].topic, "a");
        assert_eq!(next.malformed[0].revision, Revision(8));
        assert_eq!(next.removed, ["ccc".into()]);
        // Whose row is it? Nobody is said to be gone.
        let nameless = plans(10, &["bb"]).replace(r#""topic":"bb""#, r#""topic":5"#);
        replace(&path, &nameless);
        let next = source.sync(&request(8, 0)).await.unwrap().plans;
        assert_eq!((next.malformed.len(), next.removed.len()), (1, 0));
        replace(&path, &plans(11, &["bb"]));
        let next = source.sync(&request(10, 0)).await.unwrap().plans;
        assert_eq!(next.removed, ["a".into(), "ccc".into()]);
    }
}
