//! Random correct histories are accepted, and what is changed in one is found in its own class.

use std::collections::BTreeMap;

use crossfade_history::{
    Checker, CheckerOptions, DedupScope, Event, Header, Report, Role, Side, What,
};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};

const SEEDS: u64 = 400;
const GROUPS: [&str; 2] = ["billing", "audit"];

/// One stream and its events, in the order of their times.
#[derive(Clone, Debug)]
struct Stream {
    header: Header,
    events: Vec<Event<'static>>,
}

/// A run as a broker that keeps its promises would make it.
#[derive(Clone, Debug)]
struct Run {
    streams: Vec<Stream>,
    /// Of each message: its id, and how its sends came out.
    messages: Vec<(String, Fate)>,
}

#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Fate {
    Acked,
    AmbiguousStored,
    AmbiguousAbsent,
    Failed,
}

impl Run {
    fn random(random: &mut StdRng) -> Run {
        let producers = random.random_range(1..4_usize);
        let mut streams: Vec<Stream> = (0..producers)
            .map(|number| stream(&format!("p{number}"), Role::Producer))
            .collect();
        let mut messages = Vec::new();
        // Of each key: the messages that every group is to handle, in this order.
        let mut stored: BTreeMap<u32, Vec<String>> = BTreeMap::new();
        let mut clock = 0;
        for number in 0..random.random_range(5..60) {
            let key = random.random_range(0..4);
            let producer = random.random_range(0..producers);
            let id = format!("p{producer}-1-{number}");
            let fate = match random.random_range(0..10) {
                0 => Fate::AmbiguousStored,
                1 => Fate::AmbiguousAbsent,
                2 => Fate::Failed,
                _ => Fate::Acked,
            };
            let events = &mut streams[producer].events;
            let mut tell = |what| {
                clock += random.random_range(1..4);
                events.push(Event { at_us: clock, what });
            };
            let (own, error) = (|| id.clone().into(), || "no".into());
            tell(What::Call {
                id: own(),
                key: Some(format!("k{key}").into()),
            });
            tell(match fate {
                Fate::Acked => What::Acked {
                    id: own(),
                    side: Side::Source,
                    revision: 1,
                },
                Fate::Failed => What::Failed {
                    id: own(),
                    error: error(),
                },
                _ => What::Ambiguous {
                    id: own(),
                    error: error(),
                },
            });
            if matches!(fate, Fate::Acked | Fate::AmbiguousStored) {
                stored.entry(key).or_default().push(id.clone());
            }
            messages.push((id, fate));
        }
        for group in GROUPS {
            consume(random, group, &stored, clock, &mut streams);
        }
        for stream in &mut streams {
            if stream.header.incarnation != "crashed" {
                let at_us = stream.events.last().map_or(1, |event| event.at_us + 1);
                stream.events.push(Event {
                    at_us,
                    what: What::End,
                });
            }
        }
        Run { streams, messages }
    }

    fn check(&self) -> Report {
        let mut checker = Checker::new(CheckerOptions::default());
        let known: Vec<_> = self
            .streams
            .iter()
            .map(|stream| checker.stream(&stream.header))
            .collect();
        // Mixed: the streams' events in turn.
        let longest = self.streams.iter().map(|stream| stream.events.len()).max();
        for place in 0..longest.unwrap_or(0) {
            for (id, stream) in known.iter().zip(&self.streams) {
                if let Some(event) = stream.events.get(place) {
                    checker.add(*id, event);
                }
            }
        }
        checker.finish()
    }

    fn count(&self, fate: Fate) -> u64 {
        self.messages
            .iter()
            .filter(|message| message.1 == fate)
            .count() as u64
    }

