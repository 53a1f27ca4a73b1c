//! Whether messages with the same ordering key were handled in order: one whose send was called after another's success, after it.

use std::{
    collections::{BTreeSet, HashSet},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// What is known of each key's messages.
#[derive(Debug)]
pub(super) struct Order {
    keys: Vec<Mutex<Key>>,
}

#[derive(Debug, Default)]
struct Key {
    /// When the sends of messages that are not handled yet succeeded.
    waiting: BTreeSet<(Duration, u64)>,
    /// Handled before their sends were known to have succeeded.
    early: HashSet<u64>,
    inverted: Vec<u64>,
}

impl Order {
    /// For `keys` keys; the key of a message is its number modulo that.
    pub(super) fn new(keys: u64) -> Self {
        Order {
            keys: (0..keys).map(|_| Mutex::default()).collect(),
        }
    }

    /// The send succeeded.
    pub(super) fn acked(&self, number: u64, at: Duration) {
        let Some(mut key) = self.key(number) else {
            return;
        };
        if !key.early.remove(&number) {
            key.waiting.insert((at, number));
        }
    }

    /// The handler of a message whose send was called at `called` is entered.
    pub(super) fn entered(&self, number: u64, called: Duration) {
        let Some(mut key) = self.key(number) else {
            return;
        };
        let before = key.waiting.range(..(called, 0));
        if before.clone().any(|(_, other)| *other != number) {
            key.inverted.push(number);
        }
    }

    /// It was handled.
    pub(super) fn completed(&self, number: u64) {
        let Some(mut key) = self.key(number) else {
            return;
        };
        let before = key.waiting.len();
        key.waiting.retain(|(_, other)| *other != number);
        if key.waiting.len() == before {
            key.early.insert(number);
        }
    }

    /// The numbers of messages that were handled before one that was sent before them.
    pub(super) fn inverted(&self) -> Vec<u64> {
        let keys = self.keys.iter();
        keys.flat_map(|key| lock(key).inverted.clone()).collect()
    }

    fn key(&self, number: u64) -> Option<MutexGuard<'_, Key>> {
        let keys = self.keys.len() as u64;
        let index = number.checked_rem(keys)?;
        self.keys.get(index as usize).map(lock)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn message_before_one_that_was_sent_before_it_is_an_inversion() {
        let order = Order::new(2);
        order.acked(0, at(1));
        order.entered(2, at(2));
        assert_eq!(order.inverted(), [2]);
    }

    #[test]
    fn order_of_sends_at_the_same_time_of_other_keys_and_of_what_was_handled_is_free() {
        let order = Order::new(2);
        order.acked(0, at(3));
        // Called before the other's success.
        order.entered(2, at(2));
        // Another key.
        order.entered(1, at(5));
        order.completed(0);
        order.entered(4, at(5));
        // Handled before its own success was told.
        order.completed(6);
        order.acked(6, at(6));
        order.entered(8, at(7));
        assert!(order.inverted().is_empty());
    }

    #[test]
    fn topic_without_keys_has_no_order() {
        let order = Order::new(0);
        order.acked(0, at(1));
        order.entered(2, at(2));
        assert!(order.inverted().is_empty());
    }
}
