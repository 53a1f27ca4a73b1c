//! A cluster that answers whatever it likes: every call of the client ends in time, nothing panics, memory stays bounded.
//!
//! `CROSSFADE_HOSTILE_SEEDS=1000 cargo test -p crossfade-rocketmq --test hostile -- --nocapture` makes more of it (default 300).
#![allow(clippy::print_stdout, reason = "the figures are worth reading")]

mod answers;
mod server;
mod spoil;

use std::{
    collections::BTreeMap,
    env, panic,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use crossfade_rocketmq::{
    Admin, Client, ClientOptions, Consumer, ConsumerOptions, Message, Producer, ProducerOptions,
    Result, admin::TopicAccess,
};
use tokio::{sync::Semaphore, task::JoinSet, time::timeout};

/// Of one request.
const PATIENCE: Duration = Duration::from_millis(150);
/// Of one call, which may ask several brokers several times; [`Consumer::ready`] alone may take 30 s.
const LONGEST: Duration = Duration::from_secs(20);
/// Frames above it are refused; the server sends larger ones.
const MAX_FRAME_BYTES: usize = 256 << 10;
/// Clients at a time.
const TOGETHER: usize = 16;
/// All clients together, with the server that runs in the same process.
const MAX_RESIDENT_BYTES: u64 = 512 << 20;

/// How calls ended, by their name.
type Tally = BTreeMap<&'static str, BTreeMap<String, usize>>;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_a_cluster_answers_every_call_ends_nothing_panics_and_memory_is_bounded() {
    let panics = Arc::new(AtomicUsize::new(0));
    let (counted, shown) = (Arc::clone(&panics), panic::take_hook());
    panic::set_hook(Box::new(move |info| {
        counted.fetch_add(1, Ordering::SeqCst);
        shown(info);
    }));
    let seeds = env::var("CROSSFADE_HOSTILE_SEEDS").map_or(300, |seeds| seeds.parse().unwrap());
    let places = Arc::new(Semaphore::new(TOGETHER));
    let tally = Arc::new(Mutex::new(Tally::new()));
    let answered = Arc::new(AtomicUsize::new(0));
    let mut runs = JoinSet::new();
    for seed in 0..seeds {
        let (places, tally, answered) = (
            Arc::clone(&places),
            Arc::clone(&tally),
            Arc::clone(&answered),
        );
        runs.spawn(async move {
            let _place = places.acquire_owned().await.unwrap();
            let client_id = format!("hostile-{seed}");
            let address = server::start(seed, &client_id, answered).await;
            one(&address, &client_id, &tally).await;
        });
    }
    while let Some(run) = runs.join_next().await {
        run.unwrap();
    }
    let tally = tally.lock().unwrap();
    let calls: usize = tally.values().flat_map(BTreeMap::values).sum();
    let resident = resident_high_water();
    println!(
        "{seeds} clients, {calls} calls, {} answers, {} MiB resident at most",
        answered.load(Ordering::SeqCst),
        resident >> 20
    );
    for (call, ends) in &*tally {
        println!("  {call}: {ends:?}");
        // Otherwise it would show nothing of the code behind the first answer.
        assert!(ends.contains_key("Ok"), "{call} never succeeded");
        // An ack asks nobody, a message that no broker takes back is kept here, and a receive waits for brokers that fail.
        let cannot_fail = ["ack", "nack", "receive"].contains(call);
        assert!(cannot_fail || ends.len() > 1, "{call} never failed");
    }
    assert_eq!(panics.load(Ordering::SeqCst), 0, "panics");
    assert!(resident < MAX_RESIDENT_BYTES, "{resident} bytes resident");
}

/// One application's life.
async fn one(address: &str, client_id: &str, tally: &Mutex<Tally>) {
    let mut options = ClientOptions::new([address], client_id);
    options.connect_timeout = PATIENCE;
    options.request_timeout = PATIENCE;
    options.route_refresh = PATIENCE;
    options.heartbeat = PATIENCE;
    options.max_frame_bytes = MAX_FRAME_BYTES;
    let client = Client::new(options).unwrap();
    let admin = Admin::new(&client);
    let topic = answers::TOPIC;
    let calls = Calls { tally };
    calls.end("route", client.route(topic)).await;
    calls.end("masters", admin.masters()).await;
    if let Some(producer) = calls
        .end(
            "producer",
            Producer::new(&client, topic, ProducerOptions::default()),
        )
        .await
    {
        for lane in 0..4 {
            let message = Message::new(Bytes::from_static(b"hello"));
            calls
                .end("send", producer.send(&message, lane, PATIENCE))
                .await;
        }
    }
    if let Some(consumer) = calls
        .end(
            "consumer",
            Consumer::new(&client, topic, answers::GROUP, ConsumerOptions::default()),
        )
        .await
    {
        for _ in 0..4 {
            let Some(deliveries) = calls.end("receive", consumer.receive(8, PATIENCE)).await else {
                break;
            };
            for delivery in deliveries {
                if delivery.token.0 % 2 == 0 {
                    calls
                        .end("ack", async { consumer.ack(delivery.token) })
                        .await;
                } else {
                    calls
                        .end("nack", consumer.nack(delivery.token, PATIENCE))
                        .await;
                }
            }
        }
        calls.end("close", consumer.close()).await;
    }
    let broker: Arc<str> = address.into();
    calls.end("dispatch", admin.dispatch(&broker)).await;
    calls.end("topics", admin.topics()).await;
    calls.end("groups", admin.groups(&broker)).await;
    calls.end("members", admin.consumers(answers::GROUP)).await;
    calls.end("producers", admin.all_producers()).await;
    calls.end("pops", admin.pops(topic, answers::GROUP)).await;
    if let Some(configs) = calls.end("configs", admin.topic_configs(topic)).await {
        let groups = [Arc::from(answers::GROUP)];
        calls.end("ends", admin.ends(&configs)).await;
        calls
            .end("owed", admin.owed(topic, &groups, &configs, PATIENCE))
            .await;
        calls
            .end("open", admin.set_topic_access(&configs, TopicAccess::Open))
            .await;
    }
}

/// Counts how calls end.
struct Calls<'a> {
    tally: &'a Mutex<Tally>,
}

impl Calls<'_> {
    async fn end<T>(&self, name: &'static str, call: impl Future<Output = Result<T>>) -> Option<T> {
        let result = timeout(LONGEST, call).await;
        let result = result.unwrap_or_else(|_| panic!("{name} took longer than {LONGEST:?}"));
        let end = match &result {
            Ok(_) => "Ok".to_owned(),
            Err(error) => format!("{:?}", error.kind()),
        };
        let mut tally = self.tally.lock().unwrap();
        *tally.entry(name).or_default().entry(end).or_default() += 1;
        result.ok()
    }
}

/// `VmHWM` of this process (proc_pid_status(5)).
fn resident_high_water() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().nth(1));
    kilobytes.unwrap().parse::<u64>().unwrap() << 10
}
