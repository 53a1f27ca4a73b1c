//! Transactions of this client's: ended at once, or when the broker asks.

use std::{
    future::{Future, ready},
    pin::Pin,
    sync::{Arc, Mutex},
    time::Duration,
};

use crossfade_rocketmq::{
    HalfMessage, Producer, ProducerOptions, ReceivedMessage, TransactionChecker, TransactionEnd,
};
use tokio::time::{Instant, sleep};

use crate::{
    Pair, content,
    ours::{Sent, WAIT, insist, message, now_ms},
};

/// In the order in which brokers ask for them; with "check" in it nobody ends it before they ask.
const ALL: [&str; 4] = ["commit", "rollback", "check-rollback", "check-commit"];

/// Those that were sent, and who answers for them.
pub(crate) struct Transactions {
    sent: Vec<(String, HalfMessage)>,
    checker: Arc<Checker>,
    at_ms: i64,
    /// Brokers ask a group that is there.
    _producer: Producer,
}

/// What a transaction's id ends with is its end.
fn end(id: &str) -> TransactionEnd {
    match id.ends_with("commit") {
        true => TransactionEnd::Commit,
        false => TransactionEnd::Rollback,
    }
}

/// Sends them all, and ends those that wait for no question.
pub(crate) async fn send(pair: &Pair) -> Transactions {
    let mut options = ProducerOptions::default();
    options.group = format!("{}-our-transactions", pair.prefix);
    let topic = format!("{}-ours", pair.prefix);
    let producer = Producer::new(&pair.client, &topic, options).await.unwrap();
    let checker = Arc::<Checker>::default();
    producer.set_checker(checker.clone());
    let (mut sent, at_ms) = (Vec::new(), now_ms());
    for (lane, which) in (0..).zip(ALL) {
        let id = content::id("transaction", which);
        let message = message("transaction", &id);
        let half = insist(|| producer.send_half(&message, lane, WAIT)).await;
        if !which.starts_with("check") {
            insist(|| producer.end_transaction(&half, end(&id), WAIT)).await;
        }
        sent.push((id, half));
    }
    Transactions {
        sent,
        checker,
        at_ms,
        _producer: producer,
    }
}

impl Transactions {
    /// Those that must be handled.
    pub(crate) fn committed(&self) -> impl Iterator<Item = (String, Sent)> {
        let committed = self
            .sent
            .iter()
            .filter(|(id, _)| end(id) == TransactionEnd::Commit);
        committed.map(|(id, half)| {
            let sent = Sent {
                at_ms: self.at_ms,
                message_id: half.message_id().to_owned(),
                result: half.sent.clone(),
            };
            (id.clone(), sent)
        })
    }

    /// The broker has asked for the end of those that nobody ended.
    pub(crate) async fn all_were_asked_for(&self, pair: &Pair) {
        let open = ALL.iter().filter(|which| which.starts_with("check"));
        let open: Vec<_> = open
            .map(|which| content::id("transaction", which))
            .collect();
        loop {
            let asked = self.checker.0.lock().unwrap().clone();
            if open.iter().all(|id| asked.contains(id)) {
                return;
            }
            let late = Instant::now() > pair.deadline;
            assert!(
                !late,
                "{}: not in time: asked for {asked:?} only",
                pair.what
            );
            sleep(Duration::from_millis(100)).await;
        }
    }
}

/// Answers the brokers, and keeps what they asked for.
#[derive(Debug, Default)]
struct Checker(Mutex<Vec<String>>);

impl TransactionChecker for Checker {
    fn check(
        &self,
        message: ReceivedMessage,
    ) -> Pin<Box<dyn Future<Output = TransactionEnd> + Send + '_>> {
        let id = message.property("id").unwrap_or_default().to_owned();
        let end = end(&id);
        self.0.lock().unwrap().push(id);
        Box::pin(ready(end))
    }
}
