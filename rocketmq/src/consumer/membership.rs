//! Which lists of a group's members are believed.
//!
//! A broker that was started anew has forgotten the members, and lists those whose heartbeats it has had since: the first one is told that it is alone. Were it
//! to take the queues of the others, who read on, all of it would be handled twice. So whoever is missing after a connection was made anew is a member still, until
//! a heartbeat of everybody's must have come. Then it goes in two steps: first everybody gives up what goes to others, and a moment later it is taken. Members connect
//! again at different times, and none must take what another has not given up yet.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use tokio::time::Instant;

use super::allocate;
use crate::route::MessageQueue;

/// How often members tell brokers of themselves, at the longest: those of Apache's clients (apache/rocketmq `ClientConfig.java`, `heartbeatBrokerInterval`).
const LONGEST_HEARTBEAT: Duration = Duration::from_secs(30);
/// How much earlier than another a member may be connected again to a broker that was started anew: an attempt that gets no answer (3 s by default), the longest
/// pause behind it (2 s), and a heartbeat's (1 s). A handshake that takes longer makes two readers of some queues for as long.
const APART: Duration = Duration::from_secs(6);

/// Whom one broker lists.
#[derive(Clone, Debug)]
pub(super) struct Listed {
    pub(super) address: Arc<str>,
    /// When the connection began over which it was asked.
    pub(super) since: Instant,
    pub(super) ids: BTreeSet<String>,
}

impl Listed {
    /// A broker that has not heard of the member who asks may not have heard of others either: its list counts as one of a connection that was just made.
    pub(super) fn look_for(&mut self, member: &str, now: Instant) {
        if !self.ids.contains(member) {
            self.since = now;
        }
    }
}

/// Who divides the queues.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct Members {
    ids: BTreeSet<String>,
    /// The same with those who are about to be members no more: what one of these has is nobody's yet.
    before: Option<BTreeSet<String>>,
    /// When to ask again at the latest, if not everybody is known for certain.
    pub(super) again: Option<Duration>,
}

impl Members {
    /// Whether there is anybody else.
    pub(super) fn are_several(&self) -> bool {
        self.ids.len() > 1 || self.before.is_some()
    }

    /// A member's queues; those given are sorted.
    pub(super) fn part(&self, queues: &[MessageQueue], member: &str) -> BTreeSet<MessageQueue> {
        let part = |ids: &BTreeSet<String>| -> BTreeSet<MessageQueue> {
            let ids: Vec<_> = ids.iter().cloned().collect();
            let part = allocate::averagely(queues, &ids, member);
            part.iter().cloned().collect()
        };
        let now = part(&self.ids);
        match &self.before {
            None => now,
            Some(before) => &now & &part(before),
        }
    }
}

/// The members as they were last known, of one topic's brokers.
#[derive(Debug, Default)]
pub(super) struct Membership {
    ids: BTreeSet<String>,
    /// Brokers that have listed everybody, each with the beginning of the connection: whom one of them leaves out since then has gone.
    whole: BTreeMap<Arc<str>, Instant>,
    /// Since when members have been missing from every list that may be short.
    doubt: Option<Instant>,
}

