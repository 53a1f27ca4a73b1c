//! The program as a child process.

use std::{
    path::Path,
    process::{Output, Stdio},
    time::Duration,
};

use crossfade::backend::memory::MemoryCluster;
use crossfade_control_plane::{ServeOptions, Server};
use serde_json::Value;
use tokio::{
    process::{Child, Command},
    time::timeout,
};

/// Longer than anything here takes; only a failing test waits for so long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(700);

/// A control plane over two embedded clusters of this test's own, with topic `orders` and group `billing` managed.
pub(crate) async fn serving(test: &str) -> Server {
    let names = ["source", "target"].map(|side| format!("{test}-{side}"));
    for name in &names {
        let admin = MemoryCluster::named(name).backend("test").admin();
        admin.create_topic("orders", 4).await.unwrap();
        admin.create_group("billing").await.unwrap();
    }
    let addresses = names.map(|name| format!("memory://{name}"));
    let options = ServeOptions::in_memory(&addresses[0], &addresses[1]);
    let server = Server::start(options).await.unwrap();
    let managed = server.operator().add("orders", &["billing"]).await;
    managed.unwrap();
    server
}

/// The program with these words; it ends with the test.
pub(crate) fn crossfade<'a>(words: impl IntoIterator<Item = &'a str>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_crossfade"));
    command
        .args(words)
        .env_remove("CROSSFADE_CONTROL")
        .env_remove("CROSSFADE_TOKEN")
        .stdin(Stdio::null())
        .kill_on_drop(true);
    command
}

/// Runs it to its end.
pub(crate) async fn run(command: &mut Command) -> Output {
    let output = timeout(PATIENCE, command.output()).await;
    output.expect("it ends in time").expect("it starts")
}

/// The verdict on these files, and whether the program was content.
pub(crate) async fn check(files: &[impl AsRef<Path>]) -> (Value, bool) {
    let mut command = crossfade(["history", "check", "--json"]);
    command.args(files.iter().map(AsRef::as_ref));
    let output = run(&mut command).await;
    let report = serde_json::from_slice(&output.stdout);
    let report = report.unwrap_or_else(|error| panic!("{error}: {output:?}"));
    (report, output.status.success())
}

/// Asks it to end in good order, and waits until it has.
pub(crate) async fn stop(child: Child) -> Output {
    let pid = child.id().expect("it runs").to_string();
    let asked = Command::new("kill").args(["-TERM", &pid]).status().await;
    assert!(asked.expect("kill is there").success());
    let output = timeout(PATIENCE, child.wait_with_output()).await;
    output.expect("it ends in time").expect("it is ours")
}
