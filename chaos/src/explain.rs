//! Where a doubled handler entry came from, as far as the timeline of what was done can tell.
//!
//! Each process has a deduplication store of its own, so a message that another process had entered before may be entered again when a queue
//! changes hands. Within one process it may not.

use std::collections::BTreeMap;

use crossfade_history::Side;
use serde::Serialize;

use crate::{
    schedule::{Job, Who},
    timeline::{Entry, Happening},
};

/// After a broker or a member of the group came or went, its queues change hands for so long (clients look every 20 s, and whenever they are told).
const SETTLING_US: u64 = 30_000_000;
/// A send that took so long was tried more than once: one try may take 3 s.
const ONE_TRY_US: u64 = 3_000_000;

/// What made a handler be entered again.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// The process that had entered it first was killed before the second entry: nothing it had handled since its last commit is known to others.
    ProcessKilled,
    /// One of the two processes stood still in between, with the message in its hands.
    ProcessFrozen,
    /// The broker that held it was killed in between: what was committed since its last write of the offsets is forgotten.
    BrokerKilled,
    /// The send was ambiguous and tried again: the message is there twice.
    SentTwice,
    /// Another consumer of the group came or went: the queue changed hands between handling and commit.
    QueueMoved,
    /// One process has entered it twice, and the first entry did not fail: its own store should have known.
    SameProcess,
    /// Nothing that was done accounts for it.
    Unexplained,
}

impl Cause {
    /// Whether the promises allow it for processes with stores of their own.
    #[must_use]
    pub fn is_allowed(self) -> bool {
        !matches!(self, Cause::SameProcess | Cause::Unexplained)
    }
}

/// One entry of a handler.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
pub struct Entered {
    /// By which instance.
    pub who: Who,
    /// In which of its lives.
    pub life: u32,
    /// When.
    pub at_us: u64,
    /// From which side.
    pub side: Side,
}

/// Explains the second of two entries of one message in one group. `send_us`: how long the send took, where it ended.
#[must_use]
pub fn explain(
    first: &Entered,
    second: &Entered,
    send_us: Option<u64>,
    timeline: &[Entry],
) -> Cause {
    if (first.who, first.life) == (second.who, second.life) {
        return Cause::SameProcess;
    }
    let between = |entry: &&Entry| (first.at_us..=second.at_us).contains(&entry.at_us);
    let happened = |wanted: &dyn Fn(Happening) -> bool| {
        timeline
            .iter()
            .filter(between)
            .any(|entry| wanted(entry.happening))
    };
    let who = first.who;
    if happened(
        &|what| matches!(what, Happening::Killed { who: victim } | Happening::Ended { who: victim } if victim == who),
    ) {
        return Cause::ProcessKilled;
    }
    // The second may have held it, fetched, while it stood still.
    let mut spans = [who, second.who]
        .into_iter()
        .flat_map(|who| frozen(timeline, who));
    if spans.any(|(from, to)| from <= second.at_us && to >= first.at_us) {
        return Cause::ProcessFrozen;
    }
    if happened(&|what| matches!(what, Happening::BrokerKilled { side } if same(side, first.side)))
    {
        return Cause::BrokerKilled;
    }
    if first.side != second.side || send_us.is_some_and(|took| took >= ONE_TRY_US) {
        return Cause::SentTwice;
    }
    let lately = first.at_us.saturating_sub(SETTLING_US)..=second.at_us;
    let moved = timeline.iter().any(|entry| {
        lately.contains(&entry.at_us)
            && match entry.happening {
                Happening::Killed { who }
                | Happening::Started { who }
                | Happening::Ended { who }
                | Happening::WentOn { who } => who.job == Job::Consumer,
                Happening::BrokerKilled { .. } | Happening::BrokerAnswers { .. } => true,
                _ => false,
            }
    });
    if moved {
        Cause::QueueMoved
    } else {
        Cause::Unexplained
    }
}

fn same(side: crossfade::Side, other: Side) -> bool {
    (side == crossfade::Side::Source) == (other == Side::Source)
}

