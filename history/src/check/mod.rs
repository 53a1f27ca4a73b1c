//! The checker: takes streams in any order, judges at the end. Memory and time grow with the number of messages and entries, not with text.

mod entries;
mod names;
mod order;
mod outcome;
mod read;

use std::collections::HashMap;

pub use self::read::ReadError;
use self::{
    entries::{Entry, Finish},
    names::{Ids, Names},
};
use crate::{
    event::{DedupScope, Event, Header, Role, What},
    report::{Example, GroupReport, Report},
};

/// No time, no topic, no key.
const NONE: u32 = u32::MAX;
const NEVER: u64 = u64::MAX;

/// How a check is made.
#[non_exhaustive]
#[derive(Clone, Debug)]
pub struct CheckerOptions {
    /// Examples kept of each count. Default 10.
    pub examples: usize,
    /// Judge all groups by this scope, whatever their streams say. Default: as they say.
    pub dedup: Option<DedupScope>,
}

impl Default for CheckerOptions {
    fn default() -> Self {
        CheckerOptions {
            examples: 10,
            dedup: None,
        }
    }
}

/// A stream that a [`Checker`] knows.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct StreamId(u32);

/// Takes the streams of a run, then says what became of each message.
#[derive(Debug, Default)]
pub struct Checker {
    options: CheckerOptions,
    names: Names,
    ids: Ids,
    streams: Vec<Stream>,
    processes: Vec<Process>,
    process_of: HashMap<(u32, u32), u32>,
    /// Topic and group of each.
    subscriptions: Vec<(u32, u32)>,
    /// Name, and how far it is ahead of the first one, in microseconds.
    clocks: Vec<(Box<str>, i128)>,
    first_clock: i128,
    records: Vec<Record>,
    entries: Vec<Entry>,
    report: Report,
}

#[derive(Debug)]
struct Stream {
    process: u32,
    topic: u32,
    /// Of a consumer.
    subscription: Option<u32>,
    dedup: DedupScope,
    clock: usize,
    ended: bool,
    /// The entry that each message in hand is in; the latest, if there are more.
    in_hand: HashMap<u32, u32>,
    /// Entries of a message that was entered again before they ended: no correct run has any.
    beneath: HashMap<u32, Vec<u32>>,
}

/// One process life.
#[derive(Debug)]
struct Process {
    instance: u32,
    incarnation: u32,
    /// Streams that have not ended in good order.
    open_streams: u32,
    /// The last sign of life.
    last_us: u64,
}

/// What is known of a message's sends.
#[derive(Debug)]
struct Record {
    call_us: u64,
    acked_us: u64,
    topic: u32,
    key: u32,
    calls: u32,
    failures: u32,
}

impl Checker {
    /// A checker that has seen nothing.
    #[must_use]
    pub fn new(options: CheckerOptions) -> Self {
        Checker {
            options,
            ..Checker::default()
        }
    }

    /// Begins a stream: one process life in one role. Streams may be told in any order, also mixed.
    pub fn stream(&mut self, header: &Header) -> StreamId {
        let [topic, instance, incarnation] =
            [&header.topic, &header.instance, &header.incarnation].map(|name| self.names.of(name));
        let clock = self.clock(header);
        let started_us = self.shift(clock, header.started_at_us);
        let process = *self
            .process_of
            .entry((instance, incarnation))
            .or_insert_with(|| {
                self.processes.push(Process {
                    instance,
                    incarnation,
                    open_streams: 0,
                    last_us: 0,
                });
                index(self.processes.len() - 1)
            });
        let life = &mut self.processes[process as usize];
        life.open_streams += 1;
        life.last_us = life.last_us.max(started_us);
        let (subscription, dedup) = match &header.role {
            Role::Producer => (None, DedupScope::Group),
            Role::Consumer { group, dedup } => {
                let group = self.names.of(group);
                let known = self.subscriptions.iter();
                let place = known.clone().position(|known| *known == (topic, group));
                let place = place.unwrap_or_else(|| {
                    self.subscriptions.push((topic, group));
                    self.report.groups.push(GroupReport {
                        topic: self.names.text(topic).to_owned(),
                        group: self.names.text(group).to_owned(),
                        ..GroupReport::default()
                    });
                    self.subscriptions.len() - 1
                });
                (Some(index(place)), self.options.dedup.unwrap_or(*dedup))
            }
        };
        self.streams.push(Stream {
            process,
            topic,
            subscription,
            dedup,
            clock,
            ended: false,
            in_hand: HashMap::new(),
            beneath: HashMap::new(),
        });
        StreamId(index(self.streams.len() - 1))
    }

