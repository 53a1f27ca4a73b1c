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
        for (side, owed) in ["source", "target"].into_iter().zip(self.owed) {
            match owed {
                Some(0) => {}
                Some(owed) => faults.push(format!(
                    "everything was handled, and yet the {side} owes {owed} messages"
                )),
                None => faults.push(format!("what the {side} owes at the end is not known")),
            }
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
            Ok(()) => {}
            Err(error @ (ReadError::NoHeader | ReadError::Empty)) => {
                // Killed before it did anything: its first line, the header, is not whole.
                let bytes = std::fs::read(&history.path).map_err(|error| told(&error))?;
                if bytes.contains(&b'\n') {
                    return Err(told(&error));
                }
            }
            Err(error) => return Err(told(&error)),
        }
    }
    Ok(checker.finish())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::{Job, Who};

    fn verdict(owed: [Option<u64>; 2]) -> Verdict {
        Verdict {
            checked: Checked::default(),
            repeats: Repeats::default(),
            owed,
            unasked_ends: Vec::new(),
            unclean_ends: Vec::new(),
        }
    }

    #[test]
    fn what_is_owed_or_not_known_at_the_end_is_a_fault() {
        assert!(verdict([Some(0); 2]).faults().is_empty());
        for owed in [[None, Some(0)], [Some(0), None], [Some(1), Some(0)]] {
            assert_eq!(verdict(owed).faults().len(), 1, "{owed:?}");
        }
        assert_eq!(verdict([None, Some(2)]).faults().len(), 2);
    }

    #[test]
    fn history_without_a_header_passes_only_where_nothing_was_done() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("history.jsonl");
        let checks = |text: &str| {
            std::fs::write(&path, text).unwrap();
            let history = History {
                who: Who {
                    job: Job::Producer,
                    index: 0,
                },
                life: 1,
                path: path.clone(),
            };
            check(&[history]).is_ok()
        };
        assert!(checks(""));
        assert!(checks(r#"{"format":"cross"#));
        let call = r#"{"at_us":1,"event":"call","id":"p-1-0"}"#;
        assert!(!checks(&format!("{call}\n")));
    }
}
