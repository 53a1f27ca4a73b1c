//! The `crossfade-chaos` program. Started under the name `crossfade`, it is that program: what it kills is what people run, built from the same
//! sources.

use std::{path::Path, process::ExitCode};

fn main() -> ExitCode {
    let name = std::env::args_os().next();
    if name.as_deref().map(Path::new).and_then(Path::file_name) == Some("crossfade".as_ref()) {
        return crossfade_control_plane::cli::run();
    }
    run()
}

#[cfg(target_os = "linux")]
fn run() -> ExitCode {
    crossfade_chaos::cli::run()
}

#[cfg(not(target_os = "linux"))]
fn run() -> ExitCode {
    eprintln!("crossfade-chaos: it needs Linux");
    ExitCode::FAILURE
}
