//! Accounts for writes: what a side's end offsets grow by, against what the registered producers report to have sent. Brokers cannot list a
//! topic's producers, so this is how unmanaged ones are found.
//!
//! Producers report in arrears, so the comparison is one-sided: a look's growth is held against what was reported *before* the earlier look and
//! *after* the later one. That window of reports covers every managed write between the looks, so what is left over is somebody else's.
//!
//! That window is longer than the one between the looks, by up to two polls, and somebody else's writes hide in the difference. So writes count as
//! explained only once the reports explain them also when they are taken to be spread evenly: the longer the window, the less that matters.

mod found;

use std::{collections::BTreeMap, time::Duration};

use crossfade::{Side, backend::QueueId};

pub(super) use self::found::{Found, Growth, Verdict};
use super::facts::Facts;

/// A report counts for a look only if it came so long after it: a send that was on its way during the look has its answer by then.
const GRACE: Duration = Duration::from_secs(1);
/// After an unexplained write, so many times the shortest window must be clean.
const CLEAN_WINDOWS: u32 = 3;
/// The tolerance grows with the window, so an old beginning is given up.
const LONGEST_WINDOW: Duration = Duration::from_secs(600);

/// What one producer says it has done since its process started.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Report {
    /// For people.
    pub(super) name: String,
    /// When it was received.
    pub(super) heard: Duration,
    /// Sends that succeeded, by side.
    pub(super) sent: [u64; 2],
    /// Sends that failed, by side: they may be stored all the same.
    pub(super) errors: [u64; 2],
    /// Tries that were repeated, by side: they may be stored beside the one that counts.
    pub(super) repeated: [u64; 2],
}

/// All producers of a topic, by incarnation.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Reports {
    /// Changes whenever a producer of the topic comes or goes.
    pub(super) stamp: u64,
    pub(super) producers: BTreeMap<String, Report>,
}

/// One look at one side.
#[derive(Clone, Debug)]
struct Look {
    begun: Duration,
    done: Duration,
    ends: BTreeMap<QueueId, u64>,
    /// Delayed and half messages: managed ones among them were reported before, and land later.
    pending: u64,
    /// What had been reported before it began.
    before: Reports,
}

/// The books of one topic.
#[derive(Clone, Debug)]
pub(super) struct Accounting {
    /// The shortest window that says something.
    shortest: Duration,
    sides: [Book; 2],
    /// Reports as they were when the look under way was asked for.
    asked: Reports,
    /// Failed sends since each producer's first report here, and when the last one was seen.
    errors: BTreeMap<String, Errors>,
    now: Duration,
}

#[derive(Clone, Debug)]
struct Book {
    /// The last look, for the growth since.
    last: Option<Look>,
    growth: Option<Growth>,
    /// The beginning of the window.
    base: Option<Look>,
    /// Its end: decided once every producer has reported after it.
    candidate: Option<Look>,
    suspected: bool,
    verdict: Verdict,
}

#[derive(Clone, Debug)]
struct Errors {
    name: String,
    total: [u64; 2],
    /// New ones, and when they were seen.
    recent: [Option<(u64, Duration)>; 2],
}

impl Accounting {
    /// Nothing known; `shortest` is the shortest window that is decided on.
    pub(super) fn new(shortest: Duration) -> Self {
        let book = || Book {
            last: None,
            growth: None,
            base: None,
            candidate: None,
            suspected: false,
            verdict: Verdict::Unmeasured("it takes two looks at the brokers".into()),
        };
        Accounting {
            shortest,
            sides: [book(), book()],
            asked: Reports::default(),
            errors: BTreeMap::new(),
            now: Duration::ZERO,
        }
    }

    /// A look is asked for: what is reported now was sent before it.
    pub(super) fn asked(&mut self, reports: Reports) {
        self.asked = reports;
    }

    /// A look is over; `reports` are those of now.
    pub(super) fn looked(&mut self, facts: &Facts, reports: &Reports, now: Duration) {
        self.now = now;
        self.note_errors(reports);
        for side in Side::BOTH {
            let seen = facts.side(side);
            let book = &mut self.sides[side.index()];
            if !seen.unknown.is_empty() {
                book.growth = None;
                book.last = None;
                continue;
            }
            let pending = seen.backlogs.values().map(|backlog| {
                let delayed = backlog.delayed.unwrap_or(0);
                delayed.saturating_add(backlog.half.unwrap_or(0))
            });
            let look = Look {
                begun: facts.begun,
                done: now,
                ends: seen.ends.clone(),
                pending: pending.max().unwrap_or(0),
                before: self.asked.clone(),
            };
            book.growth = book.last.as_ref().and_then(|last| {
                let grown = grown(&last.ends, &look.ends)?;
                let window = look.begun.saturating_sub(last.begun);
                Some(Growth { window, grown })
            });
            book.last = Some(look.clone());
            book.close(side, reports, self.shortest);
            if book.base.is_none() {
                book.base = Some(look);
            } else if book.candidate.is_none() {
                book.candidate = Some(look);
            }
        }
    }

    pub(super) fn verdict(&self, side: Side) -> &Verdict {
        &self.sides[side.index()].verdict
    }

    pub(super) fn growth(&self, side: Side) -> Option<&Growth> {
        self.sides[side.index()].growth.as_ref()
    }

    /// Sends to a side that failed lately, by producer.
    pub(super) fn errors(&self, side: Side) -> BTreeMap<String, u64> {
        let lately = CLEAN_WINDOWS * self.shortest;
        let recent = self.errors.values().filter_map(|errors| {
            let (count, at) = errors.recent[side.index()]?;
            (self.now.saturating_sub(at) <= lately).then(|| (errors.name.clone(), count))
        });
        recent.collect()
    }

