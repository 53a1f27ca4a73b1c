//! An official client and this one as members of one group.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use crossfade_rocketmq::{
    Admin, Broadcast, Client, ClientOptions, Consumer, ConsumerOptions, Filter, Message, Producer,
    ProducerOptions,
};
use tokio::time::{Instant, sleep};

use crate::{
    event::{Event, Events},
    needs::{self, Cluster},
    official::Official,
    ours::{WAIT, insist, now_ms},
    topics::{self, QUEUES},
};

/// Only a test that fails takes so long.
const BOUND: Duration = Duration::from_secs(120);
const QUIET: Duration = Duration::from_millis(200);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn official_client_and_this_one_share_groups_in_every_way_of_reading() {
    let test = "official_client_and_this_one_share_groups_in_every_way_of_reading";
    let Some(clusters) = needs::clusters(test) else {
        return;
    };
    // Each cluster's own generation of clients.
    let side = async |cluster, version| {
        if let Some(official) = Official::build_member(version, test).await {
            with(official, cluster).await;
        }
    };
    let [source, target] = clusters.try_into().expect("two clusters");
    tokio::join!(side(source, "4.9.7"), side(target, "5.5.0"));
}

async fn with(official: Official, cluster: Cluster) {
    let deadline = Instant::now() + BOUND;
    let prefix = format!("member-{}-{:016x}", official.name(), rand::random::<u64>());
    let mut options = ClientOptions::new([&*cluster.address], format!("{prefix}-client"));
    options.connect_timeout = WAIT;
    options.request_timeout = WAIT;
    let client = Client::new(options).unwrap();
    let topics = ["shared", "ordered", "broadcast", "sql"].map(|name| format!("{prefix}-{name}"));
    topics::create_all(&client, topics.clone()).await;
    let arguments = format!("{},{},{prefix}", cluster.name, cluster.address);
    let program = official.start(BOUND, std::iter::once(arguments));
    let shared = Shared {
        what: format!("{prefix} on {}", cluster.name),
        events: program.events(&cluster.name, deadline),
        client,
        prefix,
        deadline,
    };
    // The last one that it starts is there.
    shared.member_is_there("sql-java").await;
    tokio::join!(
        every_queue_is_read_by_one_of_both(&shared),
        locks_are_handed_over_and_each_key_stays_in_order(&shared),
        both_get_all_of_a_broadcast(&shared),
        both_choose_alike_by_an_expression(&shared),
    );
    program.end().await;
    topics::delete_all(&shared.client, topics).await;
}

/// One official client on one cluster.
struct Shared {
    /// For messages.
    what: String,
    client: Client,
    /// Of the names of topics and groups.
    prefix: String,
    events: Events,
    deadline: Instant,
}

impl Shared {
    fn name(&self, which: &str) -> String {
        format!("{}-{which}", self.prefix)
    }

    async fn producer(&self, which: &str) -> Producer {
        let (topic, options) = (self.name(which), ProducerOptions::default());
        let producer = Producer::new(&self.client, &topic, options);
        producer.await.unwrap()
    }

    async fn join(&self, which: &str, options: ConsumerOptions) -> Consumer {
        let name = self.name(which);
        let member = Consumer::new(&self.client, &name, &name, options);
        let member = member.await.unwrap();
        member.ready().await.unwrap();
        member
    }

    async fn member_is_there(&self, which: &str) {
        let admin = Admin::new(&self.client);
        let group = self.name(which);
        let there = async || {
            let members = admin.consumers(&group).await;
            members.is_ok_and(|group| !group.members.is_empty())
        };
        self.until("the official client is a member", there).await;
    }

