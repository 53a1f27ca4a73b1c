//! What waits in the brokers' own queues: delayed messages, 5.x timers and half messages lie in topics of the brokers until they go where they
//! were sent to. Such a queue can be read like any other; every message names the topic it is meant for.
//!
//! A look at a topic has to know every waiting message, of whatever topic. They are read once: an index keeps where each is meant to go, and
//! later looks read on from there. A group's retry topic is read in the same way: it serves all topics of the group.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{Mutex as AsyncMutex, OwnedMutexGuard},
    time::Instant,
};

use super::{Admin, Master, progress::TimerProgress};
use crate::{
    codes::{pull_flag, request, response},
    error::{Error, ErrorKind, Result},
    frame::Request,
    message::{self, RETRY_PREFIX, Skimmed, property},
    route::MessageQueue,
};

/// Every broker knows this group from its start (`MixAll.TOOLS_CONSUMER_GROUP`).
const TOOLS_GROUP: &str = "TOOLS_CONSUMER";
/// Most messages of one queue that are kept in mind: about 100 bytes each.
const MOST_MESSAGES: usize = 500_000;
/// How long one call reads on in one queue. What it has read is kept, so the next call goes on from there.
const MOST_TIME: Duration = Duration::from_secs(6);
/// How long what is passed is still kept for looks that began before.
const CLEARING: Duration = Duration::from_secs(60);

/// Where each message that waits on a broker is meant to go. Clones of an [`Admin`] share one.
#[derive(Debug, Default)]
pub(super) struct Index {
    logs: Mutex<BTreeMap<MessageQueue, Arc<AsyncMutex<Log>>>>,
}

/// What is known of one such queue.
#[derive(Debug)]
pub(super) struct Log {
    /// The start of the broker in which it was read: a broker that crashed may give offsets out again.
    boot: String,
    /// Everything from here on that was not passed at the last clearing is in `waiting`, up to `next`.
    next: u64,
    waiting: BTreeMap<u64, Waiting>,
    /// Topics are few and messages are many.
    names: BTreeSet<Arc<str>>,
    /// What was passed at the last clearing.
    cleared: Low,
    /// What will be at the next one. A look that began earlier, and has read a lower end, needs what this one does not.
    clearing: Low,
    since: Instant,
}

/// The low end of a queue: what is passed does not wait in it any more.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Low {
    /// Everything below is passed.
    pub(super) offset: u64,
    /// Timers leave in the order in which they are due, not in that of the queue.
    pub(super) timers: Option<TimerProgress>,
}

impl Low {
    fn has_passed(&self, offset: u64, waiting: &Waiting) -> bool {
        let timers = self.timers.is_some_and(|timers| {
            offset < timers.enqueued && waiting.due_ms < timers.delivered_before_ms
        });
        offset < self.offset || timers
    }

    /// Whether it may not have passed what `other` has.
    fn is_before(&self, other: &Low) -> bool {
        let timers = |low: &Low| {
            let timers = low.timers.unwrap_or_default();
            (timers.enqueued, timers.delivered_before_ms)
        };
        let (mine, its) = (timers(self), timers(other));
        self.offset < other.offset || mine.0 < its.0 || mine.1 < its.1
    }
}

/// A message that waits.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Waiting {
    /// Where it goes: the topic, or a group's retry topic.
    pub(super) topic: Arc<str>,
    /// Of a retry: the topic that it was sent to at first, where the broker says so.
    pub(super) retry_of: Option<Arc<str>>,
    /// Of a timer: when it is due by the broker's clock, in ms since 1970.
    pub(super) due_ms: u64,
}

impl Waiting {
    /// Whether it is owed by `topic`, as such or as a retry of it in `retry`, a group's retry topic, which serves all that the group reads.
    pub(super) fn concerns(&self, topic: &str, retry: &str) -> bool {
        &*self.topic == topic
            || (&*self.topic == retry && self.retry_of.as_deref().is_none_or(|of| of == topic))
    }
}

impl Default for Log {
    fn default() -> Self {
        Log {
            boot: String::new(),
            next: 0,
            waiting: BTreeMap::new(),
            names: BTreeSet::new(),
            cleared: Low::default(),
            clearing: Low::default(),
            since: Instant::now(),
        }
    }
}

impl Log {
    /// Makes it fit for a look at a broker that was started at `boot`, from `low` on.
    fn settle(&mut self, boot: &str, low: &Low) {
        if self.boot != boot || low.is_before(&self.cleared) {
            *self = Log {
                boot: boot.to_owned(),
                next: low.offset,
                cleared: *low,
                clearing: *low,
                ..Log::default()
            };
        }
        if self.since.elapsed() >= CLEARING {
            self.cleared = self.clearing;
            let cleared = self.cleared;
            self.waiting
                .retain(|offset, waiting| !cleared.has_passed(*offset, waiting));
            self.clearing = *low;
            self.since = Instant::now();
        }
        if low.offset > self.next {
            // Passed before it was ever read: a look that began earlier finds it missing and begins anew.
            self.next = low.offset;
            self.cleared.offset = low.offset;
        }
    }

