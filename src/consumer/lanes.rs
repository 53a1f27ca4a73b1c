//! What one side of an ordered topic has fetched, by what must stay in order.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};

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
    /// Lanes whose first message is to be tried later, by when.
    later: BTreeMap<(Instant, u64), Lane>,
    /// Keeps those apart that are due at the same time.
    waits: u64,
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

    /// A lane to try now, with its first message. All that can be tried have their turns, whether they waited for a time or for a handler.
    pub(super) fn next(&mut self, now: Instant) -> Option<(Lane, Incoming)> {
        while let Some(first) = self.later.first_entry()
            && first.key().0 <= now
        {
            self.ready.push_back(first.remove());
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
        self.later.keys().next().map(|(due, _)| *due)
    }

    /// The first message of a lane that [`next`](Self::next) gave is to be tried again at `due`.
    pub(super) fn wait(&mut self, lane: Lane, due: Instant) {
        self.waits += 1;
        self.later.insert((due, self.waits), lane);
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
            self.wait(lane, due);
        }
    }

    fn returned(&mut self, generation: u64, token: AckToken) -> Option<Lane> {
        if generation != self.generation {
            return None;
        }
        self.out.remove(&token)
    }

    /// Takes out what is not out and for which `is_lost` is true. Lanes that keep their first message keep their time.
    pub(super) fn take_lost(&mut self, is_lost: impl Fn(AckToken) -> bool) -> Vec<AckToken> {
        let mut lost = Vec::new();
        let mut changed = HashSet::new();
        let out = &self.out;
        self.lanes.retain(|lane, messages| {
            let first = messages.front().map(|first| first.token);
            messages.retain(|incoming| {
                let token = incoming.token;
                let stays = out.contains_key(&token) || !is_lost(token);
                if !stays {
                    lost.push(token);
                }
                stays
            });
            if messages.front().map(|first| first.token) != first {
                changed.insert(lane.clone());
            }
            !messages.is_empty()
        });
        self.count -= lost.len();
        if changed.is_empty() {
            return lost;
        }
        self.later.retain(|_, lane| !changed.contains(lane));
        self.ready.retain(|lane| !changed.contains(lane));
        let left = changed
            .into_iter()
            .filter(|lane| self.lanes.contains_key(lane));
        self.ready.extend(left);
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
    async fn lane_whose_time_has_come_has_its_turn_among_those_that_are_always_ready() {
        let due = Instant::now() + Duration::from_secs(1);
        let mut lanes = Lanes::default();
        lanes.push(incoming(0, Some("failed"), 0));
        assert_eq!(all(&mut lanes, Instant::now()), [0]);
        lanes.failed(0, AckToken(0), due);
        for token in 1..=40 {
            lanes.push(incoming(token, Some(["a", "b"][token as usize % 2]), 0));
        }
        let mut turns = 0;
        loop {
            let (lane, first) = lanes.next(due).unwrap();
            if first.token == AckToken(0) {
                break;
            }
            turns += 1;
            lanes.hand_out(lane, first.token);
            lanes.handled(0, first.token);
        }
        assert!(turns <= 2, "{turns}");
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
        assert_eq!(lanes.take_lost(|token| token.0 < 3), [AckToken(2)]);
        assert_eq!(all(&mut lanes, now), [3]);
        lanes.handled(0, AckToken(1));
        assert_eq!(lanes.len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn lost_queue_takes_no_other_message_out_of_its_time() {
        let now = Instant::now();
        let due = now + Duration::from_secs(1);
        let mut lanes = Lanes::default();
        lanes.push(incoming(1, Some("a"), 0));
        lanes.push(incoming(3, Some("b"), 1));
        lanes.push(incoming(4, Some("b"), 0));
        assert_eq!(all(&mut lanes, now), [1, 3]);
        lanes.failed(0, AckToken(1), due);
        lanes.failed(0, AckToken(3), due);
        lanes.push(incoming(5, Some("c"), 1));
        let mut lost = lanes.take_lost(|token| token.0 == 3 || token.0 == 5);
        lost.sort_by_key(|token| token.0);
        assert_eq!(lost, [AckToken(3), AckToken(5)]);
        // Another message is the first of its lane now: it has not failed.
        assert_eq!(all(&mut lanes, now), [4]);
        assert_eq!(lanes.next_due(now), Some(due));
        assert_eq!(all(&mut lanes, due), [1]);
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
