//! `crossfade load produce`.

use std::sync::Arc;

use crossfade::{ErrorKind, Message, Persisted, Producer, Retry, stage::Routing};
use crossfade_history::{Role, Side, What};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{interval, sleep},
};

use super::{
    PROGRESS, Shared, body,
    instance::{Instance, sdk},
    pace::Pace,
    stopped,
    tally::Sends,
};
use crate::cli::{
    Control,
    fault::{Fault, failed, misused},
    progress, say,
};

/// Ordering keys when their number is not said.
const ORDERING_KEYS: u64 = 100;

/// Send numbered messages through the library, and write down each call and how it ended.
///
/// SIGINT and SIGTERM end it in good order. Without --messages it sends until then. Exit 0 only when it ended in good order and, with
/// --messages, every send returned success.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  crossfade load produce --topic rehearsal --instance p1 --rate 500 --history p1.jsonl"
)]
pub(in crate::cli) struct Args {
    #[command(flatten)]
    shared: Shared,
    /// End after so many sends.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    messages: Option<u64>,
    /// Sends a second; without it as many as go.
    #[arg(long, value_name = "R", value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    rate: Option<u64>,
    /// Draw each message's key from so many. Without it, every message has a key of its own (with --ordered: from 100).
    #[arg(long, value_name = "K", value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    keys: Option<u64>,
    /// The keys are ordering keys of an ordered topic: messages with the same one are to be handled in the order of their sends, which follow
    /// one another.
    #[arg(long)]
    ordered: bool,
    /// Sends under way at once.
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=1_024))]
    concurrency: u16,
    /// Size of a message's body, at least what its id needs.
    #[arg(long, value_name = "BYTES", default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..=4_000_000))]
    body_bytes: u32,
}

pub(super) async fn run(
    args: Args,
    control: &Control,
    json: bool,
    stop: watch::Receiver<bool>,
) -> Result<(), Fault> {
    let instance = Instance::start(&args.shared, control, Role::Producer).await?;
    let sends = Arc::new(Sends::new(args.messages));
    let sent = send_all(&args, &instance, &sends, stop).await;
    let ended = instance.end().await;
    say(sends.summary(&instance, json));
    sent.and(ended)?;
    let (called, acked) = (sends.called(), sends.acked());
    if args.messages.is_some() && acked < called {
        let without = called - acked;
        return Err(failed(format!(
            "{without} of {called} sends returned no success"
        )));
    }
    Ok(())
}

async fn send_all(
    args: &Args,
    instance: &Instance,
    sends: &Arc<Sends>,
    stop: watch::Receiver<bool>,
) -> Result<(), Fault> {
    let topic = &args.shared.topic;
    let producer = instance.client.producer(topic).await;
    let producer = producer.map_err(|error| sdk(&error))?;
    let plan = instance.client.plan(topic);
    if args.ordered && plan.is_none_or(|plan| plan.routing != Routing::Ordered) {
        return Err(misused(format!(
            "topic {topic} is unordered, so nothing is promised about the order of a key's messages: leave --ordered away"
        )));
    }
    instance.joined();
    let pace = args.rate.map(|rate| Arc::new(Pace::per_second(rate)));
    let mut senders = JoinSet::new();
    for keys in Keys::of_senders(args) {
        let sender = Sender {
            keys,
            body_bytes: args.body_bytes as usize,
            producer: producer.clone(),
            instance: instance.clone(),
            sends: Arc::clone(sends),
            pace: pace.clone(),
        };
        senders.spawn(sender.run(stop.clone()));
    }
    let mut lines = interval(PROGRESS);
    lines.tick().await;
    loop {
        tokio::select! {
            ended = senders.join_next() => match ended {
                None => return Ok(()),
                Some(Ok(outcome)) => outcome?,
                Some(Err(error)) => return Err(failed(format!("a sender ended: {error}"))),
            },
            _ = lines.tick() => progress(sends.line()),
        }
    }
}

/// Sends one message after the other.
struct Sender {
    keys: Keys,
    body_bytes: usize,
    producer: Producer,
    instance: Instance,
    sends: Arc<Sends>,
    pace: Option<Arc<Pace>>,
}

impl Sender {
    async fn run(mut self, mut stop: watch::Receiver<bool>) -> Result<(), Fault> {
        loop {
            if let Some(pace) = &self.pace {
                tokio::select! {
                    () = pace.turn() => {}
                    () = stopped(&mut stop) => {}
                }
            }
            if *stop.borrow() {
                return Ok(());
            }
            let Some(number) = self.sends.begin() else {
                return Ok(());
            };
            let Some(error) = self.send(number).await? else {
                continue;
            };
            if matches!(
                error.kind(),
                ErrorKind::Closed | ErrorKind::Superseded | ErrorKind::InvalidMessage
            ) {
                return Err(sdk(&error));
            }
            if let Retry::After(pause) = error.retry() {
                tokio::select! {
                    () = sleep(pause) => {}
                    () = stopped(&mut stop) => {}
                }
            }
        }
    }

