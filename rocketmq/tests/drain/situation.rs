//! One random situation: a topic, its groups, what is sent, how it is consumed, and what every look at it must say.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use crossfade_rocketmq::{
    Admin, Client, ErrorKind, MessageQueue,
    admin::{GroupConfig, Master, Owed, TopicAccess, TopicConfig, TopicConfigs},
};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use tokio::time::{Instant, sleep};

use crate::raw;

/// How long the brokers' queues may lag.
const DISPATCH: Duration = Duration::from_secs(20);
/// Two rounds of the transaction check with the brokers' default interval (60 s on 4.9), and a margin.
const AT_LAST: Duration = Duration::from_secs(180);

/// Where it happens.
#[derive(Clone)]
pub(crate) struct Cluster {
    pub(crate) name: &'static str,
    /// 5.x.
    pub(crate) timers: bool,
    pub(crate) client: Client,
    pub(crate) admin: Admin,
    pub(crate) masters: Vec<Master>,
    pub(crate) stamp: u128,
}

/// What came of it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) situations: u64,
    pub(crate) with_waiting: u64,
    pub(crate) with_delayed: u64,
    pub(crate) with_timers: u64,
    pub(crate) with_half: u64,
    pub(crate) with_retries: u64,
    pub(crate) with_seal: u64,
    /// Transactions that ended while their broker asked about them.
    pub(crate) checks_answered: u64,
    pub(crate) empty: u64,
    pub(crate) looks: u64,
    pub(crate) looks_while_owed: u64,
    pub(crate) unanswered: u64,
    /// Nothing owed, said the look, and something was.
    pub(crate) false_drained: u64,
    /// Less owed than was.
    pub(crate) counted_too_few: u64,
    /// Something owed, said the looks to the end, and nothing was.
    pub(crate) never_drained: u64,
    pub(crate) slowest_drained_ms: u128,
    pub(crate) examples: Vec<String>,
}

impl Outcome {
    pub(crate) fn add(&mut self, other: &Outcome) {
        for (mine, its) in [
            (&mut self.situations, other.situations),
            (&mut self.with_waiting, other.with_waiting),
            (&mut self.with_delayed, other.with_delayed),
            (&mut self.with_timers, other.with_timers),
            (&mut self.with_half, other.with_half),
            (&mut self.with_retries, other.with_retries),
            (&mut self.with_seal, other.with_seal),
            (&mut self.checks_answered, other.checks_answered),
            (&mut self.empty, other.empty),
            (&mut self.looks, other.looks),
            (&mut self.looks_while_owed, other.looks_while_owed),
            (&mut self.unanswered, other.unanswered),
            (&mut self.false_drained, other.false_drained),
            (&mut self.counted_too_few, other.counted_too_few),
            (&mut self.never_drained, other.never_drained),
        ] {
            *mine += its;
        }
        self.slowest_drained_ms = self.slowest_drained_ms.max(other.slowest_drained_ms);
        let room = 10_usize.saturating_sub(self.examples.len());
        self.examples
            .extend(other.examples.iter().take(room).cloned());
    }
}

/// What the test knows.
#[derive(Debug, Default)]
struct Truth {
    /// Acknowledged, and not rolled back.
    sent: BTreeSet<String>,
    /// By group: what it is done with, noted before the broker is told.
    handled: BTreeMap<Arc<str>, BTreeSet<String>>,
}

struct Situation {
    cluster: Cluster,
    topic: String,
    groups: Vec<Arc<str>>,
    configs: TopicConfigs,
    truth: Mutex<Truth>,
    outcome: Mutex<Outcome>,
    /// Bodies of the half messages that have an end.
    ended: Mutex<BTreeSet<String>>,
    sending: AtomicBool,
}

