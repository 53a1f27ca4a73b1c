//! What is counted of a world: effects of faults, and what ended as dead letters.

use std::{collections::BTreeMap, time::Duration};

use crossfade::{
    Side, Subscription,
    backend::fault::{FaultControl, FaultCounts},
};
use crossfade_history::{DedupScope, Header, Role, Side as HistorySide, What};

use crate::{
    GROUPS, TOPIC,
    fault::Fault,
    instance::{Instance, POISON},
    world::World,
};

impl World {
    /// How often each fault has touched something so far.
    pub(crate) fn effects_now(&self) -> BTreeMap<Fault, u64> {
        let mut effects = self.effects.counts();
        let mut add = |fault: Fault, count: u64| *effects.entry(fault).or_default() += count;
        let sum = |controls: &mut dyn Iterator<Item = &FaultControl>| {
            controls.fold(FaultCounts::default(), |mut sum, control| {
                let counts = control.counts();
                sum.delayed += counts.delayed;
                sum.stalled += counts.stalled;
                sum.sends += counts.sends;
                sum
            })
        };
        let shared = sum(&mut self.ground.faults.iter());
        add(Fault::Stall, shared.stalled);
        add(Fault::SlowCluster, shared.delayed);
        add(Fault::BadSends, shared.sends);
        add(Fault::ControlPlaneCut, sum(&mut self.ways.iter()).stalled);
        let own = sum(&mut self.instances.iter().flat_map(|one| &one.ways));
        add(Fault::BrokerCut, own.stalled);
        add(Fault::BrokerAnswersCut, own.sends);
        effects
    }

    /// Keeps what was counted of an instance whose place is taken.
    pub(crate) fn retire(&mut self, instance: usize) {
        for counts in self.instances[instance]
            .ways
            .each_ref()
            .map(FaultControl::counts)
        {
            self.effects.add(Fault::BrokerCut, counts.stalled);
            self.effects.add(Fault::BrokerAnswersCut, counts.sends);
        }
    }

    /// Lets a guest leave in good order.
    pub(crate) fn dismiss(&mut self, mut guest: Instance) {
        if let Some(life) = guest.life.take() {
            self.let_leave(life, Duration::ZERO);
        }
    }

    /// Handles what lies in the dead-letter topics, as their owner does. Only what a group's handlers have refused again and again may be there
    /// unhandled.
    pub(crate) async fn bury(&mut self) {
        for group in GROUPS {
            let stream = self.record.stream(Header {
                instance: format!("owner of {group}"),
                incarnation: "1".to_owned(),
                role: Role::Consumer {
                    group: group.to_owned(),
                    dedup: DedupScope::Group,
                },
                topic: TOPIC.to_owned(),
                clock: String::new(),
                started_at_us: 0,
                started_unix_ms: 0,
            });
            for side in Side::BOTH {
                for id in self.dead_letters(side, group).await {
                    let (handled, failed) = self.record.fate(group, &id);
                    if handled {
                        continue;
                    }
                    if !failed {
                        self.violations.push(format!(
                            "{id} is a dead letter of {group}, whose handlers never failed with it"
                        ));
                    }
                    if id.ends_with(POISON) {
                        self.effects.touch(Fault::DeadLetters);
                    }
                    self.record.note_handled(group, &id);
                    let id = || id.as_str().into();
                    let side = match side {
                        Side::Source => HistorySide::Source,
                        Side::Target => HistorySide::Target,
                    };
                    let entered = What::Enter {
                        id: id(),
                        side,
                        attempt: 1,
                    };
                    self.record.add(stream, "owner", entered);
                    self.record.add(stream, "owner", What::Done { id: id() });
                    self.record.add(stream, "owner", What::Settled { id: id() });
                }
            }
        }
    }

    async fn dead_letters(&self, side: Side, group: &str) -> Vec<String> {
        let backend = self.ground.clusters[side.index()].backend("owner");
        let topic = format!("%DLQ%{group}");
        let reading = Subscription::new(topic, format!("owner-of-{group}"));
        // Without a dead letter there is no such topic.
        let Ok(consumer) = backend.consumer(&reading).await else {
            return Vec::new();
        };
        let mut ids = Vec::new();
        while let Ok(received) = consumer.receive(64, Duration::ZERO).await {
            if received.is_empty() {
                break;
            }
            for incoming in received {
                let id = String::from_utf8_lossy(&incoming.message.body).into_owned();
                ids.push(id);
                // The cluster is in this process: an ack cannot fail.
                let _ = consumer.ack(incoming.token).await;
            }
        }
        ids
    }
}
