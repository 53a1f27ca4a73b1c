//! What a check found.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The verdict on a run. Each message (id) that was sent or handled has exactly one of the seven outcomes; the counts after them are of
/// entries into handlers. The crate's documentation defines each.
#[non_exhaustive]
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default)]
pub struct Report {
    /// Different ids.
    pub messages: u64,
    /// Events that were read.
    pub events: u64,
    /// Process lives.
    pub processes: u64,
    /// Process lives that did not end in good order, or had not ended yet.
    pub unfinished_processes: u64,
    /// Outcome: the send returned success, and every group handled it.
    pub acked_handled: u64,
    /// Outcome: the send returned success, and a group did not handle it. A violation.
    pub acked_lost: u64,
    /// Outcome: it is not known whether the send succeeded; a handler was entered.
    pub ambiguous_handled: u64,
    /// Outcome: it is not known whether the send succeeded; no handler was entered.
    pub ambiguous_absent: u64,
    /// Outcome: the send failed for certain; no handler was entered.
    pub failed_absent: u64,
    /// Outcome: the send failed for certain, and yet a handler was entered. A violation.
    pub failed_handled: u64,
    /// Outcome: a handler was entered, and nobody had sent it. A violation.
    pub never_sent: u64,
    /// Entries of what was handled or being handled within the scope of the deduplication. A violation.
    pub duplicated: u64,
    /// Where those came from.
    pub duplicated_by: Repeats,
    /// The same across processes that do not share a deduplication store: allowed, but worth a look.
    pub repeated: u64,
    /// Where those came from.
    pub repeated_by: Repeats,
    /// Entries of what a process that is gone had in hand: allowed.
    pub redelivered_after_crash: u64,
    /// Entries after a handler failed: allowed.
    pub retried: u64,
    /// Messages that were entered before one that precedes them under the same ordering key was handled. A violation.
    pub inverted: u64,
    /// Messages without a known success that some groups entered and others did not: one that was stored is owed to all. A violation.
    pub ambiguous_partly: u64,
    /// Events that do not fit to what the stream said before: an end of what was not begun, an event after the end. A violation, because
    /// such a history proves nothing.
    pub unexpected: u64,
    /// Lines cut off by the death of the process that wrote them: harmless.
    pub torn_lines: u64,
    /// Lines that are not of a history. What they hide is not known.
    pub foreign_lines: u64,
    /// How many clocks the streams used. With more than one, times of different clocks were compared by the wall clocks.
    pub clocks: u64,
    /// The same by group.
    pub groups: Vec<GroupReport>,
    /// The first few ids of each count that is worth a look, by the count's name.
    pub examples: BTreeMap<String, Vec<Example>>,
}

/// Why a handler was entered again.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default)]
pub struct Repeats {
    /// The same process had handled it.
    pub same_process_after_done: u64,
    /// The same process was handling it.
    pub same_process_meanwhile: u64,
    /// Another process, which lived on, had handled it.
    pub other_process_after_done: u64,
    /// Another process, which lived on, was handling it.
    pub other_process_meanwhile: u64,
    /// Another process had handled it and was gone by then.
    pub other_process_gone: u64,
}

/// What one group did with one topic.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default)]
pub struct GroupReport {
    /// The topic.
    pub topic: String,
    /// The group.
    pub group: String,
    /// Messages that it handled.
    pub handled: u64,
    /// Messages whose send returned success and that it did not handle.
    pub acked_lost: u64,
    /// As in [`Report`].
    pub duplicated: u64,
    /// As in [`Report`].
    pub repeated: u64,
    /// As in [`Report`].
    pub redelivered_after_crash: u64,
    /// As in [`Report`].
    pub retried: u64,
    /// As in [`Report`].
    pub inverted: u64,
}

/// One message of a count.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Example {
    /// Its id.
    pub id: String,
    /// What happened, for people.
    pub what: String,
}

impl Report {
    /// The counts that must be 0, and are not.
    #[must_use]
    pub fn violations(&self) -> Vec<(&'static str, u64)> {
        [
            ("acked_lost", self.acked_lost),
            ("ambiguous_partly", self.ambiguous_partly),
            ("duplicated", self.duplicated),
            ("inverted", self.inverted),
            ("never_sent", self.never_sent),
            ("failed_handled", self.failed_handled),
            ("unexpected", self.unexpected),
        ]
        .into_iter()
        .filter(|(_, count)| *count > 0)
        .collect()
    }

    /// Whether no promise was broken.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.violations().is_empty()
    }
}
