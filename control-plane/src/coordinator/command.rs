//! What operators ask for.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use crossfade::{
    Access, Revision, Side,
    backend::{TopicDescription, TopicSettings},
    stage::{Routing, Stage, TopicPlan, Weight},
};
use serde_json::{Value, json};

use super::{
    Coordinator, Released, audit,
    event::{Actor, Command, Refusal, Step},
    gate,
    membership::{ConfirmGone, Member, Standing},
    row::TopicRecord,
    topic::Topic,
};
use crate::record::{AuditEntry, Kind};

/// Removed topics that are still told to instances.
pub(super) const MAX_REMOVED: usize = 1_000;
/// Longest name of a topic or a group: what RocketMQ allows for a topic.
const MAX_NAME_BYTES: usize = 127;

impl Coordinator {
    pub(super) fn command(
        &mut self,
        actor: &Actor,
        command: Command,
        now: Duration,
        step: &mut Step,
    ) -> Result<(), Refusal> {
        let who = if actor.name.is_empty() {
            &actor.role
        } else {
            &actor.name
        };
        self.refuse_outdated(&command, now)?;
        self.is_staying(&command)?;
        match command {
            Command::Add {
                topic,
                groups,
                weight,
                routing,
                described,
                accepted,
            } => {
                let record = self.added(&topic, groups, weight, routing, described)?;
                self.meta.removed.retain(|(removed, _)| *removed != topic);
                self.meta
                    .released
                    .retain(|released| released.topic != topic);
                let after = json!({"groups": record.groups, "routing": routing, "settings": record.settings});
                step.change.audit.push(AuditEntry {
                    reason: accepted.unwrap_or_default(),
                    ..audit(who, "add", &topic, Value::Null, after)
                });
                step.wake = true;
                self.store(&record, step);
                self.members.look_anew(&topic);
                self.topics
                    .insert(topic, Topic::new(record, &self.config, now));
            }
            Command::Advance { topic, to, terms } => {
                let record = &self.known(&topic)?.record;
                let stage = record.plan.stage;
                // From the stage published: asking twice, because an answer was lost, is asking once.
                let next = to.or_else(|| stage.toward(Stage::TargetOnly));
                let to = next.ok_or_else(|| at_the_end(record, "advance"))?;
                if to < stage {
                    return Err(wrong_way(record, to, "beyond", "rollback"));
                }
                if to == stage && record.goal != stage {
                    return Err(leaves(record));
                }
                self.walk(who, "advance", &topic, to, &terms, now, step)?;
            }
            Command::Rollback { topic, to, terms } => {
                let record = &self.known(&topic)?.record;
                // Going back on a step that is only decided is a rollback too.
                let decided = record.goal > record.plan.stage;
                let stage = record.plan.stage;
                let next = to
                    .or_else(|| decided.then_some(stage))
                    .or_else(|| stage.toward(Stage::SourceOnly));
                let to = next.ok_or_else(|| at_the_end(record, "rollback"))?;
                if to > stage && to >= record.goal {
                    return Err(wrong_way(record, to, "before", "advance"));
                }
                if to == stage && record.goal < stage {
                    return Err(leaves(record));
                }
                self.walk(who, "rollback", &topic, to, &terms, now, step)?;
            }
            Command::Cancel { topic } => {
                let known = self.known(&topic)?;
                known.record.leaving = false;
                let stage = known.stage();
                if known.record.wanted_move().is_some() {
                    // The keys stay where they are, too.
                    let kept = known.record.plan.weight;
                    let before = std::mem::replace(&mut known.record.weight, kept);
                    let [before, after] =
                        [before, kept].map(|weight| json!({"weight_basis_points": weight}));
                    let entry = audit(who, "weight", &topic, before, after);
                    step.change.audit.push(entry);
                }
                self.set_goal(who, "cancel", &topic, stage, now, step)?;
            }
            Command::SetWeight { topic, weight } => {
                let known = self.known(&topic)?;
                let mut record = known.record.clone();
                let before = json!({"weight_basis_points": record.weight});
                record.weight = weight;
                step.change.audit.push(audit(
                    who,
                    "weight",
                    &topic,
                    before,
                    json!({"weight_basis_points": weight}),
                ));
                self.store(&record, step);
                let known = self.known(&topic)?;
                known.record = record;
                known.order.relax();
            }
            Command::Remove { topic } => self.remove(who, &topic, now, step)?,
            Command::ConfirmGone { instance, reason } => {
                self.confirm_gone(who, &instance, &reason, now, step)?
            }
        }
        Ok(())
    }