/// Runs one situation to its end.
pub(crate) async fn run(cluster: Cluster, number: u64, seed: u64) -> Outcome {
    let mut random = StdRng::seed_from_u64(seed.wrapping_mul(1_000_003) + number);
    let topic = format!("drain-{}-{number}", cluster.stamp);
    let queues = random.random_range(1..=3);
    let config = TopicConfig::new(&topic, queues);
    cluster.admin.create_topic(&config).await.unwrap();
    let mut groups: Vec<Arc<str>> = Vec::new();
    for group in 0..random.random_range(1..=2) {
        let group = format!("{topic}-g{group}");
        let config = GroupConfig::new(&group);
        cluster.admin.create_group(&config).await.unwrap();
        groups.push(group.into());
    }
    let configs = cluster.admin.topic_configs(&topic).await.unwrap();
    let situation = Arc::new(Situation {
        cluster,
        topic,
        groups,
        configs,
        truth: Mutex::default(),
        outcome: Mutex::default(),
        ended: Mutex::default(),
        sending: AtomicBool::new(true),
    });
    let done = Arc::new(AtomicBool::new(false));
    let looking = tokio::spawn(Arc::clone(&situation).look_until(Arc::clone(&done)));
    let consuming: Vec<_> = situation
        .groups
        .iter()
        .map(|group| {
            let own = StdRng::seed_from_u64(random.random());
            tokio::spawn(Arc::clone(&situation).consume(Arc::clone(group), own))
        })
        .collect();
    situation.send_all(random).await;
    situation.sending.store(false, Ordering::SeqCst);
    for consumer in consuming {
        consumer.await.unwrap();
    }
    done.store(true, Ordering::SeqCst);
    looking.await.unwrap();
    situation.drains_at_last().await;
    situation.clean_up().await;
    let mut outcome = situation.outcome.lock().unwrap().clone();
    outcome.situations = 1;
    outcome
}

impl Situation {
    /// A master and one of its queues.
    fn place(&self, random: &mut StdRng) -> (Arc<str>, u32) {
        let masters = &self.cluster.masters;
        let master = &masters[random.random_range(0..masters.len())];
        let queues = self.configs[&master.broker].queues();
        (Arc::clone(&master.address), random.random_range(0..queues))
    }

    async fn send_all(&self, mut random: StdRng) {
        let client = &self.cluster.client;
        let count = random.random_range(0..=6);
        let mut seal_at = random
            .random_bool(0.3)
            .then(|| random.random_range(0..=count));
        let mut open = Vec::new();
        if count == 0 {
            self.outcome.lock().unwrap().empty = 1;
        }
        for number in 0..=count {
            if seal_at == Some(number) {
                seal_at = None;
                self.seal_for(Duration::from_millis(random.random_range(500..3000)))
                    .await;
            }
            if number == count {
                break;
            }
            let (address, queue) = self.place(&mut random);
            let body = format!("{}-{number}", self.topic);
            let kinds = if self.cluster.timers { 4 } else { 3 };
            let kind = random.random_range(0..kinds);
            let (topic, at) = (&self.topic, &address);
            match kind {
                0 => raw::send_plain(client, at, topic, queue, &body).await,
                1 => {
                    let level = random.random_range(1..=3);
                    raw::send_delayed(client, at, topic, queue, &body, level).await
                }
                2 => {
                    let half = raw::begin(client, at, topic, queue, &body).await;
                    open.push((Arc::clone(at), half.clone(), body.clone()));
                    half
                }
                _ => {
                    let delay = random.random_range(500..9000);
                    raw::send_timer(client, at, topic, queue, &body, delay).await
                }
            };
            self.truth.lock().unwrap().sent.insert(body);
            {
                let mut outcome = self.outcome.lock().unwrap();
                let with = match kind {
                    0 => &mut outcome.with_waiting,
                    1 => &mut outcome.with_delayed,
                    2 => &mut outcome.with_half,
                    _ => &mut outcome.with_timers,
                };
                *with = 1;
            }
            pause(&mut random, 900).await;
            if random.random_bool(0.4) && !open.is_empty() {
                let (address, half, body) = open.swap_remove(0);
                self.end(&address, &half, &body, random.random_bool(0.6))
                    .await;
            }
        }
        // Some stay open over a check round or nearly one.
        for (address, half, body) in open {
            let long = random.random_bool(0.2);
            pause(&mut random, if long { 40_000 } else { 4000 }).await;
            self.end(&address, &half, &body, random.random_bool(0.6))
                .await;
        }
    }

