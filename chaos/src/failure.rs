//! What kept a run from its end.

use std::fmt;

/// A sentence: what, where, why.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Failure(String);

/// The result of a step of a run.
pub type Result<T> = std::result::Result<T, Failure>;

/// A failure from its sentence.
pub fn failed(what: impl Into<String>) -> Failure {
    Failure(what.into())
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Failure {}
