//! The SDK client of a process, and its history.

use std::{sync::Arc, time::Duration};

use crossfade::{
    Client,
    clock::{Clock, SystemClock},
};
use crossfade_history::{Header, Role, Stamp, What, Writer};

use super::{super::Control, Shared};
use crate::cli::{
    fault::{Fault, failed, misused},
    progress,
};

/// How long an instance may take to leave in good order.
const GOODBYE: Duration = Duration::from_secs(60);

/// A registered client that keeps a history.
#[derive(Clone, Debug)]
pub(super) struct Instance {
    pub(super) client: Client,
    pub(super) history: Arc<Writer>,
    path: Arc<str>,
    header: Header,
}

impl Instance {
    pub(super) async fn start(
        shared: &Shared,
        control: &Control,
        role: Role,
    ) -> Result<Self, Fault> {
        let client = client(shared, control).await?;
        let stamp = Arc::new(Stamp::new(|| micros(SystemClock.boot_time())));
        let wall = SystemClock
            .wall_time()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap_or_default();
        let header = Header {
            instance: client.instance().to_owned(),
            // Enough to be different, and short enough to be in every line.
            incarnation: client.incarnation().chars().take(16).collect(),
            role,
            topic: shared.topic.clone(),
            clock: clock_name().unwrap_or_else(|| client.incarnation().to_owned()),
            started_at_us: stamp.now_us(),
            started_unix_ms: u64::try_from(wall.as_millis()).unwrap_or(0),
        };
        let path = shared.history.display().to_string();
        match Writer::append(&shared.history, &header, stamp) {
            Ok(history) => Ok(Instance {
                client,
                history: Arc::new(history),
                path: path.into(),
                header,
            }),
            Err(error) => {
                // It has done nothing yet; that it cannot leave in good order either is not what went wrong.
                let _ = client.shutdown(GOODBYE).await;
                Err(misused(format!("{path}: {error}")))
            }
        }
    }

    /// Says that it has its place in the topic.
    pub(super) fn joined(&self) {
        let Header {
            instance,
            incarnation,
            topic,
            ..
        } = &self.header;
        progress(format_args!(
            "{instance} {incarnation}: started on topic {topic}"
        ));
    }

    /// Writes an event down. A process that cannot must not act on what the event tells: it ends.
    pub(super) fn record(&self, what: What<'_>) -> Result<u64, Fault> {
        self.history.record(what).map_err(|error| {
            failed(format!(
                "{}: {error}; nothing may happen off the record",
                self.path
            ))
        })
    }

    /// Leaves in good order, and says so in the history.
    pub(super) async fn end(&self) -> Result<(), Fault> {
        let left = self.client.shutdown(GOODBYE).await;
        left.map_err(|error| failed(format!("not ended in good order: {error}")))?;
        self.record(What::End).map(|_| ())
    }
}

async fn client(shared: &Shared, control: &Control) -> Result<Client, Fault> {
    let build = || {
        let mut builder = Client::builder()
            .instance(&shared.instance)
            .control(&control.control)
            .set("lease.mode", &shared.lease_mode)?;
        if let Some(token) = &control.token {
            builder = builder.set("control.token", token)?;
        }
        if let Some(seed) = shared.seed {
            builder = builder.set("random.seed", &seed.to_string())?;
        }
        for (key, value) in shared.credentials.settings().iter().chain(&shared.set) {
            builder = builder.set(key, value)?;
        }
        Ok(builder)
    };
    let builder = build().map_err(|error: crossfade::Error| misused(error.to_string()))?;
    builder.start().await.map_err(|error| sdk(&error))
}

/// What the library said, as it said it.
pub(super) fn sdk(error: &crossfade::Error) -> Fault {
    failed(error.to_string())
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// All processes of one boot of one machine have this clock. `None` where each process has its own.
fn clock_name() -> Option<String> {
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(boot.trim().to_owned())
}
