//! Reading in order: one member a queue, and no message before the one in front of it is acked.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
    time::Duration,
};

use crossfade::{
    ErrorKind, Message,
    backend::{BackendConsumer, Incoming, QueueId, Subscription},
};
use tokio::time::{Instant, sleep};

use crate::support::*;

/// Locks of a member that has gone without a word are kept from the others for about a minute: one in good order must not be.
const AT_ONCE: Duration = Duration::from_secs(20);

fn ordered(topic: &str, group: &str) -> Subscription {
    let mut subscription = Subscription::new(topic, group);
    subscription.ordered = true;
    subscription
}

/// Every queue's messages, in the order in which they came, are all of them, without repeats.
fn assert_in_order(all: &[(QueueId, u64)], count: usize) {
    let mut queues: BTreeMap<&QueueId, Vec<u64>> = BTreeMap::new();
    for (queue, offset) in all {
        queues.entry(queue).or_default().push(*offset);
    }
    for (queue, offsets) in queues {
        let expected: Vec<u64> = (0..offsets.len() as u64).collect();
        assert_eq!(offsets, expected, "{queue}");
    }
    assert_eq!(all.len(), count);
}

pub(crate) async fn queues_are_handed_out_in_the_order_of_their_offsets(cluster: Cluster) {
    if !cluster.capability.ordered {
        return;
    }
    let (topic, settings) = cluster.topic(3).await;
    let group = unique("group");
    send_numbers(&cluster.producer(&topic).await, 90).await;
    let mut subscription = ordered(&topic, &group);
    // Less than one fetch brings: the rest is fetched again.
    subscription.max_outstanding = Some(10);
    let consumer = cluster.subscribe(&subscription).await;
    let mut all = Vec::new();
    while all.len() < 90 {
        let some = receive(&consumer, 1).await;
        ack_all(&consumer, &some).await;
        all.extend(some.into_iter().map(|got| (got.queue, got.offset)));
    }
    assert_in_order(&all, 90);
    cluster.drained(&topic, &group, &settings).await;
}

pub(crate) async fn a_queue_is_handed_over_once_what_was_handed_out_is_acked(cluster: Cluster) {
    if !cluster.capability.ordered {
        return;
    }
    let (topic, settings) = cluster.topic(2).await;
    let group = unique("group");
    send_numbers(&cluster.producer(&topic).await, 20).await;
    let first = cluster.subscribe(&ordered(&topic, &group)).await;
    let held = receive(&first, 20).await;
    let second = cluster.subscribe(&ordered(&topic, &group)).await;
    // The handlers are slow: nobody else gets a queue meanwhile.
    eventually("the first member has given one queue up", async || {
        (first.assigned().len() == 1).then_some(())
    })
    .await;
    receive_nothing(&second).await;
    assert_eq!(second.assigned(), []);
    let kept = first.assigned().remove(0);
    let (stays, moves): (Vec<_>, Vec<_>) = held.iter().partition(|got| got.queue == kept);
    // The last one stays open, then it is acked as well: acks of a queue that is given up count.
    let (last, others) = moves.split_last().unwrap();
    for got in others {
        first.ack(got.token).await.unwrap();
    }
    receive_nothing(&second).await;
    assert_eq!(second.assigned(), []);
    let begun = Instant::now();
    first.ack(last.token).await.unwrap();
    eventually("the second member has the queue", async || {
        (second.assigned() == [last.queue.clone()]).then_some(())
    })
    .await;
    assert!(begun.elapsed() < AT_ONCE, "{:?}", begun.elapsed());
    // Everything of it was acked.
    receive_nothing(&second).await;
    for got in stays {
        first.ack(got.token).await.unwrap();
    }
    cluster.drained(&topic, &group, &settings).await;
}

/// Members come and go while messages are handled slowly: whatever happens, each queue's messages are handled one after the other, once.
pub(crate) async fn members_that_come_and_go_handle_each_queue_in_order(cluster: Cluster) {
    const MESSAGES: usize = 240;
    if !cluster.capability.ordered {
        return;
    }
    let (topic, settings) = cluster.topic(4).await;
    let group = unique("group");
    send_numbers(&cluster.producer(&topic).await, MESSAGES as u64).await;
    let handled = Arc::new(Handled::default());
    let mut members = Vec::new();
    for number in 0..3 {
        let member = cluster.subscribe(&ordered(&topic, &group)).await;
        let (stop, stopped) = tokio::sync::oneshot::channel();
        members.push((
            stop,
            tokio::spawn(work(member, Arc::clone(&handled), stopped)),
        ));
        eventually("the members go on", async || {
            (handled.count() >= 20 * (number + 1)).then_some(())
        })
        .await;
    }
    // The first one leaves in good order.
    let (stop, left) = members.remove(0);
    drop(stop);
    left.await.unwrap();
    eventually("everything is handled", async || {
        (handled.count() == MESSAGES).then_some(())
    })
    .await;
    assert_in_order(&handled.all.lock().unwrap(), MESSAGES);
    cluster.drained(&topic, &group, &settings).await;
    for (stop, left) in members {
        drop(stop);
        left.await.unwrap();
    }
}

#[derive(Default)]
struct Handled {
    all: Mutex<Vec<(QueueId, u64)>>,
    now: Mutex<BTreeSet<QueueId>>,
}

impl Handled {
    fn count(&self) -> usize {
        self.all.lock().unwrap().len()
    }
}

