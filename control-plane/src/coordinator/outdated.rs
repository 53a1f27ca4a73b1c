//! Whether the store is the newest one: an older copy of it would take brokers and instances back to where they were.
//!
//! Instances know it better. So after a start nothing is changed until those that the store names were heard, or could have been; and once one of them
//! knows plans that this store has never held, nothing is changed any more.

use std::{collections::btree_map::Entry, time::Duration};

use crossfade::{
    Revision,
    control::wire::{self, PlanDocument, SyncRequest},
};

use super::{
    Coordinator,
    event::{Command, Refusal},
    membership::Membership,
    view::TopicView,
};

/// Most names in a sentence.
const MAX_NAMES: usize = 5;
/// Most instances whose knowledge is kept: one is enough to stop everything.
const MAX_NEWER: usize = 1_000;

/// After a start: who has not been heard yet.
#[derive(Clone, Debug)]
pub(super) struct Listening {
    /// Whoever has a lease, stored or not, has been heard by then.
    until: Duration,
    /// Whoever is in contact, stored or not, has asked by then.
    least: Duration,
    /// Somebody is stored, and nobody of them has left since.
    expects: bool,
}

impl Listening {
    /// A store that has never held a plan is no copy of an older one that did, as far as anybody could know.
    pub(super) fn begin(
        revision: Revision,
        members: &Membership,
        now: Duration,
    ) -> Option<Listening> {
        let timing = members.timing;
        let lease = timing.lease + timing.margin;
        (revision != Revision(0)).then(|| Listening {
            until: now + lease,
            least: now + timing.reconnect.min(lease / 4),
            expects: members.unheard().next().is_some(),
        })
    }

    pub(super) fn goes_on(&self, members: &Membership, now: Duration) -> bool {
        let all_heard = self.expects && members.unheard().next().is_none();
        now < self.least || (now < self.until && !all_heard)
    }
}

impl Coordinator {
    /// Why nothing is decided any more: the store is older than what an instance knows. It ends with a start on a newer store, or with an operator's word
    /// that the instance is gone.
    #[must_use]
    pub fn outdated(&self) -> Option<String> {
        let (name, knows) = self.newer.first_key_value()?;
        Some(format!(
            "the store is an older copy: instance {name} {knows}. Nothing is changed any more. Stop the control plane and put the newest copy of its store in \
             place. If there is none: stop every instance, delete what their plan.cache_dir holds, and start anew. If {name} belongs to another control \
             plane: stop it, then `crossfade instance confirm-gone {name} --reason TEXT`"
        ))
    }

    pub(super) fn is_outdated(&self) -> bool {
        !self.newer.is_empty()
    }

    /// What is told to an instance that knows `known`. On an older store nothing is, so that it goes on with what it has.
    ///
    /// # Errors
    /// Why the store's plans are not the ones in force, to one that has none at all.
    pub fn news(&self, known: Revision) -> Result<PlanDocument, String> {
        match self.outdated() {
            None => Ok(self.plans_after(known)),
            Some(why) if known == Revision(0) => Err(why),
            Some(_) => Ok(PlanDocument {
                version: wire::VERSION,
                revision: known,
                ..PlanDocument::default()
            }),
        }
    }

    /// Why nothing is changed yet after a start.
    #[must_use]
    pub fn listening(&self, now: Duration) -> Option<String> {
        let listening = self.listening.as_ref()?;
        let names: Vec<&str> = self.members.unheard().take(MAX_NAMES + 1).collect();
        let whom = match names.as_slice() {
            [] => "instances that its store may not know".to_owned(),
            names if names.len() > MAX_NAMES => {
                format!("{} and others", names[..MAX_NAMES].join(", "))
            }
            names => names.join(", "),
        };
        let left = listening.until.saturating_sub(now).as_secs_f64();
        Some(format!(
            "the control plane has just read its store and listens to {whom} first, for {left:.0} s at most: an instance would know if the store were an older copy"
        ))
    }

    /// Whether anything may be changed now.
    pub(super) fn may_change(&mut self, now: Duration) -> bool {
        let members = &self.members;
        let ended = self
            .listening
            .take_if(|listening| !listening.goes_on(members, now));
        if ended.is_some() {
            for topic in self.topics.values_mut() {
                topic.freeze_goes_on(now);
            }
        }
        self.listening.is_none()
    }

    /// Who leaves will not be heard: the others are listened to for as long as it takes.
    pub(super) fn keep_listening(&mut self) {
        if let Some(listening) = &mut self.listening {
            listening.expects = false;
        }
    }

    /// Refuses what would be wrong on an older copy of the store.
    pub(super) fn refuse_outdated(&self, command: &Command, now: Duration) -> Result<(), Refusal> {
        // An instance of another control plane is got rid of in this way.
        if matches!(command, Command::ConfirmGone { .. }) {
            return Ok(());
        }
        if let Some(why) = self.outdated() {
            return Err(Refusal::new("conflict", why));
        }
        // Others only say where a topic is to go, which nobody acts upon yet.
        let at_once = matches!(command, Command::Add { .. } | Command::Remove { .. });
        match self.listening(now).filter(|_| at_once) {
            Some(why) => Err(Refusal::new(
                "unavailable",
                format!("{why}. Try again then"),
            )),
            None => Ok(()),
        }
    }

    /// Keeps what an instance knows and this store has never held.
    pub(super) fn note_newer(&mut self, request: &SyncRequest) {
        let Some(knows) = self.knows_more(request) else {
            return;
        };
        if self.newer.len() < MAX_NEWER
            && let Entry::Vacant(entry) = self.newer.entry(request.instance.clone())
        {
            entry.insert(knows);
        }
    }

    fn knows_more(&self, request: &SyncRequest) -> Option<String> {
        let last = self.meta.revision;
        let known = request.known_revision;
        if known > last {
            return Some(format!(
                "knows revision {known}, and the store ends at {last}"
            ));
        }
        request.acks.iter().find_map(|(topic, acked)| {
            let stored = self.topics.get(topic);
            let stored = stored.map_or(last, |known| known.record.plan.revision);
            (*acked > stored).then(|| {
                format!("has applied revision {acked} of topic {topic}, and the store has {stored}")
            })
        })
    }

    /// What stands in the way of all topics stands in the way of each.
    pub(super) fn told(&self, view: TopicView, now: Duration) -> TopicView {
        if let Some(trouble) = self.outdated() {
            return TopicView {
                trouble: Some(trouble),
                ready: false,
                settled: false,
                ..view
            };
        }
        let moves = view.goal != view.stage;
        let waits = view.trouble.is_none() && moves;
        let listening = self.listening(now).filter(|_| waits);
        TopicView {
            trouble: listening.or(view.trouble),
            ..view
        }
    }
}
