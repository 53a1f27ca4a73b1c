//! Entries into handlers: kept as they come, judged group by group and message by message.

use super::{Checker, NEVER, StreamId, index};
use crate::{
    event::{DedupScope, Event},
    report::Repeats,
};

/// How many earlier entries of a message one entry is held against: the first ones and the latest. Only a message that was entered more
/// often than this without failing could be told another source.
const COMPARED: usize = 64;

/// A handler was entered.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) at_us: u64,
    pub(super) end_us: u64,
    pub(super) record: u32,
    pub(super) subscription: u32,
    stream: u32,
    end: Option<Finish>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Finish {
    Done,
    /// Done, and the store knows.
    Settled,
    Failed,
}

/// What one group did with one message.
#[derive(Clone, Copy, Debug)]
pub(super) struct Handling {
    pub(super) first_enter_us: u64,
    /// `NEVER` when it was not handled.
    pub(super) first_done_us: u64,
}

/// Why a handler was entered again; the later, the more it weighs.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Again {
    Redelivered,
    Repeated(Source),
    Duplicated(Source),
}

#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Source {
    OtherGone,
    OtherAfterDone,
    OtherMeanwhile,
    SameAfterDone,
    SameMeanwhile,
}

impl Checker {
    pub(super) fn enter(&mut self, stream: StreamId, event: &Event<'_>, id: &str, at_us: u64) {
        let Some(subscription) = self.streams[stream.0 as usize].subscription else {
            self.unexpected(event, "in a producer's stream");
            return;
        };
        self.record(id);
        let record = self.ids.of(id);
        let entry = index(self.entries.len());
        self.entries.push(Entry {
            at_us,
            end_us: NEVER,
            record,
            subscription,
            stream: stream.0,
            end: None,
        });
        let life = &mut self.streams[stream.0 as usize];
        if let Some(before) = life.in_hand.insert(record, entry)
            && self.entries[before as usize].end.is_none()
        {
            life.beneath.entry(record).or_default().push(before);
        }
    }

    pub(super) fn leave(
        &mut self,
        stream: StreamId,
        event: &Event<'_>,
        id: &str,
        at_us: u64,
        end: Finish,
    ) {
        let record = self.ids.of(id);
        // What was never entered has no outcome either.
        if record as usize == self.records.len() {
            self.record(id);
        }
        let life = &mut self.streams[stream.0 as usize];
        let in_hand = life.in_hand.get(&record).copied();
        let entry = in_hand.map(|place| &mut self.entries[place as usize]);
        let ended = entry.as_ref().map(|entry| entry.end);
        match (entry, end) {
            (Some(entry), Finish::Settled) if ended == Some(Some(Finish::Done)) => {
                entry.end = Some(end);
                life.in_hand.remove(&record);
            }
            // Nobody keeps what was done in mind where the store is the process's own.
            (None, Finish::Settled) if life.dedup == DedupScope::Process => {}
            (Some(entry), Finish::Done | Finish::Failed) if ended == Some(None) => {
                (entry.end, entry.end_us) = (Some(end), at_us);
                let beneath = life.beneath.get_mut(&record).and_then(Vec::pop);
                match beneath {
                    Some(before) => {
                        life.in_hand.insert(record, before);
                    }
                    None if end == Finish::Done && life.dedup == DedupScope::Group => {}
                    None => {
                        life.in_hand.remove(&record);
                    }
                }
            }
            _ => self.unexpected(event, "its handler was not entered, or has ended"),
        }
    }

