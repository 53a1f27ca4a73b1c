//! Offsets of a broadcast, which the members keep themselves (apache/rocketmq `LocalFileOffsetStore.java`).

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    io::{self, Write as _},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use serde::{Deserialize, Serialize};

use crate::{
    error::{Error, ErrorKind, Result},
    fastjson,
    route::MessageQueue,
};

/// A larger file is none of ours.
const MAX_FILE_BYTES: u64 = 16 << 20;

/// Where one member of a broadcast is in each queue.
#[derive(Debug)]
pub(super) struct LocalOffsets {
    state: Mutex<State>,
    /// Where they are kept; held while they are written.
    file: tokio::sync::Mutex<Option<PathBuf>>,
}

#[derive(Debug, Default)]
struct State {
    offsets: BTreeMap<MessageQueue, u64>,
    unsaved: bool,
}

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct Queue {
    broker_name: Arc<str>,
    queue_id: u32,
    topic: Arc<str>,
}

impl LocalOffsets {
    /// Those in the file, if there is one.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] for a file that cannot be read, or holds something else.
    pub(super) async fn open(file: Option<PathBuf>) -> Result<LocalOffsets> {
        let offsets = match file.clone() {
            Some(path) => blocking(move || read(&path)).await?,
            None => BTreeMap::new(),
        };
        Ok(LocalOffsets {
            state: Mutex::new(State {
                offsets,
                unsaved: false,
            }),
            file: tokio::sync::Mutex::new(file),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn get(&self, queue: &MessageQueue) -> Option<u64> {
        self.state().offsets.get(queue).copied()
    }

    pub(super) fn set(&self, queue: &MessageQueue, offset: u64) {
        let mut state = self.state();
        if state.offsets.get(queue) != Some(&offset) {
            state.offsets.insert(queue.clone(), offset);
            state.unsaved = true;
        }
    }

    /// Writes the file, if there is one and it is old: whole or not at all.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`] when it cannot be written; the next call tries again.
    ///
    /// # Cancellation
    /// Written or not.
    pub(super) async fn save(&self) -> Result<()> {
        let file = self.file.lock().await;
        let Some(path) = file.clone() else {
            return Ok(());
        };
        let text = {
            let mut state = self.state();
            if !std::mem::take(&mut state.unsaved) {
                return Ok(());
            }
            text(&state.offsets)
        };
        let written = blocking(move || {
            write(&path, &text).map_err(|error| {
                let why = format!("cannot write the offsets to {}: {error}", path.display());
                Error::new(ErrorKind::Unavailable, why).with_source(error)
            })
        })
        .await;
        self.state().unsaved |= written.is_err();
        written
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => {
            let why = "the runtime is shutting down";
            Err(Error::new(ErrorKind::Closed, why).with_source(error))
        }
    }
}

fn text(offsets: &BTreeMap<MessageQueue, u64>) -> String {
    let mut text = String::from("{\"offsetTable\":{");
    for (number, (queue, offset)) in offsets.iter().enumerate() {
        let key = serde_json::to_string(&Queue {
            broker_name: Arc::clone(&queue.broker),
            queue_id: queue.queue,
            topic: Arc::clone(&queue.topic),
        });
        let comma = if number == 0 { "" } else { "," };
        // Strings and numbers always serialize; writing to a `String` cannot fail.
        let _ = write!(text, "{comma}\n{}:{offset}", key.unwrap_or_default());
    }
    text.push_str("\n}}\n");
    text
}

fn write(path: &Path, text: &str) -> io::Result<()> {
    let mut partial = path.to_owned().into_os_string();
    partial.push(".partial");
    let partial = PathBuf::from(partial);
    let mut file = std::fs::File::create(&partial)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    std::fs::rename(&partial, path)
}

fn read(path: &Path) -> Result<BTreeMap<MessageQueue, u64>> {
    let invalid = |why: String| {
        let why = format!("the file of offsets {} {why}", path.display());
        Error::new(ErrorKind::InvalidInput, why)
    };
    let length = match std::fs::metadata(path) {
        Ok(file) => file.len(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        Err(error) => return Err(invalid(format!("cannot be read: {error}"))),
    };
    if length > MAX_FILE_BYTES {
        return Err(invalid(format!("has {length} bytes: it is none")));
    }
    #[derive(Deserialize)]
    struct File {
        #[serde(rename = "offsetTable")]
        offsets: BTreeMap<String, u64>,
    }
    let text = std::fs::read(path).map_err(|error| invalid(format!("cannot be read: {error}")))?;
    let file: File = fastjson::from_slice(&text)
        .map_err(|error| invalid(format!("is none: {}", error.message())))?;
    let offsets = file.offsets.into_iter().map(|(key, offset)| {
        let queue: Queue = serde_json::from_str(&key)
            .map_err(|error| invalid(format!("names a queue wrongly: {error}")))?;
        let queue = MessageQueue {
            topic: queue.topic,
            broker: queue.broker_name,
            queue: queue.queue_id,
        };
        Ok((queue, offset))
    });
    offsets.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder() -> PathBuf {
        let name = format!("crossfade-offsets-{:016x}", rand::random::<u64>());
        let folder = std::env::temp_dir().join(name);
        std::fs::create_dir(&folder).unwrap();
        folder
    }

    fn queue(number: u32) -> MessageQueue {
        MessageQueue {
            topic: "prices".into(),
            broker: "b".into(),
            queue: number,
        }
    }

    #[tokio::test]
    async fn what_was_saved_is_there_again_and_nothing_else() {
        let folder = folder();
        let file = Some(folder.join("offsets.json"));
        let offsets = LocalOffsets::open(file.clone()).await.unwrap();
        assert_eq!(offsets.get(&queue(0)), None);
        offsets.save().await.unwrap();
        assert!(!folder.join("offsets.json").exists());
        offsets.set(&queue(0), 7);
        offsets.set(&queue(1), 0);
        offsets.save().await.unwrap();
        offsets.set(&queue(0), 8);
        let again = LocalOffsets::open(file).await.unwrap();
        assert_eq!(
            [0, 1, 2].map(|number| again.get(&queue(number))),
            [Some(7), Some(0), None]
        );
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[tokio::test]
    async fn files_of_the_java_client_are_read() {
        let folder = folder();
        let path = folder.join("offsets.json");
        let text = r#"{"offsetTable":{{"brokerName":"b","queueId":3,"topic":"prices"}:41}}"#;
        std::fs::write(&path, text).unwrap();
        let offsets = LocalOffsets::open(Some(path)).await.unwrap();
        assert_eq!(offsets.get(&queue(3)), Some(41));
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[tokio::test]
    async fn file_that_cannot_be_used_is_named_in_the_error() {
        let folder = folder();
        let path = folder.join("offsets.json");
        std::fs::write(&path, "{\"offsetTable\":[]}").unwrap();
        let error = LocalOffsets::open(Some(path.clone())).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.message().contains("offsets.json"), "{error}");
        std::fs::remove_dir_all(&folder).unwrap();
        let offsets = LocalOffsets::open(Some(path)).await.unwrap();
        offsets.set(&queue(0), 1);
        // The folder has gone; another try says so again.
        for _ in 0..2 {
            let error = offsets.save().await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unavailable);
        }
    }
}