    fn keep(&mut self, message: &Skimmed, queue: &MessageQueue) {
        self.next = message.offset + 1;
        // In a retry topic it has arrived, wherever it was delayed before; elsewhere the broker itself cannot deliver it without the property.
        let arrived = queue.topic.starts_with(RETRY_PREFIX);
        let arrived = arrived.then_some(&*queue.topic);
        let Some(topic) = arrived.or_else(|| message.property(property::REAL_TOPIC)) else {
            return;
        };
        let topic = self.name(topic);
        let retry_of = message.property(property::RETRY_TOPIC);
        let retry_of = retry_of.map(|of| self.name(of));
        let due = message.property(property::TIMER_OUT_MS);
        let waiting = Waiting {
            topic,
            retry_of,
            // What cannot be read stays pending.
            due_ms: due.map_or(u64::MAX, |due| due.parse().unwrap_or(u64::MAX)),
        };
        // Most of what a timer queue keeps was delivered long ago.
        if !self.cleared.has_passed(message.offset, &waiting) {
            self.waiting.insert(message.offset, waiting);
        }
    }

    fn name(&mut self, name: &str) -> Arc<str> {
        if let Some(known) = self.names.get(name) {
            return Arc::clone(known);
        }
        if self.names.len() >= MOST_MESSAGES {
            self.names.clear();
        }
        let name: Arc<str> = name.into();
        self.names.insert(Arc::clone(&name));
        name
    }

    /// In a retry topic: messages of these offsets that are retries of other topics than this one.
    pub(super) fn retries_of_others(&self, offsets: Range<u64>, topic: &str) -> u64 {
        let of_others = self.waiting.range(offsets).filter(|(_, waiting)| {
            let of = waiting.retry_of.as_deref();
            of.is_some_and(|of| of != topic)
        });
        of_others.count() as u64
    }

    /// All that waits from `low` on.
    pub(super) fn waiting(&self, low: Low) -> impl Iterator<Item = &Waiting> {
        let all = self.waiting.iter();
        all.filter(move |(offset, waiting)| !low.has_passed(**offset, waiting))
            .map(|(_, waiting)| waiting)
    }
}

impl Admin {
    /// Reads a queue of the broker's own, or of a retry topic, from `low`, below which nothing waits, up to its present end.
    ///
    /// # Errors
    /// [`ErrorKind::TooLarge`] when more waits than can be kept in mind; [`ErrorKind::Unavailable`] while a new broker does not give it out; [`ErrorKind::Timeout`] when reading it takes long: the next call goes on where
    /// this one has stopped. As [`Client::call`](crate::Client::call).
    ///
    /// # Cancellation
    /// What was read is kept.
    pub(super) async fn read_waiting(
        &self,
        master: &Master,
        boot: &str,
        queue: MessageQueue,
        low: &Low,
    ) -> Result<OwnedMutexGuard<Log>> {
        let log = {
            let mut logs = self
                .index
                .logs
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            Arc::clone(logs.entry(queue.clone()).or_default())
        };
        let before = {
            let log = log.lock().await;
            (log.boot == boot).then_some(log.next)
        };
        // Asked before the lock is held: of many who wait for it, the first reads and the others find it done.
        let end = self
            .max_offset(&master.address, &queue.topic, queue.queue)
            .await?;
        let mut log = log.lock_owned().await;
        if before.is_some_and(|before| end < before) {
            // It is shorter than it was: nothing that was read of it can be relied upon.
            *log = Log::default();
        }
        log.settle(boot, low);
        let deadline = Instant::now() + MOST_TIME;
        while log.next < end {
            if Instant::now() > deadline {
                return Err(Error::new(
                    ErrorKind::Timeout,
                    format!(
                        "{} messages of {queue} are still to be read before it is known what waits in it: ask again, reading goes on from here",
                        end - log.next
                    ),
                ));
            }
            if log.waiting.len() >= MOST_MESSAGES {
                return Err(Error::new(
                    ErrorKind::TooLarge,
                    format!(
                        "more than {MOST_MESSAGES} messages wait in {queue}: what they are meant for is known once fewer do"
                    ),
                ));
            }
            match self.pull_own(master, &queue, log.next).await? {
                Pulled::Messages(messages) => {
                    for message in &messages {
                        log.keep(message, &queue);
                    }
                }
                Pulled::SkipTo(next) => log.next = next,
            }
        }
        Ok(log)
    }

