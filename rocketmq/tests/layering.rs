//! Imports go one way: what consumers stand on does not name them.

use std::{fs, path::Path};

#[test]
fn nothing_below_the_consumers_names_them() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut seen = 0;
    let mut folders = vec![root];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            if ["lib.rs", "consumer.rs", "consumer"].contains(&name.as_str()) {
                continue;
            }
            if path.is_dir() {
                folders.push(path);
            } else if name.ends_with(".rs") {
                seen += 1;
                let text = fs::read_to_string(&path).unwrap();
                assert!(!names_consumers(&text), "{} does", path.display());
            }
        }
    }
    assert!(seen > 50, "the sources were not found");
}

#[test]
fn checker_sees_imports_in_braces_and_paths() {
    for (code, names) in [
        (
            "use crate::{\n    client::Client,\n    consumer::reset,\n};",
            true,
        ),
        ("fn f(group: &crate::consumer::Group) {}", true),
        ("use crate::{consumer, frame};", true),
        (
            "/// See [`Consumer`](crate::Consumer) of consumers.\nuse crate::client::Client;",
            false,
        ),
        ("        request.text(\"consumer\", name)", false),
    ] {
        assert_eq!(names_consumers(code), names, "{code}");
    }
}

/// Whether `consumer` stands there as a name in a path.
fn names_consumers(code: &str) -> bool {
    code.match_indices("consumer").any(|(at, word)| {
        let before = code[..at].trim_end().chars().next_back();
        let after = code[at + word.len()..].chars().next();
        matches!(before, Some(':' | '{' | ',')) && matches!(after, Some(':' | ',' | '}' | ';'))
    })
}
