//! Books that tell managed writes from others.

use crossfade::backend::{Backlog, QueueId};

use super::*;
use crate::coordinator::SideFacts;

const SHORTEST: Duration = Duration::from_secs(10);

/// Looks and reports, by hand. Times are seconds.
struct Bench {
    books: Accounting,
    reports: Reports,
    end: u64,
    delayed: u64,
}

impl Bench {
    fn new() -> Self {
        let mut reports = Reports::default();
        reports.producers.insert("1".into(), report("orders-1"));
        Bench {
            books: Accounting::new(SHORTEST),
            reports,
            end: 100,
            delayed: 0,
        }
    }

    fn producer(&mut self) -> &mut Report {
        self.reports.producers.get_mut("1").unwrap()
    }

    /// A look at this second, after reports that came just then.
    fn look(&mut self, second: u64) -> Verdict {
        for report in self.reports.producers.values_mut() {
            report.heard = Duration::from_secs(second);
        }
        self.silent_look(second)
    }

    fn silent_look(&mut self, second: u64) -> Verdict {
        let now = Duration::from_secs(second);
        let queue = QueueId {
            broker: "b".into(),
            queue: 0,
        };
        let backlog = Backlog {
            delayed: Some(self.delayed),
            ..Backlog::default()
        };
        let side = SideFacts {
            ends: [(queue, self.end)].into(),
            backlogs: [("billing".into(), backlog)].into(),
            ..SideFacts::default()
        };
        let facts = Facts {
            begun: now,
            sides: [side.clone(), side],
        };
        self.books.asked(self.reports.clone());
        self.books.looked(&facts, &self.reports, now);
        self.books.verdict(Side::Source).clone()
    }

    fn managed(&mut self, messages: u64) {
        self.end += messages;
        self.producer().sent[0] += messages;
    }
}

fn report(name: &str) -> Report {
    Report {
        name: name.into(),
        ..Report::default()
    }
}

fn unexplained(verdict: &Verdict) -> Option<u64> {
    match verdict {
        Verdict::Unmeasured(_) => None,
        Verdict::Explained(_) => Some(0),
        Verdict::Unexplained(found) => Some(found.unexplained()),
    }
}

#[test]
fn reported_writes_are_explained_also_when_the_report_comes_late() {
    let mut bench = Bench::new();
    assert_eq!(unexplained(&bench.look(0)), None);
    bench.end += 7;
    assert_eq!(unexplained(&bench.look(10)), None);
    bench.producer().sent[0] += 7;
    assert_eq!(unexplained(&bench.look(20)), Some(0));
}

#[test]
fn unmanaged_writes_are_found_beside_managed_ones_and_by_their_number() {
    let mut bench = Bench::new();
    bench.look(0);
    bench.managed(1_000);
    bench.end += 3;
    bench.look(10);
    assert_eq!(unexplained(&bench.look(20)), Some(3));
}

/// A second of 100 reported writes and what others write, from 1 to 80, with a report just after each look: verdicts of all looks from 10 on.
fn verdicts(of: impl Fn(u64) -> [u64; 2]) -> Vec<Option<u64>> {
    let mut bench = Bench::new();
    let (mut sent, mut found) = (0, Vec::new());
    for second in 1..=80 {
        let [managed, others] = of(second);
        sent += managed;
        bench.end += managed + others;
        match second % 10 {
            0 => found.push(unexplained(&bench.silent_look(second))),
            1 => {
                bench.producer().sent[0] = sent;
                bench.producer().heard = Duration::from_secs(second);
            }
            _ => {}
        }
    }
    found
}

#[test]
fn unmanaged_writer_as_fast_as_the_managed_ones_is_found_although_reports_come_every_ten_seconds() {
    let found = verdicts(|_| [100, 100]);
    assert!(!found.contains(&Some(0)), "{found:?}");
    assert!(found.last().unwrap().is_some_and(|others| others > 0));
    // Managed writes alone are explained at once.
    let found = verdicts(|_| [100, 0]);
    assert_eq!(found[..3], [None, None, Some(0)]);
}

