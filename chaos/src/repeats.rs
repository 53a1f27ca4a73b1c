//! Finds every handler that was entered again, and what made it so.

use std::{
    collections::{BTreeMap, HashMap},
    fs::File,
    io::{self, BufReader},
};

use crossfade_history::{Line, Reader, Role, What};
use serde::Serialize;

use crate::{
    explain::{Cause, Entered, explain},
    failure::{Result, failed},
    fleet::History,
    timeline::Entry,
};

/// Examples of each cause in a report.
const EXAMPLES: usize = 5;

/// All of them in figures.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Repeats {
    /// Entries after the first one of a message in a group, except those after a handler that failed.
    pub total: u64,
    /// Where they came from.
    pub by_cause: BTreeMap<Cause, u64>,
    /// Of all these, those whose first handler had not succeeded when it was cut off.
    pub cut_off: u64,
    /// Some of each cause.
    pub examples: Vec<Example>,
}

/// One of them.
#[derive(Clone, Debug, Serialize)]
pub struct Example {
    /// The message.
    pub id: String,
    /// Where it came from.
    pub cause: Cause,
    /// The entry before.
    pub first: Entered,
    /// The entry again.
    pub second: Entered,
    /// How long its send took, in microseconds, if it ended.
    pub send_us: Option<u64>,
}

/// What is known of a message that was entered more than once in some group.
#[derive(Debug, Default)]
struct Story {
    called_us: Option<u64>,
    ended_us: Option<u64>,
    /// By group.
    entries: BTreeMap<String, Vec<(Entered, Outcome)>>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Outcome {
    CutOff,
    Done,
    Failed,
}

impl Repeats {
    /// Reads the histories twice: once to find the messages, once for their stories.
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn find(histories: &[History], timeline: &[Entry]) -> Result<Self> {
        let mut stories = suspects(histories)?;
        tell(histories, &mut stories)?;
        let mut repeats = Repeats::default();
        // In the order of their ids, so that a report can be compared with another one.
        let stories: BTreeMap<_, _> = stories.into_iter().collect();
        for (id, story) in stories {
            let send_us = story
                .called_us
                .zip(story.ended_us)
                .map(|(from, to)| to.saturating_sub(from));
            for mut entries in story.entries.into_values() {
                entries.sort_by_key(|(entered, _)| entered.at_us);
                for (place, (second, _)) in entries.iter().enumerate().skip(1) {
                    let earlier = &entries[..place];
                    // The same process, if it had entered it without failing; else whoever was last.
                    let own = earlier.iter().rev().find(|(first, outcome)| {
                        (first.who, first.life) == (second.who, second.life)
                            && *outcome != Outcome::Failed
                    });
                    let last = earlier
                        .iter()
                        .rev()
                        .find(|(_, outcome)| *outcome != Outcome::Failed);
                    if let Some((first, outcome)) = own.or(last) {
                        let cause = explain(first, second, send_us, timeline);
                        repeats.add(
                            Example {
                                id: id.to_string(),
                                cause,
                                first: *first,
                                second: *second,
                                send_us,
                            },
                            *outcome,
                        );
                    }
                }
            }
        }
        Ok(repeats)
    }

    /// How many are not accounted for.
    #[must_use]
    pub fn forbidden(&self) -> u64 {
        let forbidden = self
            .by_cause
            .iter()
            .filter(|(cause, _)| !cause.is_allowed());
        forbidden.map(|(_, count)| *count).sum()
    }

