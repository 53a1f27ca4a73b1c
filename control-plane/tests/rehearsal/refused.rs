//! What `crossfade load` cannot do, it says, and leaves nothing behind.

use crossfade_control_plane::{ServeOptions, Server};
use serde_json::Value;

use crate::support::{crossfade, run, serving};

#[tokio::test]
async fn load_that_cannot_be_is_refused_and_no_instance_stays() {
    let server = serving("refused").await;
    let operator = server.operator();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("p.jsonl");

    for (topic, file, more, code) in [
        ("orders", file.as_path(), "--ordered", "invalid_request"),
        ("orders", folder.path(), "--rate=10", "invalid_request"),
        ("refunds", file.as_path(), "--rate=10", "failed"),
        (
            "orders",
            file.as_path(),
            "--set=producer.attempts=0",
            "invalid_request",
        ),
        (
            "orders",
            file.as_path(),
            "--lease-mode=perhaps",
            "invalid_request",
        ),
    ] {
        let mut command = crossfade([
            "load",
            "produce",
            "--json",
            "--instance",
            "p",
            "--topic",
            topic,
        ]);
        command.args(["--control", server.url(), more, "--history"]);
        let output = run(command.arg(file)).await;
        assert!(!output.status.success(), "{more}");
        let told = String::from_utf8(output.stderr).unwrap();
        let error: Value = serde_json::from_str(told.lines().last().unwrap()).unwrap();
        assert_eq!(error["error"]["code"], code, "{topic} {more}: {told}");
        assert!(!told.contains("started on topic"), "{topic} {more}: {told}");
        let left = operator.instances().await.unwrap();
        assert!(left.is_empty(), "{topic} {more}: {left:?}");
    }
    server.shutdown().await.unwrap();
}

/// The embedded clusters are not in the other process, so it ends without a message in either case.
#[tokio::test]
async fn group_that_is_not_managed_is_warned_of_once() {
    let server = serving("unmanaged").await;
    let folder = tempfile::tempdir().unwrap();
    for (group, warnings) in [("billing", 0), ("biling", 1)] {
        let words = ["load", "consume", "--topic", "orders", "--until-idle", "1"];
        let mut command = crossfade(words);
        command.args(["--control", server.url(), "--group", group]);
        command.args(["--instance", group, "--history"]);
        let output = run(command.arg(folder.path().join(group))).await;
        let told = String::from_utf8(output.stderr).unwrap();
        assert_eq!(told.matches("is not managed").count(), warnings, "{told}");
    }
    server.shutdown().await.unwrap();
}

#[tokio::test]
async fn operators_calls_go_to_the_control_plane_and_to_no_proxy_of_the_environment() {
    let addresses = ["proxied-source", "proxied-target"].map(|name| format!("memory://{name}"));
    let options = ServeOptions::in_memory(&addresses[0], &addresses[1]);
    let server = Server::start(options).await.unwrap();
    let mut command = crossfade(["topic", "list", "--json", "--control", server.url()]);
    for variable in ["HTTP_PROXY", "http_proxy", "ALL_PROXY"] {
        // Nobody listens there.
        command.env(variable, "http://127.0.0.1:9");
    }
    let output = run(&mut command).await;
    assert!(output.status.success(), "{output:?}");
    server.shutdown().await.unwrap();
}

#[tokio::test]
async fn token_that_serve_would_ignore_is_refused() {
    let words = "serve --source memory://a --target memory://b --token secret";
    let output = run(&mut crossfade(words.split(' '))).await;
    assert!(!output.status.success(), "{output:?}");
}

#[cfg(not(feature = "https"))]
#[tokio::test]
async fn address_that_needs_tls_says_what_speaks_it() {
    let words = "topic list --control https://control-plane";
    let output = run(&mut crossfade(words.split(' '))).await;
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success(), "{told}");
    for part in [
        "https://control-plane",
        "a proxy with TLS",
        "feature `https`",
    ] {
        assert!(told.contains(part), "{told}");
    }
}