    fn note_errors(&mut self, reports: &Reports) {
        let lately = CLEAN_WINDOWS * self.shortest;
        self.errors
            .retain(|incarnation, _| reports.producers.contains_key(incarnation));
        for (incarnation, report) in &reports.producers {
            let known = self
                .errors
                .entry(incarnation.clone())
                .or_insert_with(|| Errors {
                    name: report.name.clone(),
                    total: report.errors,
                    recent: [None; 2],
                });
            for side in Side::BOTH.map(Side::index) {
                let new = report.errors[side].saturating_sub(known.total[side]);
                let before = known.recent[side]
                    .filter(|(_, at)| self.now.saturating_sub(*at) <= lately)
                    .map_or(0, |(count, _)| count);
                if new > 0 {
                    known.recent[side] = Some((before.saturating_add(new), self.now));
                }
                known.total[side] = report.errors[side];
            }
        }
    }
}

impl Book {
    /// Decides on the candidate, once every producer has reported after it.
    fn close(&mut self, side: Side, reports: &Reports, shortest: Duration) {
        let (Some(base), Some(candidate)) = (&self.base, &self.candidate) else {
            return;
        };
        let comparable = base.before.stamp == reports.stamp
            && base.before.producers.keys().eq(reports.producers.keys());
        let grown = grown(&base.ends, &candidate.ends);
        let (true, Some(grown)) = (comparable, grown) else {
            self.begin_again("the producers or the queues have changed meanwhile");
            return;
        };
        let silent: Vec<&str> = reports
            .producers
            .values()
            .filter(|report| report.heard < candidate.done + GRACE)
            .map(|report| report.name.as_str())
            .collect();
        if !silent.is_empty() {
            if let Verdict::Unmeasured(why) = &mut self.verdict {
                *why = format!("waits for the next report of {}", silent.join(", "));
            }
            return;
        }
        let sum = |pick: fn(&Report) -> [u64; 2]| {
            let all = reports.producers.iter().map(|(incarnation, report)| {
                let before = base.before.producers.get(incarnation);
                let before = before.map_or(0, |report| pick(report)[side.index()]);
                pick(report)[side.index()].saturating_sub(before)
            });
            all.fold(0, u64::saturating_add)
        };
        let window = candidate.begun.saturating_sub(base.begun);
        let expected = reports.producers.iter().map(|(incarnation, report)| {
            let before = base.before.producers.get(incarnation);
            let (heard, sent) = before.map_or((Duration::ZERO, 0), |before| {
                (before.heard, before.sent[side.index()])
            });
            let (span, new) = (
                report.heard.saturating_sub(heard),
                report.sent[side.index()].saturating_sub(sent),
            );
            evenly(new, window, span)
        });
        let expected = expected.fold(0, u64::saturating_add);
        let uncertain = sum(|report| report.errors).saturating_add(sum(|report| report.repeated));
        let found = Found {
            window,
            grown,
            reported: sum(|report| report.sent),
            expected,
            tolerated: uncertain.saturating_add(base.pending),
        };
        self.judge(found, shortest);
    }

    fn judge(&mut self, found: Found, shortest: Duration) {
        let candidate = self.candidate.take();
        if found.unexplained() > 0 {
            // A report may have been overtaken on its way: the second look at the same window decides where the next one begins.
            if std::mem::replace(&mut self.suspected, true) {
                self.suspected = false;
                self.base = candidate;
            }
            self.verdict = Verdict::Unexplained(found);
            return;
        }
        let taken_back = std::mem::take(&mut self.suspected);
        let wanted = match self.verdict {
            Verdict::Unexplained(_) if !taken_back => CLEAN_WINDOWS * shortest,
            _ => shortest,
        };
        // What was explained stays so until it is not: a burst is no sign of somebody else.
        let resolved = found.is_resolved() || matches!(self.verdict, Verdict::Explained(_));
        let seconds = found.window.as_secs_f64();
        if found.window >= wanted && resolved {
            self.verdict = Verdict::Explained(found);
        } else if let Verdict::Unmeasured(why) = &mut self.verdict {
            *why = if resolved {
                format!("{seconds:.1} of {:.1} s", wanted.as_secs_f64())
            } else {
                format!(
                    "within {seconds:.1} s the producers' reports may hide {} of {} writes: a longer time tells",
                    found.doubtful(),
                    found.grown
                )
            };
        }
        if found.window >= LONGEST_WINDOW {
            self.base = candidate;
        }
    }

    /// What was found stays; the window does not.
    fn begin_again(&mut self, why: &str) {
        self.base = self.candidate.take();
        self.suspected = false;
        if let Verdict::Unmeasured(text) = &mut self.verdict {
            *text = why.to_owned();
        }
    }
}

/// What of `count` falls into `window`, if it was spread evenly over `span`.
fn evenly(count: u64, window: Duration, span: Duration) -> u64 {
    if window >= span {
        return count;
    }
    let part = u128::from(count) * window.as_millis() / span.as_millis().max(1);
    u64::try_from(part).unwrap_or(count)
}

/// What the queues grew by; `None` when they are not the same ones, or began anew.
fn grown(before: &BTreeMap<QueueId, u64>, after: &BTreeMap<QueueId, u64>) -> Option<u64> {
    if !before.keys().eq(after.keys()) {
        return None;
    }
    let mut pairs = before.values().zip(after.values());
    pairs.try_fold(0_u64, |sum, (before, after)| {
        Some(sum.saturating_add(after.checked_sub(*before)?))
    })
}

#[cfg(test)]
mod tests;