impl Membership {
    /// Takes what the brokers have just answered. `heartbeat` is how often this client's members tell of themselves.
    pub(super) fn take(&mut self, lists: &[Listed], heartbeat: Duration, now: Instant) -> Members {
        let ids: BTreeSet<String> = lists.iter().flat_map(|list| list.ids.clone()).collect();
        let (given_up, taken) = {
            let heard = heartbeat.max(LONGEST_HEARTBEAT);
            (heard, heard + APART)
        };
        let age = |list: &Listed| now.saturating_duration_since(list.since);
        let is_whole = |list: &Listed| {
            self.whole.get(&list.address) == Some(&list.since) || age(list) >= taken
        };
        // A connection that breaks again and again must not keep what belongs to one who has gone for ever.
        let is_over = |since| now.saturating_duration_since(since) >= 2 * taken;
        if lists.iter().any(is_whole) || self.ids.is_subset(&ids) || self.doubt.is_some_and(is_over)
        {
            let whole = lists
                .iter()
                .filter(|list| is_whole(list) || list.ids == ids)
                .map(|list| (Arc::clone(&list.address), list.since))
                .collect();
            self.whole = whole;
            self.doubt = None;
            self.ids.clone_from(&ids);
            return Members {
                ids,
                before: None,
                again: None,
            };
        }
        self.doubt.get_or_insert(now);
        // Whoever is new is one at once.
        self.ids.extend(ids.iter().cloned());
        let age = lists.iter().map(age).max().unwrap_or_default();
        if age < given_up {
            Members {
                ids: self.ids.clone(),
                before: None,
                again: Some(given_up - age),
            }
        } else {
            Members {
                ids,
                before: Some(self.ids.clone()),
                again: Some(taken.saturating_sub(age)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEARTBEAT: Duration = Duration::from_secs(15);

    fn set(ids: &[&str]) -> BTreeSet<String> {
        ids.iter().map(|id| (*id).to_owned()).collect()
    }

    fn listed(broker: &str, since: Instant, ids: &[&str]) -> Listed {
        Listed {
            address: broker.into(),
            since,
            ids: set(ids),
        }
    }

    fn everybody(ids: &[&str]) -> Members {
        Members {
            ids: set(ids),
            before: None,
            again: None,
        }
    }

    fn queues(count: u32) -> Vec<MessageQueue> {
        (0..count)
            .map(|queue| MessageQueue {
                topic: "t".into(),
                broker: "b".into(),
                queue,
            })
            .collect()
    }

    /// What is known of the members, and when the connection began by which it is known.
    fn known(ids: &[&str]) -> (Membership, Instant) {
        let mut membership = Membership::default();
        let begun = Instant::now();
        let members = membership.take(&[listed("b", begun, ids)], HEARTBEAT, begun);
        assert_eq!(
            members.ids,
            set(ids),
            "a member that knows nobody believes what it hears"
        );
        (membership, begun)
    }

    /// At each time, in seconds after the connection was made anew, what one broker lists and who is a member then.
    #[test]
    fn whom_a_broker_left_out_when_it_was_started_anew_is_a_member_until_a_heartbeat_must_have_come()
     {
        type Row = (u64, &'static [&'static str], &'static [&'static str], bool);
        let cases: [&[Row]; 6] = [
            // Nobody but this one ever comes back.
            &[
                (0, &["a"], &["a", "b", "c"], true),
                (29, &["a"], &["a", "b", "c"], true),
                (36, &["a"], &["a"], false),
            ],
            // They come back one by one; from then on the list counts.
            &[
                (0, &["a"], &["a", "b", "c"], true),
                (1, &["a", "c"], &["a", "b", "c"], true),
                (14, &["a", "b", "c"], &["a", "b", "c"], false),
                (15, &["a", "b"], &["a", "b"], false),
                (16, &["a"], &["a"], false),
            ],
            // Everybody was there all the time: only the connection was lost.
            &[
                (0, &["a", "b", "c"], &["a", "b", "c"], false),
                (1, &["a"], &["a"], false),
            ],
            // One is new, and goes again.
            &[
                (0, &["a", "d"], &["a", "b", "c", "d"], true),
                (1, &["a"], &["a", "b", "c", "d"], true),
                (36, &["a"], &["a"], false),
            ],
            &[
                (0, &["a"], &["a", "b", "c"], true),
                (2, &["a", "b", "c", "d"], &["a", "b", "c", "d"], false),
                (3, &["a", "b", "d"], &["a", "b", "d"], false),
            ],
            // It was not asked for long.
            &[(100, &["a"], &["a"], false)],
        ];
        for rows in cases {
            let (mut membership, begun) = known(&["a", "b", "c"]);
            let again = begun + Duration::from_secs(1000);
            for (seconds, lists, members, doubt) in rows {
                let now = again + Duration::from_secs(*seconds);
                let got = membership.take(&[listed("b", again, lists)], HEARTBEAT, now);
                assert_eq!(got.ids, set(members), "{seconds} s of {rows:?}");
                assert_eq!(got.again.is_some(), *doubt, "{seconds} s of {rows:?}");
            }
        }
    }

    #[test]
    fn one_broker_that_was_there_all_the_time_is_believed_at_once() {
        let (mut membership, begun) = known(&["a", "b"]);
        let at = |seconds| begun + Duration::from_secs(seconds);
        let mut take = |b: &[&str], other: (u64, &[&str]), now| {
            let lists = [listed("b", begun, b), listed("other", at(other.0), other.1)];
            let members = membership.take(&lists, HEARTBEAT, at(now));
            assert_eq!(members.again, None);
            members.ids
        };
        assert_eq!(take(&["a", "b"], (1, &["a", "b"]), 1), set(&["a", "b"]));
        assert_eq!(take(&["a", "b"], (5, &["a"]), 5), set(&["a", "b"]));
        assert_eq!(take(&["a"], (5, &["a"]), 6), set(&["a"]));
    }

    #[test]
    fn connection_that_breaks_again_and_again_does_not_keep_one_who_is_gone() {
        let (mut membership, begun) = known(&["a", "b"]);
        let at = |seconds: u64| begun + Duration::from_secs(1 + seconds);
        for (seconds, members) in [
            (0, &["a", "b"][..]),
            (20, &["a", "b"]),
            (40, &["a", "b"]),
            (60, &["a", "b"]),
            (71, &["a", "b"]),
            (72, &["a"]),
            (73, &["a"]),
        ] {
            // Each time over a connection that has just begun.
            let lists = [listed("b", at(seconds), &["a"])];
            let got = membership.take(&lists, HEARTBEAT, at(seconds));
            assert_eq!(got.ids, set(members), "{seconds}");
        }
    }

    #[test]
    fn heartbeat_that_is_longer_than_those_of_others_is_waited_for() {
        let (mut membership, begun) = known(&["a", "b"]);
        let slow = Duration::from_secs(60);
        let at = |seconds: u64| begun + Duration::from_secs(1 + seconds);
        for (seconds, members) in [(59, &["a", "b"][..]), (66, &["a"])] {
            let got = membership.take(&[listed("b", at(0), &["a"])], slow, at(seconds));
            assert_eq!(got.ids, set(members), "{seconds}");
        }
    }

    #[test]
    fn queues_of_one_that_is_gone_are_given_up_by_everybody_before_anybody_takes_them() {
        const NAMES: [&str; 4] = ["a", "b", "c", "d"];
        const LATE: [[u64; 3]; 4] = [[0, 1, 2], [2, 0, 1], [1, 2, 0], [0, 5, 3]];
        let cases = NAMES.into_iter().flat_map(|gone| {
            let counts = [5, 7, 8, 16].into_iter();
            counts.flat_map(move |count| LATE.map(|late| (gone, count, late)))
        });
        for (gone, count, late) in cases {
            let queues = queues(count);
            let back = Instant::now() + Duration::from_secs(1);
            let rest = NAMES.into_iter().filter(|name| *name != gone);
            let mut rest: Vec<_> = rest
                .zip(late)
                .map(|(name, late)| (name, known(&NAMES).0, back + Duration::from_secs(late)))
                .collect();
            for tenth in 0..=420 {
                let now = back + Duration::from_millis(100 * tenth);
                let connected = rest.iter().filter(|(_, _, since)| now >= *since);
                let list: Vec<_> = connected.map(|(name, ..)| *name).collect();
                let parts = rest.iter_mut().map(|(name, membership, since)| {
                    if now < *since {
                        return everybody(&NAMES).part(&queues, name);
                    }
                    let lists = [listed("b", *since, &list)];
                    membership.take(&lists, HEARTBEAT, now).part(&queues, name)
                });
                let parts: Vec<_> = parts.collect();
                let owned: BTreeSet<_> = parts.iter().flatten().collect();
                let what = format!("{gone} of {count} queues, {late:?}, after {tenth} tenths");
                let owners: usize = parts.iter().map(BTreeSet::len).sum();
                assert_eq!(owned.len(), owners, "{what}");
                // The last one is back after 5 s.
                let bound = LONGEST_HEARTBEAT + APART + Duration::from_secs(5);
                assert!(owned.len() == queues.len() || now < back + bound, "{what}");
            }
        }
    }

    /// Members of the same group that read other topics on brokers of their own, against the rule.
    #[test]
    fn broker_that_does_not_list_whoever_asks_decides_nothing_by_its_age() {
        let (mut membership, begun) = known(&["me", "other"]);
        let again = begun + Duration::from_secs(100);
        let mut strange = listed("x", begun, &["stranger"]);
        strange.look_for("me", again);
        let anew = listed("b", again, &["me"]);
        let members = membership.take(&[anew, strange], HEARTBEAT, again);
        assert_eq!(members.ids, set(&["me", "other", "stranger"]));
    }
}
