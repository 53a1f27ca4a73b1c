//! Sends the next message, or the next few, the way their kind wants.

use std::sync::Arc;

use crossfade::{Client, Producer, Result, SendReceipt, TransactionalProducer};

use super::{
    kind::{Checker, Kind, Outcome, outcome},
    ledger::{Ledger, Sending},
};

#[derive(Clone, Debug)]
pub(super) enum Sender {
    Plain(Producer),
    Transactional(TransactionalProducer),
}

impl Sender {
    pub(super) async fn new(client: &Client, topic: &str, kind: Kind) -> Result<Self> {
        if kind == Kind::Transactional {
            let producer = client.transactional_producer(topic, Arc::new(Checker));
            return Ok(Sender::Transactional(producer.await?));
        }
        Ok(Sender::Plain(client.producer(topic).await?))
    }

    /// False when every number is taken.
    pub(super) async fn send_next(&self, ledger: &Ledger, kind: Kind) -> bool {
        let sendings: Vec<Sending> = std::iter::from_fn(|| ledger.begin())
            .take(kind.drawn_together())
            .collect();
        let Some(first) = sendings.first() else {
            return false;
        };
        match self {
            Sender::Transactional(producer) => {
                let number = first.number();
                if let Err(error) = transaction(producer, ledger, first, kind).await {
                    tracing::warn!(number, %error, "transaction failed");
                    ledger.failed(&error);
                }
            }
            Sender::Plain(producer) => match send(producer, &sendings, kind).await {
                Ok(receipts) => {
                    for (sending, receipt) in sendings.iter().zip(receipts) {
                        ledger.sent(sending, receipt.side, receipt.revision);
                    }
                }
                Err(error) => {
                    tracing::warn!(number = first.number(), %error, "send failed");
                    ledger.failed(&error);
                }
            },
        }
        sendings.len() == kind.drawn_together()
    }
}

async fn send(producer: &Producer, sendings: &[Sending], kind: Kind) -> Result<Vec<SendReceipt>> {
    let message = |sending: &Sending| kind.message(sending.number(), sending.body());
    match sendings {
        [one] => Ok(vec![producer.send(message(one)).await?]),
        several => {
            producer
                .send_batch(several.iter().map(message).collect())
                .await
        }
    }
}

async fn transaction(
    producer: &TransactionalProducer,
    ledger: &Ledger,
    sending: &Sending,
    kind: Kind,
) -> Result<()> {
    let message = kind.message(sending.number(), sending.body());
    let transaction = producer.begin(message).await?;
    let (side, revision) = (transaction.side(), transaction.receipt().revision);
    match outcome(sending.number()) {
        Outcome::Commit => {
            if let Err(error) = transaction.commit().await {
                // The application's own transaction has succeeded: the broker asks, and the checker says so.
                tracing::info!(number = sending.number(), %error, "the broker has to ask for the commit");
            }
            ledger.sent(sending, side, revision);
        }
        Outcome::Rollback => {
            ledger.rolled_back(sending);
            if let Err(error) = transaction.rollback().await {
                tracing::info!(number = sending.number(), %error, "the broker has to ask for the rollback");
            }
        }
        Outcome::Forgotten => {
            ledger.sent(sending, side, revision);
            drop(transaction);
        }
    }
    Ok(())
}