    fn added(
        &mut self,
        topic: &Arc<str>,
        groups: Vec<Arc<str>>,
        weight: Option<Weight>,
        routing: Routing,
        described: [Option<TopicDescription>; 2],
    ) -> Result<TopicRecord, Refusal> {
        if self.topics.contains_key(topic) {
            return Err(Refusal::new(
                "conflict",
                format!(
                    "topic {topic} is managed already: crossfade topic show {topic}. To change its groups: remove it, then add it with all of them"
                ),
            ));
        }
        let groups: BTreeSet<Arc<str>> = groups.into_iter().collect();
        for name in groups.iter().chain([topic]) {
            let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"%|-_".contains(&byte);
            if name.is_empty() || name.len() > MAX_NAME_BYTES || !name.bytes().all(allowed) {
                return Err(Refusal::new(
                    "invalid_request",
                    format!(
                        "{name:?} is no name of a topic or a group: 1 to {MAX_NAME_BYTES} letters, digits or the characters % | - _"
                    ),
                ));
            }
        }
        if groups.is_empty() {
            return Err(Refusal::new(
                "invalid_request",
                format!(
                    "topic {topic}: name the consumer groups that move with it (--group G,...)"
                ),
            ));
        }
        let stage = self.begins_at(topic, &described);
        // Sealed by us when it was removed: its own configuration was kept.
        let released = self.released(topic);
        // A target that was open meanwhile was proved to hold nothing.
        let moved = released.filter(|_| stage == Stage::TargetOnly);
        let (proved, abandoned) = moved
            .map(|moved| (moved.proved.clone(), moved.abandoned.clone()))
            .unwrap_or_default();
        let [Some(source), Some(target)] = described else {
            return Err(missing(topic, &described));
        };
        let mut settings = Vec::new();
        for (side, description) in Side::BOTH.into_iter().zip([source, target]) {
            if let Some(mixed) = description.disagreement.filter(|_| released.is_none()) {
                return Err(Refusal::new(
                    "conflict",
                    format!(
                        "{side}: {mixed}. Which of it is its own configuration is not known: make the brokers agree (mqadmin updateTopic), then add it"
                    ),
                ));
            }
            let own = match (description.access, released) {
                (Access::Open, _) => description.settings,
                (_, Some(released)) => released.settings[side.index()].clone(),
                (access, None) => {
                    return Err(Refusal::new(
                        "conflict",
                        format!(
                            "topic {topic} is {access} on the {side}, and its own configuration is not known: give it its permission and its queues back on the brokers (mqadmin updateTopic), then add it"
                        ),
                    ));
                }
            };
            settings.push(own);
        }
        let settings = <[TopicSettings; 2]>::try_from(settings)
            .map_err(|_| Refusal::new("invalid_request", "two sides are needed"))?;
        let plan = TopicPlan {
            topic: Arc::clone(topic),
            stage,
            weight: Weight::ZERO,
            routing,
            moves: Vec::new(),
            revision: self.next_revision(),
            previous_revision: Revision(0),
        };
        let weight = weight.unwrap_or_else(|| Weight::from_basis_points(5_000).unwrap_or_default());
        let groups = groups.into_iter().collect();
        Ok(TopicRecord {
            proved,
            abandoned,
            ..TopicRecord::new(plan, weight, groups, settings)
        })
    }

    /// The stage in which a topic would be managed. One that had moved and was removed goes on from where it is: as a new topic its writers would be
    /// sent back to the source.
    pub(crate) fn begins_at(
        &self,
        topic: &str,
        described: &[Option<TopicDescription>; 2],
    ) -> Stage {
        let accesses = described.each_ref();
        let accesses = accesses.map(|side| side.as_ref().map(|side| side.access));
        let wanted = Side::BOTH.map(|side| Some(Stage::TargetOnly.access(side)));
        match self.released(topic) {
            Some(released) if released.stage == Stage::TargetOnly && accesses == wanted => {
                Stage::TargetOnly
            }
            _ => Stage::SourceOnly,
        }
    }

