//! A state in short, for a search that must know where it was before.

use std::{
    fmt::{self, Debug, Write},
    hash::Hasher,
    time::Duration,
};

use super::{Coordinator, membership::Member, topic::Topic};

impl Coordinator {
    /// Hashes all that decides what this coordinator does from `now` on. Of a time only that counts which is still compared with it, so that the
    /// same situation at another hour is the same state. `look` is when the look under way was begun, which its answer will say.
    ///
    /// Left out is what waits to be replaced (the last look while another one is under way: nothing is decided by it any more), the sentences for
    /// people, and the books of writes where [`Limits::accounting`](super::Limits) is off.
    pub fn fingerprint(&self, now: Duration, look: Option<Duration>, into: &mut impl Hasher) {
        debug(&(&self.meta, &self.newer), into);
        if let Some(listening) = &self.listening {
            let unheard: Vec<&str> = self.members.unheard().collect();
            debug(&(unheard, listening.goes_on(&self.members, now)), into);
        }
        let accounting = self.config.limits.accounting;
        let in_force = |topic: &str| {
            self.topics
                .get(topic)
                .map(|known| known.record.plan.revision)
        };
        for member in self.members.iter() {
            member.fingerprint(&self.members.timing, now, look, into);
            let by = [now, look.unwrap_or(now)];
            debug(&member.told(&self.members.timing, by, in_force), into);
        }
        self.members.fingerprint(accounting, into);
        for topic in self.topics.values() {
            topic.fingerprint(&self.members, now, look, into);
            if accounting {
                debug(&topic.writes, into);
            }
        }
    }
}

impl Member {
    fn fingerprint(
        &self,
        timing: &super::Timing,
        now: Duration,
        look: Option<Duration>,
        into: &mut impl Hasher,
    ) {
        let over = |at: Duration| at.saturating_sub(self.heard) > timing.lease + timing.margin;
        let long_gone = now.saturating_sub(self.heard) > timing.forget;
        debug(&(&self.record, over(now), look.map(over), long_gone), into);
    }
}

impl Topic {
    fn fingerprint(
        &self,
        members: &super::Membership,
        now: Duration,
        look: Option<Duration>,
        into: &mut impl Hasher,
    ) {
        debug(&(&self.record, self.access, self.work.is_some()), into);
        let counts = |begun: Duration| (begun >= self.changed(), begun < self.look_wanted);
        let waits = self.due(members) > now;
        debug(&(look.map(counts), waits), into);
        if look.is_none() {
            let facts = self.facts.as_ref();
            let facts = facts.map(|facts| (counts(facts.begun), &facts.sides));
            // Where the next look is due anyway, one that counts no more decides nothing.
            debug(&facts.filter(|((counts, _), _)| waits || *counts), into);
        }
        if self.record.is_ordered() {
            debug(&self.fingerprint_of_keys(members, now), into);
        }
        self.fingerprint_of_proof(into);
    }
}

/// Hashes a value as it is written for developers, without writing it anywhere.
pub(super) fn debug(value: &impl Debug, into: &mut impl Hasher) {
    struct To<'a, H>(&'a mut H);
    impl<H: Hasher> Write for To<'_, H> {
        fn write_str(&mut self, text: &str) -> fmt::Result {
            self.0.write(text.as_bytes());
            Ok(())
        }
    }
    // Writing into a hasher cannot fail.
    let _ = write!(To(into), "{value:?};");
}
