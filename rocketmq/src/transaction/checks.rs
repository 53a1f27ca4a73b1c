//! Brokers' questions about transactions: kept until a checker has time, and answered on the connection of the broker that asks.
//!
//! A question is worth little: what is not answered is asked again at the broker's next round. So all that waits is bounded, and what is above the
//! bound is dropped.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use tokio::{
    sync::Notify,
    task::{JoinError, JoinSet},
};

use super::{TransactionChecker, TransactionEnd, ended::Ended};
use crate::{
    client::{Client, Inner},
    error::{Error, ErrorKind, Result},
    frame::Command,
    heartbeat::Registry,
    message::{ReceivedMessage, decode, property, skim},
    producer::Place,
    route::MessageQueue,
};

/// Questions that wait: as many as Java's client keeps (`checkRequestHoldMax`), and a bound for their messages together.
const MOST_WAITING: usize = 2_000;
const MOST_WAITING_BYTES: usize = 64 << 20;
/// Checkers at work at the same time.
const MOST_AT_ONCE: usize = 16;
/// How long a checker may take.
const CHECK_TIMEOUT: Duration = Duration::from_secs(10);

/// The checkers of one client, by producer group and topic, and what they are still to be asked.
#[derive(Debug, Default)]
pub(crate) struct Checks {
    checkers: Mutex<HashMap<GroupAndTopic, Arc<dyn TransactionChecker>>>,
    ended: Mutex<Ended>,
    waiting: Mutex<Waiting>,
    more: Notify,
}

type GroupAndTopic = (Arc<str>, Arc<str>);

#[derive(Debug, Default)]
struct Waiting {
    questions: VecDeque<(Arc<str>, Command)>,
    bytes: usize,
}

impl Checks {
    pub(crate) fn set(
        &self,
        group: &Arc<str>,
        topic: &Arc<str>,
        checker: Arc<dyn TransactionChecker>,
    ) {
        let key = (Arc::clone(group), Arc::clone(topic));
        // The one before is dropped outside the lock: it is the application's.
        let before = lock(&self.checkers).insert(key, checker);
        drop(before);
    }

    /// The checker that is forgotten, to be dropped outside of every lock.
    pub(crate) fn remove(&self, key: &GroupAndTopic) -> Option<Arc<dyn TransactionChecker>> {
        lock(&self.checkers).remove(key)
    }

    /// The broker has taken the end of this message's transaction.
    pub(crate) fn ended(&self, message_id: &str, end: TransactionEnd) {
        lock(&self.ended).add(message_id, end);
    }

    /// The broker may have this half message and will get another one with the same id.
    pub(crate) fn may_be_copied(&self, message_id: &str) {
        lock(&self.ended).is_copied(message_id);
    }

    fn find(&self, group: &str, topic: &str) -> Option<Arc<dyn TransactionChecker>> {
        let key = (group.into(), topic.into());
        lock(&self.checkers).get(&key).map(Arc::clone)
    }

    /// Keeps a broker's question; whether there was room.
    pub(crate) fn ask(&self, address: &Arc<str>, command: &Command) -> bool {
        let mut waiting = lock(&self.waiting);
        let bytes = waiting.bytes + held(command);
        if waiting.questions.len() >= MOST_WAITING || bytes > MOST_WAITING_BYTES {
            return false;
        }
        waiting.bytes = bytes;
        let question = (Arc::clone(address), command.clone());
        waiting.questions.push_back(question);
        drop(waiting);
        self.more.notify_one();
        true
    }

    async fn next(&self) -> (Arc<str>, Command) {
        loop {
            if let Some(question) = self.take() {
                return question;
            }
            self.more.notified().await;
        }
    }