    fn released(&self, topic: &str) -> Option<&Released> {
        let mut released = self.meta.released.iter();
        released.find(|released| &*released.topic == topic)
    }

    pub(super) fn set_goal(
        &mut self,
        who: &str,
        action: &str,
        topic: &Arc<str>,
        goal: Stage,
        now: Duration,
        step: &mut Step,
    ) -> Result<(), Refusal> {
        let known = self.known(topic)?;
        let before = json!({"stage": known.stage(), "goal": known.record.goal});
        if known.record.goal != goal {
            known.goal_changes(now);
            known.record.reopening = None;
            known.record.overrides.clear();
        }
        known.record.goal = goal;
        let record = known.record.clone();
        step.change
            .audit
            .push(audit(who, action, topic, before, json!({"goal": goal})));
        self.store(&record, step);
        Ok(())
    }

    /// Nothing moves a topic that is being removed.
    fn is_staying(&self, command: &Command) -> Result<(), Refusal> {
        let (Command::Advance { topic, .. }
        | Command::Rollback { topic, .. }
        | Command::SetWeight { topic, .. }) = command
        else {
            return Ok(());
        };
        let leaving = |known: &Topic| known.record.leaving;
        if !self.topics.get(topic).is_some_and(leaving) {
            return Ok(());
        }
        Err(Refusal::new(
            "conflict",
            format!(
                "topic {topic} is being removed: its target is opened first. `crossfade topic cancel {topic}` keeps it"
            ),
        ))
    }

    fn remove(
        &mut self,
        who: &str,
        topic: &Arc<str>,
        now: Duration,
        step: &mut Step,
    ) -> Result<(), Refusal> {
        let members = &self.members;
        let known = self
            .topics
            .get_mut(topic)
            .ok_or_else(|| Refusal::unknown(topic))?;
        if known.record.leaving {
            return Ok(());
        }
        let end_stage = matches!(known.stage(), Stage::SourceOnly | Stage::TargetOnly);
        if !end_stage || !known.is_settled(members, now) {
            let gates = known.gates(members, now).into_iter();
            let why = known.trouble.as_ref();
            return Err(Refusal {
                gates: gates.filter(gate::Gate::blocks).collect(),
                ..Refusal::new(
                    "conflict",
                    format!(
                        "topic {topic} can be removed when it is settled in source_only or target_only; it is in {}{}{}",
                        known.stage(),
                        if end_stage { ", not settled" } else { "" },
                        why.map_or(String::new(), |why| format!(": {why}"))
                    ),
                )
            });
        }
        let users: Vec<String> = members
            .of_topic(topic)
            .filter(|member| member.standing(&members.timing, now) != Standing::Harmless)
            .map(Member::name)
            .collect();
        if !users.is_empty() {
            return Err(Refusal::new(
                "conflict",
                format!(
                    "topic {topic} is still used by {}: stop them first",
                    users.join(", ")
                ),
            ));
        }
        let before = json!(known.record);
        step.change
            .audit
            .push(audit(who, "remove", topic, before, Value::Null));
        if known.stage() != Stage::SourceOnly {
            // After a move the source stays sealed: whoever still writes there is told so by the broker.
            self.release(topic, step);
            return Ok(());
        }
        // As it was before the topic was added. The row stays until the brokers have confirmed it: a failure or a crash leaves nothing half done.
        known.record.leaving = true;
        let record = known.record.clone();
        self.store(&record, step);
        Ok(())
    }

