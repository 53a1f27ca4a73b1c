//! The coordinator: a pure state machine. Events in, decisions out; no clock and no I/O of its own, so that the server, a simulator and a model
//! checker run the same code.
//!
//! Time is a duration that only grows, counted by whoever drives it.

mod accounting;
mod command;
mod event;
mod facts;
mod fingerprint;
mod gate;
mod keys;
mod membership;
mod order;
mod outdated;
mod reconcile;
mod row;
mod timing;
mod topic;
mod view;
mod walk;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use crossfade::{
    Revision, Side,
    backend::TopicSettings,
    control::wire::{self, Clusters, PlanDocument, SyncRequest},
    stage::Stage,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

pub use event::{Actor, Answer, AskedOverride, Command, Config, Event, Refusal, Step, Terms, Work};
pub use facts::{Facts, GroupFacts, SideFacts};
pub use gate::{Code, Entry, Gate, Limits, Owed, Policy};
pub use keys::{KeysView, MoveView};
pub use membership::{Member, MemberRecord, Membership, Standing};
pub use row::{Abandoned, Changing, Override, Proved, Reopening, TopicRecord};
pub use timing::Timing;
pub use view::{ClientKind, ClientView, InstanceView, TopicView};

use self::{outdated::Listening, topic::Topic};
use crate::record::{AuditEntry, Kind, Record};

/// The counter and what is no longer managed.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
struct Meta {
    revision: Revision,
    /// Topics that were removed, with the revision of the removal; the newest [`command::MAX_REMOVED`].
    removed: Vec<(Arc<str>, Revision)>,
    /// What is kept of them, for when they come back.
    #[serde(default, rename = "kept")]
    released: Vec<Released>,
    /// The clusters that the plans are about.
    #[serde(default)]
    clusters: Option<Clusters>,
}

/// What is kept of a topic that was removed.
#[derive(Clone, Debug, Deserialize, Serialize)]
struct Released {
    topic: Arc<str>,
    /// Where it was.
    stage: Stage,
    /// Its own configuration: a side that is still sealed does not tell it.
    settings: [TopicSettings; 2],
    /// What its unread side was proved to hold.
    proved: Option<Proved>,
    /// What was given up there.
    abandoned: Option<Abandoned>,
}

/// The row of the counter.
pub const META_KEY: &str = "coordinator";

/// Holds the stages, decides when a topic may move on.
#[derive(Clone, Debug)]
pub struct Coordinator {
    config: Config,
    meta: Meta,
    members: Membership,
    topics: BTreeMap<Arc<str>, Topic>,
    last_token: u64,
    /// Nothing is changed yet.
    listening: Option<Listening>,
    /// What instances know that this store has never held, in words, by their names: nothing is changed any more.
    newer: BTreeMap<String, String>,
}

impl Coordinator {
    /// Continues from what was stored. Plans, goals, membership and settings are kept; acks and proofs are not, and leases count anew.
    ///
    /// # Errors
    /// A row that cannot be read, by name.
    pub fn restore(config: Config, records: Vec<Record>, now: Duration) -> Result<Self, String> {
        let mut meta = Meta::default();
        let mut members = Vec::new();
        let mut topics = BTreeMap::new();
        for record in records {
            let unreadable = |error: serde_json::Error| {
                format!("stored {} {}: {error}", record.kind.as_str(), record.key)
            };
            match record.kind {
                Kind::Meta if record.key == META_KEY => {
                    meta = serde_json::from_value(record.value.clone()).map_err(unreadable)?;
                }
                Kind::Meta => {}
                Kind::Instance => {
                    members.push(serde_json::from_value(record.value.clone()).map_err(unreadable)?);
                }
                Kind::Topic => {
                    let row: TopicRecord =
                        serde_json::from_value(record.value.clone()).map_err(unreadable)?;
                    let topic = Topic::new(row, &config, now);
                    topics.insert(Arc::clone(&topic.record.plan.topic), topic);
                }
            }
        }
        check_clusters(&meta, &config)?;
        meta.clusters = Some(config.clusters.clone());
        let members = Membership::restore(config.timing, members, now);
        let listening = Listening::begin(meta.revision, &members, now);
        Ok(Coordinator {
            config,
            meta,
            members,
            topics,
            last_token: 0,
            listening,
            newer: BTreeMap::new(),
        })
    }

