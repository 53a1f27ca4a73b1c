//! Writes the last good plans beside the session, never more than one write at a time and always the newest.

use tokio::{sync::watch, task::JoinHandle};

use crate::control::{LastKnown, Saved};

#[derive(Debug)]
pub(super) struct Saver {
    newest: Option<watch::Sender<Option<Saved>>>,
    task: JoinHandle<()>,
}

impl Saver {
    pub(super) fn start(last_known: LastKnown) -> Saver {
        let (newest, changes) = watch::channel(None);
        Saver {
            newest: Some(newest),
            task: tokio::spawn(run(last_known, changes)),
        }
    }

    /// Replaces what is not yet written.
    pub(super) fn save(&self, saved: Saved) {
        if let Some(newest) = &self.newest {
            newest.send_replace(Some(saved));
        }
    }

    /// Writes what is not yet written.
    pub(super) async fn finish(mut self) {
        self.newest = None;
        if let Err(error) = (&mut self.task).await {
            tracing::warn!(%error, "the last good plans may not be on disk");
        }
    }
}

impl Drop for Saver {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn run(last_known: LastKnown, mut changes: watch::Receiver<Option<Saved>>) {
    // A closed channel still gives its last value once.
    while changes.changed().await.is_ok() {
        let Some(saved) = changes.borrow_and_update().clone() else {
            continue;
        };
        if let Err(error) = last_known.save(&saved).await {
            tracing::warn!(%error, "the last good plans were not written");
        }
    }
}
