//! `crossfade load consume`.

use std::{
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use crossfade::{Consumer, Delivery, ErrorKind, Subscription};
use crossfade_history::{DedupScope, Role, Side, What};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

use super::{
    PROGRESS, Shared, body,
    instance::{Instance, sdk},
    stopped,
    tally::Handled,
};
use crate::cli::{
    Control,
    fault::{Fault, failed},
    progress, say,
};

/// How long one look for messages takes, and a pause without a lease.
const LOOK: Duration = Duration::from_millis(500);
/// How long finding out what to warn of may hold up the start.
const WARNING: Duration = Duration::from_secs(3);
/// Most messages of one look.
const BATCH: usize = 64;
/// Messages that wait for a handler of their own.
const QUEUED: usize = 2;
/// Handlers fail on purpose in so many deliveries of a message at most, so that none becomes a dead letter.
const FAILING_ATTEMPTS: u32 = 3;

/// Handle numbered messages through the library, and write down each entry into the handler and how it ended.
///
/// SIGINT and SIGTERM end it in good order: the handlers under way finish. Exit 0 only when it ended in good order.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  crossfade load consume --topic rehearsal --group billing --instance c1 --history c1.jsonl --until-idle 30"
)]
pub(in crate::cli) struct Args {
    #[command(flatten)]
    shared: Shared,
    /// The consumer group.
    #[arg(long, value_name = "GROUP")]
    group: String,
    /// End when so many were handled; what is under way then is finished, so it may be some more.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    messages: Option<u64>,
    /// End when nothing has come for so long.
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    until_idle: Option<u64>,
    /// Handlers at work at once. Messages with the same ordering key go to the same one.
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=1_024))]
    concurrency: u16,
    /// How long a handler takes.
    #[arg(long, value_name = "MS", default_value_t = 0, value_parser = clap::value_parser!(u64).range(0..=600_000))]
    handler_ms: u64,
    /// So many handlers in a hundred fail on purpose, each message three times at most.
    #[arg(long, value_name = "PERCENT", default_value_t = 0, allow_negative_numbers = true, value_parser = clap::value_parser!(u8).range(0..=100))]
    fail_percent: u8,
    /// After a failed handler the message comes again after about so long.
    #[arg(long, value_name = "MS", default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(0..=7_200_000))]
    retry_ms: u64,
}

pub(super) async fn run(
    args: Args,
    control: &Control,
    json: bool,
    stop: watch::Receiver<bool>,
) -> Result<(), Fault> {
    let role = Role::Consumer {
        group: args.group.clone(),
        // The library's own store is in this process.
        dedup: DedupScope::Process,
    };
    let instance = Instance::start(&args.shared, control, role).await?;
    warn_if_unmanaged(&args, control).await;
    let handled = Arc::new(Handled::new());
    let outcome = handle_all(&args, &instance, &handled, stop).await;
    let ended = instance.end().await;
    say(handled.summary(&instance, json));
    outcome.and(ended)
}

/// A group that nobody named to the control plane is a typing error, or was forgotten.
async fn warn_if_unmanaged(args: &Args, control: &Control) {
    let (topic, group) = (&args.shared.topic, &args.group);
    let asked = async { control.operator()?.show(topic).await };
    // With a token for applications nobody may look: nothing is said then.
    let Ok(Ok(view)) = timeout(WARNING, asked).await else {
        return;
    };
    if view.groups.iter().all(|managed| **managed != **group) {
        progress(format_args!(
            "warning: group {group} is not managed with topic {topic}, whose groups are {}: while it reads, the gate groups_known is closed. Another name was meant, or remove the topic and add it with --group {group} too",
            view.groups.join(", ")
        ));
    }
}

async fn handle_all(
    args: &Args,
    instance: &Instance,
    handled: &Arc<Handled>,
    stop: watch::Receiver<bool>,
) -> Result<(), Fault> {
    let subscription = Subscription::new(&*args.shared.topic, &*args.group);
    let consumer = instance.client.consumer(subscription).await;
    let consumer = Arc::new(consumer.map_err(|error| sdk(&error))?);
    instance.joined();
    let seed = args.shared.seed.unwrap_or_else(rand::random);
    let mut handlers = JoinSet::new();
    let mut queues = Vec::new();
    for number in 0..args.concurrency {
        let (queue, queued) = mpsc::channel(QUEUED);
        queues.push(queue);
        let handler = Handler {
            consumer: Arc::clone(&consumer),
            instance: instance.clone(),
            handled: Arc::clone(handled),
            random: StdRng::seed_from_u64(seed.wrapping_add(u64::from(number))),
            takes: Duration::from_millis(args.handler_ms),
            fails: f64::from(args.fail_percent) / 100.0,
            retry: Duration::from_millis(args.retry_ms),
        };
        handlers.spawn(handler.run(queued));
    }
    let received = receive_all(args, &consumer, queues, handled, stop).await;
    // The queues are closed now: each handler ends after what it has.
    while let Some(ended) = handlers.join_next().await {
        ended.map_err(|error| failed(format!("a handler ended: {error}")))??;
    }
    received
}