    /// Judges all entries of one message in one group, which are in the order of their times.
    pub(super) fn judge_entries(&mut self, entries: &[Entry]) -> Handling {
        let mut earlier: Vec<&Entry> = Vec::new();
        let mut first_done_us = NEVER;
        for (place, entry) in entries.iter().enumerate() {
            if let Some(Finish::Done | Finish::Settled) = entry.end {
                first_done_us = first_done_us.min(entry.end_us);
            }
            // A failure before this entry explains it and every later one.
            earlier.retain(|known| known.end != Some(Finish::Failed) || known.end_us > entry.at_us);
            let reasons = earlier
                .iter()
                .map(|known| (self.again(known, entry), *known));
            match reasons.max_by_key(|(again, _)| *again) {
                Some((again, known)) => self.count_again(again, known, entry),
                None if place > 0 => {
                    self.report.retried += 1;
                    self.report.groups[entry.subscription as usize].retried += 1;
                }
                None => {}
            }
            if earlier.len() >= COMPARED {
                earlier.remove(COMPARED / 2);
            }
            earlier.push(entry);
        }
        Handling {
            first_enter_us: entries.first().map_or(NEVER, |entry| entry.at_us),
            first_done_us,
        }
    }

    /// What `known`, an entry that has not failed before `entry`, makes of `entry`.
    fn again(&self, known: &Entry, entry: &Entry) -> Again {
        let [known_life, life] = [known, entry].map(|of| &self.streams[of.stream as usize]);
        let ended = known.end_us <= entry.at_us;
        if known_life.process == life.process {
            return Again::Duplicated(if ended {
                Source::SameAfterDone
            } else {
                Source::SameMeanwhile
            });
        }
        let process = &self.processes[known_life.process as usize];
        let gone = process.last_us <= entry.at_us;
        let crashed = gone && process.open_streams > 0;
        let shared = life.dedup == DedupScope::Group && known_life.dedup == DedupScope::Group;
        match known.end {
            None if gone => Again::Redelivered,
            Some(Finish::Done) if crashed && shared => Again::Redelivered,
            _ => {
                let source = match (ended, gone) {
                    (_, true) => Source::OtherGone,
                    (true, false) => Source::OtherAfterDone,
                    (false, false) => Source::OtherMeanwhile,
                };
                if shared {
                    Again::Duplicated(source)
                } else {
                    Again::Repeated(source)
                }
            }
        }
    }

    fn count_again(&mut self, again: Again, known: &Entry, entry: &Entry) {
        let report = &mut self.report;
        let group = &mut report.groups[entry.subscription as usize];
        let (count, why) = match again {
            Again::Redelivered => {
                report.redelivered_after_crash += 1;
                group.redelivered_after_crash += 1;
                (
                    "redelivered_after_crash",
                    "which is gone and had it in hand",
                )
            }
            Again::Repeated(source) => {
                report.repeated += 1;
                group.repeated += 1;
                report.repeated_by.add(source);
                ("repeated", source.words())
            }
            Again::Duplicated(source) => {
                report.duplicated += 1;
                group.duplicated += 1;
                report.duplicated_by.add(source);
                ("duplicated", source.words())
            }
        };
        let id = self.ids.text(entry.record);
        let group = self.subscriptions[entry.subscription as usize].1;
        let what = format!(
            "group {}: entered at {} us by {}, after an entry at {} us by {}, {why}",
            self.names.text(group),
            entry.at_us,
            self.process_name(entry.stream),
            known.at_us,
            self.process_name(known.stream),
        );
        self.example(count, id, || what);
    }
}

impl Source {
    fn words(self) -> &'static str {
        match self {
            Source::OtherGone => "which had handled it and is gone",
            Source::OtherAfterDone | Source::SameAfterDone => "which had handled it",
            Source::OtherMeanwhile | Source::SameMeanwhile => "which was handling it",
        }
    }
}

impl Repeats {
    fn add(&mut self, source: Source) {
        *match source {
            Source::OtherGone => &mut self.other_process_gone,
            Source::OtherAfterDone => &mut self.other_process_after_done,
            Source::OtherMeanwhile => &mut self.other_process_meanwhile,
            Source::SameAfterDone => &mut self.same_process_after_done,
            Source::SameMeanwhile => &mut self.same_process_meanwhile,
        } += 1;
    }
}
