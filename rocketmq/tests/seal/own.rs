//! Clusters of this test's own, and what only one of several brokers is asked.

use std::{collections::BTreeSet, path::PathBuf, process::Stdio};

use crossfade_rocketmq::{
    Request,
    admin::Master,
    codes::{request, response},
    fastjson,
};
use tokio::process::Command;

use crate::support::Cluster;

/// Both clusters; the processes end with it unless they ran before.
pub(crate) struct Own {
    script: PathBuf,
    folder: PathBuf,
    addresses: Vec<String>,
    started: bool,
}

impl Own {
    /// `None` where they cannot be started.
    pub(crate) async fn up() -> Option<Own> {
        let available = |program: &str| {
            let mut command = std::process::Command::new(program);
            let command = command.arg("-version").stdout(Stdio::null());
            command.stderr(Stdio::null()).status().is_ok()
        };
        if !available("java") || !available("mvn") {
            return None;
        }
        let root = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
        let folder = std::env::var("CROSSFADE_CLUSTERS_DIR").map(PathBuf::from);
        let folder =
            folder.unwrap_or_else(|_| PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("masters"));
        let mut own = Own {
            script: root.join("scripts/rocketmq"),
            folder,
            addresses: Vec::new(),
            started: false,
        };
        let status = own.command(&["status"]).stdout(Stdio::null()).status();
        own.started = !status.await.unwrap().success();
        let printed = own.call(&["up", "--masters", "2"]).await;
        own.addresses = printed
            .lines()
            .filter_map(|line| Some(line.split_once('=')?.1.to_owned()))
            .collect();
        Some(own)
    }

    pub(crate) async fn source(&self) -> Cluster {
        Cluster::at(&self.addresses[0]).await
    }

    pub(crate) async fn target(&self) -> Cluster {
        Cluster::at(&self.addresses[1]).await
    }

    /// Calls the script, which has bounds of its own; what it printed.
    pub(crate) async fn call(&self, words: &[&str]) -> String {
        let output = self.command(words).output().await.unwrap();
        assert!(output.status.success(), "{words:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(&self.script);
        command
            .args(words)
            .env("CROSSFADE_CLUSTERS_DIR", &self.folder);
        command
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        if self.started {
            let mut command = std::process::Command::new(&self.script);
            let down = command
                .arg("down")
                .env("CROSSFADE_CLUSTERS_DIR", &self.folder);
            // The test has its verdict already.
            let _ = down.status();
        }
    }
}

pub(crate) async fn create_group_on(cluster: &Cluster, master: &Master, config: Vec<u8>) {
    let request = Request::new(request::UPDATE_AND_CREATE_SUBSCRIPTIONGROUP).body(config);
    let made = cluster
        .client
        .call(&master.address, "creation of a group", request);
    made.await.unwrap();
}

/// The client ids that one broker lists in a group.
pub(crate) async fn members_on(
    cluster: &Cluster,
    master: &Master,
    group: &str,
) -> BTreeSet<String> {
    let request = Request::new(request::GET_CONSUMER_CONNECTION_LIST).text("consumerGroup", group);
    let timeout = crate::support::TIMEOUT;
    let answer = cluster
        .client
        .invoke(&master.address, request, timeout)
        .await;
    let answer = answer.unwrap();
    if answer.code == response::CONSUMER_NOT_ONLINE {
        return BTreeSet::new();
    }
    let body: serde_json::Value = fastjson::from_slice(&answer.body).unwrap();
    let members = body["connectionSet"].as_array().unwrap().iter();
    members
        .map(|one| one["clientId"].as_str().unwrap().to_owned())
        .collect()
}