    /// Takes the stream's next event.
    pub fn add(&mut self, stream: StreamId, event: &Event<'_>) {
        self.report.events += 1;
        let at = self.shift(self.streams[stream.0 as usize].clock, event.at_us);
        let life = &mut self.streams[stream.0 as usize];
        let process = &mut self.processes[life.process as usize];
        process.last_us = process.last_us.max(at);
        if life.ended {
            self.unexpected(event, "after the end of its process");
            return;
        }
        match &event.what {
            What::Call { id, key } => {
                let key = key.as_deref().map_or(NONE, |key| self.names.of(key));
                let topic = self.streams[stream.0 as usize].topic;
                let record = self.record(id);
                record.calls += 1;
                record.call_us = record.call_us.min(at);
                record.topic = topic;
                record.key = key;
            }
            What::Acked { id, .. } => {
                let topic = self.streams[stream.0 as usize].topic;
                let record = self.record(id);
                record.acked_us = record.acked_us.min(at);
                if record.calls == 0 {
                    // It must be handled all the same.
                    record.topic = topic;
                    self.unexpected(event, "acked before its send was called");
                }
            }
            What::Ambiguous { id, .. } => {
                if self.record(id).calls == 0 {
                    self.unexpected(event, "ended before its send was called");
                }
            }
            What::Failed { id, .. } => {
                let record = self.record(id);
                record.failures += 1;
                if record.failures > record.calls {
                    self.unexpected(event, "failed more often than its send was called");
                }
            }
            What::Enter { id, .. } => self.enter(stream, event, id, at),
            What::Done { id } => self.leave(stream, event, id, at, Finish::Done),
            What::HandlerFailed { id } => self.leave(stream, event, id, at, Finish::Failed),
            What::Settled { id } => self.leave(stream, event, id, at, Finish::Settled),
            What::End => {
                let life = &mut self.streams[stream.0 as usize];
                life.ended = true;
                self.processes[life.process as usize].open_streams -= 1;
            }
        }
    }

    /// The verdict.
    #[must_use]
    pub fn finish(mut self) -> Report {
        let unfinished = self.processes.iter().filter(|life| life.open_streams > 0);
        self.report.unfinished_processes = unfinished.count() as u64;
        self.report.processes = self.processes.len() as u64;
        self.report.messages = self.records.len() as u64;
        self.report.clocks = self.clocks.len() as u64;
        self.judge();
        self.report
    }

    fn record(&mut self, id: &str) -> &mut Record {
        let place = self.ids.of(id) as usize;
        if place == self.records.len() {
            self.records.push(Record {
                call_us: NEVER,
                acked_us: NEVER,
                topic: NONE,
                key: NONE,
                calls: 0,
                failures: 0,
            });
        }
        &mut self.records[place]
    }

    /// The place of the header's clock.
    fn clock(&mut self, header: &Header) -> usize {
        let known = self
            .clocks
            .iter()
            .position(|(name, _)| **name == *header.clock);
        known.unwrap_or_else(|| {
            // When the clock was zero, by the wall.
            let zero =
                i128::from(header.started_unix_ms) * 1_000 - i128::from(header.started_at_us);
            if self.clocks.is_empty() {
                self.first_clock = zero;
            }
            self.clocks
                .push((header.clock.as_str().into(), zero - self.first_clock));
            self.clocks.len() - 1
        })
    }

    /// The time by the first clock.
    fn shift(&self, clock: usize, at_us: u64) -> u64 {
        let shifted = i128::from(at_us) + self.clocks[clock].1;
        u64::try_from(shifted.max(0)).map_or(NEVER - 1, |at| at.min(NEVER - 1))
    }

    fn unexpected(&mut self, event: &Event<'_>, why: &str) {
        self.report.unexpected += 1;
        let id = event.what.id().unwrap_or_default();
        self.example("unexpected", id.to_owned(), || {
            format!("{} at {} us: {why}", event.what.name(), event.at_us)
        });
    }

    fn example(&mut self, count: &str, id: String, what: impl FnOnce() -> String) {
        if self.options.examples == 0 {
            return;
        }
        match self.report.examples.get_mut(count) {
            Some(examples) if examples.len() >= self.options.examples => {}
            Some(examples) => examples.push(Example { id, what: what() }),
            None => {
                let first = vec![Example { id, what: what() }];
                self.report.examples.insert(count.to_owned(), first);
            }
        }
    }

    /// The name of a stream's process, for people.
    fn process_name(&self, stream: u32) -> String {
        let life = &self.processes[self.streams[stream as usize].process as usize];
        let [instance, incarnation] =
            [life.instance, life.incarnation].map(|name| self.names.text(name));
        format!("{instance} ({incarnation})")
    }
}

/// Memory runs out long before these numbers do.
fn index(place: usize) -> u32 {
    u32::try_from(place)
        .ok()
        .filter(|place| *place != NONE)
        .expect("fewer than four thousand million")
}
