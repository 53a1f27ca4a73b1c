//! Transactions that this client has ended and whose brokers have said so.
//!
//! A broker that is about to ask writes the half message anew and asks about the copy. An end that arrives meanwhile ends the first one only: the copy is asked
//! about for many rounds, and a commit would deliver the message once more (apache/rocketmq `TransactionalMessageServiceImpl.java`). The same holds for the
//! first try of a half message whose answer was lost. So a question about a message that has its end is answered with a rollback.

use std::collections::{HashSet, VecDeque};

/// A broker asks for the first time within seconds.
const MOST: usize = 4096;

/// The unique ids of the newest ones.
#[derive(Debug, Default)]
pub(super) struct Ended {
    ids: HashSet<String>,
    oldest_first: VecDeque<String>,
}

impl Ended {
    pub(super) fn add(&mut self, id: &str) {
        if !self.ids.insert(id.to_owned()) {
            return;
        }
        self.oldest_first.push_back(id.to_owned());
        if self.oldest_first.len() > MOST
            && let Some(oldest) = self.oldest_first.pop_front()
        {
            self.ids.remove(&oldest);
        }
    }

    pub(super) fn contains(&self, id: &str) -> bool {
        self.ids.contains(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn newest_are_kept_and_older_ones_forgotten() {
        let mut ended = Ended::default();
        for number in 0..=MOST {
            ended.add(&number.to_string());
            ended.add(&number.to_string());
        }
        assert!(!ended.contains("0"));
        assert!(ended.contains("1") && ended.contains(&MOST.to_string()));
        assert_eq!((ended.ids.len(), ended.oldest_first.len()), (MOST, MOST));
    }
}
