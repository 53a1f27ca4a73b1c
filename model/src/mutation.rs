//! Rules switched off, one at a time. The code under exploration has no switches: the world lies to the coordinator, carries out its work wrongly, or lets
//! an instance do what the SDK does not.

/// One rule switched off.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[allow(
    missing_docs,
    reason = "`Entry::how` says how each of them is switched off"
)]
pub enum Mutation {
    AcksNotAwaited,
    ProducerAcksWithOldSend,
    ConsumerAcksUnsubscribed,
    SealOnlyCloses,
    UnsealOnlyReported,
    OneLookUnderTheSeal,
    DispatchNotAwaited,
    DispatchAwaitedOnce,
    RetryLeftOut,
    DelayedLeftOut,
    HandlersLeftOut,
    HalfLeftOut,
    SilenceTakenForEmpty,
    LostInstanceUnlisted,
    StopLeaseNotKept,
    NoReverseDrain,
    FirstOffsetLatest,
    AmbiguousSendRetriedElsewhere,
    RefusedSendWaitsForAPlan,
    BlindConsumerReadsItsPlan,
    SealedSideNotSubscribable,
    TwoStagesAwayRefused,
    MembershipNotStored,
    ChangeUnderWayTakenForDone,
    ChangeUnderWayNotStored,
    MemoryKeptOverRestart,
    SealedAgainUnproved,
    NoWatchOverTheSeal,
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
pub const ALL: [Entry; 28] = [
    entry(
        Mutation::AcksNotAwaited,
        "acks_not_awaited",
        "each producer is said to have applied whatever is published",
    ),
    entry(
        Mutation::ProducerAcksWithOldSend,
        "producer_acks_with_old_send_in_flight",
        "a producer acks a revision while a send under an older one has no end yet",
    ),
    entry(
        Mutation::ConsumerAcksUnsubscribed,
        "consumer_acks_before_it_is_subscribed",
        "a consumer acks a revision, and names queues, before it is subscribed to what the plan reads",
    ),
    entry(
        Mutation::SealOnlyCloses,
        "seal_reported_and_not_made",
        "a seal is reported and shown by looks, and the brokers go on taking sends",
    ),
    entry(
        Mutation::UnsealOnlyReported,
        "unseal_after_the_publication",
        "an unseal is reported and shown by looks, and is made at some later time",
    ),
    entry(
        Mutation::OneLookUnderTheSeal,
        "one_look_under_the_seal",
        "the second look under the seal is a copy of the first",
    ),
    entry(
        Mutation::DispatchNotAwaited,
        "dispatch_not_awaited",
        "a look begins while the broker has not dispatched all that it has taken",
    ),
    entry(
        Mutation::DispatchAwaitedOnce,
        "dispatch_awaited_before_the_first_look_only",
        "only the first look under the seal waits for the broker's dispatch",
    ),
    entry(
        Mutation::RetryLeftOut,
        "retry_left_out_of_the_proof",
        "looks say that the groups' retry topics are empty",
    ),
    entry(
        Mutation::DelayedLeftOut,
        "delayed_left_out_of_the_proof",
        "looks say that no message is delayed",
    ),
    entry(
        Mutation::HandlersLeftOut,
        "handlers_left_out_of_the_proof",
        "looks count a message as passed once it is in a handler",
    ),
    entry(
        Mutation::HalfLeftOut,
        "half_left_out_of_the_proof",
        "looks say that there are no half messages",
    ),
    entry(
        Mutation::SilenceTakenForEmpty,
        "silence_taken_for_empty",
        "a side that does not answer is said to owe nothing",
    ),
    entry(
        Mutation::LostInstanceUnlisted,
        "lost_instance_called_harmless",
        "the brokers' lists leave out an instance that is cut off and runs",
    ),
    entry(
        Mutation::StopLeaseNotKept,
        "stop_lease_not_kept",
        "an instance in mode stop goes on after its lease",
    ),
    entry(
        Mutation::NoReverseDrain,
        "no_reverse_drain",
        "looks say that the target owes nothing",
    ),
    entry(
        Mutation::FirstOffsetLatest,
        "first_offset_at_the_latest",
        "the groups' first offsets on the target are committed at its end",
    ),
    entry(
        Mutation::AmbiguousSendRetriedElsewhere,
        "ambiguous_send_retried_on_the_other_side",
        "a send whose answer was lost is tried again on the other side",
    ),
    entry(
        Mutation::RefusedSendWaitsForAPlan,
        "refused_send_waits_for_a_plan",
        "a send that a seal refuses waits for a newer plan",
    ),
    entry(
        Mutation::BlindConsumerReadsItsPlan,
        "blind_consumer_reads_its_plan_only",
        "a consumer without contact reads what its last plan says",
    ),
    entry(
        Mutation::SealedSideNotSubscribable,
        "sealed_side_not_subscribable",
        "a consumer cannot subscribe to a side that is sealed",
    ),
    entry(
        Mutation::TwoStagesAwayRefused,
        "plan_two_stages_away_refused_after_a_gap",
        "an instance refuses each plan that is two stages away from its own",
    ),
    entry(
        Mutation::MembershipNotStored,
        "membership_not_stored",
        "registrations are answered and not stored",
    ),
    entry(
        Mutation::ChangeUnderWayTakenForDone,
        "change_under_way_taken_for_done",
        "a change of access whose answer is lost is reported as made",
    ),
    entry(
        Mutation::ChangeUnderWayNotStored,
        "change_under_way_not_stored",
        "the store forgets that a change of access was sent",
    ),
    entry(
        Mutation::MemoryKeptOverRestart,
        "memory_kept_over_a_restart",
        "a control plane goes on after a crash with the acks, the proof and the work that it had in mind",
    ),
    entry(
        Mutation::SealedAgainUnproved,
        "sealed_again_without_a_proof",
        "looks at an end stage that is not proved say that its unread side owes nothing",
    ),
    entry(
        Mutation::NoWatchOverTheSeal,
        "no_watch_over_the_seal",
        "looks at an end stage that was proved say that its unread side owes nothing",
    ),
];

impl Mutation {
    /// What there is to say about it.
    #[must_use]
    pub fn entry(self) -> &'static Entry {
        // Each is in the table once; a test holds that.
        ALL.iter()
            .find(|entry| entry.mutation == self)
            .unwrap_or(&ALL[0])
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn each_mutation_has_one_entry_and_one_name() {
        let names: BTreeSet<&str> = ALL.iter().map(|entry| entry.name).collect();
        assert_eq!(names.len(), ALL.len());
        for (place, entry) in ALL.iter().enumerate() {
            assert_eq!(entry.mutation as usize, place);
            assert_eq!(entry.mutation.entry().name, entry.name);
        }
    }
}
