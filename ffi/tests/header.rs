//! `include/crossfade.h` is what cbindgen makes of the sources, and compilers take it.

#![allow(
    clippy::print_stdout,
    reason = "scripts/test collects the lines that begin with `skipped`"
)]

use std::{fs, path::Path, process::Command};

/// The order of the header.
const SOURCES: [&str; 7] = [
    "version", "bytes", "error", "config", "client", "producer", "consumer",
];

#[test]
fn header_is_what_the_sources_say() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let config = cbindgen::Config::from_file(root.join("cbindgen.toml")).expect("cbindgen.toml");
    let mut builder = cbindgen::Builder::new()
        .with_config(config)
        .with_src(root.join("src/runtime.rs"));
    for source in SOURCES {
        builder = builder.with_src(root.join(format!("src/{source}.rs")));
    }
    let mut made = Vec::new();
    builder.generate().expect("a header").write(&mut made);
    let path = root.join("include/crossfade.h");
    if std::env::var_os("CROSSFADE_UPDATE_HEADER").is_some() {
        fs::write(&path, &made).expect("write the header");
    }
    let committed = fs::read(&path).unwrap_or_default();
    assert!(
        committed == made,
        "include/crossfade.h is not what the sources say: run CROSSFADE_UPDATE_HEADER=1 cargo test -p crossfade-ffi --test header"
    );
}

#[test]
fn compilers_take_the_header_alone() {
    let header = Path::new(env!("CARGO_MANIFEST_DIR")).join("include/crossfade.h");
    for (compiler, language) in [
        ("cc", ["-xc", "-std=c11"]),
        ("c++", ["-xc++", "-std=c++11"]),
    ] {
        let status = Command::new(compiler)
            .args(language)
            .args(["-Wall", "-Wextra", "-Wpedantic", "-Werror", "-fsyntax-only"])
            .arg(&header)
            .status();
        match status {
            Ok(status) => assert!(status.success(), "{compiler}"),
            Err(error) => {
                assert!(
                    std::env::var_os("CROSSFADE_TEST_NO_SKIP").is_none_or(|value| value != "1"),
                    "{compiler}: {error}"
                );
                println!("skipped: the C header with {compiler}: {error}");
            }
        }
    }
}
