//! The simulator is a test: here is what it must find, and what it must not.

use std::time::Duration;

use crossfade_simulator::{Fault, FaultSet, Mutation, Outcome, Run, Scenario, Trace, run};

/// So many seeds are enough to find any of them.
const SEEDS: u64 = 16;
const LENGTH: Duration = Duration::from_secs(30);

fn made(seed: u64, faults: FaultSet, mutation: Option<Mutation>, http: bool) -> Outcome {
    let wanted = Run {
        seed,
        scenario: Scenario::Random,
        faults,
        length: LENGTH,
        http,
        mutation,
    };
    run(wanted, Trace::Nothing)
}

/// Finds it, or fails. `faults`: those under which it shows, so that few seeds are enough.
#[allow(clippy::print_stdout, reason = "which seed found it is worth seeing")]
fn find(mutation: Mutation, faults: &[Fault], http: bool) {
    let faults: FaultSet = faults.iter().copied().collect();
    for seed in 0..SEEDS {
        let outcome = made(seed, faults, Some(mutation), http);
        if !outcome.violations.is_empty() {
            return;
        }
    }
    panic!("{mutation:?} was not found in {SEEDS} seeds");
}

macro_rules! each_is_found {
    ($($test:ident: $mutation:ident $faults:expr,)*) => {
        $(
            #[test]
            fn $test() {
                find(Mutation::$mutation, &$faults, false);
            }
        )*

        #[test]
        fn every_mutation_has_its_test() {
            assert_eq!(Mutation::ALL, [$(Mutation::$mutation),*]);
        }
    };
}

use Fault::*;

each_is_found! {
    seal_that_only_closes_is_found: SealOnlyCloses [Crash],
    access_that_lands_too_late_is_found: AccessLandsTooLate [ChangeOfMind],
    retry_that_is_not_owed_is_found: RetryNotOwed [HandlersFail],
    delayed_message_that_is_not_owed_is_found: DelayedNotOwed [DelayedMessages],
    backlog_that_is_not_owed_is_found: BacklogNotOwed [Freeze, BrokerCut],
    target_that_is_read_late_is_found: TargetStartsLate [Crash, UnmanagedWriter],
    ambiguous_send_that_is_called_definite_is_found: AmbiguousCalledDefinite [Crash],
    success_without_store_is_found: SuccessWithoutStore [Crash],
    ack_at_receive_is_found: AckAtReceive [Crash, HandlersFail],
    message_given_back_that_is_acked_is_found: GivenBackIsAcked [HandlersFail],
    dedup_that_forgets_is_found: DedupForgets [BadSends, BrokerAnswersCut],
    dedup_that_keeps_failed_claims_is_found: DedupKeepsFailed [HandlersFail],
    plan_that_is_rewritten_is_found: PlanRewritten [Crash, UnmanagedWriter],
}

#[test]
fn rewritten_plan_is_found_over_http_too() {
    find(Mutation::PlanRewritten, &[Crash, UnmanagedWriter], true);
}

#[test]
fn same_seeds_without_a_mutation_find_nothing() {
    for seed in 0..SEEDS / 2 {
        let outcome = made(seed, FaultSet::all(), None, seed % 3 == 0);
        assert_eq!(outcome.violations, Vec::<String>::new(), "seed {seed}");
    }
}
