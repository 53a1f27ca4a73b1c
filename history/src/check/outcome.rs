//! The end of a check: each message's outcome.

use std::collections::HashMap;

use super::{Checker, NEVER, NONE, Record, entries::Handling, index, order::Place};

/// What the sends of a message came to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Sent {
    Never,
    Acked,
    /// An ambiguous error, or no end at all: the process died first.
    Ambiguous,
    Failed,
}

impl Record {
    fn sent(&self) -> Sent {
        if self.acked_us != NEVER {
            Sent::Acked
        } else if self.calls == 0 {
            Sent::Never
        } else if self.failures >= self.calls {
            Sent::Failed
        } else {
            Sent::Ambiguous
        }
    }
}

impl Checker {
    pub(super) fn judge(&mut self) {
        let mut entries = std::mem::take(&mut self.entries);
        // Stable: entries with equal times stay as they were told.
        entries.sort_by_key(|entry| (entry.record, entry.subscription, entry.at_us));
        let mut groups_of: HashMap<u32, Vec<u32>> = HashMap::new();
        for (place, (topic, _)) in self.subscriptions.iter().enumerate() {
            groups_of.entry(*topic).or_default().push(index(place));
        }
        let mut by_message = entries.chunk_by(|a, b| a.record == b.record).peekable();
        let mut handlings: Vec<(u32, Handling)> = Vec::new();
        let mut places = Vec::new();
        for place in 0..self.records.len() {
            handlings.clear();
            let of_message = by_message.next_if(|of| of[0].record as usize == place);
            let by_group = of_message
                .unwrap_or_default()
                .chunk_by(|a, b| a.subscription == b.subscription);
            for of_group in by_group {
                handlings.push((of_group[0].subscription, self.judge_entries(of_group)));
            }
            let groups = groups_of.get(&self.records[place].topic);
            self.judge_message(place, groups.map_or(&[], Vec::as_slice), &handlings);
            self.place_in_order(place, &handlings, &mut places);
        }
        self.judge_order(places);
    }

    /// `groups` are those of the message's topic; `handlings` those of all groups that entered it, sorted.
    fn judge_message(&mut self, place: usize, groups: &[u32], handlings: &[(u32, Handling)]) {
        for (group, handling) in handlings {
            let handled = handling.first_done_us != NEVER;
            self.report.groups[*group as usize].handled += u64::from(handled);
        }
        let of = |group: &u32| {
            let found = handlings.binary_search_by_key(group, |(group, _)| *group);
            found.ok().map(|found| handlings[found].1)
        };
        let record = &self.records[place];
        let sent = record.sent();
        let entered = !handlings.is_empty();
        let partly = groups.iter().any(|group| of(group).is_none());
        let (acked_us, id) = (record.acked_us, || self.ids.text(index(place)));
        match (sent, entered) {
            (Sent::Acked, _) => {
                let handled = |group: &u32| of(group).is_some_and(|it| it.first_done_us != NEVER);
                // A topic that nobody reads loses what is sent to it.
                let mut words = vec!["no group reads the topic".to_owned()];
                if !groups.is_empty() {
                    words.clear();
                }
                for group in groups.iter().filter(|group| !handled(group)) {
                    self.report.groups[*group as usize].acked_lost += 1;
                    let name = self.names.text(self.subscriptions[*group as usize].1);
                    let how = of(group).map_or("never entered", |_| "entered, never done");
                    words.push(format!("group {name}: {how}"));
                }
                if words.is_empty() {
                    self.report.acked_handled += 1;
                    return;
                }
                let id = id();
                self.report.acked_lost += 1;
                self.example("acked_lost", id, || {
                    format!("acked at {acked_us} us; {}", words.join(", "))
                });
            }
            (Sent::Ambiguous, true) => {
                self.report.ambiguous_handled += 1;
                if partly {
                    let id = id();
                    self.report.ambiguous_partly += 1;
                    self.example("ambiguous_partly", id, || {
                        "entered by some groups only".into()
                    });
                }
            }
            (Sent::Ambiguous, false) => {
                let id = id();
                self.report.ambiguous_absent += 1;
                self.example("ambiguous_absent", id, || "no handler was entered".into());
            }
            (Sent::Failed, false) => self.report.failed_absent += 1,
            (Sent::Failed, true) => {
                let id = id();
                self.report.failed_handled += 1;
                self.example("failed_handled", id, || {
                    "every send failed for certain, and a handler was entered".into()
                });
            }
            (Sent::Never, true) => {
                let id = id();
                self.report.never_sent += 1;
                self.example("never_sent", id, || {
                    "a handler was entered; no send was called".into()
                });
            }
            // Only ends without beginnings told of it, each counted as unexpected.
            (Sent::Never, false) => self.report.messages -= 1,
        }
    }

    fn place_in_order(&self, place: usize, handlings: &[(u32, Handling)], places: &mut Vec<Place>) {
        let record = &self.records[place];
        if record.key == NONE {
            return;
        }
        for (subscription, handling) in handlings {
            if self.subscriptions[*subscription as usize].0 == record.topic {
                places.push(Place {
                    subscription: *subscription,
                    key: record.key,
                    record: index(place),
                    call_us: record.call_us,
                    acked_us: record.acked_us,
                    enter_us: handling.first_enter_us,
                    done_us: handling.first_done_us,
                });
            }
        }
    }
}