    /// Where events are that `wanted` picks: stream and place.
    fn places(&self, wanted: impl Fn(&What<'_>) -> bool) -> Vec<(usize, usize)> {
        let streams = self.streams.iter().enumerate();
        streams
            .flat_map(|(number, stream)| {
                let events = stream.events.iter().enumerate();
                let wanted = events.filter(|(_, event)| wanted(&event.what));
                wanted
                    .map(move |(place, _)| (number, place))
                    .collect::<Vec<_>>()
            })
            .collect()
    }

    /// Whether `id` was done only once in the group of a stream: a crash may have repeated it.
    fn done_once(&self, stream: usize, id: &str) -> bool {
        let role = &self.streams[stream].header.role;
        let of_group = self
            .streams
            .iter()
            .filter(|other| other.header.role == *role);
        let dones = of_group
            .flat_map(|other| &other.events)
            .filter(|event| matches!(&event.what, What::Done { id: done } if done == id));
        dones.count() == 1
    }

    fn fate(&self, id: &str) -> Fate {
        self.messages
            .iter()
            .find(|message| message.0 == id)
            .unwrap()
            .1
    }
}

/// Every key by one process after the other, its messages in order; keys at the same time. Handlers fail now and then and are entered again in
/// place; one process crashes in the middle, and another takes its keys over.
fn consume(
    random: &mut StdRng,
    group: &str,
    stored: &BTreeMap<u32, Vec<String>>,
    sent_by: u64,
    streams: &mut Vec<Stream>,
) {
    let role = Role::Consumer {
        group: group.into(),
        dedup: DedupScope::Group,
    };
    let first = streams.len();
    for name in ["a", "b"] {
        streams.push(stream(&format!("{group}-{name}"), role.clone()));
    }
    // The events of each process, of all its keys, to be put in order in the end.
    let crash_at = sent_by + random.random_range(5..60);
    let mut crashed = false;
    for ids in stored.values() {
        let mut clock = sent_by + random.random_range(1..10);
        let mut process = first + usize::from(random.random_bool(0.5));
        let mut attempt = 1;
        let mut ids = ids.iter();
        let mut next = ids.next();
        while let Some(id) = next {
            let mut tell = |process: usize, what| {
                clock += random.random_range(1..5_u64);
                let gone = process == first && clock >= crash_at;
                if !gone {
                    streams[process].events.push(Event { at_us: clock, what });
                }
                gone
            };
            let own = || id.clone().into();
            let side = Side::Target;
            let mut gone = tell(
                process,
                What::Enter {
                    id: own(),
                    side,
                    attempt,
                },
            );
            if !gone && attempt < 3 && id.len() % 3 == attempt as usize % 3 {
                gone |= tell(process, What::HandlerFailed { id: own() });
                if !gone {
                    attempt += 1;
                    continue;
                }
            }
            gone = gone || tell(process, What::Done { id: own() });
            // Done but not settled before the crash comes again, too.
            gone = gone || tell(process, What::Settled { id: own() });
            if gone {
                crashed = true;
                process = first + 1;
            } else {
                next = ids.next();
            }
            attempt = 1;
        }
    }
    for stream in &mut streams[first..] {
        stream.events.sort_by_key(|event| event.at_us);
    }
    if crashed {
        streams[first].header.incarnation = "crashed".into();
    }
}

fn stream(instance: &str, role: Role) -> Stream {
    let header = Header {
        instance: instance.into(),
        incarnation: "1".into(),
        role,
        topic: "orders".into(),
        clock: String::new(),
        started_at_us: 0,
        started_unix_ms: 0,
    };
    Stream {
        header,
        events: Vec::new(),
    }
}

/// A random element, if there is one.
fn one<T: Clone>(random: &mut StdRng, of: &[T]) -> Option<T> {
    (!of.is_empty()).then(|| of[random.random_range(0..of.len())].clone())
}

/// Changes each of many runs with `mutate`, which answers whether there was something to change, and hands the verdict to `holds`.
fn mutated(
    mutate: impl Fn(&mut Run, &mut StdRng) -> bool,
    holds: impl Fn(&Report, &Report) -> bool,
) {
    let mut changed = 0;
    for seed in 0..SEEDS {
        let mut random = StdRng::seed_from_u64(seed);
        let mut run = Run::random(&mut random);
        let before = run.check();
        if !mutate(&mut run, &mut random) {
            continue;
        }
        changed += 1;
        let after = run.check();
        assert!(
            !after.passed() && holds(&before, &after),
            "seed {seed}: {after:#?}\n{run:#?}"
        );
    }
    assert!(changed > SEEDS / 2, "only {changed} runs could be changed");
}

#[test]
fn correct_history_is_accepted_and_every_count_is_right() {
    let (mut retried, mut redelivered) = (0, 0);
    for seed in 0..SEEDS {
        let run = Run::random(&mut StdRng::seed_from_u64(seed));
        let report = run.check();
        assert!(report.passed(), "seed {seed}: {report:#?}\n{run:#?}");
        assert_eq!(report.messages, run.messages.len() as u64, "seed {seed}");
        let counted = [
            (Fate::Acked, report.acked_handled),
            (Fate::AmbiguousStored, report.ambiguous_handled),
            (Fate::AmbiguousAbsent, report.ambiguous_absent),
            (Fate::Failed, report.failed_absent),
        ];
        for (fate, count) in counted {
            assert_eq!(run.count(fate), count, "seed {seed}: {fate:?}");
        }
        retried += report.retried;
        redelivered += report.redelivered_after_crash;
    }
    assert!(retried > 0 && redelivered > 0, "{retried} {redelivered}");
}

#[test]
fn done_that_is_missing_is_a_loss() {
    let mutate = |run: &mut Run, random: &mut StdRng| {
        let dones = run.places(|what| matches!(what, What::Done { .. }));
        let acked: Vec<_> = dones
            .into_iter()
            .filter(|(stream, place)| {
                let id = run.streams[*stream].events[*place].what.id().unwrap();
                run.fate(id) == Fate::Acked && run.done_once(*stream, id)
            })
            .collect();
        let Some((stream, place)) = one(random, &acked) else {
            return false;
        };
        let done = run.streams[stream].events.remove(place);
        // What follows it would be unexpected besides.
        let settled = What::Settled {
            id: done.what.id().unwrap().to_owned().into(),
        };
        run.streams[stream]
            .events
            .retain(|event| event.what != settled);
        true
    };
    mutated(mutate, |before, after| {
        (after.acked_lost, after.acked_handled) == (1, before.acked_handled - 1)
            && after.violations().len() == 1
    });
}

#[test]
fn second_handling_is_a_duplicate() {
    let mutate = |run: &mut Run, random: &mut StdRng| {
        let settled = run.places(|what| matches!(what, What::Settled { .. }));
        let Some((stream, place)) = one(random, &settled) else {
            return false;
        };
        let Event { at_us, what } = run.streams[stream].events[place].clone();
        let id = || what.id().unwrap().to_owned().into();
        let again = [
            What::Enter {
                id: id(),
                side: Side::Source,
                attempt: 2,
            },
            What::Done { id: id() },
            What::Settled { id: id() },
        ]
        .map(|what| Event { at_us, what });
        let events = &mut run.streams[stream].events;
        events.splice(place + 1..place + 1, again);
        true
    };
    mutated(mutate, |before, after| {
        after.duplicated >= 1
            && after.duplicated_by.same_process_after_done >= 1
            && after.acked_handled == before.acked_handled
            && after.acked_lost + after.never_sent + after.failed_handled + after.unexpected == 0
    });
}

#[test]
fn pair_that_changes_places_is_an_inversion() {
    let mutate = |run: &mut Run, random: &mut StdRng| {
        // Neighbours of one key in one process: the id that is handled first is acked, and the other one called later.
        let mut pairs = Vec::new();
        for (number, stream) in run.streams.iter().enumerate() {
            let dones = stream.events.iter().filter_map(|event| match &event.what {
                What::Settled { id } => Some(id.clone()),
                _ => None,
            });
            let mut last: BTreeMap<String, String> = BTreeMap::new();
            for id in dones {
                let key = key_of(run, &id);
                if let Some(before) = last.insert(key, id.to_string())
                    && run.fate(&before) == Fate::Acked
                    && run.done_once(number, &before)
                {
                    pairs.push((number, before, id.to_string()));
                }
            }
        }
        let Some((stream, first, second)) = one(random, &pairs) else {
            return false;
        };
        // Whoever spoke of one speaks of the other.
        for event in &mut run.streams[stream].events {
            let other = match event.what.id() {
                Some(id) if *id == first => second.clone(),
                Some(id) if *id == second => first.clone(),
                _ => continue,
            };
            rename(&mut event.what, other);
        }
        true
    };
    mutated(mutate, |_, after| {
        after.inverted >= 1 && after.acked_lost + after.never_sent + after.unexpected == 0
    });
}

#[test]
fn id_that_nobody_sent_is_found() {
    let mutate = |run: &mut Run, random: &mut StdRng| {
        let dones = run.places(|what| matches!(what, What::Done { .. }));
        let Some((stream, place)) = one(random, &dones) else {
            return false;
        };
        let at_us = run.streams[stream].events[place].at_us;
        let id = || "p0-1-999".into();
        let ghost = [
            What::Enter {
                id: id(),
                side: Side::Source,
                attempt: 1,
            },
            What::Done { id: id() },
        ]
        .map(|what| Event { at_us, what });
        run.streams[stream].events.splice(place..place, ghost);
        true
    };
    mutated(mutate, |before, after| {
        after.violations() == [("never_sent", 1)] && after.messages == before.messages + 1
    });
}

#[test]
fn stored_message_whose_send_failed_for_certain_is_found() {
    let mutate = |run: &mut Run, random: &mut StdRng| {
        let acked = run.places(|what| matches!(what, What::Acked { .. }));
        let Some((stream, place)) = one(random, &acked) else {
            return false;
        };
        let event = &mut run.streams[stream].events[place];
        let id = event.what.id().unwrap().to_owned().into();
        event.what = What::Failed {
            id,
            error: "lied".into(),
        };
        true
    };
    mutated(mutate, |_, after| {
        after.violations() == [("failed_handled", 1)]
    });
}

#[test]
fn history_with_a_hole_is_not_believed() {
    for wanted in [
        (|what: &What<'_>| matches!(what, What::Call { .. })) as fn(&What<'_>) -> bool,
        |what| matches!(what, What::Enter { .. }),
    ] {
        let mutate = |run: &mut Run, random: &mut StdRng| {
            let mut places = run.places(wanted);
            // An ambiguous message that is nowhere leaves no other trace.
            places.retain(|(stream, place)| {
                let events = &run.streams[*stream].events;
                let id = events[*place].what.id();
                let ended = |event: &Event<'_>| {
                    event.what.id() == id && !matches!(event.what, What::Enter { .. })
                };
                events[place + 1..].iter().any(ended)
            });
            let Some((stream, place)) = one(random, &places) else {
                return false;
            };
            run.streams[stream].events.remove(place);
            true
        };
        mutated(mutate, |_, after| after.unexpected >= 1);
    }
}

fn key_of(run: &Run, id: &str) -> String {
    let mut events = run.streams.iter().flat_map(|stream| &stream.events);
    let key = events.find_map(|event| match &event.what {
        What::Call { id: of, key } if of == id => key.clone(),
        _ => None,
    });
    key.unwrap().into_owned()
}

fn rename(what: &mut What<'static>, to: String) {
    let (What::Enter { id, .. }
    | What::Done { id }
    | What::Settled { id }
    | What::HandlerFailed { id }) = what
    else {
        return;
    };
    *id = to.into();
}
