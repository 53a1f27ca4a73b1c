//! What a run says at its end.

use std::{collections::BTreeMap, fmt::Write as _, time::Duration};

use crossfade::stage::Stage;
use serde::Serialize;

use crate::{
    outcome::Outcome,
    schedule::{Incident, Job, Leg},
    tally::Counts,
    timeline::{Entry, Happening},
    verdict::Verdict,
};

/// Why a broker's death loses nothing here.
const DURABILITY: &str = "brokers keep the defaults (asynchronous flush): a SIGKILL of the JVM leaves what it wrote to its mapped files in the page cache, so nothing acked is lost; a power cut was not tried";

/// The whole run in figures.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Whether every promise held and everything was accounted for.
    pub passed: bool,
    /// What did not; empty when it passed.
    pub faults: Vec<String>,
    /// Of the schedule.
    pub seed: u64,
    /// From the first process to the verdict.
    pub seconds: f64,
    /// Sends that succeeded.
    pub messages: u64,
    /// Of those, not handled by some group.
    pub acked_lost: u64,
    /// Entries into handlers that no scope of deduplication allows.
    pub duplicated: u64,
    /// Entries again in another process, each with its cause.
    pub repeats: BTreeMap<String, u64>,
    /// Sends with an open end: stored or not.
    pub ambiguous: u64,
    /// Sends that were refused for certain.
    pub refused: u64,
    /// Steps back, each over one stage or more.
    pub rollbacks: usize,
    /// What was done, and how often.
    pub done: Done,
    /// Word by word.
    pub legs: Vec<LegReport>,
    /// What rests on the brokers.
    pub durability: &'static str,
    /// The checker's word, in full.
    pub verdict: Verdict,
    /// What was done, and when.
    pub timeline: Vec<Entry>,
}

/// What was done, from the timeline: not what was planned.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Done {
    /// SIGKILLs of producers.
    pub producer_kills: u64,
    /// SIGKILLs of consumers.
    pub consumer_kills: u64,
    /// SIGSTOPs of producers.
    pub producer_stops: u64,
    /// SIGSTOPs of consumers.
    pub consumer_stops: u64,
    /// The shortest time between SIGSTOP and SIGCONT, in seconds.
    pub shortest_stop_seconds: f64,
    /// SIGKILLs of the control plane.
    pub control_kills: u64,
    /// SIGSTOPs of the control plane.
    pub control_stops: u64,
    /// The shortest time between its SIGSTOP and SIGCONT, in seconds.
    pub shortest_control_stop_seconds: f64,
    /// SIGKILLs of the brokers of source and target.
    pub broker_kills: [u64; 2],
}

/// One word of the operator and what came of it.
#[derive(Clone, Debug, Serialize)]
pub struct LegReport {
    /// Where the topic was.
    pub from: Stage,
    /// Where it went.
    pub to: Stage,
    /// The first revision there.
    pub revision: u64,
    /// From the word to the settled stage.
    pub walk_seconds: f64,
    /// With the rest there.
    pub seconds: f64,
    /// Sends that succeeded meanwhile, on source and target.
    pub acked: [u64; 2],
    /// Handlers entered meanwhile, for source and target.
    pub entered: [u64; 2],
    /// Sends with an open end.
    pub ambiguous: u64,
    /// Sends refused.
    pub refused: u64,
    /// What was planned for it.
    pub incidents: Vec<Incident>,
}

impl Report {
    pub(crate) fn new(
        seed: u64,
        verdict: Verdict,
        timeline: Vec<Entry>,
        legs: Vec<LegReport>,
    ) -> Self {
        let rollbacks = legs.iter().filter(|leg| leg.to < leg.from).count();
        let repeats = verdict.repeats.by_cause.iter();
        let name = |cause| {
            serde_json::to_value(cause)
                .ok()
                .and_then(|name| name.as_str().map(str::to_owned))
        };
        Report {
            passed: false,
            faults: verdict.faults(),
            seed,
            seconds: 0.0,
            messages: verdict.acked(),
            acked_lost: verdict.checked.acked_lost,
            duplicated: verdict.checked.duplicated,
            repeats: repeats
                .filter_map(|(cause, count)| Some((name(cause)?, *count)))
                .collect(),
            ambiguous: verdict.checked.ambiguous_handled + verdict.checked.ambiguous_absent,
            refused: verdict.checked.failed_absent + verdict.checked.failed_handled,
            rollbacks,
            done: Done::count(&timeline),
            legs,
            durability: DURABILITY,
            verdict,
            timeline,
        }
    }

    /// A run with fewer messages than asked for proves less than asked for.
    pub(crate) fn settle(&mut self, messages: u64, took: Duration) {
        self.seconds = took.as_secs_f64();
        if self.messages < messages {
            self.faults
                .push(format!("{} of {messages} messages", self.messages));
        }
        self.passed = self.faults.is_empty();
    }
}

