//! The last good plans on disk, so that a process can start while no control plane answers.
//!
//! The file is one line, `crossfade-plans 1 LENGTH CRC32`, and then LENGTH bytes of JSON. It is written beside its place and renamed, so that it is whole or
//! not there at all; length and checksum are proved before anything is used.

use std::{
    fs::{self, File},
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::{
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

/// Where one instance keeps its plans.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LastKnown {
    folder: PathBuf,
    instance: String,
    incarnation: String,
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

impl LastKnown {
    /// The file of `instance` in `folder`, which is made at the first save. `incarnation` keeps two processes from writing the same temporary file.
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
        Ok(LastKnown {
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

    /// Reads and checks the file; `None` when there is none. Blocks the thread.
    ///
    /// # Errors
    /// `InvalidPlan` for a file that is broken, of another version or of another instance; `Unavailable` when it cannot be read.
    pub fn load(&self) -> Result<Option<Saved>> {
        let path = self.path();
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(&path, "read", error)),
        };
        let mut bytes = Vec::new();
        let limit = (MAX_HEADER_BYTES + MAX_DOCUMENT_BYTES) as u64 + 1;
        file.take(limit)
            .read_to_end(&mut bytes)
            .map_err(|error| failed(&path, "read", error))?;
        let saved = decode(&bytes).map_err(|why| broken(&path, &why))?;
        if saved.instance != self.instance {
            return Err(broken(
                &path,
                &format!("it belongs to instance {:?}", saved.instance),
            ));
        }
        document::check_version(saved.plans.version, &path.display().to_string())?;
        Ok(Some(saved))
    }

    /// Writes the file whole or not at all. Blocks the thread.
    ///
    /// # Errors
    /// `Unavailable` when it cannot be written: the one before is still there.
    pub fn save(&self, saved: &Saved) -> Result<()> {
        let path = self.path();
        let bytes = encode(saved).map_err(|error| failed(&path, "write", error.into()))?;
        if bytes.len() > MAX_DOCUMENT_BYTES {
            return Err(document::too_large("the plan cache"));
        }
        let beside = self
            .folder
            .join(format!("{}.plans.{}", self.instance, self.incarnation));
        self.write(&bytes, &beside, &path).map_err(|error| {
            // Best effort: the next save writes the same name.
            let _ = fs::remove_file(&beside);
            failed(&path, "write", error)
        })
    }

    fn write(&self, bytes: &[u8], beside: &Path, path: &Path) -> io::Result<()> {
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

fn broken(path: &Path, why: &str) -> Error {
    Error::new(
        ErrorKind::InvalidPlan,
        "plan cache",
        format!("{} is not used: {why}", path.display()),
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

    #[test]
    fn saved_plans_are_loaded_and_nothing_else_is_left() {
        let folder = tempfile::tempdir().unwrap();
        let cache = LastKnown::new(folder.path().join("deep/er"), "orders-7", "i1").unwrap();
        assert_eq!(cache.load().unwrap(), None);
        cache.save(&saved()).unwrap();
        assert_eq!(cache.load().unwrap(), Some(saved()));
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

    #[test]
    fn file_of_another_instance_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let one = LastKnown::new(folder.path(), "orders-7", "i1").unwrap();
        one.save(&saved()).unwrap();
        let other = LastKnown::new(folder.path(), "orders-8", "i2").unwrap();
        fs::copy(one.path(), other.path()).unwrap();
        assert_eq!(other.load().unwrap_err().kind(), ErrorKind::InvalidPlan);
    }

    #[test]
    fn instance_name_that_leaves_the_folder_is_invalid_config() {
        for name in ["", "../x", "a/b", ".hidden", "a b", &"x".repeat(101)] {
            let error = LastKnown::new("folder", name, "i1").unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{name}");
        }
    }
}
