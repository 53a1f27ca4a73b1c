//! The checker's word on a run, and where the repeats came from.

use std::{fmt::Display, fs::File, io::BufReader};

use crossfade_history::{Checker, CheckerOptions, ReadError, Report as Checked};
use serde::Serialize;
use tokio::task::spawn_blocking;

use crate::{
    failure::{Result, failed},
    fleet::History,
    repeats::Repeats,
    timeline::Entry,
};

/// What is left when a run has ended.
#[derive(Clone, Debug)]
pub struct Audit {
    /// Of all lives.
    pub histories: Vec<History>,
    /// What each side still owed when everything was handled; `None`: not known.
    pub owed: [Option<u64>; 2],
    /// What instances said that ended by themselves.
    pub unasked_ends: Vec<String>,
    /// What went wrong with processes that were asked to end.
    pub unclean_ends: Vec<String>,
}

/// The word on a run.
#[derive(Clone, Debug, Serialize)]
pub struct Verdict {
    /// The history checker's report.
    pub checked: Checked,
    /// Handlers that were entered again, by cause.
    pub repeats: Repeats,
    /// As in [`Audit`].
    pub owed: [Option<u64>; 2],
    /// As in [`Audit`].
    pub unasked_ends: Vec<String>,
    /// As in [`Audit`].
    pub unclean_ends: Vec<String>,
}

impl Verdict {
    /// Reads and checks all histories.
    ///
    /// # Errors
    /// A history cannot be read.
    ///
    /// # Cancellation
    /// It goes on reading for nothing.
    pub async fn judge(audit: Audit, timeline: Vec<Entry>) -> Result<Self> {
        let judged = spawn_blocking(move || {
            Ok(Verdict {
                checked: check(&audit.histories)?,
                repeats: Repeats::find(&audit.histories, &timeline)?,
                owed: audit.owed,
                unasked_ends: audit.unasked_ends,
                unclean_ends: audit.unclean_ends,
            })
        });
        judged.await.map_err(|error| failed(error.to_string()))?
    }

    /// Sends that succeeded.
    #[must_use]
    pub fn acked(&self) -> u64 {
        self.checked.acked_handled + self.checked.acked_lost
    }

    /// What is wrong; empty when nothing is.
    #[must_use]
    pub fn faults(&self) -> Vec<String> {
        let violations = self.checked.violations().into_iter();
        let mut faults: Vec<String> = violations
            .map(|(name, count)| format!("{name}: {count}"))
            .collect();
        if self.repeats.forbidden() > 0 {
            faults.push(format!(
                "{} handlers were entered again without a cause that excuses it: {:?}",
                self.repeats.forbidden(),
                self.repeats.by_cause
            ));
        }
        if self
            .owed
            .iter()
            .any(|owed| owed.is_some_and(|owed| owed > 0))
        {
            faults.push(format!(
                "everything was handled, and yet source and target owe {:?}",
                self.owed
            ));
        }
        faults.extend(self.unclean_ends.iter().cloned());
        faults
    }
}

fn check(histories: &[History]) -> Result<Checked> {
    let mut checker = Checker::new(CheckerOptions::default());
    for history in histories {
        let told = |error: &dyn Display| failed(format!("{}: {error}", history.path.display()));
        let file = File::open(&history.path).map_err(|error| told(&error))?;
        match checker.read(BufReader::with_capacity(1 << 20, file), |_| ()) {
            // Killed before it did anything.
            Ok(()) | Err(ReadError::NoHeader) => {}
            Err(error) => return Err(told(&error)),
        }
    }
    Ok(checker.finish())
}
