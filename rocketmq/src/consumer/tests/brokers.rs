//! Brokers that do not answer, refuse, or answer nonsense.

use tokio::time::Instant;

use super::{
    super::release,
    Consumer, ConsumerOptions, ack,
    cluster::{Cluster, REQUEST_TIMEOUT, State, place, stored_message, take},
    nothing_comes, offsets,
};
use crate::codes::request;

fn ordered() -> ConsumerOptions {
    ConsumerOptions {
        ordered: true,
        ..ConsumerOptions::default()
    }
}

fn hand_over_all(consumer: &Consumer) {
    consumer.group.group().hand_over(|_| true);
}

fn committed(state: &State, broker: &str) -> Option<u64> {
    state.committed.get(&place("orders", broker, 0)).copied()
}

#[tokio::test]
async fn broker_that_does_not_answer_holds_up_no_commit_at_the_others() {
    let cluster = Cluster::start(&["a", "b"], 1).await;
    cluster.store("orders", "orders", 3);
    cluster
        .state()
        .stuck
        .insert(("b", request::UPDATE_CONSUMER_OFFSET));
    let client = cluster.client();
    let orders = cluster
        .consumer(&client, "orders", ConsumerOptions::default())
        .await;
    let held = take(&orders, 3).await;
    cluster
        .until("a commit is under way", |state| {
            state.heard("b", request::UPDATE_CONSUMER_OFFSET) > 0
        })
        .await;
    let begun = Instant::now();
    for (delivery, offset) in held.iter().zip(1..) {
        orders.ack(delivery.token).unwrap();
        let what = format!("offset {offset} is committed");
        cluster
            .until(&what, |state| committed(state, "a") == Some(offset))
            .await;
    }
    assert!(begun.elapsed() < REQUEST_TIMEOUT, "{:?}", begun.elapsed());
}

#[tokio::test]
async fn broker_that_has_heard_of_one_member_only_gives_it_no_queues_of_the_others() {
    for (listed_at_a, mine) in [(vec!["one"], 2), (vec!["two"], 2), (vec![], 2)] {
        let cluster = Cluster::start(&["a", "b"], 2).await;
        cluster.state().members = vec!["one", "two"];
        cluster.state().listed_at.insert("a", listed_at_a.clone());
        let client = cluster.client();
        let orders = cluster
            .consumer(&client, "orders", ConsumerOptions::default())
            .await;
        assert_eq!(orders.assigned().len(), mine, "a lists {listed_at_a:?}");
    }
}

#[tokio::test]
async fn broker_that_does_not_tell_the_members_keeps_nobody_from_the_queues() {
    let cluster = Cluster::start(&["a", "b"], 2).await;
    cluster
        .state()
        .stuck
        .insert(("a", request::GET_CONSUMER_LIST_BY_GROUP));
    let client = cluster.client();
    let begun = Instant::now();
    let orders = cluster
        .consumer(&client, "orders", ConsumerOptions::default())
        .await;
    assert_eq!(orders.assigned().len(), 4);
    assert!(begun.elapsed() < REQUEST_TIMEOUT, "{:?}", begun.elapsed());
}

#[tokio::test]
async fn queues_of_one_broker_are_committed_at_the_same_time() {
    const QUEUES: u32 = 16;
    let cluster = Cluster::start(&["a"], QUEUES).await;
    for queue in 0..QUEUES {
        let one = vec![stored_message(0, "orders")];
        cluster
            .state()
            .stored
            .insert(place("orders", "a", queue), one);
    }
    let client = cluster.client();
    let orders = cluster
        .consumer(&client, "orders", ConsumerOptions::default())
        .await;
    let held = take(&orders, QUEUES as usize).await;
    cluster
        .until("where it begins is committed", |state| {
            state.committed.len() == QUEUES as usize + 1
        })
        .await;
    // 4.9 loses first commits that come at the same time: one went ahead.
    {
        let state = cluster.state();
        let heard = state.heard.iter().filter(|(_, code, _)| {
            [
                request::UPDATE_CONSUMER_OFFSET,
                request::QUERY_CONSUMER_OFFSET,
            ]
            .contains(code)
        });
        let codes: Vec<_> = heard.map(|(_, code, _)| *code).collect();
        let first = codes
            .iter()
            .position(|code| *code == request::UPDATE_CONSUMER_OFFSET);
        let after = &codes[first.unwrap() + 1..];
        assert!(after.contains(&request::QUERY_CONSUMER_OFFSET));
    }
    // Where to begin, and twice read back.
    let queries = 3 * (QUEUES as usize + 1);
    cluster
        .until("nothing is left to be read back", |state| {
            state.heard("a", request::QUERY_CONSUMER_OFFSET) == queries
        })
        .await;
    {
        let mut state = cluster.state();
        state.heard.clear();
        state.stuck.insert(("a", request::UPDATE_CONSUMER_OFFSET));
    }
    ack(&orders, &held);
    let begun = Instant::now();
    cluster
        .until("every queue is tried", |state| {
            state.heard("a", request::UPDATE_CONSUMER_OFFSET) == QUEUES as usize
        })
        .await;
    assert!(begun.elapsed() < REQUEST_TIMEOUT, "{:?}", begun.elapsed());
}