    fn take(&self) -> Option<(Arc<str>, Command)> {
        let mut waiting = lock(&self.waiting);
        let question = waiting.questions.pop_front()?;
        waiting.bytes -= held(&question.1);
        Some(question)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Every change is a single insert, push or pop.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Answers the questions until it is aborted, and with it the checkers at work.
pub(crate) async fn run(inner: Weak<Inner>, registry: Arc<Registry>) {
    let mut at_work: JoinSet<()> = JoinSet::new();
    loop {
        let (address, command) = registry.checks.next().await;
        while let Some(ended) = at_work.try_join_next() {
            told(ended);
        }
        if at_work.len() >= MOST_AT_ONCE
            && let Some(ended) = at_work.join_next().await
        {
            told(ended);
        }
        at_work.spawn(answer(
            Weak::clone(&inner),
            Arc::clone(&registry),
            address,
            command,
        ));
    }
}

fn told(ended: std::result::Result<(), JoinError>) {
    if let Err(error) = ended {
        tracing::warn!(%error, "a transaction checker panicked; the broker asks again");
    }
}

async fn answer(inner: Weak<Inner>, registry: Arc<Registry>, address: Arc<str>, command: Command) {
    let question = match Question::read(command) {
        Ok(question) => question,
        Err(error) => {
            tracing::warn!(%address, %error, "a question about a transaction cannot be read");
            return;
        }
    };
    let known = lock(&registry.checks.ended).asked(question.message.message_id());
    let end = match known {
        Some(end) => end,
        None => match registry
            .checks
            .find(&question.group, &question.message.topic)
        {
            Some(checker) => check(&*checker, &question).await,
            None => {
                // Another client of the group may know: silence makes the broker ask again.
                let (group, topic) = (&question.group, &question.message.topic);
                tracing::warn!(%address, group, %topic, "a broker asks about a transaction that this process has no checker for");
                return;
            }
        },
    };
    // Only for the moment of the answer: a checker must not keep a client alive.
    if let Some(client) = Client::upgrade(&inner) {
        client.oneway(&address, question.place().end(end, true));
    }
}

async fn check(checker: &dyn TransactionChecker, question: &Question) -> TransactionEnd {
    let checking = tokio::time::timeout(CHECK_TIMEOUT, checker.check(question.message.clone()));
    checking.await.unwrap_or_else(|_| {
        let (topic, id) = (&question.message.topic, question.message.message_id());
        tracing::warn!(%topic, id, "the transaction checker did not answer in time; the broker asks again");
        TransactionEnd::Unknown
    })
}

/// `CheckTransactionStateRequestHeader.java`.
struct Question {
    message: ReceivedMessage,
    group: String,
    broker: String,
    queue_offset: u64,
    commit_log_offset: u64,
}

impl Question {
    /// # Errors
    /// [`ErrorKind::Protocol`].
    fn read(command: Command) -> Result<Question> {
        let broken = |why: &str| Error::new(ErrorKind::Protocol, why);
        let fields = &command.fields;
        let broker = fields.get("bname").unwrap_or_default().to_owned();
        // Only the properties say where the message is meant to go.
        let unknown = queue("", &broker, 0);
        let skimmed = skim(command.body.clone(), &unknown)?;
        let skimmed = skimmed.first().ok_or_else(|| broken("it has no message"))?;
        let named = |name: &str| {
            let value = skimmed.property(name);
            value.ok_or_else(|| broken(&format!("its message has no property {name}")))
        };
        let number = named(property::REAL_QID)?.parse();
        let number = number.map_err(|_| broken("its message names no queue"))?;
        let place = queue(named(property::REAL_TOPIC)?, &broker, number);
        let group = named(property::PGROUP)?.to_owned();
        let queue_offset = fields.offset("tranStateTableOffset")?;
        let commit_log_offset = fields.offset("commitLogOffset")?;
        let decoded = decode(command.body, &place);
        if let Some(error) = decoded.error {
            return Err(error);
        }
        let message = decoded.messages.into_iter().next();
        Ok(Question {
            message: message.ok_or_else(|| broken("it has no message"))?,
            group,
            broker,
            queue_offset,
            commit_log_offset,
        })
    }

    fn place(&self) -> Place<'_> {
        Place {
            topic: &self.message.topic,
            group: &self.group,
            broker: &self.broker,
            queue_offset: self.queue_offset,
            commit_log_offset: self.commit_log_offset,
            message_id: self.message.message_id(),
        }
    }
}

fn queue(topic: &str, broker: &str, queue: u32) -> MessageQueue {
    MessageQueue {
        topic: topic.into(),
        broker: broker.into(),
        queue,
    }
}

/// The memory that a question holds on to.
fn held(question: &Command) -> usize {
    question.body.len() + question.fields.bytes()
}

#[cfg(test)]
mod tests {
    use std::{
        pin::Pin,
        sync::atomic::{AtomicUsize, Ordering},
    };

