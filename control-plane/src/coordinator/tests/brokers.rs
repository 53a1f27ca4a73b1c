//! The two brokers: what they are asked to do, and what a look at them sees.

use crossfade::{
    Access,
    backend::{Backlog, ConnectedClient, GroupMembers, QueueBacklog, QueueId, TopicSettings},
    control::wire::LeaseMode,
};

use super::*;

impl World {
    pub(super) fn perform(&mut self, work: Work) -> Event {
        match work {
            Work::Inspect { topic, token, .. } => {
                let sides = Side::BOTH.map(|side| self.look(side));
                Event::Facts {
                    topic,
                    token,
                    facts: Facts {
                        begun: self.now,
                        sides,
                    },
                }
            }
            Work::SetAccess {
                topic,
                side,
                access,
                token,
                ..
            } => {
                let result = if self.answers_lost {
                    self.in_flight.push((side, access));
                    Err("no answer".to_owned())
                } else {
                    self.access[side.index()] = access;
                    self.mixed[side.index()] = false;
                    Ok(())
                };
                Event::AccessChanged {
                    topic,
                    side,
                    access,
                    token,
                    result,
                }
            }
            Work::CommitFirstOffsets { topic, token, .. } => Event::FirstOffsets {
                topic,
                token,
                result: Ok(()),
            },
            Work::ReadEnds {
                topic,
                side,
                frozen,
                token,
                ..
            } => {
                self.check_barrier();
                let ends = [(queue_id(0), self.end[side.index()])].into();
                Event::Ends {
                    topic,
                    token,
                    frozen,
                    result: match self.ends_fail {
                        true => Err("a broker does not answer".to_owned()),
                        false => Ok(ends),
                    },
                }
            }
        }
    }

    pub(super) fn look(&self, side: Side) -> SideFacts {
        let access = self.access[side.index()];
        let (end, owed) = (self.end[side.index()], self.owed[side.index()]);
        let queue = QueueBacklog {
            queue: queue_id(0),
            min: 0,
            end,
            committed: Some(end - owed),
        };
        let tick = u64::from(self.busy) * u64::try_from(self.now.as_millis()).unwrap();
        let retry = QueueBacklog {
            queue: queue_id(0),
            min: tick / 2,
            end: tick,
            committed: Some(tick.saturating_sub(2)),
        };
        let backlog = Backlog {
            queues: vec![queue.clone()],
            retry_of_others: retry.owed().saturating_sub(self.retrying[side.index()]),
            retry: vec![retry],
            delayed: Some(0),
            half: Some(0),
            dead_letters: Some(tick),
        };
        let mut backlogs = BTreeMap::from([(GROUP.into(), backlog)]);
        if self.stranger && side == Side::Source {
            let unread = QueueBacklog {
                committed: None,
                ..queue
            };
            let backlog = Backlog {
                queues: vec![unread],
                delayed: Some(0),
                half: Some(0),
                ..Backlog::default()
            };
            backlogs.insert("console".into(), backlog);
        }
        SideFacts {
            unknown: Vec::new(),
            access: Some(access),
            disagreement: self.mixed[side.index()].then(|| "a: open, b: sealed".into()),
            grown: self.grown[side.index()].clone(),
            queues: (0..if access == Access::Sealed { 0 } else { QUEUES })
                .map(queue_id)
                .collect(),
            ends: [(queue_id(0), end)].into(),
            groups: [(GROUP.into(), group(&[]))].into(),
            backlogs,
            producers: self.producers.clone(),
            ..SideFacts::default()
        }
    }

    pub(super) fn store_message(&mut self, side: Side) {
        self.end[side.index()] += 1;
        self.owed[side.index()] += 1;
    }

    /// What got no answer lands after all.
    pub(super) fn land(&mut self) {
        for (side, access) in self.in_flight.drain(..) {
            self.access[side.index()] = access;
        }
    }
}

pub(super) fn queue_id(queue: u32) -> QueueId {
    QueueId {
        broker: "b".into(),
        queue,
    }
}

/// A group that exists, with these members.
pub(super) fn group(client_ids: &[&str]) -> GroupFacts {
    let clients = client_ids.iter().map(|id| ConnectedClient {
        client_id: (*id).to_owned(),
        ..ConnectedClient::default()
    });
    GroupFacts {
        exists: true,
        members: GroupMembers {
            clients: clients.collect(),
            ..GroupMembers::default()
        },
    }
}

pub(super) fn settings() -> TopicSettings {
    TopicSettings {
        queues: QUEUES,
        saved: json!({"read": QUEUES, "write": QUEUES, "perm": 6}),
    }
}

/// What the log is told: the beginning and the end, and nothing between.
#[test]
fn trouble_is_told_when_it_begins_and_when_it_is_over() {
    let mut world = World::with_apps([LeaseMode::Continue; 2]);
    world.answers_lost = true;
    world.advance(Stage::DualRead);
    let mut told = Vec::new();
    let mut rounds = |world: &mut World, count: usize| {
        for _ in 0..count {
            for index in 0..world.apps.len() {
                world.sync(index);
            }
            for work in std::mem::take(&mut world.work) {
                let event = world.perform(work);
                let step = world.coordinator.handle(event, world.now);
                told.extend(step.trouble.map(|(_, trouble)| trouble.is_some()));
                world.work.extend(step.work);
            }
            world.now += Duration::from_millis(600);
            let _ = world.handle(Event::Tick);
        }
    };
    // Several tries, with looks between them.
    rounds(&mut world, 60);
    assert!(world.in_flight.len() > 1);
    world.answers_lost = false;
    rounds(&mut world, 60);
    assert_eq!(world.view().stage, Stage::DualRead);
    assert_eq!(told, [true, false]);
}
