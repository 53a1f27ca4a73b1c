//! Runs on all cores; each run is one thread's.

use std::{
    sync::{
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    thread,
};

use crossfade_simulator::{Outcome, Run, Scenario, Step, Trace, run};

use super::Args;

/// Something to be done.
#[derive(Clone, Copy, Debug)]
pub(super) enum Work {
    /// One run.
    One(Run),
    /// A step with two faults, at one moment after the other until both have touched something.
    Pair(Run, Step),
}

/// A run that was made.
pub(super) struct Done {
    pub(super) run: Run,
    pub(super) outcome: Outcome,
    /// Run again, it made another trace.
    pub(super) unlike: bool,
    /// The last run for a pair: whether both faults have touched something.
    pub(super) pair: Option<bool>,
}

/// Does all of it; tells of every run in the caller's thread, in the order in which they end.
pub(super) fn all(args: &Args, work: Vec<Work>, jobs: usize, mut tell: impl FnMut(Done)) {
    let next = AtomicUsize::new(0);
    let (sender, done) = mpsc::channel();
    thread::scope(|scope| {
        for _ in 0..jobs {
            let (sender, work, next) = (sender.clone(), &work, &next);
            scope.spawn(move || {
                while let Some(work) = work.get(next.fetch_add(1, Ordering::Relaxed)) {
                    one(args, *work, &sender);
                }
            });
        }
        drop(sender);
        done.into_iter().for_each(&mut tell);
    });
}

fn one(args: &Args, work: Work, sender: &mpsc::Sender<Done>) {
    // The other end lives as long as the threads.
    let tell = |done| drop(sender.send(done));
    match work {
        Work::One(run) => tell(made(args, run)),
        Work::Pair(first, step) => {
            for attempt in 0..args.attempts {
                let run = Run {
                    scenario: Scenario::Step(Step { attempt, ..step }),
                    ..first
                };
                let mut done = made(args, run);
                let both = done.outcome.both_touched(step.faults);
                let last =
                    both || !done.outcome.violations.is_empty() || attempt + 1 == args.attempts;
                done.pair = last.then_some(both);
                tell(done);
                if last {
                    return;
                }
            }
        }
    }
}

fn made(args: &Args, wanted: Run) -> Done {
    let trace = match (args.trace, args.twice) {
        (true, _) => Trace::Lines,
        (false, true) => Trace::Hash,
        (false, false) => Trace::Nothing,
    };
    let outcome = run(wanted, trace);
    let unlike = args.twice && run(wanted, Trace::Hash).trace_hash != outcome.trace_hash;
    Done {
        run: wanted,
        outcome,
        unlike,
        pair: None,
    }
}
