//! What became of the sends of one process life.

use std::collections::{BTreeMap, HashMap};

use crossfade_history::{Side, What};
use serde::Serialize;

use crate::{failure::Result, fleet::History, repeats::each, schedule::Job};

/// Errors of different words in a report.
const ERRORS: usize = 10;

/// One send.
#[derive(Clone, Debug)]
pub struct Sending {
    /// When it was called.
    pub called_us: u64,
    /// When and how it ended, if it did.
    pub end: Option<(u64, End)>,
    /// The side that its message was first handled from.
    pub handled: Option<Side>,
}

/// The end of a send.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum End {
    /// Success: the side, and the revision of the plan that routed it.
    Acked(Side, u64),
    /// Perhaps stored: the error.
    Ambiguous(String),
    /// Not stored: the error.
    Failed(String),
}

/// Some sends in figures.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize)]
pub struct Fates {
    /// How many.
    pub sends: u64,
    /// They succeeded, on source and target.
    pub acked: [u64; 2],
    /// Perhaps stored.
    pub ambiguous: u64,
    /// Refused: not stored.
    pub refused: u64,
    /// Without an end on record.
    pub open: u64,
    /// Messages that were handled, from source and target.
    pub handled: [u64; 2],
    /// Of those that did not succeed, how many were handled.
    pub handled_without_success: u64,
    /// The errors, each with its count.
    pub errors: BTreeMap<String, u64>,
    /// The longest one, in milliseconds; one that began before the waking counts from there.
    pub longest_ms: u64,
    /// Successes by revision of the plan, each on source and target.
    pub by_revision: BTreeMap<u64, [u64; 2]>,
}

/// The sends of one life, by id, with what the consumers did.
///
/// # Errors
/// A history cannot be read.
pub fn sendings(life: &History, histories: &[History]) -> Result<HashMap<String, Sending>> {
    let mut sendings: HashMap<String, Sending> = HashMap::new();
    each(life, |event, _| {
        let end = match event.what {
            What::Call { id, .. } => {
                let begun = Sending {
                    called_us: event.at_us,
                    end: None,
                    handled: None,
                };
                sendings.insert(id.into_owned(), begun);
                return true;
            }
            What::Acked { id, side, revision } => (id, End::Acked(side, revision)),
            What::Ambiguous { id, error } => (id, End::Ambiguous(error.into_owned())),
            What::Failed { id, error } => (id, End::Failed(error.into_owned())),
            _ => return true,
        };
        if let Some(sending) = sendings.get_mut(&*end.0) {
            sending.end = Some((event.at_us, end.1));
        }
        true
    })?;
    for history in histories
        .iter()
        .filter(|history| history.who.job == Job::Consumer)
    {
        let mut entered = HashMap::new();
        each(history, |event, _| {
            match event.what {
                What::Enter { id, side, .. } if sendings.contains_key(&*id) => {
                    entered.insert(id.into_owned(), side);
                }
                What::Done { id } => {
                    if let Some(sending) = sendings.get_mut(&*id) {
                        sending.handled = sending.handled.or(entered.get(&*id).copied());
                    }
                }
                _ => {}
            }
            true
        })?;
    }
    Ok(sendings)
}

impl Fates {
    /// Of these sends.
    #[must_use]
    pub fn of<'a>(sendings: impl Iterator<Item = &'a Sending>, woken_us: u64) -> Self {
        let mut fates = Fates::default();
        for sending in sendings {
            fates.add(sending, woken_us);
        }
        fates
    }

    fn add(&mut self, sending: &Sending, woken_us: u64) {
        self.sends += 1;
        if let Some(side) = sending.handled {
            self.handled[index(side)] += 1;
            let acked = matches!(sending.end, Some((_, End::Acked(..))));
            self.handled_without_success += u64::from(!acked);
        }
        let Some((ended_us, end)) = &sending.end else {
            self.open += 1;
            return;
        };
        let took = ended_us.saturating_sub(sending.called_us.max(woken_us));
        self.longest_ms = self.longest_ms.max(took / 1_000);
        match end {
            End::Acked(side, revision) => {
                self.acked[index(*side)] += 1;
                self.by_revision.entry(*revision).or_default()[index(*side)] += 1;
            }
            End::Ambiguous(error) => {
                self.ambiguous += 1;
                self.error(error);
            }
            End::Failed(error) => {
                self.refused += 1;
                self.error(error);
            }
        }
    }

    fn error(&mut self, error: &str) {
        // Numbers differ from send to send; the words tell.
        let words: String = error
            .chars()
            .filter(|letter| !letter.is_ascii_digit())
            .collect();
        if self.errors.len() < ERRORS || self.errors.contains_key(&words) {
            *self.errors.entry(words).or_default() += 1;
        }
    }
}

fn index(side: Side) -> usize {
    usize::from(side == Side::Target)
}
