//! Lets the topics do what is next: looks, changes of access, publications, and what is written of them.

use std::{sync::Arc, time::Duration};

use crossfade::Side;
use serde_json::{Value, json};

use super::{
    Coordinator, audit,
    event::{Step, Work},
    gate,
    row::{Changing, TopicRecord},
    topic::{Next, Row},
};
use crate::record::AuditEntry;

impl Coordinator {
    /// Lets every topic do its next thing.
    pub(super) fn reconcile(&mut self, now: Duration, step: &mut Step) {
        if self.is_outdated() {
            return;
        }
        let may_change = self.may_change(now);
        let names: Vec<Arc<str>> = self.topics.keys().cloned().collect();
        for name in names {
            // A publication is followed by the next thing at once; nothing else is.
            while let Some(topic) = self.topics.get_mut(&name) {
                let next = match may_change {
                    true => topic.next(&self.members, now),
                    false => topic.next_look(&self.members, now),
                };
                match next {
                    Next::Publish(row) => {
                        self.publish(&name, row, now, step);
                        continue;
                    }
                    Next::Release => {
                        self.release(&name, step);
                        break;
                    }
                    _ => {}
                }
                self.last_token += 1;
                let token = self.last_token;
                let record = &topic.record;
                let work = match next {
                    Next::Rest | Next::Publish(_) | Next::Release => break,
                    Next::Look => {
                        topic.writes.asked(self.members.reports(&name, now));
                        Work::Inspect {
                            topic: Arc::clone(&name),
                            token,
                            groups: record.groups.clone(),
                            settings: record.settings.clone(),
                            delays: gate::asks_for_delays(record),
                        }
                    }
                    Next::Access(side, access) => {
                        let settings = record.settings[side.index()].clone();
                        topic.record.changing = Some(Changing { side, access });
                        Work::SetAccess {
                            topic: Arc::clone(&name),
                            side,
                            settings,
                            access,
                            token,
                        }
                    }
                    Next::FirstOffsets => Work::CommitFirstOffsets {
                        topic: Arc::clone(&name),
                        side: Side::Target,
                        groups: record.groups.clone(),
                        settings: record.settings[Side::Target.index()].clone(),
                        token,
                    },
                    Next::ReadEnds(side) => Work::ReadEnds {
                        topic: Arc::clone(&name),
                        side,
                        settings: record.settings[side.index()].clone(),
                        frozen: topic.ends_asked(),
                        token,
                    },
                };
                topic.work = Some(token);
                if let Work::SetAccess { .. } = work {
                    let record = topic.record.clone();
                    self.store(&record, step);
                }
                step.work.push(work);
                break;
            }
        }
    }

    fn publish(&mut self, name: &Arc<str>, row: Row, now: Duration, step: &mut Step) {
        let revision = self.next_revision();
        let Some(topic) = self.topics.get_mut(name) else {
            return;
        };
        let before = &topic.record.plan;
        let plan = topic.following(row, revision, &self.members);
        let entry = audit("control-plane", "publish", name, json!(before), json!(plan));
        let reason = topic.turns(row, &self.members, now);
        step.change.audit.push(AuditEntry { reason, ..entry });
        topic.published(plan, now);
        let record = topic.record.clone();
        if let Some(left) = &record.abandoned {
            let reasons: Vec<&str> = left.by.iter().map(|one| one.reason.as_str()).collect();
            let by: Vec<&str> = left.by.iter().map(|one| one.by.as_str()).collect();
            let entry = audit(&by.join(", "), "abandon", name, Value::Null, left.numbers());
            step.change.audit.push(AuditEntry {
                reason: reasons.join("; "),
                ..entry
            });
        }
        self.store(&record, step);
        step.wake = true;
    }

    /// Writes the row of a topic that an outcome has changed, and what an operator must be told.
    pub(super) fn stored_if_changed(&self, before: &TopicRecord, step: &mut Step) {
        let name = &before.plan.topic;
        let Some(topic) = self
            .topics
            .get(name)
            .filter(|topic| topic.record != *before)
        else {
            return;
        };
        let record = topic.record.clone();
        if record.settings != before.settings {
            let entry = audit(
                "control-plane",
                "grow",
                name,
                json!(before.settings),
                json!(record.settings),
            );
            step.change.audit.push(entry);
        }
        if record.reopened != before.reopened {
            let entry = audit(
                "control-plane",
                "reopen",
                name,
                json!({"stage": before.plan.stage}),
                json!(record.reopening),
            );
            step.change.audit.push(entry);
        }
        self.store(&record, step);
    }
}