/// Handles one message after the other until it is told to stop, then leaves the group.
async fn work(
    member: Arc<dyn BackendConsumer>,
    handled: Arc<Handled>,
    mut stopped: tokio::sync::oneshot::Receiver<()>,
) {
    while let Err(tokio::sync::oneshot::error::TryRecvError::Empty) = stopped.try_recv() {
        for got in member.receive(1, Duration::from_millis(100)).await.unwrap() {
            let alone = handled.now.lock().unwrap().insert(got.queue.clone());
            assert!(alone, "two members hold {}", got.queue);
            sleep(Duration::from_millis(3)).await;
            handled.now.lock().unwrap().remove(&got.queue);
            let place = (got.queue.clone(), got.offset);
            handled.all.lock().unwrap().push(place);
            member.ack(got.token).await.unwrap();
        }
    }
    member.close().await.unwrap();
}

pub(crate) async fn a_closed_member_leaves_its_queues_to_the_others_at_once(cluster: Cluster) {
    if !cluster.capability.ordered {
        return;
    }
    let (topic, settings) = cluster.topic(2).await;
    let group = unique("group");
    send_numbers(&cluster.producer(&topic).await, 10).await;
    let first = cluster.subscribe(&ordered(&topic, &group)).await;
    let held = receive(&first, 10).await;
    ack_all(&first, &held).await;
    let begun = Instant::now();
    first.close().await.unwrap();
    let second = cluster.subscribe(&ordered(&topic, &group)).await;
    eventually("the second member has both queues", async || {
        (second.assigned().len() == 2).then_some(())
    })
    .await;
    assert!(begun.elapsed() < AT_ONCE, "{:?}", begun.elapsed());
    receive_nothing(&second).await;
    cluster.drained(&topic, &group, &settings).await;
}

pub(crate) async fn what_was_let_go_comes_again_in_order_when_its_queue_stays_after_all(
    cluster: Cluster,
) {
    if !cluster.capability.ordered {
        return;
    }
    let (topic, settings) = cluster.topic(2).await;
    let group = unique("group");
    send_numbers(&cluster.producer(&topic).await, 8).await;
    let first = cluster.subscribe(&ordered(&topic, &group)).await;
    let held = receive(&first, 8).await;
    let second = cluster.subscribe(&ordered(&topic, &group)).await;
    eventually("the first member has given one queue up", async || {
        (first.assigned().len() == 1).then_some(())
    })
    .await;
    let kept = first.assigned().remove(0);
    let (stays, goes): (Vec<_>, Vec<_>) = held.iter().partition(|got| got.queue == kept);
    let error = first.let_go(stays[0].token).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::StaleDelivery);
    for got in &goes[1..] {
        first.let_go(got.token).unwrap();
    }
    second.close().await.unwrap();
    // The handler of its first message has not ended.
    receive_nothing(&first).await;
    first.ack(goes[0].token).await.unwrap();
    let again = receive(&first, 3).await;
    assert_eq!(offsets(&again), offsets(goes[1..].iter().copied()));
    ack_all(&first, &again).await;
    for got in stays {
        first.ack(got.token).await.unwrap();
    }
    cluster.drained(&topic, &group, &settings).await;
}

fn offsets<'a>(all: impl IntoIterator<Item = &'a Incoming>) -> Vec<u64> {
    all.into_iter().map(|got| got.offset).collect()
}

pub(crate) async fn an_ordered_message_that_is_given_up_is_the_groups_again(cluster: Cluster) {
    if !cluster.capability.ordered {
        return;
    }
    let (topic, settings) = cluster.topic(1).await;
    let group = unique("group");
    let producer = cluster.producer(&topic).await;
    send_numbers(&producer, 2).await;
    let consumer = cluster.subscribe(&ordered(&topic, &group)).await;
    let held = receive(&consumer, 2).await;
    let delay = cluster.capability.shortest_redelivery;
    consumer.nack(held[0].token, delay).await.unwrap();
    consumer.ack(held[1].token).await.unwrap();
    let error = consumer.ack(held[0].token).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::StaleDelivery);
    let again: Vec<Incoming> = receive(&consumer, 1).await;
    assert_eq!((body(&again[0]), again[0].attempt), (body(&held[0]), 2));
    ack_all(&consumer, &again).await;
    cluster.drained(&topic, &group, &settings).await;
}

pub(crate) async fn committed_offsets_tell_what_was_acked(cluster: Cluster) {
    if !cluster.capability.ordered {
        return;
    }
    let (topic, _) = cluster.topic(2).await;
    let group = unique("group");
    let producer = cluster.producer(&topic).await;
    let mut queues = BTreeSet::new();
    for number in 0..6 {
        let stored = send(&producer, &Message::new(number.to_string()), number).await;
        queues.insert(stored.unwrap().queue);
    }
    let queues: Vec<_> = queues.into_iter().collect();
    let client = cluster.client(&unique("member")).await;
    let consumer = client.consumer(&ordered(&topic, &group)).await.unwrap();
    let held = receive(&consumer, 6).await;
    let committed = async || client.committed(&topic, &group, &queues).await.unwrap();
    // Handed out is not handled.
    let before = committed().await;
    assert!(before.keys().eq(&queues));
    assert!(before.values().all(|offset| offset.unwrap_or(0) == 0));
    let open = held.iter().find(|got| got.offset == 2).unwrap();
    for got in held.iter().filter(|got| got.token != open.token) {
        consumer.ack(got.token).await.unwrap();
    }
    let expected = |queue: &QueueId| if *queue == open.queue { 2 } else { 3 };
    eventually("what was acked is committed", async || {
        let now = committed().await;
        let mut now = now.iter();
        now.all(|(queue, offset)| *offset == Some(expected(queue)))
            .then_some(())
    })
    .await;
    assert_eq!(
        client.committed(&topic, &group, &[]).await.unwrap(),
        BTreeMap::new()
    );
}
