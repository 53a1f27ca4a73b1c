//! A wait that a signal ends.

use std::process::{Output, Stdio};

use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader},
    process::Command,
    time::timeout,
};

use crate::support::{PATIENCE, crossfade, serving};

/// Sends the signal once `line` has come on standard error; what was written there in all is in the output.
async fn ended_by(signal: &str, command: &mut Command, line: &str) -> Output {
    let mut child = command.stderr(Stdio::piped()).spawn().expect("it starts");
    let mut told = BufReader::new(child.stderr.take().expect("it is piped"));
    let mut text = String::new();
    let waiting = async {
        while !text.lines().any(|told| told.starts_with(line)) {
            let read = told.read_line(&mut text).await.unwrap();
            assert!(read > 0, "it has ended: {text}");
        }
        let pid = child.id().expect("it runs").to_string();
        let sent = Command::new("kill").args([signal, &pid]).status().await;
        assert!(sent.expect("kill is there").success());
        told.read_to_string(&mut text).await.unwrap();
        child.wait_with_output().await.expect("it is ours")
    };
    let output = timeout(PATIENCE, waiting).await.expect("it ends in time");
    Output {
        stderr: text.into_bytes(),
        ..output
    }
}

#[tokio::test]
async fn wait_that_a_signal_ends_tells_what_failed_before_and_which_signal_it_was() {
    let server = serving("signals").await;
    let operator = server.operator();
    // Nobody consumes it, so it gets nowhere.
    operator.advance("orders", None).await.unwrap();
    for (signal, status) in [("-INT", 130), ("-TERM", 143)] {
        let mut command = crossfade(["topic", "wait", "missing", "orders"]);
        command.args(["--control", server.url()]);
        let output = ended_by(signal, &mut command, "orders: ").await;
        assert_eq!(output.status.code(), Some(status), "{output:?}");
        let told = String::from_utf8(output.stderr).unwrap();
        for part in ["no topic missing", "`crossfade topic cancel orders`"] {
            assert!(told.contains(part), "{signal}: {told}");
        }
    }
    server.shutdown().await.unwrap();
}
