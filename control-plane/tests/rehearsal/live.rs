//! A whole rehearsal on real clusters: processes that are killed and come back, a topic that moves, and the histories at the end.

use std::{
    path::PathBuf,
    process::Stdio,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use crossfade::backend::registry;
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
    time::{Instant, sleep},
};

use crate::support::{PATIENCE, check, crossfade, run, stop};

const GROUP: &str = "rehearsal-billing";

/// A control plane in its own process, and a folder for everything.
struct Rehearsal {
    topic: String,
    group: String,
    control: String,
    folder: tempfile::TempDir,
    serve: Child,
}

impl Rehearsal {
    async fn start(topic: &str, group: &str, [source, target]: &[String; 2]) -> Rehearsal {
        let folder = tempfile::tempdir().unwrap();
        let store = format!("sqlite://{}/plans.db", folder.path().display());
        let mut command = crossfade(["serve", "--listen", "127.0.0.1:0", "--lease", "10"]);
        command
            .args(["--margin", "1", "--source", source, "--target", target])
            .args(["--store", &store])
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut serve = command.spawn().unwrap();
        let mut lines = BufReader::new(serve.stdout.take().unwrap()).lines();
        let ready = lines.next_line().await.unwrap().unwrap();
        let control = ready.strip_prefix("ready ").unwrap().to_owned();
        let rehearsal = Rehearsal {
            topic: topic.to_owned(),
            group: group.to_owned(),
            control,
            folder,
            serve,
        };
        rehearsal.topic(&["add"], &["--group", group]).await;
        rehearsal
    }

    /// `crossfade topic VERB TOPIC MORE`.
    async fn topic(&self, verb: &[&str], more: &[&str]) {
        let mut command = crossfade(["topic"]);
        command.args(verb).arg(&self.topic).args(more);
        let output = run(command.args(["--control", &self.control])).await;
        assert!(output.status.success(), "{verb:?} {more:?}: {output:?}");
    }

    async fn walk(&self, verb: &str, to: &str) {
        self.topic(&[verb], &["--to", to, "--wait", "--timeout", "600"])
            .await;
    }

    fn history(&self, instance: &str) -> PathBuf {
        self.folder.path().join(format!("{instance}.jsonl"))
    }

    /// A producer if the name begins with `p`; else a consumer. A killed one is known to be gone when its lease is over.
    fn load(&self, instance: &str) -> Child {
        let mut command: Command = if instance.starts_with('p') {
            crossfade(["load", "produce", "--rate", "100", "--seed", "1"])
        } else {
            let words = ["load", "consume", "--fail-percent", "1", "--group"];
            crossfade(words.into_iter().chain([&*self.group]))
        };
        command
            .args(["--topic", &self.topic, "--instance", instance, "--json"])
            .args(["--lease-mode", "stop", "--control", &self.control])
            .arg("--history")
            .arg(self.history(instance))
            .stdout(Stdio::piped())
            // Not a pipe: nobody would read it, and a full one would stop the process.
            .stderr(Stdio::null());
        command.spawn().unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_and_restarted_processes_lose_nothing_while_the_topic_moves() {
    let Some(addresses) = clusters() else { return };
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let (topic, group) = (
        format!("rehearsal-{:x}", since.as_millis()),
        format!("{GROUP}-{:x}", since.as_millis()),
    );
    let mut admins = Vec::new();
    for address in &addresses {
        let backend = registry::open(address, "rehearsal-test").await.unwrap();
        let admin = backend.admin();
        admin.create_topic(&topic, 4).await.unwrap();
        admin.create_group(&group).await.unwrap();
        admins.push((backend, admin));
    }

    // A task of its own, so that the topic goes away even when it fails.
    let rehearsed = {
        let (topic, group, addresses) = (topic.clone(), group.clone(), addresses.clone());
        tokio::spawn(async move { rehearse(&topic, &group, &addresses).await }).await
    };
    for (backend, admin) in admins {
        admin.delete_topic(&topic).await.unwrap();
        admin.delete_group(&group).await.unwrap();
        backend.close().await;
    }
    rehearsed.expect("the rehearsal succeeds");
}

async fn rehearse(topic: &str, group: &str, addresses: &[String; 2]) {
    let rehearsal = Rehearsal::start(topic, group, addresses).await;
    let [p1, p2, c1, c2] = ["p1", "p2", "c1", "c2"].map(|name| rehearsal.load(name));
    let mut victims = [p1, c1];
    rehearsal.walk("advance", "dual_write").await;
    rehearsal.topic(&["weight"], &["40%", "--wait"]).await;
    sleep(Duration::from_secs(3)).await;
    for victim in &mut victims {
        victim.kill().await.unwrap();
    }
    let [p1, c1] = ["p1", "c1"].map(|name| rehearsal.load(name));
    rehearsal.walk("rollback", "dual_read").await;
    rehearsal.walk("advance", "target_only").await;

    for producer in [p1, p2] {
        let output = stop(producer).await;
        assert!(output.status.success(), "{output:?}");
        let summary: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert!(summary["acked_target"].as_u64() > Some(0), "{summary}");
    }
    let files = ["p1", "p2", "c1", "c2"].map(|name| rehearsal.history(name));
    let deadline = Instant::now() + PATIENCE;
    loop {
        let (report, _) = check(&files).await;
        if report["acked_lost"] == 0 {
            break;
        }
        assert!(Instant::now() < deadline, "{report:#}");
        sleep(Duration::from_secs(1)).await;
    }
    for consumer in [c1, c2] {
        let output = stop(consumer).await;
        assert!(output.status.success(), "{output:?}");
    }

    let (report, content) = check(&files).await;
    assert!(content, "{report:#}");
    assert_eq!(report["processes"], 6, "{report:#}");
    // The two that were killed.
    assert_eq!(report["unfinished_processes"], 2, "{report:#}");
    assert!(report["acked_handled"].as_u64() > Some(500), "{report:#}");
    assert!(report["retried"].as_u64() > Some(0), "{report:#}");
    let output = stop(rehearsal.serve).await;
    assert!(output.status.success(), "{output:?}");
}

/// The clusters' addresses; says what is missing otherwise.
#[allow(clippy::print_stdout, reason = "a skip is named where people look")]
fn clusters() -> Option<[String; 2]> {
    let test = "killed_and_restarted_processes_lose_nothing_while_the_topic_moves";
    let address = |variable: &str| {
        let address = std::env::var(variable).ok().filter(|text| !text.is_empty());
        if address.is_none() {
            let line = format!("{test}: no broker ({variable})");
            let forbidden = std::env::var("CROSSFADE_TEST_NO_SKIP").is_ok_and(|value| value == "1");
            assert!(!forbidden, "{line}, and nothing may be skipped");
            println!("skipped: {line}");
        }
        address
    };
    Some([
        address("CROSSFADE_TEST_SOURCE")?,
        address("CROSSFADE_TEST_TARGET")?,
    ])
}
