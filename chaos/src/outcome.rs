//! How a run ends.

/// What a run says at its end.
pub(crate) trait Outcome {
    /// One JSON object.
    fn json(&self) -> String;
    /// For people.
    fn text(&self) -> String;
    /// Why it is no success; empty when it is one.
    fn faults(&self) -> Vec<String>;
}