    async fn end(&self, address: &Arc<str>, half: &raw::Stored, body: &str, commit: bool) {
        if !commit {
            // Owed to nobody from the moment at which the broker may know it.
            self.truth.lock().unwrap().sent.remove(body);
        }
        raw::end(&self.cluster.client, address, half, commit).await;
        self.ended.lock().unwrap().insert(body.to_owned());
    }

    /// Answers what the brokers ask about transactions that have ended, as a producer would. One that ended while it was asked about is asked about
    /// again, up to 15 rounds long, and counts as half for so long: it would be delivered once more by a commit.
    async fn answer_checks(&self, answered: &mut BTreeSet<raw::Stored>) {
        let Cluster { client, admin, .. } = &self.cluster;
        let ended = self.ended.lock().unwrap().clone();
        for master in &self.cluster.masters {
            for copy in raw::asked_about(client, admin, master, &ended).await {
                if answered.insert(copy.clone()) {
                    raw::end(client, &master.address, &copy, false).await;
                    self.outcome.lock().unwrap().checks_answered += 1;
                }
            }
        }
    }

    async fn seal_for(&self, time: Duration) {
        let admin = &self.cluster.admin;
        let seal = admin.set_topic_access(&self.configs, TopicAccess::Sealed);
        seal.await.unwrap();
        sleep(time).await;
        let open = admin.set_topic_access(&self.configs, TopicAccess::Open);
        open.await.unwrap();
        let now = admin.topic_configs(&self.topic).await.unwrap();
        assert_eq!(now, self.configs);
        self.outcome.lock().unwrap().with_seal = 1;
    }

    /// A member that reads every queue, gives some messages back, and commits what it is done with one by one.
    async fn consume(self: Arc<Self>, group: Arc<str>, mut random: StdRng) {
        pause(&mut random, 4000).await;
        let client = &self.cluster.client;
        let mut next: BTreeMap<MessageQueue, u64> = BTreeMap::new();
        let mut given_back: BTreeMap<String, u32> = BTreeMap::new();
        loop {
            for (queue, address) in self.queues_of(&group).await {
                let at = *next.entry(queue.clone()).or_insert(0);
                for message in raw::pull(client, &address, &group, &queue, at).await {
                    let body = String::from_utf8_lossy(&message.body).into_owned();
                    let times = given_back.entry(body.clone()).or_default();
                    let back = *times < 2
                        && random.random_bool(0.35)
                        && raw::give_back(client, &address, &group, &self.topic, &message).await;
                    if back {
                        *times += 1;
                        self.outcome.lock().unwrap().with_retries = 1;
                    } else {
                        let mut truth = self.truth.lock().unwrap();
                        let handled = truth.handled.entry(Arc::clone(&group)).or_default();
                        handled.insert(body);
                    }
                    let passed = message.offset + 1;
                    let commit = self.cluster.admin.commit_offset(
                        &address,
                        &group,
                        &queue.topic,
                        queue.queue,
                        passed,
                    );
                    commit.await.unwrap();
                    next.insert(queue.clone(), passed);
                }
            }
            if !self.sending.load(Ordering::SeqCst) && self.owed_to(&group).is_empty() {
                return;
            }
            pause(&mut random, 300).await;
        }
    }

    async fn queues_of(&self, group: &str) -> Vec<(MessageQueue, Arc<str>)> {
        let retry = format!("%RETRY%{group}");
        let retries = self.cluster.admin.topic_configs(&retry).await.unwrap();
        let mut all = Vec::new();
        for configs in [&self.configs, &retries] {
            for (broker, config) in configs {
                let masters = &self.cluster.masters;
                let master = masters.iter().find(|master| master.broker == *broker);
                for queue in 0..config.queues() {
                    let queue = MessageQueue {
                        topic: config.topic_name.as_str().into(),
                        broker: Arc::clone(broker),
                        queue,
                    };
                    all.push((queue, Arc::clone(&master.unwrap().address)));
                }
            }
        }
        all
    }

