//! Whether the store is the newest one: an older copy of it would take brokers and instances back to where they were.
//!
//! Instances know it better. So after a start nothing is changed until those that the store names were heard, or could have been; and once one of them
//! knows plans that this store has never held, nothing is changed any more.

use std::time::Duration;

use crossfade::{Revision, control::wire::SyncRequest};

use super::{
    Coordinator,
    event::{Command, Refusal},
    membership::Membership,
    view::TopicView,
};

/// After a start: who has not been heard yet.
#[derive(Clone, Debug)]
pub(super) struct Listening {
    /// Every process that has a lease has been heard by then.
    until: Duration,
    /// Somebody is stored.
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
        (revision != Revision(0)).then(|| Listening {
            until: now + timing.lease + timing.margin,
            expects: members.unheard().next().is_some(),
        })
    }

    /// Whether it goes on. Each step needs the acks of all instances, so when all that are stored have been heard, one that is not stored can be a
    /// single publication ahead of them at most.
    fn goes_on(&self, members: &Membership, now: Duration) -> bool {
        let all_heard = self.expects && members.unheard().next().is_none();
        now < self.until && !all_heard
    }
}

impl Coordinator {
    /// Why nothing is decided any more: the store is older than what an instance knows. It ends with a start on a newer store, or when that instance is
    /// gone.
    #[must_use]
    pub fn outdated(&self) -> Option<String> {
        let member = self.members.ahead()?;
        let (name, knows) = (&member.record.instance, member.ahead?);
        Some(format!(
            "the store is an older copy: instance {name} knows revision {knows}, and the store ends at {}. Nothing is changed any more. Stop the control \
             plane and put the newest copy of its store in place. If there is none: stop every instance, delete what their plan.cache_dir holds, and start \
             anew. If {name} belongs to another control plane: stop it, then `crossfade instance confirm-gone {name} --reason TEXT`",
            self.meta.revision
        ))
    }

    /// Why nothing is changed yet after a start.
    #[must_use]
    pub fn listening(&self, now: Duration) -> Option<String> {
        let listening = self.listening.as_ref()?;
        let names: Vec<&str> = self.members.unheard().collect();
        let whom = match names.as_slice() {
            [] => "instances that its store may not know".to_owned(),
            names => names.join(", "),
        };
        let left = listening.until.saturating_sub(now).as_secs_f64();
        Some(format!(
            "the control plane has just started and listens to {whom} first, for {left:.0} s at most: an instance would know if the store were an older copy"
        ))
    }

    /// Whether anything may be changed now.
    pub(super) fn may_change(&mut self, now: Duration) -> bool {
        let members = &self.members;
        self.listening
            .take_if(|listening| !listening.goes_on(members, now));
        self.listening.is_none() && self.members.ahead().is_none()
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

    /// A revision that this store has never held, in what an instance says that it knows.
    pub(super) fn ahead(&self, request: &SyncRequest) -> Option<Revision> {
        let newest = |topic: &str| {
            let known = self.topics.get(topic);
            known.map_or(self.meta.revision, |known| known.record.plan.revision)
        };
        let acks = request.acks.iter();
        let acks = acks.filter(|(topic, acked)| **acked > newest(topic));
        let known = Some(request.known_revision).filter(|known| *known > self.meta.revision);
        acks.map(|(_, acked)| *acked).chain(known).max()
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
