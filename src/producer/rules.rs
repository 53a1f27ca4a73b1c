//! What follows a failed try: pure rules, one table.

use std::time::Duration;

use crate::{
    error::{Error, ErrorKind, Persisted},
    stage::WritePlan,
};

/// The shortest and the longest pause before another try.
const PAUSE: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(500));

/// A failed try and what came before it.
#[derive(Clone, Copy, Debug)]
pub struct Failure<'a> {
    /// What the try ended with.
    pub error: &'a Error,
    /// Tries so far, this one included.
    pub tries: u32,
    /// How many of them, this one included, a broker turned away by its flow control.
    pub turned_away: u32,
    /// The most tries of one send, besides those turned away.
    pub max_tries: u32,
    /// An earlier try of the same send, or this one, may have been stored.
    pub maybe_stored: bool,
    /// A seal of the other side has refused an earlier try.
    pub other_sealed: bool,
    /// The message has an ordering key.
    pub ordered: bool,
    /// The plan that routed this try.
    pub write_plan: WritePlan,
    /// A newer plan is in force than the one that routed this try.
    pub newer_plan: bool,
    /// Whether the other side may take a send that failed for certain.
    pub fail_over: bool,
}

/// What to do next.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Next {
    /// The same side again.
    SameSide {
        /// The same queue; else any.
        same_lane: bool,
        /// After this time.
        pause: Duration,
    },
    /// Route again under the newer plan.
    Reroute,
    /// Wait for a newer plan, then route again.
    AwaitPlan,
    /// The other side, because a seal refused this one.
    OtherSide,
    /// The other side, because this one failed for certain.
    FailOver {
        /// After this time.
        pause: Duration,
    },
    /// The send has failed.
    GiveUp,
}

/// Decides what follows a failed try.
///
/// - Ambiguous: the same side, the same queue first. Another side would make a second copy for certain where the first was stored; under
///   one side's roof a broker may see that it is the same.
/// - Refused by a seal: under a newer plan if one is at hand, else at once to the other side, or with an ordering key after a newer plan. This
///   holds for the retry of an ambiguous send too: its side is written to no more, so the consumers' deduplication tells the copies apart.
/// - Definite: under a newer plan if one is at hand, else in `DualWrite` the other side, never with an ordering key, and never after an
///   ambiguous try.
/// - Turned away by a broker's flow control: a definite failure that says "later". It goes on, with longer pauses, for as long as the send may
///   take, so that a broker that is busy for a second slows its senders and fails none of them.
pub fn after(failure: Failure<'_>) -> Next {
    let Failure {
        error,
        tries,
        ordered,
        ..
    } = failure;
    let turned_away = is_turned_away(error);
    if tries.saturating_sub(failure.turned_away) >= failure.max_tries && !turned_away {
        return Next::GiveUp;
    }
    if error.kind() == ErrorKind::Sealed {
        return if failure.newer_plan {
            Next::Reroute
        } else if ordered || failure.other_sealed {
            Next::AwaitPlan
        } else {
            Next::OtherSide
        };
    }
    let pause = (PAUSE.0 * 2_u32.saturating_pow(tries - 1)).min(PAUSE.1);
    if error.persisted() != Persisted::No {
        // The first retry asks the same queue, where a broker that keeps track would see the duplicate; an ordered one always does.
        return Next::SameSide {
            same_lane: ordered || tries == 1,
            pause,
        };
    }
    if !may_pass(error.kind()) {
        return Next::GiveUp;
    }
    if failure.newer_plan && !failure.maybe_stored {
        return Next::Reroute;
    }
    let both_written = matches!(failure.write_plan, WritePlan::Weighted { .. });
    if both_written && failure.fail_over && !ordered && !failure.maybe_stored {
        return Next::FailOver {
            // Once both sides have failed there is no hurry.
            pause: if tries == 1 { Duration::ZERO } else { pause },
        };
    }
    Next::SameSide {
        same_lane: ordered,
        pause,
    }
}

/// Whether a broker's flow control has turned the send away, for certain.
pub(super) fn is_turned_away(error: &Error) -> bool {
    error.kind() == ErrorKind::Throttled && error.persisted() == Persisted::No
}