    async fn pull_own(&self, master: &Master, queue: &MessageQueue, from: u64) -> Result<Pulled> {
        let request = Request::new(request::PULL_MESSAGE)
            .text("consumerGroup", TOOLS_GROUP)
            .text("topic", &queue.topic)
            .field("queueId", queue.queue)
            .field("queueOffset", from)
            .text("maxMsgNums", "32")
            .field("sysFlag", pull_flag::SUBSCRIPTION)
            .text("commitOffset", "0")
            .text("suspendTimeoutMillis", "0")
            .text("subscription", "*")
            .text("subVersion", "0")
            .text("expressionType", "TAG");
        let timeout = self.client.options().request_timeout;
        let answer = self
            .client
            .invoke(&master.address, request, timeout)
            .await?;
        match answer.code {
            response::SUCCESS => {
                let messages = message::skim(answer.body, queue)
                    .map_err(|error| error.with_address(&master.address))?;
                if messages.last().is_some_and(|last| last.offset >= from) {
                    return Ok(Pulled::Messages(messages));
                }
            }
            // What was there is gone, deleted as too old: nothing is owed below the new begin.
            response::PULL_OFFSET_MOVED | response::PULL_RETRY_IMMEDIATELY => {
                let next = answer.fields.offset("nextBeginOffset")?;
                if next > from {
                    return Ok(Pulled::SkipTo(next));
                }
            }
            // There is something, see the caller. A new broker gives its own topic of half messages out after its first transaction check only.
            response::TOPIC_NOT_EXIST => {
                let text = format!(
                    "the broker does not give out what waits in {queue} before its first round of transaction checks: ask again in a minute"
                );
                return Err(Error::new(ErrorKind::Unavailable, text).with_address(&master.address));
            }
            code => {
                let remark = answer.remark.as_deref();
                return Err(Error::refused(
                    &format!("reading what waits in {queue}"),
                    code,
                    remark,
                )
                .with_right(request::PULL_MESSAGE)
                .with_address(&master.address));
            }
        }
        let text = format!("the broker does not give out the message at offset {from} of {queue}");
        Err(Error::new(ErrorKind::Protocol, text).with_address(&master.address))
    }
}

enum Pulled {
    Messages(Vec<Skimmed>),
    SkipTo(u64),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(offset: u64) -> Low {
        Low {
            offset,
            timers: None,
        }
    }

    fn log(boot: &str, low: u64, offsets: &[u64]) -> Log {
        let mut log = Log::default();
        log.settle(boot, &at(low));
        for &offset in offsets {
            log.next = offset + 1;
            let waiting = Waiting {
                topic: "t".into(),
                retry_of: None,
                due_ms: 10 * offset,
            };
            log.waiting.insert(offset, waiting);
        }
        log
    }

    #[tokio::test(start_paused = true)]
    async fn a_look_that_began_earlier_finds_what_a_later_one_has_seen_passed() {
        let mut log = log("1", 3, &[3, 4, 5, 6]);
        log.settle("1", &at(5));
        assert_eq!((log.next, log.waiting(at(5)).count()), (7, 2));
        log.settle("1", &at(3));
        assert_eq!((log.next, log.waiting(at(3)).count()), (7, 4));
        // Long after, it is forgotten; who still asks for it makes it be read anew.
        for low in [5, 6] {
            tokio::time::advance(CLEARING).await;
            log.settle("1", &at(low));
        }
        assert_eq!(log.waiting.len(), 2);
        log.settle("1", &at(4));
        assert_eq!((log.next, log.waiting.len()), (4, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_broker_that_was_started_again_is_read_anew() {
        let mut log = log("1", 3, &[3, 4, 5, 6]);
        log.settle("2", &at(5));
        assert_eq!((log.next, log.waiting.len()), (5, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn timers_wait_until_they_are_enqueued_and_their_time_was_read() {
        let log = log("1", 0, &[3, 4, 5, 6]);
        let low = |enqueued, delivered_before_ms| Low {
            offset: 0,
            timers: Some(TimerProgress {
                enqueued,
                delivered_before_ms,
            }),
        };
        assert_eq!(log.waiting(low(7, 41)).count(), 2);
        assert_eq!(log.waiting(low(7, 40)).count(), 3);
        assert_eq!(log.waiting(low(4, 1000)).count(), 3);
        assert_eq!(log.waiting(low(7, 1000)).count(), 0);
    }

    #[test]
    fn retries_of_other_topics_are_told_apart_in_a_retry_topic() {
        let mut log = log("1", 0, &[3, 4, 5, 6]);
        for (offset, of) in [(3, "u"), (4, "t"), (5, "u")] {
            log.waiting.get_mut(&offset).unwrap().retry_of = Some(of.into());
        }
        assert_eq!(log.retries_of_others(0..7, "t"), 2);
        assert_eq!(log.retries_of_others(0..7, "u"), 1);
        assert_eq!(log.retries_of_others(4..7, "t"), 1);
        assert_eq!(log.retries_of_others(0..5, "t"), 1);
    }

    #[test]
    fn a_retry_of_another_topic_of_the_group_is_none_of_this_one() {
        let waiting = |topic: &str, retry_of: Option<&str>| Waiting {
            topic: topic.into(),
            retry_of: retry_of.map(Into::into),
            due_ms: 0,
        };
        for (message, concerns) in [
            (waiting("t", None), true),
            (waiting("%RETRY%g", Some("t")), true),
            // Nobody says of which: it may be.
            (waiting("%RETRY%g", None), true),
            (waiting("%RETRY%g", Some("u")), false),
            (waiting("%RETRY%h", Some("t")), false),
            (waiting("u", None), false),
        ] {
            assert_eq!(message.concerns("t", "%RETRY%g"), concerns, "{message:?}");
        }
    }
}
