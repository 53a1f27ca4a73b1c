//! A short run on clusters of its own: all stages, two rollbacks, everything killed at least once.

use std::process::Command;

/// Bounds the run: it takes about five minutes, most of them waits for the brokers' word that a killed process is gone.
const LIMIT_MINUTES: &str = "10";

fn here(program: &str) -> bool {
    let asked = Command::new(program).arg("-version").output();
    asked.is_ok_and(|answer| answer.status.success())
}

#[test]
#[allow(clippy::print_stdout, reason = "a skip is named where people look")]
fn nothing_acked_is_lost_while_instances_control_plane_and_brokers_are_killed_and_frozen() {
    if !cfg!(target_os = "linux") || !here("java") || !here("mvn") {
        println!("skipped: chaos on RocketMQ clusters: Linux, java and mvn are needed");
        return;
    }
    let run = Command::new(env!("CARGO_BIN_EXE_crossfade-chaos"))
        .args(["--messages", "20000", "--rate", "800", "--seed", "4"])
        .args(["--consumers", "4", "--groups", "2"])
        .args(["--kills", "4", "--stops", "1", "--stop-seconds", "8"])
        .args(["--broker-kills", "1", "--control-kills", "1"])
        .args(["--control-stops", "1", "--lease", "6"])
        .args(["--limit", LIMIT_MINUTES, "--json"])
        .output()
        .expect("the program was built with this test");
    let said = String::from_utf8_lossy(&run.stderr);
    assert!(run.status.success(), "{said}");
    let report: serde_json::Value =
        serde_json::from_slice(&run.stdout).expect("one JSON object on standard output");
    assert_eq!(report["passed"], true, "{said}");
    assert_eq!(report["acked_lost"], 0);
    assert_eq!(report["duplicated"], 0);
    assert_eq!(report["rollbacks"], 2);
    assert!(report["messages"].as_u64() >= Some(20_000));
    let done = &report["done"];
    let times = |name: &str| done[name].as_u64().unwrap_or(0);
    assert_eq!(times("producer_kills") + times("consumer_kills"), 4);
    assert_eq!(times("producer_stops") + times("consumer_stops"), 1);
    assert_eq!(times("control_kills"), 1);
    assert_eq!(times("control_stops"), 1);
    // Lease and margin are over.
    assert!(done["shortest_control_stop_seconds"].as_f64() >= Some(7.0));
    assert_eq!(done["broker_kills"], serde_json::json!([1, 1]));
}