/// Whether a definite failure may be over soon. A managed topic exists on both sides: where it cannot be found, its only broker is away, and a
/// RocketMQ name server forgets a topic with its last broker until that one is back.
fn may_pass(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::Timeout | ErrorKind::Unavailable | ErrorKind::Throttled | ErrorKind::NotFound
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Side, stage::Weight};

    const BOTH: WritePlan = WritePlan::Weighted {
        target: Weight::FULL,
    };
    const ONE: WritePlan = WritePlan::One(Side::Source);

    fn failure(error: &Error) -> Failure<'_> {
        Failure {
            error,
            tries: 1,
            turned_away: 0,
            max_tries: 4,
            maybe_stored: error.persisted() != Persisted::No,
            other_sealed: false,
            ordered: false,
            write_plan: ONE,
            newer_plan: false,
            fail_over: true,
        }
    }

    fn error(kind: ErrorKind, persisted: Persisted) -> Error {
        Error::new(kind, "send", "test").with_persisted(persisted)
    }

    #[test]
    fn ambiguous_send_is_retried_on_the_same_side_and_the_same_queue_first() {
        let lost = error(ErrorKind::Timeout, Persisted::Maybe);
        for write_plan in [ONE, BOTH] {
            let first = after(Failure {
                write_plan,
                ..failure(&lost)
            });
            assert!(matches!(
                first,
                Next::SameSide {
                    same_lane: true,
                    ..
                }
            ));
            let second = after(Failure {
                write_plan,
                tries: 2,
                ..failure(&lost)
            });
            assert!(matches!(
                second,
                Next::SameSide {
                    same_lane: false,
                    ..
                }
            ));
            let ordered = after(Failure {
                write_plan,
                tries: 2,
                ordered: true,
                ..failure(&lost)
            });
            assert!(matches!(
                ordered,
                Next::SameSide {
                    same_lane: true,
                    ..
                }
            ));
        }
    }

    #[test]
    fn definite_failure_goes_to_the_other_side_only_where_both_are_written_and_nothing_forbids_it()
    {
        let busy = error(ErrorKind::Throttled, Persisted::No);
        let base = Failure {
            write_plan: BOTH,
            ..failure(&busy)
        };
        let at_once = Next::FailOver {
            pause: Duration::ZERO,
        };
        assert_eq!(after(base), at_once);
        for stays in [
            Failure {
                write_plan: ONE,
                ..base
            },
            Failure {
                ordered: true,
                ..base
            },
            Failure {
                maybe_stored: true,
                ..base
            },
            Failure {
                fail_over: false,
                ..base
            },
        ] {
            assert!(matches!(after(stays), Next::SameSide { .. }), "{stays:?}");
        }
    }

    #[test]
    fn send_that_flow_control_turns_away_goes_on_and_takes_no_try_from_what_fails_otherwise() {
        let busy = error(ErrorKind::Throttled, Persisted::No);
        let lost = error(ErrorKind::Timeout, Persisted::Maybe);
        let patient = Failure {
            tries: 30,
            turned_away: 30,
            ..failure(&busy)
        };
        let same_side = Next::SameSide {
            same_lane: false,
            pause: PAUSE.1,
        };
        assert_eq!(after(patient), same_side);
        let third_of_another_kind = Failure {
            tries: 33,
            turned_away: 30,
            ..failure(&lost)
        };
        assert!(matches!(
            after(third_of_another_kind),
            Next::SameSide { .. }
        ));
        let fourth = Failure {
            tries: 34,
            ..third_of_another_kind
        };
        assert_eq!(after(fourth), Next::GiveUp);
    }

    #[test]
    fn topic_that_its_side_does_not_know_for_now_is_tried_again_or_on_the_other_side() {
        let unknown = error(ErrorKind::NotFound, Persisted::No);
        assert!(matches!(after(failure(&unknown)), Next::SameSide { .. }));
        let both = Failure {
            write_plan: BOTH,
            ..failure(&unknown)
        };
        assert!(matches!(after(both), Next::FailOver { .. }));
    }

    #[test]
    fn sealed_side_is_left_at_once_except_by_an_ordered_send_that_waits_for_the_plan() {
        let sealed = error(ErrorKind::Sealed, Persisted::No);
        assert_eq!(after(failure(&sealed)), Next::OtherSide);
        assert_eq!(
            after(Failure {
                newer_plan: true,
                ..failure(&sealed)
            }),
            Next::Reroute
        );
        assert_eq!(
            after(Failure {
                ordered: true,
                ..failure(&sealed)
            }),
            Next::AwaitPlan
        );
        let newer = Failure {
            ordered: true,
            newer_plan: true,
            ..failure(&sealed)
        };
        assert_eq!(after(newer), Next::Reroute);
        let both_sealed = Failure {
            tries: 2,
            other_sealed: true,
            ..failure(&sealed)
        };
        assert_eq!(after(both_sealed), Next::AwaitPlan);
    }

    #[test]
    fn definite_failure_under_an_older_plan_goes_where_the_newer_one_says() {
        let busy = error(ErrorKind::Unavailable, Persisted::No);
        let older = Failure {
            newer_plan: true,
            ..failure(&busy)
        };
        assert_eq!(after(older), Next::Reroute);
        let after_an_ambiguous_try = Failure {
            maybe_stored: true,
            ..older
        };
        assert!(matches!(
            after(after_an_ambiguous_try),
            Next::SameSide { .. }
        ));
    }

    #[test]
    fn hopeless_or_exhausted_send_gives_up() {
        for kind in [ErrorKind::InvalidMessage, ErrorKind::PermissionDenied] {
            assert_eq!(after(failure(&error(kind, Persisted::No))), Next::GiveUp);
        }
        let lost = error(ErrorKind::Timeout, Persisted::Maybe);
        assert_eq!(
            after(Failure {
                tries: 4,
                ..failure(&lost)
            }),
            Next::GiveUp
        );
    }
}
