//! What `crossfade demo` says while it cannot begin.

use std::process::Stdio;

use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader},
    time::timeout,
};

use crate::support::{PATIENCE, crossfade, run};

#[tokio::test]
async fn demo_that_waits_for_a_cluster_says_for_which_and_how_long_and_keeps_its_output_clean() {
    // Nobody listens there.
    let words = "demo --json --source memory://demo-waits --target rocketmq://127.0.0.1:1";
    let mut command = crossfade(words.split(' '));
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut lines = BufReader::new(child.stderr.take().expect("it is piped")).lines();
    let line = timeout(PATIENCE, lines.next_line()).await;
    let line = line.expect("it speaks in time").unwrap().unwrap();
    for words in [
        "waiting for the target at rocketmq://127.0.0.1:1, ",
        " s more at most",
    ] {
        assert!(line.contains(words), "{line}");
    }
    child.kill().await.unwrap();
    let mut said = String::new();
    let mut output = child.stdout.take().expect("it is piped");
    output.read_to_string(&mut said).await.unwrap();
    assert_eq!(said, "");
}

#[tokio::test]
async fn demo_that_cannot_use_a_cluster_names_its_side() {
    for (source, target, named) in [
        ("kafka://a", "memory://demo-names", "source: kafka://a: "),
        ("memory://demo-names", "kafka://b", "target: kafka://b: "),
    ] {
        let mut command = crossfade(["demo", "--source", source, "--target", target]);
        let output = run(&mut command).await;
        assert!(!output.status.success(), "{output:?}");
        let told = String::from_utf8(output.stderr).unwrap();
        assert!(told.contains(named), "{told}");
    }
}