/// Hands messages to the handlers until it is time to end.
async fn receive_all(
    args: &Args,
    consumer: &Consumer,
    queues: Vec<mpsc::Sender<Delivery>>,
    handled: &Handled,
    mut stop: watch::Receiver<bool>,
) -> Result<(), Fault> {
    let idle = args.until_idle.map(Duration::from_secs);
    let (mut last_came, mut last_line) = (Instant::now(), Instant::now());
    let mut turn = 0_usize;
    loop {
        if last_line.elapsed() >= PROGRESS {
            last_line = Instant::now();
            progress(handled.line());
        }
        let enough = args
            .messages
            .is_some_and(|messages| handled.done() >= messages);
        let idle_for = last_came.elapsed();
        if *stop.borrow() || enough || idle.is_some_and(|idle| idle_for >= idle) {
            return Ok(());
        }
        let received = tokio::select! {
            received = consumer.receive(BATCH, LOOK) => received,
            () = stopped(&mut stop) => return Ok(()),
        };
        let deliveries = match received {
            Ok(deliveries) => deliveries,
            // Deliveries pause until there is contact again.
            Err(error) if error.kind() == ErrorKind::LeaseOver => {
                sleep(LOOK).await;
                continue;
            }
            Err(error) => return Err(sdk(&error)),
        };
        if !deliveries.is_empty() {
            last_came = Instant::now();
        }
        for delivery in deliveries {
            let place = match &delivery.message.ordering_key {
                Some(key) => {
                    let mut hasher = DefaultHasher::new();
                    key.hash(&mut hasher);
                    hasher.finish() as usize
                }
                None => {
                    turn = turn.wrapping_add(1);
                    turn
                }
            };
            // A handler that has ended has failed; its error comes from the join.
            if queues[place % queues.len()].send(delivery).await.is_err() {
                return Ok(());
            }
        }
    }
}

/// Handles one message after the other.
struct Handler {
    consumer: Arc<Consumer>,
    instance: Instance,
    handled: Arc<Handled>,
    random: StdRng,
    takes: Duration,
    fails: f64,
    retry: Duration,
}

impl Handler {
    async fn run(mut self, mut queued: mpsc::Receiver<Delivery>) -> Result<(), Fault> {
        while let Some(delivery) = queued.recv().await {
            self.handle(&delivery).await?;
        }
        Ok(())
    }

    async fn handle(&mut self, delivery: &Delivery) -> Result<(), Fault> {
        let id = body::id(&delivery.message.body).map_or_else(
            || {
                self.handled.foreign.fetch_add(1, Relaxed);
                format!("?{}:{}", delivery.side, delivery.message_id)
            },
            str::to_owned,
        );
        let own = || (&*id).into();
        let side = match delivery.side {
            crossfade::Side::Source => Side::Source,
            crossfade::Side::Target => Side::Target,
        };
        let attempt = delivery.attempt;
        self.instance.record(What::Enter {
            id: own(),
            side,
            attempt,
        })?;
        self.handled.entered[delivery.side.index()].fetch_add(1, Relaxed);
        if !self.takes.is_zero() {
            sleep(self.takes).await;
        }
        let fails = attempt <= FAILING_ATTEMPTS && self.random.random_bool(self.fails);
        let told = if fails {
            self.instance.record(What::HandlerFailed { id: own() })?;
            self.handled.handler_failed.fetch_add(1, Relaxed);
            self.consumer.nack(delivery, self.retry).await
        } else {
            self.instance.record(What::Done { id: own() })?;
            self.handled.done.fetch_add(1, Relaxed);
            self.consumer.ack(delivery).await
        };
        if let Err(error) = told {
            // The message comes again, here or elsewhere; the check of the histories says whether it should have.
            self.handled.not_acked.fetch_add(1, Relaxed);
            tracing::debug!(id, %error, "neither acked nor given back");
        }
        Ok(())
    }
}