#[tokio::test]
async fn broker_that_takes_no_commit_keeps_no_queue_of_another_locked() {
    let cluster = Cluster::start(&["a", "b"], 1).await;
    cluster
        .state()
        .refuses
        .insert(("a", request::UPDATE_CONSUMER_OFFSET));
    let client = cluster.client();
    let orders = cluster.consumer(&client, "orders", ordered()).await;
    hand_over_all(&orders);
    let unlocked = |state: &State, broker| state.heard(broker, request::UNLOCK_BATCH_MQ) > 0;
    cluster
        .until("b is unlocked", |state| unlocked(state, "b"))
        .await;
    assert!(!unlocked(&cluster.state(), "a"));
    cluster.state().refuses.clear();
    cluster
        .until("a is unlocked", |state| unlocked(state, "a"))
        .await;
}

#[tokio::test]
async fn locks_are_renewed_while_a_commit_gets_no_answer() {
    let cluster = Cluster::start(&["a", "b"], 1).await;
    cluster
        .state()
        .stuck
        .insert(("a", request::UPDATE_CONSUMER_OFFSET));
    let client = cluster.client();
    let orders = cluster.consumer(&client, "orders", ordered()).await;
    let group = orders.group.group();
    let stays = |queue: &super::super::offset::ProcessQueue| &*queue.queue.broker == "a";
    group.hand_over(stays);
    let releasing = tokio::spawn({
        let group = std::sync::Arc::clone(group);
        async move { release::release(&group).await }
    });
    cluster
        .until("the commit is tried", |state| {
            state.heard("a", request::UPDATE_CONSUMER_OFFSET) > 0
        })
        .await;
    let begun = Instant::now();
    let locks = |state: &State, broker| state.heard(broker, request::LOCK_BATCH_MQ);
    let before = ["a", "b"].map(|broker| locks(&cluster.state(), broker));
    group.signals.lost.notify_one();
    cluster
        .until("the locks are renewed, that of the queue too", |state| {
            locks(state, "a") > before[0] && locks(state, "b") > before[1]
        })
        .await;
    assert!(begun.elapsed() < REQUEST_TIMEOUT, "{:?}", begun.elapsed());
    assert!(!releasing.is_finished());
    releasing.abort();
    assert_eq!(cluster.state().heard("a", request::UNLOCK_BATCH_MQ), 0);
}

#[tokio::test]
async fn last_topic_that_is_closed_says_goodbye_to_the_brokers_of_all() {
    for dropped in [false, true] {
        let cluster = Cluster::start(&["a", "b"], 1).await;
        {
            let mut state = cluster.state();
            state.brokers_of.insert("orders", vec!["a"]);
            state.brokers_of.insert("refunds", vec!["b"]);
        }
        let client = cluster.client();
        let orders = cluster
            .consumer(&client, "orders", ConsumerOptions::default())
            .await;
        let refunds = cluster
            .consumer(&client, "refunds", ConsumerOptions::default())
            .await;
        orders.close().await.unwrap();
        if dropped {
            drop(refunds);
        } else {
            refunds.close().await.unwrap();
        }
        cluster
            .until("both are told", |state| {
                ["a", "b"].map(|broker| state.heard(broker, request::UNREGISTER_CLIENT)) == [1, 1]
            })
            .await;
    }
}

#[tokio::test]
async fn offset_that_a_broker_makes_up_passes_nothing() {
    let cluster = Cluster::start(&["a"], 1).await;
    cluster.store("orders", "orders", 2);
    cluster.state().next_begin = Some(u64::MAX);
    let client = cluster.client();
    let orders = cluster
        .consumer(&client, "orders", ConsumerOptions::default())
        .await;
    nothing_comes(&orders).await;
    cluster.state().next_begin = None;
    let held = take(&orders, 2).await;
    assert_eq!(offsets(&held), [0, 1]);
    ack(&orders, &held);
    cluster
        .until("all is committed", |state| committed(state, "a") == Some(2))
        .await;
}

#[tokio::test]
async fn message_whose_offset_is_out_of_range_is_one_that_cannot_be_read() {
    let cluster = Cluster::start(&["a"], 1).await;
    let stored = vec![
        stored_message(0, "orders"),
        stored_message(u64::MAX, "orders"),
    ];
    cluster
        .state()
        .stored
        .insert(place("orders", "a", 0), stored);
    let client = cluster.client();
    let orders = cluster
        .consumer(&client, "orders", ConsumerOptions::default())
        .await;
    take(&orders, 1).await;
    cluster
        .until("it is pulled again", |state| {
            state.heard("a", request::PULL_MESSAGE) > 3
        })
        .await;
    let standing = orders.unreadable().pop().unwrap();
    assert_eq!(standing.offset, 1);
    assert!(standing.reason.contains("offset"), "{}", standing.reason);
}

#[tokio::test]
async fn queue_that_another_member_had_meanwhile_does_not_begin_where_a_broker_once_moved_it() {
    let cluster = Cluster::start(&["a"], 1).await;
    cluster.store("orders", "orders", 4);
    {
        let mut state = cluster.state();
        state.committed.insert(place("orders", "a", 0), 10);
        state.moves = Some(("orders", 1, vec!["another", "one"]));
    }
    let client = cluster.client();
    let options = ConsumerOptions::default();
    let orders = cluster.consumer(&client, "orders", options).await;
    cluster
        .until("the queue is another member's", |state| {
            let asked = state.heard("a", request::GET_CONSUMER_LIST_BY_GROUP);
            state.members.len() == 2 && asked >= 2
        })
        .await;
    assert!(orders.assigned().is_empty());
    {
        let mut state = cluster.state();
        state.committed.insert(place("orders", "a", 0), 3);
        state.members = vec!["one"];
    }
    orders.group.changed();
    assert_eq!(offsets(&take(&orders, 1).await), [3]);
}
