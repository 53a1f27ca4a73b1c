//! The simulator is a test: here is what it must find, and what it must not.

use std::time::Duration;

use crossfade_simulator::{Mutation, Outcome, Run, Scenario, run};

/// So many seeds are enough to find any of them.
const SEEDS: u64 = 12;
const LENGTH: Duration = Duration::from_secs(30);

fn made(seed: u64, mutation: Option<Mutation>, http: bool) -> Outcome {
    let wanted = Run {
        seed,
        scenario: Scenario::Random,
        length: LENGTH,
        http,
        mutation,
    };
    run(wanted, false)
}

/// The seed that found it, and what it saw.
fn found(mutation: Mutation, http: bool) -> (u64, String) {
    for seed in 0..SEEDS {
        let outcome = made(seed, Some(mutation), http);
        if let Some(what) = outcome.violations.first() {
            return (seed, what.clone());
        }
    }
    panic!("{mutation:?} was not found in {SEEDS} seeds");
}

fn is_found(mutation: Mutation) {
    let (seed, what) = found(mutation, false);
    println!("{}: seed {seed}: {what}", mutation.name());
}

macro_rules! each_is_found {
    ($($test:ident: $mutation:ident,)*) => {
        $(
            #[test]
            fn $test() {
                is_found(Mutation::$mutation);
            }
        )*

        #[test]
        fn every_mutation_has_its_test() {
            assert_eq!(Mutation::ALL, [$(Mutation::$mutation),*]);
        }
    };
}

each_is_found! {
    seal_that_only_closes_is_found: SealOnlyCloses,
    access_that_lands_too_late_is_found: AccessLandsTooLate,
    retry_that_is_not_owed_is_found: RetryNotOwed,
    delayed_message_that_is_not_owed_is_found: DelayedNotOwed,
    backlog_that_is_not_owed_is_found: BacklogNotOwed,
    target_that_is_read_late_is_found: TargetStartsLate,
    ambiguous_send_that_is_called_definite_is_found: AmbiguousCalledDefinite,
    success_without_store_is_found: SuccessWithoutStore,
    ack_at_receive_is_found: AckAtReceive,
    message_given_back_that_is_acked_is_found: GivenBackIsAcked,
    dedup_that_forgets_is_found: DedupForgets,
    dedup_that_keeps_failed_claims_is_found: DedupKeepsFailed,
    store_that_forgets_is_found: StoreForgets,
    plan_that_is_rewritten_is_found: PlanRewritten,
}

#[test]
fn rewritten_plan_is_found_over_http_too() {
    let (seed, what) = found(Mutation::PlanRewritten, true);
    println!("over HTTP: seed {seed}: {what}");
}

#[test]
fn same_seeds_without_a_mutation_find_nothing() {
    for seed in 0..SEEDS / 2 {
        let outcome = made(seed, None, seed % 3 == 0);
        assert_eq!(outcome.violations, Vec::<String>::new(), "seed {seed}");
    }
}