    /// Answers the library's error, which is on record.
    async fn send(&mut self, number: u64) -> Result<Option<crossfade::Error>, Fault> {
        let text = self.instance.history.id(number);
        let id = || (&*text).into();
        let mut message = Message::new(body::write(&text, self.body_bytes));
        let key = self.keys.next();
        if self.keys.ordered {
            message.ordering_key.clone_from(&key);
        }
        let ordering_key = message.ordering_key.clone();
        message.key = Some(key.unwrap_or_else(|| text.clone()));
        let called_us = self.instance.record(What::Call {
            id: id(),
            key: ordering_key.map(Into::into),
        })?;
        match self.producer.send(message).await {
            Ok(receipt) => {
                let side = match receipt.side {
                    crossfade::Side::Source => Side::Source,
                    crossfade::Side::Target => Side::Target,
                };
                let acked_us = self.instance.record(What::Acked {
                    id: id(),
                    side,
                    revision: receipt.revision.0,
                })?;
                self.sends.succeeded(receipt.side, acked_us - called_us);
                Ok(None)
            }
            Err(error) => {
                tracing::debug!(id = text, %error, persisted = ?error.persisted(), "send failed");
                let words = error.to_string();
                let ambiguous = error.persisted() != Persisted::No;
                let what = if ambiguous {
                    What::Ambiguous {
                        id: id(),
                        error: words.into(),
                    }
                } else {
                    What::Failed {
                        id: id(),
                        error: words.into(),
                    }
                };
                self.instance.record(what)?;
                self.sends.failed(ambiguous);
                Ok(Some(error))
            }
        }
    }
}

/// Where the keys of one sender come from.
#[derive(Debug)]
struct Keys {
    random: StdRng,
    /// How many; 0: none.
    count: u64,
    /// The first of them, and the distance to the next.
    first: u64,
    step: u64,
    ordered: bool,
}

impl Keys {
    /// An ordering key belongs to one sender, so that its sends follow one another; any other key to all of them.
    fn of_senders(args: &Args) -> Vec<Keys> {
        let senders = u64::from(args.concurrency);
        let (count, senders, step) = if args.ordered {
            let keys = args.keys.unwrap_or(ORDERING_KEYS);
            let senders = senders.min(keys);
            (keys, senders, senders)
        } else {
            (args.keys.unwrap_or(0), senders, 1)
        };
        let seed = args.shared.seed.unwrap_or_else(rand::random);
        (0..senders)
            .map(|sender| {
                let first = if args.ordered { sender } else { 0 };
                Keys {
                    random: StdRng::seed_from_u64(seed.wrapping_add(sender)),
                    // Of 0, 1, 2, ... those with the remainder `first`.
                    count: count.saturating_sub(first).div_ceil(step),
                    first,
                    step,
                    ordered: args.ordered,
                }
            })
            .collect()
    }

    fn next(&mut self) -> Option<String> {
        if self.count == 0 {
            return None;
        }
        let drawn = self.random.random_range(0..self.count);
        Some(format!("key-{}", self.first + drawn * self.step))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use clap::Parser as _;

    use super::*;

    #[derive(Debug, clap::Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn keys(words: &str) -> Vec<BTreeSet<String>> {
        let fixed = "load --topic t --instance i --history h --seed 1";
        let line = Line::parse_from(fixed.split(' ').chain(words.split_whitespace()));
        let senders = Keys::of_senders(&line.args);
        let draw = |mut keys: Keys| (0..1_000).filter_map(|_| keys.next()).collect();
        senders.into_iter().map(draw).collect()
    }

    #[test]
    fn ordering_key_belongs_to_one_sender_and_all_keys_are_used() {
        let senders = keys("--ordered --keys 10 --concurrency 4");
        assert_eq!(senders.len(), 4);
        let all: BTreeSet<_> = senders.iter().flatten().collect();
        assert_eq!(
            (all.len(), senders.iter().map(BTreeSet::len).sum()),
            (10, 10)
        );
        assert_eq!(keys("--ordered --keys 3 --concurrency 8").len(), 3);
        assert_eq!(
            keys("--ordered").iter().flatten().count() as u64,
            ORDERING_KEYS
        );
    }

    #[test]
    fn other_keys_belong_to_all_senders() {
        assert!(
            keys("--keys 5 --concurrency 2")
                .iter()
                .all(|keys| keys.len() == 5)
        );
        assert!(keys("--concurrency 2").iter().all(BTreeSet::is_empty));
    }
}