#[test]
fn burst_of_managed_writes_is_explained_in_a_longer_window() {
    let found = verdicts(|second| [if second == 15 { 1_000 } else { 0 }, 0]);
    assert_eq!(found[2], None);
    assert_eq!(found.last(), Some(&Some(0)), "{found:?}");
}

#[test]
fn report_that_was_overtaken_is_taken_back_at_the_next_look() {
    let mut bench = Bench::new();
    bench.look(0);
    bench.end += 5;
    bench.look(10);
    // What comes at 20 was written before the sends were counted.
    assert_eq!(unexplained(&bench.look(20)), Some(5));
    bench.producer().sent[0] += 5;
    assert_eq!(unexplained(&bench.look(30)), Some(0));
}

#[test]
fn unmanaged_writer_that_has_stopped_is_forgotten_after_clean_windows_only() {
    let mut bench = Bench::new();
    bench.look(0);
    bench.end += 5;
    let mut closed_until = 0;
    for second in (10..200).step_by(10) {
        if unexplained(&bench.look(second)) == Some(5) {
            closed_until = second;
        }
    }
    let clean = CLEAN_WINDOWS as u64 * SHORTEST.as_secs();
    assert!(
        (clean..=clean + 40).contains(&closed_until),
        "{closed_until}"
    );
}

#[test]
fn producer_that_does_not_report_is_waited_for_by_name() {
    let mut bench = Bench::new();
    bench.look(0);
    bench.silent_look(10);
    match bench.silent_look(20) {
        Verdict::Unmeasured(why) => assert!(why.contains("orders-1")),
        other => panic!("{other:?}"),
    }
    assert_eq!(unexplained(&bench.look(30)), Some(0));
}

#[test]
fn producer_that_comes_or_goes_begins_a_new_window() {
    let mut bench = Bench::new();
    bench.look(0);
    bench.end += 5;
    bench.look(10);
    bench
        .reports
        .producers
        .insert("2".into(), report("orders-2"));
    assert_eq!(unexplained(&bench.look(20)), None);
    // One that came and went between two looks leaves its stamp only.
    bench.end += 5;
    bench.look(30);
    bench.reports.stamp += 1;
    assert_eq!(unexplained(&bench.look(40)), None);
    bench.look(50);
    assert_eq!(unexplained(&bench.look(60)), Some(0));
}

#[test]
fn failed_repeated_and_delayed_sends_are_tolerated() {
    let tolerated: [fn(&mut Bench); 3] = [
        |bench| bench.producer().errors[0] += 4,
        |bench| bench.producer().repeated[0] += 4,
        |_| (),
    ];
    for (index, tolerate) in tolerated.into_iter().enumerate() {
        let mut bench = Bench::new();
        bench.delayed = if index == 2 { 4 } else { 0 };
        bench.look(0);
        bench.end += 4;
        tolerate(&mut bench);
        bench.look(10);
        assert_eq!(unexplained(&bench.look(20)), Some(0), "{index}");
        bench.end += 5;
        bench.look(30);
        assert_eq!(unexplained(&bench.look(40)), Some(5), "{index}");
    }
}

#[test]
fn topic_that_begins_anew_is_measured_anew() {
    let mut bench = Bench::new();
    bench.look(0);
    bench.end = 3;
    bench.look(10);
    assert_eq!(unexplained(&bench.look(20)), None);
    assert!(bench.books.growth(Side::Source).is_some());
}

#[test]
fn window_shorter_than_the_shortest_decides_nothing() {
    let mut bench = Bench::new();
    for second in 0..10 {
        assert_eq!(unexplained(&bench.look(second)), None, "{second}");
    }
}

#[test]
fn errors_are_named_while_they_are_recent() {
    let mut bench = Bench::new();
    // Those from before the first look are nobody's news.
    bench.producer().errors[1] = 9;
    bench.look(0);
    assert!(bench.books.errors(Side::Target).is_empty());
    bench.producer().errors[1] += 2;
    bench.look(10);
    let named = bench.books.errors(Side::Target);
    assert_eq!(named, [("orders-1".to_owned(), 2)].into());
    assert!(bench.books.errors(Side::Source).is_empty());
    bench.look(50);
    assert!(bench.books.errors(Side::Target).is_empty());
}
