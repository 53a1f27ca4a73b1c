//! The last good plans on disk, so that a process can start while no control plane answers.
//!
//! The file is one line, `crossfade-plans 1 LENGTH CRC32`, and then LENGTH bytes of JSON. It is written beside its place and renamed, so that it is whole or
//! not there at all; length and checksum are proved before anything is used.

use std::{
    fmt,
    fs::{self, File},
    io::{self, Read, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

use serde::{Deserialize, Serialize};

use crate::{
    BoxFuture,
    control::{
        document,
        wire::{MAX_DOCUMENT_BYTES, PlanDocument},
    },
    error::{Error, ErrorKind, Result},
};

const MAGIC: &str = "crossfade-plans";
const FORMAT: u32 = 1;
/// The line before the JSON is shorter than this.
const MAX_HEADER_BYTES: usize = 64;
/// More than a file can have.
const MAX_FILE_BYTES: usize = MAX_HEADER_BYTES + MAX_DOCUMENT_BYTES + 1;

/// Where the bytes of one instance's plans outlive its process: a file, or a simulator's disk.
///
/// # Behavior
/// - What is read may be anything: it is checked before it is used.
/// - A write is whole or has not happened; when it fails, what was there before is still there.
pub trait PlanStore: fmt::Debug + Send + Sync + 'static {
    /// What is there; `None` when nothing was ever written.
    ///
    /// # Errors
    /// `Unavailable` when it cannot be read.
    ///
    /// # Cancellation
    /// Leaves nothing behind.
    fn read(&self) -> BoxFuture<'_, Result<Option<Vec<u8>>>>;

    /// Replaces what is there.
    ///
    /// # Errors
    /// `Unavailable` when it cannot be written.
    ///
    /// # Cancellation
    /// Written or not, never in part.
    fn write(&self, bytes: Vec<u8>) -> BoxFuture<'_, Result<()>>;

    /// What people find it by: a path.
    fn place(&self) -> String;
}

/// One file for each instance.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PlanFile {
    folder: PathBuf,
    instance: String,
    incarnation: String,
}

/// Where one instance keeps its plans.
#[derive(Clone, Debug)]
pub struct LastKnown {
    store: Arc<dyn PlanStore>,
    instance: String,
}

/// What is kept.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Saved {
    /// Whose plans these are.
    pub instance: String,
    /// The control plane's epoch that gave them.
    pub epoch: u64,
    /// All plans in force.
    pub plans: PlanDocument,
}

impl PlanFile {
    /// The file of `instance` in `folder`, which is made at the first write. `incarnation` keeps two processes from writing the same temporary file.
    ///
    /// # Errors
    /// `InvalidConfig` when the instance name cannot be a file name: it is 1 to 100 letters, digits, `.`, `_` or `-`, and begins with a letter or digit.
    pub fn new(
        folder: impl Into<PathBuf>,
        instance: impl Into<String>,
        incarnation: impl Into<String>,
    ) -> Result<Self> {
        let instance = instance.into();
        let good = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        if instance.len() > 100
            || !instance.starts_with(|first: char| first.is_ascii_alphanumeric())
            || !instance.bytes().all(good)
        {
            return Err(Error::new(
                ErrorKind::InvalidConfig,
                "plan cache",
                "the instance name must be 1 to 100 letters, digits, '.', '_' or '-', and begin with a letter or digit",
            ));
        }
        Ok(PlanFile {
            folder: folder.into(),
            instance,
            incarnation: incarnation.into(),
        })
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.folder.join(format!("{}.plans", self.instance))
    }

