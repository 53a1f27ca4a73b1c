//! The `crossfade` program.

use std::process::ExitCode;

fn main() -> ExitCode {
    crossfade_control_plane::cli::run()
}
