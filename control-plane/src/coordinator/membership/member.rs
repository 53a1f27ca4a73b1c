//! One instance: what is stored of it, and what it has told.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use crossfade::{
    Revision, Side,
    control::wire::{Counters, LeaseMode, Refused, Role, SyncRequest},
};
use serde::{Deserialize, Serialize};

use super::super::{accounting::Report, timing::Timing};

/// What is stored of an instance, before its registration is answered.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct MemberRecord {
    /// The name, stable over restarts.
    pub instance: String,
    /// The process life.
    pub incarnation: String,
    /// What it does when its lease is over.
    pub lease_mode: LeaseMode,
    /// The ids that the brokers list.
    pub client_ids: BTreeSet<String>,
    /// Topics it sends to.
    pub produces: BTreeSet<Arc<str>>,
    /// Topics it consumes, with the groups.
    pub consumes: BTreeMap<Arc<str>, BTreeSet<Arc<str>>>,
    /// A newer process has taken over: this one is answered with that, and nothing else.
    pub superseded: bool,
}

/// One instance: what is stored, and what is known since this control plane started.
#[derive(Clone, Debug)]
pub struct Member {
    /// The stored part.
    pub record: MemberRecord,
    /// When it was heard of last.
    pub heard: Duration,
    /// Plans it has refused.
    pub refused: Vec<Refused>,
    /// Its totals.
    pub counters: Vec<Counters>,
    /// Since this control plane started.
    pub(super) has_been_heard: bool,
    pub(super) acks: BTreeMap<Arc<str>, Revision>,
    pub(super) roles: Vec<Role>,
    /// Of the last request that was taken.
    pub(super) sequence: u64,
    /// The topics of its roles for which the brokers of both sides list none of its client ids, in looks begun after its lease was over.
    pub(super) unlisted: BTreeMap<Arc<str>, Unlisted>,
    /// It is out of contact and sends to an ordered topic: the brokers' lists prove nothing about it.
    pub(super) needs_a_word: bool,
}

/// What looks at one topic say about a client that no broker lists.
#[derive(Clone, Copy, Debug)]
pub(super) struct Unlisted {
    /// The first of the looks without it; all looks since were complete and without it.
    pub(super) since: Duration,
    /// For so long that it is gone.
    pub(super) proved: bool,
}

/// Whether an instance may still act.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// Heard of within its lease.
    Live,
    /// Out of contact, and perhaps still running with its last plan: it blocks.
    Lost,
    /// Out of contact, and proved unable to do harm.
    Harmless,
}

impl Member {
    /// `name` and the beginning of the incarnation.
    #[must_use]
    pub fn name(&self) -> String {
        let incarnation = self
            .record
            .incarnation
            .get(..8)
            .unwrap_or(&self.record.incarnation);
        format!("{} ({incarnation})", self.record.instance)
    }

    /// Whether it may still act.
    #[must_use]
    pub fn standing(&self, timing: &Timing, now: Duration) -> Standing {
        if now.saturating_sub(self.heard) <= timing.lease + timing.margin {
            Standing::Live
        } else if self.record.lease_mode == LeaseMode::Stop || self.is_unlisted() {
            Standing::Harmless
        } else {
            Standing::Lost
        }
    }

    /// The revision of a topic that it says it has fully applied.
    #[must_use]
    pub fn acked(&self, topic: &str) -> Option<Revision> {
        self.acks.get(topic).copied()
    }

    /// What it has told since this control plane started, and what the brokers have said of it by each of these times. An ack of another revision than
    /// the one in force, which `in_force` tells of a topic, is as good as none.
    pub(in super::super) fn told<'a>(
        &'a self,
        timing: &Timing,
        by: [Duration; 2],
        in_force: impl Fn(&str) -> Option<Revision>,
    ) -> impl std::fmt::Debug + 'a {
        let lasts = |since: Duration| by.map(|at| at.saturating_sub(since) >= timing.relist);
        let unlisted = self.unlisted.iter();
        let unlisted = unlisted.map(|(topic, seen)| (topic, seen.proved, lasts(seen.since)));
        let unlisted: Vec<_> = unlisted.collect();
        let acks = self.acks.iter();
        let acks = acks.filter(|(topic, acked)| in_force(topic) == Some(**acked));
        let acks: Vec<_> = acks.map(|(topic, _)| topic).collect();
        let told = (acks, &self.roles, &self.refused, self.sequence);
        (told, unlisted, self.needs_a_word)
    }

    /// Without a role it was never to be found.
    fn is_unlisted(&self) -> bool {
        let record = &self.record;
        let mut topics = record.produces.iter().chain(record.consumes.keys());
        let proved = |topic| self.unlisted.get(topic).is_some_and(|seen| seen.proved);
        !self.unlisted.is_empty() && topics.all(proved)
    }

    /// Whether only an operator's word, its clean stop or its lease mode can prove it harmless.
    #[must_use]
    pub(in super::super) fn needs_a_word(&self) -> bool {
        self.needs_a_word
    }

    pub(super) fn report(&self, topic: &str) -> Report {
        let mut report = Report {
            name: self.name(),
            heard: self.heard,
            ..Report::default()
        };
        for row in self.counters.iter().filter(|row| &*row.topic == topic) {
            for side in Side::BOTH.map(Side::index) {
                let add = |sum: &mut u64, count: u64| *sum = sum.saturating_add(count);
                add(&mut report.sent[side], row.sent[side]);
                add(&mut report.errors[side], row.send_errors[side]);
                add(&mut report.repeated[side], row.retries[side]);
            }
        }
        report
    }

    pub(super) fn has_role_in(&self, topic: &str) -> bool {
        self.record.produces.contains(topic) || self.record.consumes.contains_key(topic)
    }
}

impl Member {
    pub(super) fn new(record: MemberRecord, heard: Duration) -> Self {
        Member {
            record,
            heard,
            refused: Vec::new(),
            counters: Vec::new(),
            has_been_heard: false,
            acks: BTreeMap::new(),
            roles: Vec::new(),
            sequence: 0,
            unlisted: BTreeMap::new(),
            needs_a_word: false,
        }
    }
}

impl MemberRecord {
    pub(super) fn of(request: &SyncRequest) -> Self {
        let produces = request.roles.iter().filter(|role| role.produces);
        let consumes = request
            .roles
            .iter()
            .filter(|role| !role.consumes.is_empty());
        MemberRecord {
            instance: request.instance.clone(),
            incarnation: request.incarnation.clone(),
            lease_mode: request.lease_mode,
            client_ids: request.client_ids.iter().cloned().collect(),
            produces: produces.map(|role| Arc::clone(&role.topic)).collect(),
            consumes: consumes
                .map(|role| {
                    let groups = role.consumes.iter().map(|state| Arc::clone(&state.group));
                    (Arc::clone(&role.topic), groups.collect())
                })
                .collect(),
            superseded: false,
        }
    }
}