    /// It is managed no more.
    pub(super) fn release(&mut self, topic: &Arc<str>, step: &mut Step) {
        let Some(known) = self.topics.remove(topic) else {
            return;
        };
        self.meta.released.push(Released {
            topic: Arc::clone(topic),
            stage: known.record.plan.stage,
            settings: known.record.settings,
            proved: known.record.proved,
            abandoned: known.record.abandoned,
        });
        let surplus = self.meta.released.len().saturating_sub(MAX_REMOVED);
        self.meta.released.drain(..surplus);
        step.change
            .puts
            .retain(|put| (put.kind, put.key.as_str()) != (Kind::Topic, &**topic));
        step.change.deletes.push((Kind::Topic, topic.to_string()));
        let revision = self.next_revision();
        self.meta.removed.push((Arc::clone(topic), revision));
        let surplus = self.meta.removed.len().saturating_sub(MAX_REMOVED);
        self.meta.removed.drain(..surplus);
        step.change.puts.retain(|put| put.kind != Kind::Meta);
        step.change.puts.push(self.row_of_counter());
        step.wake = true;
    }

    fn confirm_gone(
        &mut self,
        who: &str,
        instance: &str,
        reason: &str,
        now: Duration,
        step: &mut Step,
    ) -> Result<(), Refusal> {
        if reason.trim().is_empty() {
            return Err(Refusal::new(
                "invalid_request",
                "say how you know that it is gone (--reason TEXT); it is kept in the audit log",
            ));
        }
        let listed = self.still_listed(instance, now);
        let after = match listed.is_empty() {
            true => Value::Null,
            false => json!({"still_listed": listed}),
        };
        let confirmed = self.members.confirm_gone(instance, now);
        // Of one that answers, what it knows still holds.
        let newer = match confirmed {
            ConfirmGone::Alive => None,
            _ => self.newer.remove(instance),
        };
        match confirmed {
            ConfirmGone::Unknown if newer.is_some() => {
                step.change.audit.push(AuditEntry {
                    reason: reason.to_owned(),
                    ..audit(who, "confirm_gone", instance, json!(newer), Value::Null)
                });
                Ok(())
            }
            ConfirmGone::Unknown => Err(Refusal::new(
                "not_found",
                format!("no instance is named {instance}: crossfade instance list"),
            )),
            ConfirmGone::Alive => Err(Refusal::new(
                "conflict",
                format!("{instance} answers: it is not gone. Stop it instead"),
            )),
            ConfirmGone::Gone(records) => {
                for record in records {
                    let entry = audit(who, "confirm_gone", instance, json!(record), after.clone());
                    step.change.audit.push(AuditEntry {
                        reason: reason.to_owned(),
                        ..entry
                    });
                    step.change
                        .deletes
                        .push((Kind::Instance, record.incarnation));
                }
                Ok(())
            }
        }
    }
}

/// The stage asked for lies the other way.
fn wrong_way(record: &TopicRecord, to: Stage, is: &str, other: &str) -> Refusal {
    let (topic, stage) = (&record.plan.topic, record.plan.stage);
    Refusal::new(
        "conflict",
        format!(
            "topic {topic} is in {stage}, {is} {to}: `crossfade topic {other} {topic} --to {to}` leads there"
        ),
    )
}

/// A topic that is not on both sides yet.
fn missing(topic: &str, described: &[Option<TopicDescription>; 2]) -> Refusal {
    let absent = |side: &Side| described[side.index()].is_none();
    let sides: Vec<Side> = Side::BOTH.into_iter().filter(absent).collect();
    let message = match sides.as_slice() {
        [side] => format!("topic {topic} does not exist on the {side}: create it there first"),
        _ => format!(
            "topic {topic} exists neither on the source nor on the target: create it on both first, or check its name (and the namespace of the addresses)"
        ),
    };
    Refusal::new("not_found", message)
}

/// There is no further stage that way.
fn at_the_end(record: &TopicRecord, command: &str) -> Refusal {
    let (topic, stage) = (&record.plan.topic, record.plan.stage);
    let end = match stage {
        Stage::SourceOnly => "the first stage",
        _ => "the last stage",
    };
    Refusal::new(
        "conflict",
        format!("topic {topic} is in {stage}, {end}: {command} leads nowhere from here"),
    )
}

/// It is in the stage asked for, and about to leave it.
fn leaves(record: &TopicRecord) -> Refusal {
    let (topic, stage, goal) = (&record.plan.topic, record.plan.stage, record.goal);
    Refusal::new(
        "conflict",
        format!(
            "topic {topic} is in {stage} and on its way to {goal}: `crossfade topic cancel {topic}` keeps it in {stage}"
        ),
    )
}