    /// The row of the counter, which names the clusters too.
    #[must_use]
    pub fn row_of_counter(&self) -> Record {
        put(Kind::Meta, META_KEY, &self.meta)
    }

    /// Takes one event. When the change cannot be stored, throw this coordinator away and [`restore`](Self::restore) one: then nothing is half changed.
    pub fn handle(&mut self, event: Event, now: Duration) -> Step {
        let mut step = Step::default();
        let subject = match &event {
            Event::Facts { topic, .. }
            | Event::AccessChanged { topic, .. }
            | Event::FirstOffsets { topic, .. }
            | Event::Ends { topic, .. } => Some(Arc::clone(topic)),
            _ => None,
        };
        let trouble = |topics: &BTreeMap<Arc<str>, Topic>| {
            let topic = subject.as_ref().and_then(|name| topics.get(name));
            topic.and_then(|topic| topic.trouble.clone())
        };
        let before = trouble(&self.topics);
        match event {
            Event::Sync(request) => self.sync(&request, now, &mut step),
            Event::Tick => {
                let forgotten = self.members.forget(now);
                step.change.deletes.extend(
                    forgotten
                        .into_iter()
                        .map(|member| (Kind::Instance, member.incarnation)),
                );
            }
            Event::LookAgain { topics } => {
                for name in topics {
                    if let Some(topic) = self.topics.get_mut(&name) {
                        topic.look_wanted = now;
                    }
                }
            }
            Event::Command { actor, command } => {
                let answer = self.command(&actor, command, now, &mut step);
                step.answer = Some(answer.map(|()| Answer::Done));
            }
            Event::Facts {
                topic,
                token,
                facts,
            } => {
                let topic = take(&mut self.topics, &topic, token);
                if let Some(before) = topic.map(|topic| topic.record.clone()) {
                    let name = &before.plan.topic;
                    let routing = |name: &Arc<str>| {
                        let known = self.topics.get(name);
                        known.map(|known| known.record.plan.routing)
                    };
                    self.members.note_clients(name, &facts, routing);
                    let reports = self.members.reports(name, now);
                    if let Some(topic) = self.topics.get_mut(name) {
                        topic.writes.looked(&facts, &reports, now);
                        topic.looked(facts);
                    }
                    self.stored_if_changed(&before, &mut step);
                }
            }
            Event::AccessChanged {
                topic,
                side,
                access,
                token,
                result,
            } => {
                let done = match &result {
                    Ok(()) => json!(access),
                    Err(reason) => json!({"wanted": access, "failed": reason}),
                };
                let name = format!("{topic} on the {side}");
                let entry = audit("control-plane", "access", &name, Value::Null, done);
                step.change.audit.push(entry);
                if let Some(topic) = take(&mut self.topics, &topic, token) {
                    let before = topic.record.clone();
                    topic.access_changed(side, access, result, &self.config.timing, now);
                    self.stored_if_changed(&before, &mut step);
                }
            }
            Event::FirstOffsets {
                topic,
                token,
                result,
            } => {
                if let Some(topic) = take(&mut self.topics, &topic, token) {
                    topic.first_offsets(result, now);
                }
            }
            Event::Ends {
                topic,
                token,
                frozen,
                result,
            } => {
                if let Some(topic) = take(&mut self.topics, &topic, token) {
                    topic.ends_read(frozen, result);
                }
            }
        }
        let after = trouble(&self.topics);
        // Its numbers may change with every look.
        step.trouble = subject
            .filter(|_| before.is_some() != after.is_some())
            .map(|name| (name, after));
        self.reconcile(now, &mut step);
        step
    }

