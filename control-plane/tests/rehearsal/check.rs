//! `crossfade history check` on the golden histories of the checker.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::support::{check, crossfade, run};

fn golden(name: &str) -> PathBuf {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../history/tests/golden");
    Path::new(folder).join(format!("{name}.jsonl"))
}

#[tokio::test]
async fn exit_status_and_json_say_what_was_broken() {
    for (name, count) in [
        ("all_well", None),
        ("ambiguous_and_absent", None),
        ("repeat_by_a_process_with_its_own_store", None),
        ("acked_and_never_entered", Some("acked_lost")),
        ("duplicate_in_one_process", Some("duplicated")),
        ("inverted", Some("inverted")),
        ("never_sent", Some("never_sent")),
        ("failed_and_handled", Some("failed_handled")),
        ("done_without_enter", Some("unexpected")),
    ] {
        let (report, content) = check(&[golden(name)]).await;
        assert_eq!(content, count.is_none(), "{name}");
        assert_eq!(report["passed"], count.is_none(), "{name}");
        if let Some(count) = count {
            assert!(report[count].as_u64() > Some(0), "{name}: {report}");
            assert!(report["examples"][count][0]["id"].is_string(), "{name}");
        }
    }
}

#[tokio::test]
async fn several_files_are_one_run() {
    let folder = tempfile::tempdir().unwrap();
    let all = std::fs::read_to_string(golden("inverted_across_processes")).unwrap();
    let mut files: Vec<PathBuf> = Vec::new();
    for line in all.lines() {
        if line.starts_with("{\"v\"") {
            files.push(folder.path().join(files.len().to_string()));
        }
        let file = files.last().unwrap();
        let mut text = std::fs::read_to_string(file).unwrap_or_default();
        text.push_str(line);
        text.push('\n');
        std::fs::write(file, text).unwrap();
    }
    assert_eq!(files.len(), 4);
    for _ in 0..files.len() {
        files.rotate_left(1);
        let (report, _) = check(&files).await;
        assert_eq!(report["inverted"], 1);
    }
}

#[tokio::test]
async fn file_that_is_no_history_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let other = folder.path().join("other.txt");
    std::fs::write(&other, "hello\n").unwrap();
    for file in [other, folder.path().join("missing.jsonl")] {
        let mut command = crossfade(["history", "check", "--json"]);
        let output = run(command.arg(golden("all_well")).arg(&file)).await;
        assert!(!output.status.success() && output.stdout.is_empty());
        let told: Value = serde_json::from_slice(&output.stderr).unwrap();
        assert_eq!(told["error"]["code"], "invalid_request");
        let name = file.file_name().unwrap().to_str().unwrap();
        assert!(
            told["error"]["message"].as_str().unwrap().contains(name),
            "{told}"
        );
    }
}
