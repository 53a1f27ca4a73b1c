//! Who runs, what they do, and what they have applied.

mod member;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use crossfade::{
    Side,
    control::wire::{SyncRequest, Unreadable},
    stage::Routing,
};

pub use member::{Member, MemberRecord, Standing};

use self::member::Unlisted;
use super::{accounting::Reports, facts::Facts, fingerprint::debug, timing::Timing};

/// All instances.
#[derive(Clone, Debug)]
pub struct Membership {
    /// How long things last.
    pub timing: Timing,
    members: BTreeMap<(String, String), Member>,
    /// The newest incarnations that have left: an overtaken request of theirs must not bring them back.
    left: VecDeque<String>,
    /// When a producer of a topic came or went last, counted in such changes.
    changes: BTreeMap<Arc<str>, u64>,
    last_change: u64,
}

/// Incarnations that have left and are still remembered.
const MAX_LEFT: usize = 1_024;

/// What a request changed.
#[derive(Debug, Default)]
pub(super) struct Registered {
    /// To be stored before the answer.
    pub(super) stored: Vec<MemberRecord>,
    /// To be deleted.
    pub(super) deleted: Vec<MemberRecord>,
    /// A newer process runs under this name.
    pub(super) superseded: bool,
}

impl Membership {
    /// What was stored; every lease counts anew from `now`.
    #[must_use]
    pub fn restore(timing: Timing, records: Vec<MemberRecord>, now: Duration) -> Self {
        let member = |record: MemberRecord| {
            let key = (record.instance.clone(), record.incarnation.clone());
            (key, Member::new(record, now))
        };
        Membership {
            timing,
            members: records.into_iter().map(member).collect(),
            left: VecDeque::new(),
            changes: BTreeMap::new(),
            last_change: 0,
        }
    }

    /// Every instance.
    pub fn iter(&self) -> impl Iterator<Item = &Member> {
        self.members.values()
    }

    /// The names of those that were stored and have not been heard since the start.
    pub fn unheard(&self) -> impl Iterator<Item = &str> {
        let members = self.members.values();
        let unheard = members.filter(|member| !member.has_been_heard && !member.record.superseded);
        unheard.map(|member| member.record.instance.as_str())
    }

    /// Those with a role in a topic.
    pub fn of_topic(&self, topic: &str) -> impl Iterator<Item = &Member> {
        self.members
            .values()
            .filter(move |member| !member.record.superseded && member.has_role_in(topic))
    }

    /// What [`iter`](Self::iter) does not show.
    pub(super) fn fingerprint(&self, accounting: bool, into: &mut impl std::hash::Hasher) {
        debug(&self.left, into);
        if accounting {
            let counters = self.iter().map(|member| &member.counters);
            debug(&(&self.changes, counters.collect::<Vec<_>>()), into);
        }
    }

    /// The names of the queues of a side that the live members of a group have been assigned.
    #[must_use]
    pub fn assigned_ids(
        &self,
        topic: &str,
        group: &str,
        side: Side,
        now: Duration,
    ) -> BTreeSet<&str> {
        self.of_topic(topic)
            .filter(|member| member.standing(&self.timing, now) == Standing::Live)
            .flat_map(|member| &member.roles)
            .filter(|role| &*role.topic == topic)
            .flat_map(|role| &role.consumes)
            .filter(|consumer| &*consumer.group == group)
            .flat_map(|consumer| &consumer.sides)
            .filter(|state| state.side == side)
            .flat_map(|state| &state.queue_ids)
            .map(String::as_str)
            .collect()
    }

