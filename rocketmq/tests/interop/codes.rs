//! The numbers of `src/codes.rs`, against those in the official jars.

use std::collections::{BTreeMap, BTreeSet};

use tokio::process::Command;

use crate::{needs::skip, official};

/// 4.9 has some classes elsewhere.
const CLASSES: [&str; 5] = [
    "org.apache.rocketmq.common.protocol.RequestCode",
    "org.apache.rocketmq.common.protocol.ResponseCode",
    "org.apache.rocketmq.remoting.protocol.RequestCode",
    "org.apache.rocketmq.remoting.protocol.ResponseCode",
    "org.apache.rocketmq.remoting.protocol.RemotingSysResponseCode",
];

#[tokio::test]
async fn codes_are_those_of_the_official_clients() {
    let mut official = BTreeMap::<_, BTreeSet<i32>>::new();
    for version in ["4.9.7", "5.5.0"] {
        match constants(version).await {
            Ok(text) => {
                for (name, number) in text.lines().filter_map(constant) {
                    official.entry(name).or_default().insert(number);
                }
            }
            Err(why) => return skip("codes_are_those_of_the_official_clients", &why),
        }
    }
    let own = include_str!("../../src/codes.rs");
    let (own, _) = own.split_once("pub mod permission").unwrap();
    let own: Vec<_> = own.lines().filter_map(constant).collect();
    assert!(own.len() > 50 && official.len() > 150);
    for (name, number) in own {
        let official = official.get(&name).cloned().unwrap_or_default();
        assert_eq!(official, [number].into(), "{name}");
    }
}

/// What `javap` says of a version's classes; a class that the version does not have is passed over.
async fn constants(version: &str) -> Result<String, String> {
    let jars = format!("{}/*", official::jars(version).await?);
    let mut javap = Command::new("javap");
    let output = javap
        .args(["-constants", "-cp", &jars])
        .args(CLASSES)
        .output();
    let output = output.await.map_err(|error| format!("no javap: {error}"))?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// `... NAME = NUMBER;`, in Java or in Rust.
fn constant(line: &str) -> Option<(String, i32)> {
    let (left, right) = line.trim().strip_suffix(';')?.split_once(" = ")?;
    let left = left.strip_suffix(": i32").unwrap_or(left);
    Some((left.rsplit(' ').next()?.to_owned(), right.parse().ok()?))
}
