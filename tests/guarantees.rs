//! The pages of guarantees and of live brokers name real tests and real mutations.

use std::{collections::BTreeSet, fs, path::Path};

/// Where tests are.
const FOLDERS: &[&str] = &[
    "src",
    "tests",
    "rocketmq",
    "control-plane",
    "ffi/src",
    "history",
    "model",
    "simulator",
    "chaos",
];

#[test]
fn every_test_and_mutation_that_the_guarantees_name_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let pages = ["guarantees", "rocketmq"]
        .map(|page| fs::read_to_string(root.join(format!("src/docs/{page}.md"))).unwrap());
    let named: BTreeSet<&str> = pages
        .iter()
        .flat_map(|page| page.lines())
        .filter(|line| line.starts_with('|'))
        .filter_map(|line| line.trim_end_matches([' ', '|']).rsplit('|').next())
        .flat_map(|cell| cell.split('`').skip(1).step_by(2))
        .collect();
    assert!(named.len() > 40, "the tables were not found");
    let mut code = String::new();
    for folder in FOLDERS {
        collect(&root.join(folder), &mut code);
    }
    let missing: Vec<&str> = named
        .into_iter()
        .filter(|name| {
            let as_test = code.contains(&format!("fn {name}("));
            // A mutation is known by its name on the command line.
            !as_test && !code.contains(&format!("\"{name}\""))
        })
        .collect();
    assert!(missing.is_empty(), "named and not there: {missing:?}");
}

fn collect(folder: &Path, code: &mut String) {
    let Ok(entries) = fs::read_dir(folder) else {
        return;
    };
    for entry in entries {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, code);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            code.push_str(&fs::read_to_string(&path).unwrap());
        }
    }
}