    use bytes::{BufMut as _, Bytes, BytesMut};

    use super::*;
    use crate::{
        codes::request,
        frame::{DEFAULT_MAX_FRAME_BYTES, Request, decode},
    };

    /// As a broker asks about a message of group `g`.
    fn question(topic: &str, body: &[u8]) -> Command {
        let properties = format!(
            "REAL_TOPIC\u{1}{topic}\u{2}REAL_QID\u{1}3\u{2}PGROUP\u{1}g\u{2}UNIQ_KEY\u{1}id"
        );
        let mut message = BytesMut::new();
        message.put_u32(0);
        message.put_i32(-626_843_481);
        message.put_u32(crc32fast::hash(body) & 0x7fff_ffff);
        // Queue, flag, offset, place, flags, born, store, tries, prepared: nothing that is looked at.
        message.put_bytes(0, 4 + 4 + 8 + 8 + 4 + 16 + 16 + 4 + 8);
        message.put_u32(body.len() as u32);
        message.put_slice(body);
        message.put_slice(b"\x01t");
        message.put_u16(properties.len() as u16);
        message.put_slice(properties.as_bytes());
        let length = message.len() as u32;
        message[..4].copy_from_slice(&length.to_be_bytes());
        let request = Request::new(request::CHECK_TRANSACTION_STATE)
            .text("tranStateTableOffset", "7")
            .text("commitLogOffset", "4096")
            .body(message.freeze());
        decode(&mut request.frame(1, true), DEFAULT_MAX_FRAME_BYTES)
            .unwrap()
            .unwrap()
    }

    #[derive(Debug, Default)]
    struct Slow {
        begun: AtomicUsize,
    }

    impl TransactionChecker for Slow {
        fn check(
            &self,
            _: ReceivedMessage,
        ) -> Pin<Box<dyn Future<Output = TransactionEnd> + Send + '_>> {
            self.begun.fetch_add(1, Ordering::SeqCst);
            Box::pin(std::future::pending())
        }
    }

    #[test]
    fn question_says_what_the_message_is_and_where_it_lies() {
        let question = Question::read(question("orders", b"paid")).unwrap();
        assert_eq!(question.message.body, "paid");
        assert_eq!(&*question.message.topic, "orders");
        assert_eq!(question.message.queue.queue, 3);
        let place = question.place();
        assert_eq!((place.queue_offset, place.commit_log_offset), (7, 4096));
        assert_eq!((place.group, place.message_id), ("g", "id"));
    }

    #[test]
    fn question_that_cannot_be_read_is_an_error() {
        let whole = question("orders", b"paid");
        for cut in 0..whole.body.len() {
            let mut command = whole.clone();
            command.body = command.body.slice(..cut);
            assert!(Question::read(command).is_err(), "{cut}");
        }
    }

    #[test]
    fn questions_above_the_bounds_are_dropped_and_there_is_room_again_once_one_is_taken() {
        let address: Arc<str> = "b:1".into();
        for (question, most) in [
            (Command::default(), MOST_WAITING),
            (
                Command {
                    body: Bytes::from(vec![0; MOST_WAITING_BYTES / 4]),
                    ..Command::default()
                },
                4,
            ),
        ] {
            let checks = Checks::default();
            for _ in 0..most {
                assert!(checks.ask(&address, &question));
            }
            assert!(!checks.ask(&address, &question));
            assert!(checks.take().is_some());
            assert!(checks.ask(&address, &question));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn few_checkers_are_at_work_at_once_and_none_for_ever() {
        let registry = Arc::new(Registry::default());
        let checker = Arc::new(Slow::default());
        registry.set_checker(&"g".into(), &"orders".into(), checker.clone());
        for topic in std::iter::once("other").chain(["orders"; MOST_AT_ONCE + 1]) {
            registry.checks.ask(&"b:1".into(), &question(topic, b"x"));
        }
        let running = tokio::spawn(run(Weak::new(), Arc::clone(&registry)));
        tokio::time::sleep(CHECK_TIMEOUT / 2).await;
        assert_eq!(checker.begun.load(Ordering::SeqCst), MOST_AT_ONCE);
        tokio::time::sleep(CHECK_TIMEOUT).await;
        assert_eq!(checker.begun.load(Ordering::SeqCst), MOST_AT_ONCE + 1);
        running.abort();
    }
}
