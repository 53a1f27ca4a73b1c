//! Which half messages may lie at their broker more than once, and how their transactions ended.
//!
//! A broker that is about to ask writes the half message anew and asks about the copy; an end that goes by the first one's place leaves the copy, which is
//! asked about for many rounds (apache/rocketmq `TransactionalMessageServiceImpl.java`, `putBackHalfMsgQueue`). So is the first try of a half message whose
//! answer was lost. A commit for such a copy would deliver the message once more, so it is rolled back.
//!
//! A broker may also ask about a transaction because it has lost the commit that it had acknowledged: its disk or its master is gone. Then the message lives
//! by the checker's word only, as with Java's client. What was never asked about before its end, or just after it, has no copy: there the checker is asked.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use tokio::time::Instant;

use super::TransactionEnd;

/// Of each kind. A broker asks for the first time within seconds.
const MOST: usize = 4096;
/// How long a question may have been on its way when the end arrived. A broker that was started anew asks after `transactionCheckInterval`, 30 s, at the earliest.
const ON_ITS_WAY: Duration = Duration::from_secs(10);

/// What is known of the newest transactions, by the unique ids of their messages.
#[derive(Debug, Default)]
pub(super) struct Ended {
    copied: Newest<()>,
    ends: Newest<(TransactionEnd, Instant)>,
}

impl Ended {
    /// The broker may have the half message more than once.
    pub(super) fn is_copied(&mut self, id: &str) {
        self.copied.insert(id, ());
    }

    /// The broker has taken the end.
    pub(super) fn add(&mut self, id: &str, end: TransactionEnd) {
        self.ends.insert(id, (end, Instant::now()));
    }

    /// A broker asks: how to answer without the checker.
    pub(super) fn asked(&mut self, id: &str) -> Option<TransactionEnd> {
        let known = match self.ends.get(id) {
            Some((TransactionEnd::Rollback, _)) => true,
            Some((_, at)) => self.copied.get(id).is_some() || at.elapsed() < ON_ITS_WAY,
            None => false,
        };
        self.is_copied(id);
        known.then_some(TransactionEnd::Rollback)
    }
}

/// A map that forgets its oldest keys.
#[derive(Debug)]
struct Newest<T> {
    values: HashMap<String, T>,
    oldest_first: VecDeque<String>,
}

impl<T> Default for Newest<T> {
    fn default() -> Self {
        Newest {
            values: HashMap::new(),
            oldest_first: VecDeque::new(),
        }
    }
}

impl<T> Newest<T> {
    fn insert(&mut self, key: &str, value: T) {
        if self.values.insert(key.to_owned(), value).is_some() {
            return;
        }
        self.oldest_first.push_back(key.to_owned());
        if self.oldest_first.len() > MOST
            && let Some(oldest) = self.oldest_first.pop_front()
        {
            self.values.remove(&oldest);
        }
    }

    fn get(&self, key: &str) -> Option<&T> {
        self.values.get(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use TransactionEnd::{Commit, Rollback};

    #[tokio::test(start_paused = true)]
    async fn copy_of_what_was_committed_is_forgotten() {
        let mut ended = Ended::default();
        // Asked while the transaction was open.
        assert_eq!(ended.asked("long"), None);
        ended.add("long", Commit);
        // The answer to its first try was lost.
        ended.is_copied("tried again");
        ended.add("tried again", Commit);
        // Asked while the end was on its way.
        ended.add("raced", Commit);
        assert_eq!(ended.asked("raced"), Some(Rollback));
        tokio::time::advance(Duration::from_secs(60)).await;
        for id in ["long", "tried again", "raced"] {
            assert_eq!(ended.asked(id), Some(Rollback), "{id}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn commit_that_its_broker_has_lost_is_the_checkers() {
        let mut ended = Ended::default();
        ended.add("lost", Commit);
        tokio::time::advance(Duration::from_secs(30)).await;
        assert_eq!(ended.asked("lost"), None);
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_rolled_back_stays_so() {
        let mut ended = Ended::default();
        ended.add("id", Rollback);
        tokio::time::advance(Duration::from_secs(3600)).await;
        assert_eq!(ended.asked("id"), Some(Rollback));
    }

    #[test]
    fn newest_are_kept_and_older_ones_forgotten() {
        let mut newest = Newest::default();
        for number in 0..=MOST {
            newest.insert(&number.to_string(), number);
            newest.insert(&number.to_string(), number);
        }
        assert_eq!(newest.get("0"), None);
        assert_eq!(newest.get("1"), Some(&1));
        assert_eq!(newest.get(&MOST.to_string()), Some(&MOST));
        assert_eq!(
            (newest.values.len(), newest.oldest_first.len()),
            (MOST, MOST)
        );
    }
}