    /// When to send a [`Event::Tick`], if nothing happens before.
    #[must_use]
    pub fn next_tick(&self) -> Option<Duration> {
        if self.is_outdated() {
            return None;
        }
        let mut due: Option<Duration> = None;
        for topic in self.topics.values() {
            // Nothing is called off while the store may be an older copy.
            let freeze = topic.freeze_due().filter(|_| self.listening.is_none());
            let idle = topic.work.is_none() && freeze.is_none();
            let next = freeze.or_else(|| idle.then(|| topic.due(&self.members)));
            due = due.into_iter().chain(next).min();
        }
        due
    }

    /// The control plane's revision.
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.meta.revision
    }

    /// Plans and removals after `known`; all plans for revision 0.
    #[must_use]
    pub fn plans_after(&self, known: Revision) -> PlanDocument {
        let plans = self.topics.values().map(|topic| &topic.record.plan);
        let removed = self
            .meta
            .removed
            .iter()
            .filter(|(_, revision)| *revision > known);
        PlanDocument {
            version: wire::VERSION,
            revision: self.meta.revision,
            clusters: self.config.clusters.clone(),
            plans: plans
                .filter(|plan| plan.revision > known)
                .cloned()
                .collect(),
            removed: removed.map(|(topic, _)| Arc::clone(topic)).collect(),
            ..PlanDocument::default()
        }
    }

    /// The epoch of this start.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.config.epoch
    }

    /// How long things last.
    #[must_use]
    pub fn timing(&self) -> Timing {
        self.config.timing
    }

    /// One topic, as people see it.
    #[must_use]
    pub fn topic(&self, name: &str, now: Duration) -> Option<TopicView> {
        self.topics
            .get(name)
            .map(|topic| self.told(TopicView::new(topic, &self.members, now), now))
    }

    /// One topic with the gates of its step toward `to`, or of the next one; only from looks begun at `since` or later.
    #[must_use]
    pub fn check(
        &self,
        name: &str,
        to: Option<Stage>,
        since: Duration,
        now: Duration,
    ) -> Option<TopicView> {
        let topic = self.topics.get(name)?;
        let next = match to {
            Some(to) => topic.stage().toward(to),
            None => topic.next_stage(),
        };
        let gates = topic.gates_to(next, &topic.record, &self.members, since, now);
        let view = TopicView::with(topic, &self.members, next, gates, now);
        Some(self.told(view, now))
    }

    /// The names of all topics.
    pub fn names(&self) -> impl Iterator<Item = &Arc<str>> {
        self.topics.keys()
    }

    /// Whether a topic's last look was begun at `since` or later. An unknown topic needs none.
    #[must_use]
    pub fn looked_since(&self, name: &str, since: Duration) -> bool {
        let topic = self.topics.get(name);
        topic.is_none_or(|topic| {
            let looked = topic.facts.as_ref();
            looked.is_some_and(|facts| facts.begun >= since)
        })
    }

    /// The clients that the brokers list for a topic's groups, and the producers of the clusters, as of the last look.
    #[must_use]
    pub fn clients(&self, name: &str, now: Duration) -> Option<Vec<ClientView>> {
        let topic = self.topics.get(name)?;
        Some(view::clients(topic.facts.as_ref(), &self.members, now))
    }

    /// All topics.
    #[must_use]
    pub fn topics(&self, now: Duration) -> Vec<TopicView> {
        self.topics
            .values()
            .map(|topic| self.told(TopicView::new(topic, &self.members, now), now))
            .collect()
    }

    /// Signs that a process under this name which is out of contact still runs: where the last looks found its client ids, and how long ago.
    #[must_use]
    pub fn still_listed(&self, instance: &str, now: Duration) -> Vec<String> {
        let mut found: BTreeMap<(&str, Side), Duration> = BTreeMap::new();
        let silent = self.members.iter().filter(|member| {
            member.record.instance == instance
                && member.standing(&self.members.timing, now) != Standing::Live
        });
        for member in silent {
            for facts in self
                .topics
                .values()
                .filter_map(|topic| topic.facts.as_ref())
            {
                for side in Side::BOTH {
                    for id in facts.side(side).listed(&member.record.client_ids) {
                        let begun = found.entry((id, side)).or_default();
                        *begun = facts.begun.max(*begun);
                    }
                }
            }
        }
        let words = found.into_iter().map(|((id, side), begun)| {
            let age = now.saturating_sub(begun).as_secs_f64();
            format!("the {side} listed {id} {age:.1} s ago")
        });
        words.collect()
    }

    /// The client ids of all instances.
    #[must_use]
    pub fn client_ids(&self) -> BTreeSet<String> {
        let ids = self.members.client_ids().into_iter();
        ids.map(str::to_owned).collect()
    }

    /// All instances.
    #[must_use]
    pub fn instances(&self, now: Duration) -> Vec<InstanceView> {
        self.members
            .iter()
            .map(|member| InstanceView::new(member, &self.members.timing, now))
            .collect()
    }

    fn sync(&mut self, request: &SyncRequest, now: Duration, step: &mut Step) {
        self.note_newer(request);
        if request.leaving {
            self.keep_listening();
        }
        let registered = self.members.sync(request, now);
        let put = |record: &MemberRecord| put(Kind::Instance, &record.incarnation, record);
        step.change.puts.extend(registered.stored.iter().map(put));
        for gone in &registered.deleted {
            step.change
                .deletes
                .push((Kind::Instance, gone.incarnation.clone()));
        }
        step.answer = Some(Ok(Answer::Sync {
            superseded: registered.superseded,
        }));
    }

    /// Writes a topic's row and the counter.
    fn store(&self, record: &TopicRecord, step: &mut Step) {
        let key = record.plan.topic.to_string();
        step.change
            .puts
            .retain(|put| put.kind != Kind::Meta && (put.kind, &put.key) != (Kind::Topic, &key));
        step.change.puts.push(put(Kind::Topic, &key, record));
        step.change.puts.push(self.row_of_counter());
    }

    fn next_revision(&mut self) -> Revision {
        self.meta.revision.0 += 1;
        self.meta.revision
    }

    fn known(&mut self, topic: &str) -> Result<&mut Topic, Refusal> {
        self.topics
            .get_mut(topic)
            .ok_or_else(|| Refusal::unknown(topic))
    }
}

