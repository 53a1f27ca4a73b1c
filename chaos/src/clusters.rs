//! Two RocketMQ clusters of this run's own, by `scripts/rocketmq`.
//!
//! A broker is killed with SIGKILL and started again on the same files. It keeps what it had acked although it flushes to the disk later: its
//! commit log is a mapped file, and the page cache outlives the process. A power cut is another matter; there the brokers' flush mode decides.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use crossfade::{
    Side,
    backend::{Backend, registry},
};
use tokio::process::Command;

use crate::{
    failure::{Result, failed},
    process::output,
};

/// Fetching the jars may be part of it.
const UP: Duration = Duration::from_secs(900);
/// The script itself waits 120 s for a broker.
const BROKER: Duration = Duration::from_secs(150);
/// How often a broker that was killed is waited for.
const START_WAITS: usize = 3;
/// A call that was left behind may hold the script's lock until its own end.
const DOWN: Duration = Duration::from_secs(400);

/// Both clusters.
#[derive(Clone, Debug)]
pub struct Clusters {
    script: PathBuf,
    folder: PathBuf,
    addresses: [String; 2],
}

impl Clusters {
    /// Starts both in `folder`.
    ///
    /// # Errors
    /// What the script says.
    ///
    /// # Cancellation
    /// Some of it may run: [`down`].
    pub async fn up(script: &Path, folder: &Path) -> Result<Self> {
        let mut clusters = Clusters {
            script: script.to_owned(),
            folder: folder.to_owned(),
            addresses: Default::default(),
        };
        let printed = clusters.call(&["up"], UP).await?;
        for (side, name) in [
            (Side::Source, "CROSSFADE_TEST_SOURCE="),
            (Side::Target, "CROSSFADE_TEST_TARGET="),
        ] {
            let address = printed.lines().find_map(|line| line.strip_prefix(name));
            clusters.addresses[side.index()] = address
                .ok_or_else(|| failed(format!("{} up printed no {name}", script.display())))?
                .to_owned();
        }
        Ok(clusters)
    }

    /// The address of a side.
    #[must_use]
    pub fn address(&self, side: Side) -> &str {
        &self.addresses[side.index()]
    }

    /// Makes the topic and its groups on both sides.
    ///
    /// # Errors
    /// What the brokers say.
    ///
    /// # Cancellation
    /// Some may be there.
    pub async fn create(&self, topic: &str, queues: u32, groups: &[String]) -> Result<()> {
        for address in &self.addresses {
            let told = |error| failed(format!("{address}: {error}"));
            let cluster: Arc<dyn Backend> = registry::open(address, "crossfade-chaos-setup")
                .await
                .map_err(told)?;
            let admin = cluster.admin();
            admin.create_topic(topic, queues).await.map_err(told)?;
            for group in groups {
                admin.create_group(group).await.map_err(told)?;
            }
            cluster.close().await;
        }
        Ok(())
    }

    /// SIGKILL of a side's broker.
    ///
    /// # Errors
    /// It does not run.
    ///
    /// # Cancellation
    /// It may have been killed.
    pub async fn kill_broker(&self, side: Side) -> Result<()> {
        self.call(&["kill-broker", side.as_str()], BROKER)
            .await
            .map(drop)
    }

    /// Starts a side's broker again and waits until it answers; on a busy machine one wait of the script's may not be enough.
    ///
    /// # Errors
    /// It does not come up.
    ///
    /// # Cancellation
    /// It may be coming up.
    pub async fn start_broker(&self, side: Side) -> Result<()> {
        let words = ["start-broker", side.as_str()];
        for _ in 1..START_WAITS {
            if self.call(&words, BROKER).await.is_ok() {
                return Ok(());
            }
        }
        self.call(&words, BROKER).await.map(drop)
    }

    async fn call(&self, words: &[&str], within: Duration) -> Result<String> {
        call(&self.script, &self.folder, words, within).await
    }
}

/// Stops whatever the script has started in `folder`.
///
/// # Errors
/// What the script says.
///
/// # Cancellation
/// Some may run on.
pub async fn down(script: &Path, folder: &Path) -> Result<()> {
    call(script, folder, &["down"], DOWN).await.map(drop)
}

async fn call(script: &Path, folder: &Path, words: &[&str], within: Duration) -> Result<String> {
    let mut command = Command::new(script);
    // Never killed in the middle: between starting a broker and noting its pid it would leave one behind that nobody knows.
    command.args(words).env("CROSSFADE_CLUSTERS_DIR", folder);
    let done = output(command, within).await;
    done.map_err(|error| failed(format!("{} {error}", script.display())))
}