    async fn until(&self, what: &str, mut done: impl AsyncFnMut() -> bool) {
        while !done().await {
            let late = Instant::now() > self.deadline;
            assert!(!late, "{}: not in time: {what}", self.what);
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// The messages that it has handled as this reader, in order.
    fn theirs(&self, reader: &str) -> Vec<Handled> {
        let mut handled = self.events.now("handled");
        handled.retain(|event| event.reader == reader);
        handled.iter().map(Handled::theirs).collect()
    }
}

/// A message that somebody has handled.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
struct Handled {
    at_ms: i64,
    id: String,
    queue: u32,
}

impl Handled {
    fn theirs(event: &Event) -> Handled {
        Handled {
            at_ms: event.at_ms,
            id: event.id().to_owned(),
            queue: event.queue,
        }
    }
}

/// Handles what is there, at once.
async fn handle(consumer: &Consumer, handled: &mut Vec<Handled>) {
    for delivery in consumer.receive(32, QUIET).await.unwrap() {
        let message = &delivery.message;
        handled.push(Handled {
            at_ms: now_ms(),
            id: message.property("id").unwrap_or_default().to_owned(),
            queue: message.queue.queue,
        });
        // Stale where the queue has just gone: it comes again there.
        let _ = consumer.ack(delivery.token);
    }
}

async fn send(producer: &Producer, lane: u64, id: &str) {
    let message = Message::new(Bytes::from_static(b"shared")).property("id", id);
    let message = message.unwrap();
    insist(|| producer.send(&message, lane, WAIT)).await;
}

fn ids(handled: &[Handled]) -> BTreeSet<&str> {
    handled.iter().map(|one| &*one.id).collect()
}

async fn every_queue_is_read_by_one_of_both(shared: &Shared) {
    const MESSAGES: u64 = 200;
    let producer = shared.producer("shared").await;
    let ours = shared.join("shared", ConsumerOptions::default()).await;
    let mut mine = Vec::new();
    // Until each member knows of the other one: what is read meanwhile proves nothing.
    let mut round = 0;
    shared
        .until("each has its half of the queues", async || {
            round += 1;
            for lane in 0..u64::from(QUEUES) {
                send(&producer, lane, &format!("probe-{round}-{lane}")).await;
            }
            let probes = format!("probe-{round}-");
            let probed = |handled: &[Handled]| -> BTreeSet<u32> {
                let probes = handled.iter().filter(|one| one.id.starts_with(&probes));
                probes.map(|one| one.queue).collect()
            };
            for _ in 0..50 {
                handle(&ours, &mut mine).await;
                let theirs = probed(&shared.theirs("shared"));
                if probed(&mine).union(&theirs).count() == QUEUES as usize {
                    break;
                }
            }
            // One that still has a queue of the other gets its probes as well, perhaps a moment later.
            handle(&ours, &mut mine).await;
            let both = (probed(&mine), probed(&shared.theirs("shared")));
            let half = QUEUES as usize / 2;
            both.0.is_disjoint(&both.1) && both.0.len() == half && both.1.len() == half
        })
        .await;
    let probes = mine.len();
    let sent: Vec<_> = (0..MESSAGES).map(|n| format!("message-{n}")).collect();
    for (lane, id) in (0..).zip(&sent) {
        send(&producer, lane, id).await;
    }
    let messages = |handled: Vec<Handled>| -> Vec<Handled> {
        let of_them = handled.into_iter();
        of_them
            .filter(|one| one.id.starts_with("message-"))
            .collect()
    };
    let mut theirs = Vec::new();
    shared
        .until("everything is read", async || {
            handle(&ours, &mut mine).await;
            theirs = messages(shared.theirs("shared"));
            theirs.len() + mine.len() - probes >= sent.len()
        })
        .await;
    let mine = messages(mine);
    let queues = |handled: &[Handled]| handled.iter().map(|one| one.queue).collect::<BTreeSet<_>>();
    let (my_queues, their_queues) = (queues(&mine), queues(&theirs));
    assert!(
        my_queues.is_disjoint(&their_queues),
        "{}: {my_queues:?} and {their_queues:?}",
        shared.what
    );
    assert_eq!((mine.len(), theirs.len()), (100, 100), "{}", shared.what);
    let all = ids(&mine).union(&ids(&theirs)).count();
    assert_eq!(all, sent.len(), "{}: lost", shared.what);
    ours.close().await.unwrap();
}

async fn locks_are_handed_over_and_each_key_stays_in_order(shared: &Shared) {
    const KEYS: u64 = 8;
    let producer = shared.producer("ordered").await;
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = Arc::clone(&stop);
    let sending = tokio::spawn(async move {
        let mut number = 0;
        while !stopped.load(Ordering::SeqCst) {
            for key in 0..KEYS {
                send(&producer, key, &format!("{key}-{number}")).await;
            }
            number += 1;
            // Room for the members' own work.
            sleep(Duration::from_millis(20)).await;
        }
        number
    });
    let queues_since = |since: i64| {
        let theirs = shared.theirs("ordered").into_iter();
        let queues = theirs.filter(|one| one.at_ms >= since);
        queues.map(|one| one.queue).collect::<BTreeSet<_>>()
    };
    let has_all = |since| async move || queues_since(since).len() == QUEUES as usize;
    shared.until("theirs has all queues", has_all(0)).await;
    let mut options = ConsumerOptions::default();
    options.ordered = true;
    let ours = shared.join("ordered", options).await;
    let mut mine: Vec<Handled> = Vec::new();
    let joined = now_ms();
    shared
        .until("ours has half of the queues", async || {
            handle(&ours, &mut mine).await;
            let queues: BTreeSet<_> = mine.iter().map(|one| one.queue).collect();
            mine.len() > 50 && queues.len() == QUEUES as usize / 2
        })
        .await;
    let handed_over = now_ms() - joined;
    ours.close().await.unwrap();
    let closed = now_ms();
    shared
        .until("theirs has all queues again", has_all(closed))
        .await;
    let given_back = now_ms() - closed;
    stop.store(true, Ordering::SeqCst);
    let numbers = sending.await.unwrap();
    let mut all = Vec::new();
    shared
        .until("everything is read", async || {
            all = shared.theirs("ordered");
            all.extend(mine.iter().cloned());
            ids(&all).len() as u64 == KEYS * numbers
        })
        .await;
    // What one member has handled and not committed comes again at the other: the first time counts.
    all.sort_by_key(|one| one.at_ms);
    let mut next: BTreeMap<u64, u64> = BTreeMap::new();
    let mut again = 0;
    for one in &all {
        let (key, number) = one.id.split_once('-').unwrap();
        let next = next.entry(key.parse().unwrap()).or_default();
        let number: u64 = number.parse().unwrap();
        assert!(number <= *next, "{}: {one:?} before {next}", shared.what);
        again += u64::from(number < *next);
        *next = (*next).max(number + 1);
    }
    println!(
        "{}: half of the locks went over and 50 messages came in {handed_over} ms, the locks were back in {given_back} ms; {again} of {} messages came twice",
        shared.what,
        KEYS * numbers
    );
}

async fn both_get_all_of_a_broadcast(shared: &Shared) {
    let mut options = ConsumerOptions::default();
    options.broadcast = Some(Broadcast::default());
    let ours = shared.join("broadcast", options).await;
    let producer = shared.producer("broadcast").await;
    let sent: Vec<_> = (0..20).map(|n| format!("news-{n}")).collect();
    for (lane, id) in (0..).zip(&sent) {
        send(&producer, lane, id).await;
    }
    let sent: BTreeSet<&str> = sent.iter().map(|id| &**id).collect();
    let mut mine = Vec::new();
    shared
        .until("both have everything", async || {
            handle(&ours, &mut mine).await;
            ids(&mine) == sent && ids(&shared.theirs("broadcast")) == sent
        })
        .await;
    assert_eq!(mine.len(), sent.len(), "{}", shared.what);
    ours.close().await.unwrap();
}

async fn both_choose_alike_by_an_expression(shared: &Shared) {
    let mut options = ConsumerOptions::default();
    options.filter = Filter::Sql("price > 10 AND region = 'north'".to_owned());
    let ours = shared.join("sql", options).await;
    let producer = shared.producer("sql").await;
    for number in 0..16u64 {
        let region = if number % 2 == 0 { "north" } else { "south" };
        let message = Message::new(Bytes::from_static(b"priced"))
            .property("id", &number.to_string())
            .and_then(|message| message.property("price", &(number * 2).to_string()))
            .and_then(|message| message.property("region", region))
            .unwrap();
        insist(|| producer.send(&message, number, WAIT)).await;
    }
    let wanted = BTreeSet::from(["6", "8", "10", "12", "14"]);
    let mut mine = Vec::new();
    shared
        .until("both have what was chosen", async || {
            handle(&ours, &mut mine).await;
            let theirs = shared.theirs("sql");
            ids(&mine).is_superset(&wanted) && ids(&theirs).is_superset(&wanted)
        })
        .await;
    handle(&ours, &mut mine).await;
    assert_eq!(ids(&mine), wanted, "{}", shared.what);
    assert_eq!(ids(&shared.theirs("sql")), wanted, "{}", shared.what);
    ours.close().await.unwrap();
}
