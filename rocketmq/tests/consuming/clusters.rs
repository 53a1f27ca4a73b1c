//! Clusters of a test's own by `scripts/rocketmq`, whose brokers it may stop: in a folder of `CROSSFADE_CLUSTERS_DIR` where that is set. One test has its own at
//! a time.

use std::{path::PathBuf, process::Stdio};

use tokio::{
    process::Command,
    sync::{Mutex, MutexGuard},
};

use crate::support::Cluster;

static TURN: Mutex<()> = Mutex::const_new(());

pub(crate) struct Clusters {
    pub(crate) script: Script,
    /// They ran before.
    ran: bool,
    clusters: Vec<Cluster>,
    _turn: MutexGuard<'static, ()>,
}

impl Clusters {
    /// Starts them, unless they run; `None` where that cannot be done.
    pub(crate) async fn up(folder: &str) -> Option<Clusters> {
        let turn = TURN.lock().await;
        let script = Script::new(folder);
        let ran = script.try_run("status").await.is_some();
        let printed = script.try_run("up").await?;
        let addresses = printed.lines().filter_map(|line| line.split_once('='));
        let clusters = addresses.map(|(_, address)| Cluster::at(address)).collect();
        Some(Clusters {
            script,
            ran,
            clusters,
            _turn: turn,
        })
    }

    /// Each by the name that the script has for it.
    pub(crate) fn sides(&self) -> impl Iterator<Item = (&'static str, &Cluster)> {
        ["source", "target"].into_iter().zip(&self.clusters)
    }

    /// Stops them, unless they ran before.
    pub(crate) async fn down(self) {
        if !self.ran {
            self.script.run("down").await;
        }
    }
}

pub(crate) struct Script {
    path: PathBuf,
    folder: PathBuf,
}

impl Script {
    fn new(folder: &str) -> Script {
        let root = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
        let named = std::env::var("CROSSFADE_CLUSTERS_DIR");
        let all = named.unwrap_or_else(|_| env!("CARGO_TARGET_TMPDIR").to_owned());
        Script {
            path: root.join("scripts/rocketmq"),
            folder: PathBuf::from(all).join(folder),
        }
    }

    /// What it printed, if it succeeded.
    async fn try_run(&self, words: &str) -> Option<String> {
        let mut command = Command::new(&self.path);
        command.env("CROSSFADE_CLUSTERS_DIR", &self.folder);
        let command = command.args(words.split(' ')).stderr(Stdio::inherit());
        let output = command.output().await.ok()?;
        let printed = String::from_utf8(output.stdout).ok()?;
        output.status.success().then_some(printed)
    }

    pub(crate) async fn run(&self, words: &str) -> String {
        let printed = self.try_run(words).await;
        printed.unwrap_or_else(|| panic!("scripts/rocketmq {words} failed"))
    }
}