impl Done {
    fn count(timeline: &[Entry]) -> Self {
        let mut done = Done::default();
        // `None` is the control plane.
        let mut stopped = BTreeMap::new();
        let (mut stops, mut control_stops) = (Vec::new(), Vec::new());
        for entry in timeline {
            match entry.happening {
                Happening::Killed { who } => match who.job {
                    Job::Producer => done.producer_kills += 1,
                    Job::Consumer => done.consumer_kills += 1,
                },
                Happening::Stopped { who } => {
                    match who.job {
                        Job::Producer => done.producer_stops += 1,
                        Job::Consumer => done.consumer_stops += 1,
                    }
                    stopped.insert(Some(who), entry.at_us);
                }
                Happening::WentOn { who } => {
                    let since = stopped.remove(&Some(who));
                    stops.extend(since.map(|since| entry.at_us - since));
                }
                Happening::ControlStopped => {
                    done.control_stops += 1;
                    stopped.insert(None, entry.at_us);
                }
                Happening::ControlWentOn => {
                    let since = stopped.remove(&None);
                    control_stops.extend(since.map(|since| entry.at_us - since));
                }
                Happening::ControlKilled => done.control_kills += 1,
                Happening::BrokerKilled { side } => done.broker_kills[side.index()] += 1,
                Happening::Started { .. }
                | Happening::Ended { .. }
                | Happening::ControlServes
                | Happening::BrokerAnswers { .. } => {}
            }
        }
        let shortest = |lengths: Vec<u64>| {
            let shortest = lengths.into_iter().min();
            Duration::from_micros(shortest.unwrap_or(0)).as_secs_f64()
        };
        done.shortest_stop_seconds = shortest(stops);
        done.shortest_control_stop_seconds = shortest(control_stops);
        done
    }
}

impl LegReport {
    pub(crate) fn new(
        from: Stage,
        leg: &Leg,
        revision: u64,
        [walk, whole]: [Duration; 2],
        [before, after]: [Counts; 2],
    ) -> Self {
        let both = |after: [u64; 2], before: [u64; 2]| [after[0] - before[0], after[1] - before[1]];
        LegReport {
            from,
            to: leg.to,
            revision,
            walk_seconds: walk.as_secs_f64(),
            seconds: whole.as_secs_f64(),
            acked: both(after.acked, before.acked),
            entered: both(after.entered, before.entered),
            ambiguous: after.ambiguous - before.ambiguous,
            refused: after.failed - before.failed,
            incidents: leg.incidents.clone(),
        }
    }
}

impl Outcome for Report {
    fn json(&self) -> String {
        serde_json::to_string_pretty(self)
            .unwrap_or_else(|error| format!("{{\"error\":\"{error}\"}}"))
    }

    fn text(&self) -> String {
        let mut text = String::new();
        for leg in &self.legs {
            let _ = writeln!(
                text,
                "{:>12} -> {:<12} walk {:6.1} s, with rest {:6.1} s; acked {:?}, entered {:?}, ambiguous {}, refused {}",
                leg.from.as_str(),
                leg.to.as_str(),
                leg.walk_seconds,
                leg.seconds,
                leg.acked,
                leg.entered,
                leg.ambiguous,
                leg.refused
            );
        }
        let _ = write!(
            text,
            "{} messages in {:.0} s: acked_lost {}, duplicated {}, repeats by cause {:?}, ambiguous {}, refused {}\n{:?}",
            self.messages,
            self.seconds,
            self.acked_lost,
            self.duplicated,
            self.repeats,
            self.ambiguous,
            self.refused,
            self.done
        );
        text
    }

    fn faults(&self) -> Vec<String> {
        self.faults.clone()
    }
}

#[cfg(test)]
mod tests {
    use crossfade::Side;

    use super::*;
    use crate::schedule::Who;

    #[test]
    fn what_was_done_is_counted_from_the_timeline() {
        let who = |job| Who { job, index: 0 };
        let (producer, consumer) = (who(Job::Producer), who(Job::Consumer));
        let happenings = [
            Happening::Started { who: producer },
            Happening::Killed { who: producer },
            Happening::Stopped { who: consumer },
            Happening::Killed { who: consumer },
            Happening::WentOn { who: consumer },
            Happening::Stopped { who: producer },
            Happening::WentOn { who: producer },
            Happening::ControlKilled,
            Happening::ControlStopped,
            Happening::ControlServes,
            Happening::ControlWentOn,
            Happening::BrokerKilled { side: Side::Target },
        ];
        let entry = |(place, happening): (usize, &Happening)| Entry {
            at_us: place as u64 * 1_000_000,
            happening: *happening,
        };
        let timeline: Vec<Entry> = happenings.iter().enumerate().map(entry).collect();
        let expected = Done {
            producer_kills: 1,
            consumer_kills: 1,
            producer_stops: 1,
            consumer_stops: 1,
            shortest_stop_seconds: 1.0,
            control_kills: 1,
            control_stops: 1,
            shortest_control_stop_seconds: 2.0,
            broker_kills: [0, 1],
        };
        assert_eq!(Done::count(&timeline), expected);
    }
}