/// When an instance stood still.
fn frozen(timeline: &[Entry], wanted: Who) -> Vec<(u64, u64)> {
    let mut spans = Vec::new();
    let mut since = BTreeMap::new();
    for entry in timeline {
        match entry.happening {
            Happening::Stopped { who } if who == wanted => {
                since.insert(who, entry.at_us);
            }
            Happening::WentOn { who } if who == wanted => {
                spans.extend(since.remove(&who).map(|from| (from, entry.at_us)));
            }
            _ => {}
        }
    }
    spans.extend(since.into_values().map(|from| (from, u64::MAX)));
    spans
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: Who = Who {
        job: Job::Consumer,
        index: 0,
    };
    const SECOND: Who = Who {
        job: Job::Consumer,
        index: 1,
    };
    const S: u64 = 1_000_000;

    fn entered(who: Who, at_us: u64) -> Entered {
        Entered {
            who,
            life: 1,
            at_us,
            side: Side::Source,
        }
    }

    fn cause(between: &[(u64, Happening)]) -> Cause {
        let timeline: Vec<Entry> = between
            .iter()
            .map(|(at_us, happening)| Entry {
                at_us: *at_us,
                happening: *happening,
            })
            .collect();
        explain(
            &entered(FIRST, 100 * S),
            &entered(SECOND, 110 * S),
            Some(1_000),
            &timeline,
        )
    }

    #[test]
    fn entry_after_the_first_process_was_killed_comes_from_the_kill() {
        assert_eq!(
            cause(&[(105 * S, Happening::Killed { who: FIRST })]),
            Cause::ProcessKilled
        );
        assert_eq!(
            cause(&[(99 * S, Happening::Killed { who: FIRST })]),
            Cause::QueueMoved,
            "before the entry: a new life's first queues"
        );
        assert_eq!(
            cause(&[(105 * S, Happening::Killed { who: SECOND })]),
            Cause::QueueMoved
        );
    }

    #[test]
    fn entry_while_the_first_process_stands_still_comes_from_the_freeze() {
        let stopped = (90 * S, Happening::Stopped { who: FIRST });
        assert_eq!(
            cause(&[stopped, (120 * S, Happening::WentOn { who: FIRST })]),
            Cause::ProcessFrozen
        );
        assert_eq!(cause(&[stopped]), Cause::ProcessFrozen);
        assert_eq!(
            cause(&[
                (90 * S, Happening::Stopped { who: SECOND }),
                (109 * S, Happening::WentOn { who: SECOND })
            ]),
            Cause::ProcessFrozen
        );
        assert_eq!(
            cause(&[
                (10 * S, Happening::Stopped { who: FIRST }),
                (40 * S, Happening::WentOn { who: FIRST })
            ]),
            Cause::Unexplained
        );
    }

    #[test]
    fn entry_after_the_broker_of_its_side_was_killed_comes_from_that() {
        assert_eq!(
            cause(&[(
                105 * S,
                Happening::BrokerKilled {
                    side: crossfade::Side::Source
                }
            )]),
            Cause::BrokerKilled
        );
    }

    #[test]
    fn nothing_done_explains_nothing_and_the_same_process_is_never_excused() {
        assert_eq!(cause(&[]), Cause::Unexplained);
        assert_eq!(
            cause(&[(20 * S, Happening::Started { who: SECOND })]),
            Cause::Unexplained
        );
        let timeline = [Entry {
            at_us: 105 * S,
            happening: Happening::BrokerKilled {
                side: crossfade::Side::Source,
            },
        }];
        let twice = explain(
            &entered(FIRST, 100 * S),
            &entered(FIRST, 110 * S),
            None,
            &timeline,
        );
        assert_eq!(twice, Cause::SameProcess);
        assert!(
            !twice.is_allowed()
                && !Cause::Unexplained.is_allowed()
                && Cause::QueueMoved.is_allowed()
        );
    }

    #[test]
    fn slow_send_or_two_sides_are_two_copies() {
        let first = entered(FIRST, 100 * S);
        let other_side = Entered {
            side: Side::Target,
            ..entered(SECOND, 110 * S)
        };
        assert_eq!(explain(&first, &other_side, None, &[]), Cause::SentTwice);
        assert_eq!(
            explain(&first, &entered(SECOND, 110 * S), Some(4 * S), &[]),
            Cause::SentTwice
        );
    }
}
