//! Imports go one way: a module of `src/` may name only modules of its own layer's list, and of those above it.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// From the top; the longest matching name counts. What stands in one row may name each other.
const LAYERS: &[&[&str]] = &[
    &["side", "error", "message", "clock", "secret"],
    &["stage", "control::wire"],
    &["metrics", "backend", "control", "dedup"],
    &[
        "backend::memory",
        "backend::rocketmq",
        "backend::fault",
        "control::document",
        "control::http",
        "control::file",
        "control::fixed",
        "control::last_known",
        "control::session",
        "dedup::memory",
    ],
    &["producer", "consumer"],
    &["config", "client", "backend::registry", "docs", "lib"],
];

/// The data path names no broker and no transport, whatever its layer would allow.
const DATA_PATH: &[&str] = &["producer", "consumer"];

#[test]
fn imports_go_one_way() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    collect(&root, &mut files);
    assert!(files.len() > 20, "the sources were not found");
    let mut wrong = Vec::new();
    for file in files {
        let module = module_of(&root, &file);
        if module.ends_with("tests") || module == "fixture" {
            continue;
        }
        let text = fs::read_to_string(&file).unwrap();
        // Tests inside a file may use whatever they need.
        let code = text
            .split("#[cfg(test)]\nmod tests")
            .next()
            .unwrap_or_default();
        for import in imports(code) {
            let (own, other) = (layer(&module), layer(&import));
            let forbidden = DATA_PATH.iter().any(|path| module.starts_with(path))
                && layer_name(&import).is_some_and(|name| LAYERS[3].contains(&name));
            if other > own || forbidden {
                wrong.push(format!("{module} uses {import}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn checker_sees_nested_imports_and_wrong_ones() {
    let code = "use crate::{\n    error::{Error, Result},\n    producer::Producer,\n};\nfn f(x: crate::stage::Stage) {}";
    let found: Vec<String> = imports(code).into_iter().collect();
    assert_eq!(
        found,
        [
            "error::Error",
            "error::Result",
            "producer::Producer",
            "stage::Stage"
        ]
    );
    assert!(layer("producer::Producer") > layer("stage::weight"));
    assert!(layer("control::http::client") > layer("control::snapshot"));
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

fn module_of(root: &Path, file: &Path) -> String {
    let relative = file.strip_prefix(root).unwrap().with_extension("");
    let parts: Vec<&str> = relative.iter().map(|part| part.to_str().unwrap()).collect();
    parts.join("::").trim_end_matches("::mod").to_owned()
}

/// Every path that begins with `crate::`, with braces resolved.
fn imports(code: &str) -> Vec<String> {
    let code: String = code
        .lines()
        .map(|line| line.split("//").next().unwrap_or_default())
        .collect::<Vec<_>>()
        .join("\n");
    let mut found = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        expand(&code[at + "crate::".len()..], "", &mut found);
    }
    found
}

/// Reads one path or group; answers how much of the text it was.
fn expand(text: &str, prefix: &str, found: &mut Vec<String>) -> usize {
    let skipped = text.len() - text.trim_start().len();
    let body = &text[skipped..];
    if body.starts_with('{') {
        let mut at = 1;
        loop {
            let rest = &body[at..];
            let gap = rest.len() - rest.trim_start_matches([',', ' ', '\n']).len();
            at += gap;
            if body[at..].starts_with('}') || body[at..].is_empty() {
                return skipped + at + 1;
            }
            at += expand(&body[at..], prefix, found).max(1);
        }
    }
    let end = body
        .find(|c: char| !c.is_alphanumeric() && c != '_')
        .unwrap_or(body.len());
    let name = &body[..end];
    let path = if prefix.is_empty() {
        name.to_owned()
    } else {
        format!("{prefix}::{name}")
    };
    if let Some(rest) = body[end..].strip_prefix("::") {
        return skipped + end + 2 + expand(rest, &path, found);
    }
    if !name.is_empty() {
        found.push(path);
    }
    skipped + end
}

fn layer_name(path: &str) -> Option<&'static str> {
    let names = LAYERS.iter().flat_map(|row| row.iter().copied());
    names
        .filter(|name| path == *name || path.starts_with(&format!("{name}::")))
        .max_by_key(|name| name.len())
}

/// The crate root itself re-exports the words, so a bare name counts as the first layer.
fn layer(path: &str) -> usize {
    let Some(name) = layer_name(path) else {
        return 0;
    };
    LAYERS
        .iter()
        .position(|row| row.contains(&name))
        .unwrap_or(0)
}