    fn add(&mut self, example: Example, first: Outcome) {
        self.total += 1;
        self.cut_off += u64::from(first == Outcome::CutOff);
        let count = self.by_cause.entry(example.cause).or_default();
        *count += 1;
        if *count <= EXAMPLES as u64 {
            self.examples.push(example);
        }
    }
}

/// The messages that some group has entered more than once.
fn suspects(histories: &[History]) -> Result<HashMap<Box<str>, Story>> {
    let mut stories: HashMap<Box<str>, Story> = HashMap::new();
    let mut by_group: BTreeMap<String, Vec<&History>> = BTreeMap::new();
    for history in histories {
        let mut group = None;
        // Only the header's part.
        each(history, |_, of| {
            group = of.map(str::to_owned);
            false
        })?;
        if let Some(group) = group {
            by_group.entry(group).or_default().push(history);
        }
    }
    for histories in by_group.into_values() {
        let mut entered: HashMap<Box<str>, bool> = HashMap::new();
        for history in histories {
            each(history, |event, _| {
                if let What::Enter { id, .. } = &event.what {
                    match entered.get_mut(&**id) {
                        Some(again) => *again = true,
                        None => drop(entered.insert(id.as_ref().into(), false)),
                    }
                }
                true
            })?;
        }
        let again = entered.into_iter().filter(|(_, again)| *again);
        stories.extend(again.map(|(id, _)| (id, Story::default())));
    }
    Ok(stories)
}

fn tell(histories: &[History], stories: &mut HashMap<Box<str>, Story>) -> Result<()> {
    for history in histories {
        each(history, |event, group| {
            let (What::Call { id, .. }
            | What::Acked { id, .. }
            | What::Ambiguous { id, .. }
            | What::Failed { id, .. }
            | What::Enter { id, .. }
            | What::Done { id }
            | What::HandlerFailed { id }) = &event.what
            else {
                return true;
            };
            let Some(story) = stories.get_mut(&**id) else {
                return true;
            };
            let group = group.unwrap_or_default();
            match &event.what {
                What::Call { .. } => story.called_us = Some(event.at_us),
                What::Enter { side, .. } => {
                    let entered = Entered {
                        who: history.who,
                        life: history.life,
                        at_us: event.at_us,
                        side: *side,
                    };
                    let entries = story.entries.entry(group.to_owned()).or_default();
                    entries.push((entered, Outcome::CutOff));
                }
                What::Done { .. } => story.close(history, group, Outcome::Done),
                What::HandlerFailed { .. } => story.close(history, group, Outcome::Failed),
                _ => story.ended_us = Some(event.at_us),
            }
            true
        })?;
    }
    Ok(())
}

impl Story {
    /// The newest entry of this life is over.
    fn close(&mut self, history: &History, group: &str, outcome: Outcome) {
        let entries = self.entries.get_mut(group).into_iter().flatten();
        let own = entries
            .rev()
            .find(|(entered, _)| (entered.who, entered.life) == (history.who, history.life));
        if let Some((_, open)) = own {
            *open = outcome;
        }
    }
}

/// Calls `see` with every event of a history and the consumer's group, as long as it answers true.
pub(crate) fn each(
    history: &History,
    mut see: impl FnMut(crossfade_history::Event<'_>, Option<&str>) -> bool,
) -> Result<()> {
    let told = |error: io::Error| failed(format!("{}: {error}", history.path.display()));
    let file = File::open(&history.path).map_err(told)?;
    let mut reader = Reader::new(BufReader::with_capacity(1 << 20, file));
    let mut group = None;
    while let Some(line) = reader.next_line().map_err(told)? {
        match line {
            Line::Header(header) => {
                group = match header.role {
                    Role::Producer => None,
                    Role::Consumer { group, .. } => Some(group),
                };
            }
            Line::Event(event) => {
                if !see(event, group.as_deref()) {
                    break;
                }
            }
            Line::Torn | Line::Foreign | Line::Version { .. } => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{borrow::Cow, path::Path, sync::Arc};

    use crossfade_history::{DedupScope, Header, Side, Stamp, Writer};

    use super::*;
    use crate::schedule::{Job, Who};

    fn life(folder: &Path, job: Job, index: usize, stamp: &Arc<Stamp>) -> (History, Writer) {
        let who = Who { job, index };
        let history = History {
            who,
            life: 1,
            path: folder.join(format!("{who}.1.jsonl")),
        };
        let role = match job {
            Job::Producer => Role::Producer,
            Job::Consumer => Role::Consumer {
                group: "g".into(),
                dedup: DedupScope::Process,
            },
        };
        let header = Header {
            instance: who.to_string(),
            incarnation: "1".into(),
            role,
            topic: "t".into(),
            clock: String::new(),
            started_at_us: 0,
            started_unix_ms: 0,
        };
        let writer = Writer::append(&history.path, &header, Arc::clone(stamp)).unwrap();
        (history, writer)
    }

    fn enter(writer: &Writer, id: &str) {
        let id = Cow::Borrowed(id);
        writer
            .record(What::Enter {
                id,
                side: Side::Source,
                attempt: 1,
            })
            .unwrap();
    }

    fn done(writer: &Writer, id: &str) {
        writer
            .record(What::Done {
                id: Cow::Borrowed(id),
            })
            .unwrap();
    }

    #[test]
    fn repeats_are_found_across_lives_and_excused_only_for_other_processes() {
        let folder = tempfile::tempdir().unwrap();
        let stamp = Arc::new(Stamp::new(|| 0));
        let (producer, p) = life(folder.path(), Job::Producer, 0, &stamp);
        let (first, a) = life(folder.path(), Job::Consumer, 0, &stamp);
        let (second, b) = life(folder.path(), Job::Consumer, 1, &stamp);
        for id in ["once", "failed", "cut-off", "moved", "doubled"] {
            p.record(What::Call {
                id: Cow::Borrowed(id),
                key: None,
            })
            .unwrap();
            enter(&a, id);
        }
        done(&a, "once");
        done(&a, "moved");
        done(&a, "doubled");
        let id = Cow::Borrowed("failed");
        a.record(What::HandlerFailed { id }).unwrap();
        for id in ["failed", "cut-off", "moved"] {
            enter(&b, id);
            done(&b, id);
        }
        enter(&a, "doubled");
        let timeline = [Entry {
            at_us: 1,
            happening: crate::timeline::Happening::Started { who: second.who },
        }];
        let repeats = Repeats::find(&[producer, first, second], &timeline).unwrap();
        let expected = BTreeMap::from([(Cause::QueueMoved, 2), (Cause::SameProcess, 1)]);
        assert_eq!(repeats.by_cause, expected);
        assert_eq!(
            (repeats.total, repeats.cut_off, repeats.forbidden()),
            (3, 1, 1)
        );
    }
}