    fn owed_to(&self, group: &Arc<str>) -> BTreeSet<String> {
        let truth = self.truth.lock().unwrap();
        let handled = truth.handled.get(group).cloned().unwrap_or_default();
        truth.sent.difference(&handled).cloned().collect()
    }

    /// `None` when it could not be found out, which blocks a move and claims nothing.
    async fn look(&self) -> Option<BTreeMap<Arc<str>, Owed>> {
        let owed = self
            .cluster
            .admin
            .owed(&self.topic, &self.groups, &self.configs, DISPATCH);
        match owed.await {
            Ok(owed) => Some(owed),
            Err(error) => {
                let mut outcome = self.outcome.lock().unwrap();
                outcome.unanswered += 1;
                if outcome.unanswered == 1 {
                    outcome.examples.push(error.to_string());
                }
                // A machine that is too busy, or a broker that is new; not one that makes no sense.
                let kinds = [
                    ErrorKind::Timeout,
                    ErrorKind::Throttled,
                    ErrorKind::Unavailable,
                ];
                assert!(kinds.contains(&error.kind()), "{error:?}");
                None
            }
        }
    }

    async fn look_until(self: Arc<Self>, done: Arc<AtomicBool>) {
        while !done.load(Ordering::SeqCst) {
            let before: Vec<_> = self
                .groups
                .iter()
                .map(|group| self.owed_to(group))
                .collect();
            let Some(looked) = self.look().await else {
                continue;
            };
            for (group, before) in self.groups.iter().zip(before) {
                // Owed all the time.
                let after = self.owed_to(group);
                let least = before.intersection(&after).count() as u64;
                let said = looked[group].total();
                let mut outcome = self.outcome.lock().unwrap();
                outcome.looks += 1;
                outcome.looks_while_owed += u64::from(least > 0);
                if said < least {
                    outcome.counted_too_few += 1;
                    outcome.false_drained += u64::from(said == 0);
                    let example = format!("{group}: {before:?} are owed, said {:?}", looked[group]);
                    outcome.examples.push(example);
                }
            }
            sleep(Duration::from_millis(250)).await;
        }
    }

    async fn drains_at_last(&self) {
        let begun = Instant::now();
        let mut answered = BTreeSet::new();
        loop {
            let Some(looked) = self.look().await else {
                assert!(begun.elapsed() < 2 * AT_LAST, "no look is answered");
                continue;
            };
            let owed: u64 = looked.values().map(Owed::total).sum();
            if self.is_settled(&looked, owed, begun.elapsed()) {
                return;
            }
            if looked.values().any(|owed| owed.half > 0) {
                self.answer_checks(&mut answered).await;
            }
            sleep(Duration::from_secs(1)).await;
        }
    }

    /// After one of the looks at the end.
    fn is_settled(&self, looked: &BTreeMap<Arc<str>, Owed>, owed: u64, after: Duration) -> bool {
        let mut outcome = self.outcome.lock().unwrap();
        outcome.looks += looked.len() as u64;
        if owed == 0 {
            outcome.slowest_drained_ms = after.as_millis();
            return true;
        }
        if after > AT_LAST {
            outcome.never_drained = 1;
            let example = format!("{}: nothing is owed, said {looked:?}", self.topic);
            outcome.examples.push(example);
            return true;
        }
        false
    }

    async fn clean_up(&self) {
        let admin = &self.cluster.admin;
        for group in &self.groups {
            admin.delete_group(group).await.unwrap();
        }
        admin.delete_topic(&self.topic).await.unwrap();
    }
}

/// Up to `most_ms`.
async fn pause(random: &mut StdRng, most_ms: u64) {
    let time = random.random_range(0..=most_ms);
    sleep(Duration::from_millis(time)).await;
}