    /// Where queues of a side stand at messages that live instances cannot read: the instance, the group, and what it says.
    pub(super) fn unreadable<'a>(
        &'a self,
        topic: &'a str,
        side: Side,
        now: Duration,
    ) -> impl Iterator<Item = (&'a str, &'a Arc<str>, &'a Unreadable)> {
        let live = self
            .of_topic(topic)
            .filter(move |member| member.standing(&self.timing, now) == Standing::Live);
        live.flat_map(move |member| {
            let roles = member
                .roles
                .iter()
                .filter(move |role| &*role.topic == topic);
            let consumers = roles.flat_map(|role| &role.consumes);
            consumers.flat_map(move |consumer| {
                let states = consumer
                    .sides
                    .iter()
                    .filter(move |state| state.side == side);
                states
                    .flat_map(|state| &state.unreadable)
                    .map(|one| (member.record.instance.as_str(), &consumer.group, one))
            })
        })
    }

    /// The client ids of every instance that is known.
    pub(super) fn client_ids(&self) -> BTreeSet<&str> {
        let ids = self
            .members
            .values()
            .flat_map(|member| &member.record.client_ids);
        ids.map(String::as_str).collect()
    }

    /// The instance behind a client id.
    pub(super) fn instance_of(&self, client_id: &str) -> Option<String> {
        let mut members = self.members.values();
        let owner = members.find(|member| member.record.client_ids.contains(client_id));
        owner.map(|member| member.record.instance.clone())
    }

    /// What the producers of a topic have reported, of those that may still act.
    pub(super) fn reports(&self, topic: &str, now: Duration) -> Reports {
        let producers = self
            .of_topic(topic)
            .filter(|member| member.record.produces.contains(topic))
            .filter(|member| member.standing(&self.timing, now) != Standing::Harmless)
            .map(|member| (member.record.incarnation.clone(), member.report(topic)));
        Reports {
            stamp: self.changes.get(topic).copied().unwrap_or(0),
            producers: producers.collect(),
        }
    }

    /// A producer of these topics came or went.
    fn changed(&mut self, topics: &BTreeSet<Arc<str>>) {
        if topics.is_empty() {
            return;
        }
        self.last_change += 1;
        for topic in topics {
            self.changes.insert(Arc::clone(topic), self.last_change);
        }
    }

    pub(super) fn sync(&mut self, request: &SyncRequest, now: Duration) -> Registered {
        let mut registered = Registered::default();
        let key = (request.instance.clone(), request.incarnation.clone());
        if self
            .members
            .get(&key)
            .is_some_and(|member| member.record.superseded)
        {
            registered.superseded = true;
            return registered;
        }
        if self.left.contains(&request.incarnation) || self.is_overtaken(&key, request.sequence) {
            return registered;
        }
        if request.leaving {
            if self.left.len() == MAX_LEFT {
                self.left.pop_front();
            }
            self.left.push_back(request.incarnation.clone());
            let left = self.members.remove(&key).map(|member| member.record);
            if let Some(left) = &left {
                self.changed(&left.produces);
            }
            registered.deleted.extend(left);
            return registered;
        }
        let record = MemberRecord::of(request);
        let known = self.members.get(&key).map(|member| &member.record);
        if known != Some(&record) {
            let before = known.map(|known| known.produces.clone());
            let before = before.unwrap_or_default();
            self.changed(
                &before
                    .symmetric_difference(&record.produces)
                    .cloned()
                    .collect(),
            );
            registered.stored.push(record.clone());
        }
        let member = self
            .members
            .entry(key)
            .or_insert_with(|| Member::new(record.clone(), now));
        member.record = record;
        member.sequence = request.sequence;
        member.heard = now;
        member.has_been_heard = true;
        member.unlisted.clear();
        member.needs_a_word = false;
        member.acks.clone_from(&request.acks);
        member.roles.clone_from(&request.roles);
        member.counters.clone_from(&request.counters);
        // A refusal stands until the instance has applied something newer.
        member.refused.retain(|old| {
            request
                .acks
                .get(&old.topic)
                .is_none_or(|ack| *ack < old.revision)
        });
        member
            .refused
            .extend(request.refused.iter().take(64).cloned());
        member.refused.truncate(64);
        registered
            .stored
            .extend(self.supersede(&request.instance, &request.incarnation, now));
        registered
    }

    /// A later request has been taken: what this one says was true before, and is not any more.
    fn is_overtaken(&self, key: &(String, String), sequence: u64) -> bool {
        let last = self.members.get(key).map_or(0, |member| member.sequence);
        sequence != 0 && sequence < last
    }

    /// A process that is known to be gone makes room for its successor under the same name.
    fn supersede(&mut self, instance: &str, newest: &str, now: Duration) -> Vec<MemberRecord> {
        let timing = self.timing;
        let older = self.members.values_mut().filter(|member| {
            member.record.instance == instance
                && member.record.incarnation != newest
                && !member.record.superseded
                && member.standing(&timing, now) == Standing::Harmless
        });
        older
            .map(|member| {
                member.record.superseded = true;
                member.record.clone()
            })
            .collect()
    }

    /// Notes which lost instances the brokers list no more; never one that sends to an ordered topic, because a process that stands still is not listed
    /// either, and what it sends when it goes on would be out of order. Silence about a group that was not looked at on both sides says nothing, nor does that of
    /// brokers which may have been restarted just now: it has to last. An instance with several topics is gone once looks at each of them say so; those
    /// that are not managed, so that nobody looks at them, go with the others.
    pub(super) fn note_clients(
        &mut self,
        topic: &Arc<str>,
        facts: &Facts,
        routing: impl Fn(&Arc<str>) -> Option<Routing>,
    ) {
        let (timing, begun) = (self.timing, facts.begun);
        let complete = facts.sides.iter().all(|side| side.unknown.is_empty());
        for member in self.members.values_mut() {
            let ids = &member.record.client_ids;
            let over = begun.saturating_sub(member.heard) > timing.lease + timing.margin;
            if ids.is_empty() || !over {
                continue;
            }
            let produces = member.record.produces.contains(topic);
            let by_word = produces && routing(topic) == Some(Routing::Ordered);
            member.needs_a_word |= by_word;
            if facts.sides.iter().any(|side| side.lists_any(ids)) {
                member.unlisted.clear();
                continue;
            }
            let looked_at = |group: &Arc<str>| {
                let mut sides = facts.sides.iter();
                sides.all(|side| side.backlogs.contains_key(group))
            };
            let consumes = member.record.consumes.get(topic);
            let would_be_listed = !by_word
                && consumes.is_none_or(|groups| groups.iter().all(looked_at))
                && (!produces || facts.sides.iter().all(|side| side.producers.is_some()));
            if !produces && consumes.is_none() {
                continue;
            }
            if complete && would_be_listed {
                let first = Unlisted {
                    since: begun,
                    proved: false,
                };
                let seen = member.unlisted.entry(Arc::clone(topic)).or_insert(first);
                seen.proved |= begun.saturating_sub(seen.since) >= timing.relist;
                let seen = *seen;
                let record = &member.record;
                let topics = record.produces.iter().chain(record.consumes.keys());
                let others = topics.filter(|topic| routing(topic).is_none());
                let others = others.map(|topic| (Arc::clone(topic), seen));
                member.unlisted.extend(others);
            } else if member.unlisted.get(topic).is_some_and(|seen| !seen.proved) {
                member.unlisted.remove(topic);
            }
        }
    }

    /// A topic is managed from now on: looks at it have still to come.
    pub(super) fn look_anew(&mut self, topic: &str) {
        for member in self.members.values_mut() {
            member.unlisted.remove(topic);
        }
    }

    /// An operator says that the lost processes under a name are gone.
    pub(super) fn confirm_gone(&mut self, instance: &str, now: Duration) -> ConfirmGone {
        let timing = self.timing;
        let named: Vec<_> = self
            .members
            .iter()
            .filter(|((name, _), _)| name == instance)
            .collect();
        if named.is_empty() {
            return ConfirmGone::Unknown;
        }
        let gone: Vec<_> = named
            .into_iter()
            .filter(|(_, member)| member.standing(&timing, now) != Standing::Live)
            .map(|(key, _)| key.clone())
            .collect();
        if gone.is_empty() {
            return ConfirmGone::Alive;
        }
        let removed = gone.iter().filter_map(|key| self.members.remove(key));
        ConfirmGone::Gone(removed.map(|member| member.record).collect())
    }

    /// Those that are harmless and long gone.
    pub(super) fn forget(&mut self, now: Duration) -> Vec<MemberRecord> {
        let timing = self.timing;
        let old: Vec<_> = self
            .members
            .iter()
            .filter(|(_, member)| {
                let quiet = now.saturating_sub(member.heard) > timing.forget;
                let harmless =
                    member.record.superseded || member.standing(&timing, now) == Standing::Harmless;
                quiet && harmless
            })
            .map(|(key, _)| key.clone())
            .collect();
        old.iter()
            .filter_map(|key| self.members.remove(key))
            .map(|member| member.record)
            .collect()
    }
}

/// What became of an operator's word.
#[derive(Debug)]
pub(super) enum ConfirmGone {
    Gone(Vec<MemberRecord>),
    Alive,
    Unknown,
}