    fn read_now(&self) -> Result<Option<Vec<u8>>> {
        let path = self.path();
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(&path, "read", error)),
        };
        let mut bytes = Vec::new();
        file.take(MAX_FILE_BYTES as u64)
            .read_to_end(&mut bytes)
            .map_err(|error| failed(&path, "read", error))?;
        Ok(Some(bytes))
    }

    fn write_now(&self, bytes: &[u8]) -> Result<()> {
        let path = self.path();
        let beside = self
            .folder
            .join(format!("{}.plans.{}", self.instance, self.incarnation));
        self.replace(bytes, &beside, &path).map_err(|error| {
            // Best effort: the next write has the same name.
            let _ = fs::remove_file(&beside);
            failed(&path, "write", error)
        })
    }

    fn replace(&self, bytes: &[u8], beside: &Path, path: &Path) -> io::Result<()> {
        fs::create_dir_all(&self.folder)?;
        let mut file = File::create(beside)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        drop(file);
        fs::rename(beside, path)?;
        // Only a Unix folder can be opened, and without this a power cut may undo the rename.
        #[cfg(unix)]
        File::open(&self.folder)?.sync_all()?;
        Ok(())
    }
}

impl PlanStore for PlanFile {
    fn read(&self) -> BoxFuture<'_, Result<Option<Vec<u8>>>> {
        let file = self.clone();
        on_a_thread(move || file.read_now())
    }

    fn write(&self, bytes: Vec<u8>) -> BoxFuture<'_, Result<()>> {
        let file = self.clone();
        on_a_thread(move || file.write_now(&bytes))
    }

    fn place(&self) -> String {
        self.path().display().to_string()
    }
}

impl LastKnown {
    /// The plans of `instance` in `store`.
    #[must_use]
    pub fn new(store: Arc<dyn PlanStore>, instance: impl Into<String>) -> Self {
        LastKnown {
            store,
            instance: instance.into(),
        }
    }

    /// Reads and checks what is there; `None` when nothing is.
    ///
    /// # Errors
    /// `InvalidPlan` for what is broken, of another version or of another instance; `Unavailable` when it cannot be read.
    ///
    /// # Cancellation
    /// Leaves nothing behind.
    pub async fn load(&self) -> Result<Option<Saved>> {
        let Some(bytes) = self.store.read().await? else {
            return Ok(None);
        };
        let place = self.store.place();
        let saved = decode(&bytes).map_err(|why| broken(&place, &why))?;
        if saved.instance != self.instance {
            let why = format!("it belongs to instance {:?}", saved.instance);
            return Err(broken(&place, &why));
        }
        document::check_version(saved.plans.version, &place)?;
        Ok(Some(saved))
    }

    /// Writes everything or nothing.
    ///
    /// # Errors
    /// `Unavailable` when it cannot be written: what was there before is still there.
    ///
    /// # Cancellation
    /// Written or not, never in part.
    pub async fn save(&self, saved: &Saved) -> Result<()> {
        let bytes = encode(saved).map_err(|error| {
            Error::new(
                ErrorKind::Unexpected,
                "plan cache",
                "the plans cannot be written",
            )
            .with_source(error)
        })?;
        if bytes.len() > MAX_DOCUMENT_BYTES {
            return Err(document::too_large("the plan cache"));
        }
        self.store.write(bytes).await
    }
}

/// Disks block.
fn on_a_thread<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> BoxFuture<'static, Result<T>> {
    Box::pin(async move {
        let done = tokio::task::spawn_blocking(work).await;
        done.unwrap_or_else(|error| {
            Err(Error::new(
                ErrorKind::Unavailable,
                "plan cache",
                "the disk was not asked to the end",
            )
            .with_source(error))
        })
    })
}

fn encode(saved: &Saved) -> serde_json::Result<Vec<u8>> {
    let json = serde_json::to_vec(saved)?;
    let checksum = crc32fast::hash(&json);
    let mut bytes = format!("{MAGIC} {FORMAT} {} {checksum:08x}\n", json.len()).into_bytes();
    bytes.extend_from_slice(&json);
    Ok(bytes)
}

