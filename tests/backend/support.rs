//! A cluster to test on, and what every case needs of it.

use std::{
    collections::BTreeSet,
    io::Write,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

#[cfg(feature = "memory")]
use crossfade::backend::{
    fault::FaultRules,
    memory::{MemoryCluster, MemoryConfig},
};
use crossfade::{
    ErrorKind, IdempotencyKey, Message, Result, Revision,
    backend::{
        Backend, BackendAdmin, BackendConsumer, BackendProducer, Capability, Incoming, MessageId,
        Outgoing, Stored, Subscription, TopicSettings,
        fault::{Fault, FaultControl},
        registry::{self, OpenOptions},
    },
};
use tokio::time::{Instant, sleep};

/// How long a send may take.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(5);
/// How long a case looks for what must not come. Under the paused clock this costs nothing.
pub(crate) const QUIET: Duration = Duration::from_millis(1500);
/// How long a case waits for what must come.
const DEADLINE: Duration = Duration::from_secs(60);
/// The same where it hangs on a broker's next round of questions about transactions: once a minute on 4.9, unless `transactionCheckInterval` says otherwise.
const SLOW_DEADLINE: Duration = Duration::from_secs(200);

enum Reach {
    #[cfg(feature = "memory")]
    Embedded(MemoryCluster),
    Live(String),
}

/// One cluster, through the traits alone.
pub(crate) struct Cluster {
    reach: Reach,
    pub(crate) admin: Arc<dyn BackendAdmin>,
    pub(crate) capability: Capability,
    /// Every client goes through the wrapper.
    fault: Option<FaultControl>,
    /// Keeps the connection of `admin`.
    _backend: Arc<dyn Backend>,
}

/// A fresh embedded cluster.
#[cfg(feature = "memory")]
pub(crate) fn embedded() -> Cluster {
    embedded_with(|_| {})
}

/// A fresh embedded cluster with other settings.
#[cfg(feature = "memory")]
pub(crate) fn embedded_with(change: impl FnOnce(&mut MemoryConfig)) -> Cluster {
    let mut config = MemoryConfig::default();
    change(&mut config);
    let cluster = MemoryCluster::new(config);
    let backend = cluster.backend("admin");
    Cluster {
        reach: Reach::Embedded(cluster),
        admin: backend.admin(),
        capability: backend.capability(),
        fault: None,
        _backend: backend,
    }
}

/// A fresh embedded cluster that takes up to 2 ms for every call.
#[cfg(feature = "memory")]
pub(crate) fn embedded_and_slow() -> Cluster {
    let control = FaultControl::new(1);
    let mut rules = FaultRules::default();
    rules.delay = Duration::ZERO..=Duration::from_millis(2);
    control.set_rules(rules);
    let plain = embedded();
    let backend = Fault::with_control(plain._backend.clone(), control.clone());
    Cluster {
        admin: backend.admin(),
        fault: Some(control),
        _backend: Arc::new(backend),
        ..plain
    }
}

/// The live cluster whose address `variable` holds.
pub(crate) async fn live(variable: &str) -> Option<Cluster> {
    let Some(address) = std::env::var(variable).ok().filter(|text| !text.is_empty()) else {
        skip(&format!("backend on rocketmq: no broker ({variable})"));
        return None;
    };
    Some(live_at(address).await)
}

async fn live_at(address: String) -> Cluster {
    let backend = registry::open(&address, &unique("admin"))
        .await
        .unwrap_or_else(|error| panic!("{address}: {error:?}"));
    Cluster {
        reach: Reach::Live(address),
        admin: backend.admin(),
        capability: backend.capability(),
        fault: None,
        _backend: backend,
    }
}

/// Says what is missing, once; fails where nothing may be.
pub(crate) fn skip(why: &str) {
    static SAID: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    let line = format!("skipped: {why}");
    assert!(
        !std::env::var("CROSSFADE_TEST_NO_SKIP").is_ok_and(|value| value == "1"),
        "{line}"
    );
    if SAID.lock().unwrap().insert(why.into()) {
        // Past the capture of passing tests' output. The line end before it closes libtest's own line.
        let _ = writeln!(std::io::stderr(), "\n{line}");
    }
}

/// A name that no other case or run has.
pub(crate) fn unique(word: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    static RUN: std::sync::OnceLock<u128> = std::sync::OnceLock::new();
    let run = RUN.get_or_init(|| {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        since.unwrap_or_default().as_millis() << 16 | u128::from(std::process::id() & 0xffff)
    });
    format!("{word}-{run:x}-{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

impl Cluster {
    #[cfg(feature = "memory")]
    pub(crate) fn memory(&self) -> &MemoryCluster {
        match &self.reach {
            Reach::Embedded(cluster) => cluster,
            Reach::Live(address) => panic!("{address} is not embedded"),
        }
    }

    /// The same cluster, seen in a namespace; `None` where there are no such things.
    pub(crate) async fn in_namespace(&self, namespace: &str) -> Option<Cluster> {
        match &self.reach {
            #[cfg(feature = "memory")]
            Reach::Embedded(_) => None,
            Reach::Live(address) => {
                let separator = if address.contains('?') { '&' } else { '?' };
                Some(live_at(format!("{address}{separator}namespace={namespace}")).await)
            }
        }
    }

    /// Another client.
    pub(crate) async fn client(&self, client_id: &str) -> Arc<dyn Backend> {
        self.client_with(client_id, &OpenOptions::default()).await
    }

    /// Another client, whose transactional producers are of that group.
    pub(crate) async fn transactional_client(&self, group: &str) -> Arc<dyn Backend> {
        let options = OpenOptions {
            transaction_group: Some(group.to_owned()),
            ..OpenOptions::default()
        };
        self.client_with(&unique("producer"), &options).await
    }

    async fn client_with(&self, client_id: &str, options: &OpenOptions) -> Arc<dyn Backend> {
        let client = match &self.reach {
            #[cfg(feature = "memory")]
            Reach::Embedded(cluster) => cluster.backend(client_id),
            Reach::Live(address) => {
                let opened = registry::open_with(address, client_id, options).await;
                opened.unwrap()
            }
        };
        match &self.fault {
            Some(control) => Arc::new(Fault::with_control(client, control.clone())),
            None => client,
        }
    }

    /// A new topic. Its name says nothing but that it is new.
    pub(crate) async fn topic(&self, queues: u32) -> (String, TopicSettings) {
        let topic = unique("topic");
        self.admin.create_topic(&topic, queues).await.unwrap();
        let described = eventually("the topic is there", async || {
            self.admin.topic(&topic).await.unwrap()
        })
        .await;
        (topic, described.settings)
    }

    pub(crate) async fn producer(&self, topic: &str) -> Arc<dyn BackendProducer> {
        let client = self.client(&unique("producer")).await;
        client.producer(topic).await.unwrap()
    }

    pub(crate) async fn consumer(&self, topic: &str, group: &str) -> Arc<dyn BackendConsumer> {
        self.subscribe(&Subscription::new(topic, group)).await
    }

    pub(crate) async fn subscribe(&self, subscription: &Subscription) -> Arc<dyn BackendConsumer> {
        let client = self.client(&unique("consumer")).await;
        let consumer = client.consumer(subscription).await.unwrap();
        consumer.ready().await.unwrap();
        consumer
    }

    /// What the topic owes to the group, by the settings it was made with.
    pub(crate) async fn total(&self, topic: &str, group: &str, settings: &TopicSettings) -> u64 {
        let backlog = self.admin.backlog(topic, group, settings).await.unwrap();
        backlog.total()
    }

    /// Waits until the group has been given everything and has committed it.
    pub(crate) async fn drained(&self, topic: &str, group: &str, settings: &TopicSettings) {
        eventually("nothing is owed", async || {
            (self.total(topic, group, settings).await == 0).then_some(())
        })
        .await;
    }
}

/// Asks until there is an answer; panics at the deadline.
pub(crate) async fn eventually<T>(what: &str, ask: impl AsyncFnMut() -> Option<T>) -> T {
    eventually_within(DEADLINE, what, ask).await
}

/// [`eventually`], for what hangs on a broker's next round of questions.
pub(crate) async fn eventually_slowly<T>(what: &str, ask: impl AsyncFnMut() -> Option<T>) -> T {
    eventually_within(SLOW_DEADLINE, what, ask).await
}

async fn eventually_within<T>(
    within: Duration,
    what: &str,
    mut ask: impl AsyncFnMut() -> Option<T>,
) -> T {
    let deadline = Instant::now() + within;
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(Instant::now() < deadline, "not in {within:?}: {what}");
        sleep(Duration::from_millis(20)).await;
    }
}

pub(crate) async fn send(
    producer: &Arc<dyn BackendProducer>,
    message: &Message,
    lane: u64,
) -> Result<Stored> {
    let outgoing = Outgoing {
        message,
        idempotency_key: &IdempotencyKey::new(unique("key"))?,
        message_id: &MessageId::default(),
        revision: Revision(7),
        lane,
    };
    producer.send(outgoing, TIMEOUT).await
}

/// Sends bodies "0", "1", ... each on the lane of its number. A broker that is busy is asked again: it has not taken the message.
pub(crate) async fn send_numbers(producer: &Arc<dyn BackendProducer>, count: u64) {
    for number in 0..count {
        let message = Message::new(number.to_string());
        eventually("the broker takes a message", async || {
            match send(producer, &message, number).await {
                Err(error) if error.kind() == ErrorKind::Throttled => None,
                sent => Some(sent.unwrap()),
            }
        })
        .await;
    }
}

pub(crate) fn body(incoming: &Incoming) -> String {
    String::from_utf8_lossy(&incoming.message.body).into_owned()
}

/// Receives until `count` messages are there.
pub(crate) async fn receive(consumer: &Arc<dyn BackendConsumer>, count: usize) -> Vec<Incoming> {
    receive_within(DEADLINE, consumer, count).await
}

/// [`receive`], for what hangs on a broker's next round of questions.
pub(crate) async fn receive_slowly(
    consumer: &Arc<dyn BackendConsumer>,
    count: usize,
) -> Vec<Incoming> {
    receive_within(SLOW_DEADLINE, consumer, count).await
}

async fn receive_within(
    within: Duration,
    consumer: &Arc<dyn BackendConsumer>,
    count: usize,
) -> Vec<Incoming> {
    let deadline = Instant::now() + within;
    let mut all = Vec::new();
    while all.len() < count {
        let left = deadline.saturating_duration_since(Instant::now());
        assert!(
            !left.is_zero(),
            "only {} of {count} in {within:?}",
            all.len()
        );
        let wait = left.min(Duration::from_secs(1));
        all.extend(consumer.receive(count - all.len(), wait).await.unwrap());
    }
    all
}

/// Asserts that nothing more comes for a while.
pub(crate) async fn receive_nothing(consumer: &Arc<dyn BackendConsumer>) {
    let more = consumer.receive(10, QUIET).await.unwrap();
    assert!(more.is_empty(), "{more:?}");
}

pub(crate) async fn ack_all(consumer: &Arc<dyn BackendConsumer>, all: &[Incoming]) {
    for incoming in all {
        consumer.ack(incoming.token).await.unwrap();
    }
}

/// The numbers of [`send_numbers`], sorted.
pub(crate) fn numbers(all: &[Incoming]) -> Vec<u64> {
    let mut numbers: Vec<u64> = all
        .iter()
        .map(|incoming| body(incoming).parse().unwrap())
        .collect();
    numbers.sort_unstable();
    numbers
}
