//! What one side of an ordered topic has fetched, by what must stay in order.

use std::{
    collections::{HashMap, VecDeque},
    mem,
};

use tokio::time::Instant;

use crate::{
    backend::{AckToken, Incoming},
    queue::QueueId,
};

/// Messages of one lane are handed out one after the other.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(super) enum Lane {
    /// Those of an ordering key.
    Key(String),
    /// Those without one, of a queue: what producers that do not use this library keep in order.
    Queue(QueueId),
}

impl Lane {
    fn of(incoming: &Incoming) -> Self {
        match &incoming.message.ordering_key {
            Some(key) => Lane::Key(key.clone()),
            None => Lane::Queue(incoming.queue.clone()),
        }
    }
}

/// Lanes of messages; of each, the first message is out, or waits for its time. A message stays in its lane until it is handled.
#[derive(Debug, Default)]
pub(super) struct Lanes {
    lanes: HashMap<Lane, VecDeque<Incoming>>,
    /// Lanes whose first message is to be tried now.
    ready: VecDeque<Lane>,
    /// Lanes whose first message is to be tried later.
    later: Vec<(Instant, Lane)>,
    /// First messages that are with a handler, or about to be.
    out: HashMap<AckToken, Lane>,
    count: usize,
    /// Of the backend's consumer that the messages are from: another one may use the same tokens.
    generation: u64,
}

impl Lanes {
    /// Messages, those that are out among them.
    pub(super) fn len(&self) -> usize {
        self.count
    }

    pub(super) fn generation(&self) -> u64 {
        self.generation
    }

    /// Forgets everything: the messages come again.
    pub(super) fn reset(&mut self) {
        *self = Lanes {
            generation: self.generation + 1,
            ..Lanes::default()
        };
    }

    pub(super) fn push(&mut self, incoming: Incoming) {
        self.count += 1;
        let lane = Lane::of(&incoming);
        let messages = self.lanes.entry(lane.clone()).or_default();
        messages.push_back(incoming);
        if messages.len() == 1 {
            self.ready.push_back(lane);
        }
    }

    /// A lane to try now, with its first message.
    pub(super) fn next(&mut self, now: Instant) -> Option<(Lane, Incoming)> {
        if self.ready.is_empty() {
            let mut later = mem::take(&mut self.later);
            later.retain(|(due, lane)| {
                let waits = *due > now;
                if !waits {
                    self.ready.push_back(lane.clone());
                }
                waits
            });
            self.later = later;
        }
        let lane = self.ready.pop_front()?;
        let first = self.lanes.get(&lane)?.front()?.clone();
        Some((lane, first))
    }

    /// When the next lane is to be tried.
    pub(super) fn next_due(&self, now: Instant) -> Option<Instant> {
        if !self.ready.is_empty() {
            return Some(now);
        }
        self.later.iter().map(|(due, _)| *due).min()
    }

    /// The first message of a lane that [`next`](Self::next) gave is to be tried again at `due`.
    pub(super) fn wait(&mut self, lane: Lane, due: Instant) {
        self.later.push((due, lane));
    }

    /// The first message of a lane that [`next`](Self::next) gave is out.
    pub(super) fn hand_out(&mut self, lane: Lane, token: AckToken) {
        self.out.insert(token, lane);
    }

    /// The first message of a lane is handled, or goes to somebody else: the next one's turn.
    pub(super) fn pass(&mut self, lane: Lane) {
        let Some(messages) = self.lanes.get_mut(&lane) else {
            return;
        };
        self.count -= usize::from(messages.pop_front().is_some());
        if messages.is_empty() {
            self.lanes.remove(&lane);
        } else {
            self.ready.push_back(lane);
        }
    }

    /// What was out is handled.
    pub(super) fn handled(&mut self, generation: u64, token: AckToken) {
        if let Some(lane) = self.returned(generation, token) {
            self.pass(lane);
        }
    }

    /// What was out failed: it stays the first of its lane, and is tried again at `due`.
    pub(super) fn failed(&mut self, generation: u64, token: AckToken, due: Instant) {
        let Some(lane) = self.returned(generation, token) else {
            return;
        };
        let first = self.lanes.get_mut(&lane).and_then(VecDeque::front_mut);
        if let Some(first) = first {
            first.attempt = first.attempt.saturating_add(1);
            self.later.push((due, lane));
        }
    }

    fn returned(&mut self, generation: u64, token: AckToken) -> Option<Lane> {
        if generation != self.generation {
            return None;
        }
        self.out.remove(&token)
    }