fn check_clusters(meta: &Meta, config: &Config) -> Result<(), String> {
    match &meta.clusters {
        Some(known) if *known != config.clusters && !config.accept_new_addresses => {
            let name = |clusters: &Clusters| {
                let side = |address: &Option<String>| address.clone().unwrap_or("(in code)".into());
                format!("{} to {}", side(&clusters.source), side(&clusters.target))
            };
            Err(format!(
                "it belongs to {}, not to {}: start with those clusters, or with another --store. \
                 If they are the same clusters under new addresses: --accept-new-addresses",
                name(known),
                name(&config.clusters)
            ))
        }
        _ => Ok(()),
    }
}

/// The topic whose work this was, unless the work was given up meanwhile.
fn take<'a>(
    topics: &'a mut BTreeMap<Arc<str>, Topic>,
    name: &str,
    token: u64,
) -> Option<&'a mut Topic> {
    let topic = topics.get_mut(name)?;
    if topic.work != Some(token) {
        return None;
    }
    topic.work = None;
    Some(topic)
}

fn put(kind: Kind, key: &str, value: &impl Serialize) -> Record {
    // Rows are plain data with text keys, which always have a JSON form.
    let value = serde_json::to_value(value).unwrap_or_default();
    Record {
        kind,
        key: key.to_owned(),
        value,
    }
}

fn audit(actor: &str, action: &str, subject: &str, before: Value, after: Value) -> AuditEntry {
    AuditEntry {
        actor: actor.into(),
        action: action.into(),
        subject: subject.into(),
        before,
        after,
        reason: String::new(),
    }
}

#[cfg(test)]
mod tests;