fn decode(bytes: &[u8]) -> Result<Saved, String> {
    let newline = bytes
        .iter()
        .take(MAX_HEADER_BYTES)
        .position(|byte| *byte == b'\n')
        .ok_or("it has no header line")?;
    let (header, json) = (&bytes[..newline], &bytes[newline + 1..]);
    let header = std::str::from_utf8(header).map_err(|_| "its header is not text")?;
    let [magic, format, length, checksum] = header.split(' ').collect::<Vec<_>>()[..] else {
        return Err("its header does not have four words".into());
    };
    if magic != MAGIC {
        return Err("it is not a plan cache".into());
    }
    if format != FORMAT.to_string() {
        return Err(format!(
            "it has format {format}; this library reads format {FORMAT}"
        ));
    }
    if length != json.len().to_string() {
        return Err(format!(
            "its header says {length} bytes of plans, {} are there",
            json.len()
        ));
    }
    if checksum != format!("{:08x}", crc32fast::hash(json)) {
        return Err("its checksum is wrong".into());
    }
    serde_json::from_slice(json).map_err(|error| format!("its plans cannot be read: {error}"))
}

fn broken(place: &str, why: &str) -> Error {
    Error::new(
        ErrorKind::InvalidPlan,
        "plan cache",
        format!("{place} is not used: {why}"),
    )
}

fn failed(path: &Path, what: &str, error: io::Error) -> Error {
    Error::new(
        ErrorKind::Unavailable,
        "plan cache",
        format!("cannot {what} {}: {error}", path.display()),
    )
    .with_source(error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        control::wire::VERSION,
        side::Revision,
        stage::{Routing, Stage, TopicPlan, Weight},
    };

    fn saved() -> Saved {
        Saved {
            instance: "orders-7".into(),
            epoch: 3,
            plans: PlanDocument {
                version: VERSION,
                revision: Revision(9),
                plans: vec![TopicPlan {
                    topic: "orders".into(),
                    stage: Stage::DualWrite,
                    weight: Weight::FULL,
                    routing: Routing::Unordered,
                    moves: Vec::new(),
                    revision: Revision(9),
                    previous_revision: Revision(8),
                }],
                ..PlanDocument::default()
            },
        }
    }

    fn cache(file: &PlanFile) -> LastKnown {
        LastKnown::new(Arc::new(file.clone()), file.instance.clone())
    }

    #[tokio::test]
    async fn saved_plans_are_loaded_and_nothing_else_is_left() {
        let folder = tempfile::tempdir().unwrap();
        let file = PlanFile::new(folder.path().join("deep/er"), "orders-7", "i1").unwrap();
        let cache = cache(&file);
        assert_eq!(cache.load().await.unwrap(), None);
        cache.save(&saved()).await.unwrap();
        assert_eq!(cache.load().await.unwrap(), Some(saved()));
        assert_eq!(
            fs::read_dir(folder.path().join("deep/er")).unwrap().count(),
            1
        );
    }

    #[test]
    fn every_truncation_and_every_changed_byte_is_refused() {
        let bytes = encode(&saved()).unwrap();
        assert_eq!(decode(&bytes), Ok(saved()));
        for length in 0..bytes.len() {
            assert!(decode(&bytes[..length]).is_err(), "cut at {length}");
        }
        for place in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[place] ^= 1;
            assert!(decode(&changed).is_err(), "changed at {place}");
        }
        let mut longer = bytes;
        longer.push(b' ');
        assert!(decode(&longer).is_err());
    }

    #[tokio::test]
    async fn file_of_another_instance_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let one = PlanFile::new(folder.path(), "orders-7", "i1").unwrap();
        cache(&one).save(&saved()).await.unwrap();
        let other = PlanFile::new(folder.path(), "orders-8", "i2").unwrap();
        fs::copy(one.path(), other.path()).unwrap();
        let error = cache(&other).load().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidPlan);
    }

    #[test]
    fn instance_name_that_leaves_the_folder_is_invalid_config() {
        for name in ["", "../x", "a/b", ".hidden", "a b", &"x".repeat(101)] {
            let error = PlanFile::new("folder", name, "i1").unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{name}");
        }
    }
}