    /// Whether a message lies in a queue for which `kept` is false.
    pub(super) fn has_lost(&self, kept: impl Fn(&QueueId) -> bool) -> bool {
        let mut messages = self.lanes.values().flatten();
        messages.any(|incoming| !kept(&incoming.queue))
    }

    /// Takes out what is not out and lies in a queue for which `kept` is false.
    pub(super) fn take_lost(&mut self, kept: impl Fn(&QueueId) -> bool) -> Vec<AckToken> {
        let mut lost = Vec::new();
        let out = &self.out;
        self.lanes.retain(|_, messages| {
            messages.retain(|incoming| {
                let stays = kept(&incoming.queue) || out.contains_key(&incoming.token);
                if !stays {
                    lost.push(incoming.token);
                }
                stays
            });
            !messages.is_empty()
        });
        if lost.is_empty() {
            return lost;
        }
        self.count -= lost.len();
        // The first of a lane may be another one now.
        self.later.clear();
        self.ready.clear();
        let idle = self.lanes.iter().filter(|(_, messages)| {
            let first = messages.front();
            first.is_some_and(|first| !self.out.contains_key(&first.token))
        });
        self.ready.extend(idle.map(|(lane, _)| lane.clone()));
        lost
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::Message;

    fn incoming(token: u64, key: Option<&str>, queue: u32) -> Incoming {
        let mut message = Message::new("a");
        message.ordering_key = key.map(str::to_owned);
        Incoming {
            message,
            message_id: token.to_string(),
            queue: QueueId {
                broker: "b".into(),
                queue,
            },
            offset: token,
            attempt: 1,
            revision: None,
            token: AckToken(token),
        }
    }

    /// Hands out all that can be, and names it.
    fn all(lanes: &mut Lanes, now: Instant) -> Vec<u64> {
        let mut tokens = Vec::new();
        while let Some((lane, first)) = lanes.next(now) {
            lanes.hand_out(lane, first.token);
            tokens.push(first.token.0);
        }
        tokens
    }

    #[tokio::test(start_paused = true)]
    async fn lane_gives_its_next_message_once_the_one_before_is_handled() {
        let now = Instant::now();
        let mut lanes = Lanes::default();
        for (token, key) in [
            (1, Some("a")),
            (2, Some("a")),
            (3, Some("b")),
            (4, None),
            (5, None),
        ] {
            lanes.push(incoming(token, key, 0));
        }
        assert_eq!(all(&mut lanes, now), [1, 3, 4]);
        lanes.handled(0, AckToken(1));
        assert_eq!(all(&mut lanes, now), [2]);
        lanes.handled(0, AckToken(4));
        assert_eq!(all(&mut lanes, now), [5]);
        for token in [2, 3, 5] {
            lanes.handled(0, AckToken(token));
        }
        assert_eq!((lanes.len(), lanes.next_due(now)), (0, None));
    }

    #[tokio::test(start_paused = true)]
    async fn failed_message_comes_again_before_its_successors() {
        let now = Instant::now();
        let due = now + Duration::from_secs(1);
        let mut lanes = Lanes::default();
        lanes.push(incoming(1, Some("a"), 0));
        lanes.push(incoming(2, Some("a"), 0));
        assert_eq!(all(&mut lanes, now), [1]);
        lanes.failed(0, AckToken(1), due);
        assert_eq!(lanes.next_due(now), Some(due));
        assert!(all(&mut lanes, now).is_empty());
        let (_, again) = lanes.next(due).unwrap();
        assert_eq!((again.token, again.attempt), (AckToken(1), 2));
    }

    #[tokio::test(start_paused = true)]
    async fn lost_queue_takes_with_it_what_no_handler_has() {
        let now = Instant::now();
        let mut lanes = Lanes::default();
        lanes.push(incoming(1, Some("a"), 0));
        lanes.push(incoming(2, Some("a"), 0));
        lanes.push(incoming(3, Some("b"), 1));
        let (lane, first) = lanes.next(now).unwrap();
        lanes.hand_out(lane, first.token);
        assert_eq!(lanes.take_lost(|queue| queue.queue != 0), [AckToken(2)]);
        assert_eq!(all(&mut lanes, now), [3]);
        lanes.handled(0, AckToken(1));
        assert_eq!(lanes.len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn end_of_a_delivery_from_before_a_reset_says_nothing_of_the_same_token_after_it() {
        let now = Instant::now();
        let mut lanes = Lanes::default();
        lanes.reset();
        lanes.push(incoming(1, Some("a"), 0));
        assert_eq!(all(&mut lanes, now), [1]);
        lanes.handled(0, AckToken(1));
        assert_eq!(lanes.len(), 1);
        lanes.handled(lanes.generation(), AckToken(1));
        assert_eq!(lanes.len(), 0);
    }
}
