//! Histories that the checker must accept or reject: `golden/NAME.jsonl` beside `golden/NAME.json`, which says what must be found. Counts that are
//! not named there must be 0.

use std::{collections::BTreeMap, fs, path::Path};

use crossfade_history::{Checker, CheckerOptions};
use serde_json::{Map, Value, json};

#[test]
fn golden_histories_are_judged_as_written_beside_them() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let mut names: Vec<String> = fs::read_dir(&folder)
        .unwrap()
        .filter_map(|entry| {
            let name = entry.unwrap().file_name().into_string().unwrap();
            name.strip_suffix(".jsonl").map(str::to_owned)
        })
        .collect();
    names.sort();
    let mut wrong = Vec::new();
    let mut verdicts: BTreeMap<String, u32> = BTreeMap::new();
    for name in &names {
        let history = fs::read(folder.join(format!("{name}.jsonl"))).unwrap();
        let expected = fs::read(folder.join(format!("{name}.json"))).unwrap();
        let mut expected: Map<String, Value> = serde_json::from_slice(&expected).unwrap();
        expected.remove("about").expect("a word about it");
        let found = judge(&history, expected.contains_key("groups"));
        *verdicts
            .entry(found["verdict"].as_str().unwrap().to_owned())
            .or_default() += 1;
        if found != expected {
            let [found, expected] = [found, expected].map(|it| format!("{:#}", json!(it)));
            wrong.push(format!("{name}: found {found}\nexpected {expected}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(
        verdicts["accept"] >= 25 && verdicts["reject"] >= 25,
        "the golden set is not complete: {verdicts:?}"
    );
}

/// The report without zeros, and examples as ids.
fn judge(history: &[u8], groups: bool) -> Map<String, Value> {
    let mut checker = Checker::new(CheckerOptions::default());
    checker.read(history, |_| {}).unwrap();
    let report = checker.finish();
    let Value::Object(mut found) = json!(report) else {
        panic!("no object");
    };
    if !groups {
        found.remove("groups");
    }
    for examples in found["examples"].as_object_mut().unwrap().values_mut() {
        for example in examples.as_array_mut().unwrap() {
            assert!(!example["what"].as_str().unwrap().is_empty());
            *example = example["id"].clone();
        }
    }
    let verdict = if report.passed() { "accept" } else { "reject" };
    found.insert("verdict".into(), json!(verdict));
    without_zeros(json!(found))
        .unwrap()
        .as_object()
        .unwrap()
        .clone()
}

fn without_zeros(value: Value) -> Option<Value> {
    match value {
        Value::Number(number) if number.as_u64() == Some(0) => None,
        Value::Object(fields) => {
            let fields: Map<String, Value> = fields
                .into_iter()
                .filter_map(|(name, value)| Some((name, without_zeros(value)?)))
                .collect();
            (!fields.is_empty()).then_some(Value::Object(fields))
        }
        Value::Array(items) => Some(items.into_iter().filter_map(without_zeros).collect()),
        other => Some(other),
    }
}
