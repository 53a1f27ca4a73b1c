//! A whole journey between clusters with access control, over TLS, by the program itself; see `rocketmq/tests/secured/clusters.rs`.
#![allow(clippy::print_stdout)]

#[path = "../../rocketmq/tests/secured/clusters.rs"]
mod clusters;

use std::process::{Command, Output};

use crate::clusters::Secured;

fn demo(secured: &Secured, credentials: [&std::path::Path; 2]) -> Output {
    let [source, target] = &secured.addresses;
    let mut command = Command::new(env!("CARGO_BIN_EXE_crossfade"));
    command
        .args(["demo", "--json", "--messages", "3000"])
        .args(["--source", source, "--target", target])
        .arg("--source-credentials")
        .arg(credentials[0])
        .arg("--target-credentials")
        .arg(credentials[1]);
    command.output().unwrap()
}

#[test]
fn topic_crosses_between_secured_clusters() {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
    let test = "topic_crosses_between_secured_clusters";
    let Some(secured) = Secured::up(test, root, env!("CARGO_TARGET_TMPDIR")) else {
        return;
    };
    let [source, target] = &secured.credentials;
    let output = demo(&secured, [source, target]);
    assert!(output.status.success(), "{output:?}");
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    for name in ["lost", "duplicated", "inverted", "send_errors"] {
        assert_eq!(report[name], 0, "{name}: {report}");
    }
    assert_eq!(report["messages_handled"], 3000, "{report}");

    // With a wrong secret nothing begins, and the reason is named without it.
    let folder = tempfile::tempdir().unwrap();
    let wrong = folder.path().join("wrong.conf");
    let text = std::fs::read_to_string(target).unwrap();
    let text = text.replace("of-the-administrator", "of-somebody-else");
    std::fs::write(&wrong, text).unwrap();
    let output = demo(&secured, [source, &wrong]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    assert!(said.contains("wrong access key or secret key"), "{said}");
    assert!(!said.contains("of-somebody-else"), "{said}");
    println!("{said}");
}
