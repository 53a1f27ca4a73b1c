//! The rules of ordered topics that can be switched off, to show that each is needed and that the checker sees it.

/// One rule switched off.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[allow(
    missing_docs,
    reason = "`Entry::how` says how each of them is switched off"
)]
pub enum Mutation {
    FreezeNotKept,
    EndsReadEarly,
    AcksNotAwaited,
    ProducerAcksWithOldSend,
    FreezeNotCalledOff,
    MovesForgotten,
    ListsBelieved,
    ReleaseNotKept,
    OlderPlanHandles,
    BlindProducerSends,
    LateAnswerIsSuccess,
    AmbiguousSendRetriedElsewhere,
}

/// What there is to say about one.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// The rule.
    pub mutation: Mutation,
    /// Its stable name, on the command line and in the documentation.
    pub name: &'static str,
    /// How it is switched off.
    pub how: &'static str,
}

const fn entry(mutation: Mutation, name: &'static str, how: &'static str) -> Entry {
    Entry {
        mutation,
        name,
        how,
    }
}

/// Every mutation.
pub const ALL: [Entry; 12] = [
    entry(
        Mutation::FreezeNotKept,
        "ordered_freeze_not_kept",
        "producers send messages of frozen keys to the side that they are about to leave",
    ),
    entry(
        Mutation::EndsReadEarly,
        "ordered_barrier_before_all_acks",
        "the barrier is what the ends were when the freeze was published",
    ),
    entry(
        Mutation::AcksNotAwaited,
        "ordered_acks_not_awaited",
        "each producer is said to have applied whatever is published",
    ),
    entry(
        Mutation::ProducerAcksWithOldSend,
        "ordered_producer_acks_with_old_send_in_flight",
        "a producer acks a revision while a send under an older one has no end yet",
    ),
    entry(
        Mutation::FreezeNotCalledOff,
        "ordered_freeze_not_called_off",
        "no time passes for the control plane while keys are frozen",
    ),
    entry(
        Mutation::MovesForgotten,
        "ordered_moves_dropped_too_early",
        "looks say that every group has passed everything",
    ),
    entry(
        Mutation::ListsBelieved,
        "ordered_lists_prove_a_producer_harmless",
        "a producer that stands still is called gone because no broker lists it",
    ),
    entry(
        Mutation::ReleaseNotKept,
        "ordered_no_release",
        "consumers hand out messages of moved keys at once",
    ),
    entry(
        Mutation::OlderPlanHandles,
        "ordered_message_handled_under_an_older_plan",
        "consumers hand out messages that were routed under a newer plan than theirs",
    ),
    entry(
        Mutation::BlindProducerSends,
        "ordered_producer_sends_from_its_disk",
        "a producer that has started from the plan on disk sends before its first contact",
    ),
    entry(
        Mutation::LateAnswerIsSuccess,
        "ordered_late_answer_is_a_success",
        "in mode stop an answer that comes after the end of the lease is a success",
    ),
    entry(
        Mutation::AmbiguousSendRetriedElsewhere,
        "ordered_ambiguous_send_retried_on_the_other_side",
        "a send whose answer was lost is tried again on the other side",
    ),
];
