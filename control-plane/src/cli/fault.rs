//! Errors of the program: what, where, and what to do.

use std::process::ExitCode;

use serde_json::json;

use super::progress;
use crate::OperatorError;

/// Why a command did not do what it says.
pub(super) type Fault = OperatorError;

/// Something that went wrong in this process.
pub(super) fn failed(message: impl Into<String>) -> Fault {
    Fault::new("failed", message)
}

/// Words on the command line that cannot be used.
pub(super) fn misused(message: impl Into<String>) -> Fault {
    Fault::new("invalid_request", message)
}

/// On standard error, as text or as one JSON object.
pub(super) fn tell(fault: &Fault, json: bool) -> ExitCode {
    if json {
        progress(json!({"error": fault.problem()}));
        return status(fault);
    }
    let hint = match fault.code() {
        "unauthorized" => ": give --token or CROSSFADE_TOKEN",
        "unreachable" => " Another one is named with --control or CROSSFADE_CONTROL.",
        _ => "",
    };
    progress(format_args!("error: {fault}{hint}"));
    for gate in fault.gates() {
        if gate["passed"] == json!(false) && gate["note"] != json!(true) {
            let text = |field: &str| gate[field].as_str().unwrap_or_default().to_owned();
            progress(format_args!("  {}: {}", text("code"), text("message")));
        }
    }
    status(fault)
}

/// 130 and 143, as shells have it, where a signal has ended the waiting.
fn status(fault: &Fault) -> ExitCode {
    match fault.code() {
        "interrupted" => ExitCode::from(130),
        "terminated" => ExitCode::from(143),
        _ => ExitCode::FAILURE,
    }
}
