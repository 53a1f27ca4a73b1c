//! A group's only broker that was started anew.

use std::time::Duration;

use super::{
    Consumer, ConsumerOptions,
    cluster::{Cluster, State},
};
use crate::codes::request;

/// Waits until the member has asked for the list of members, and has acted on the answer.
async fn looks(cluster: &Cluster, consumer: &Consumer) {
    cluster.state().heard.clear();
    // One look may be under way.
    for looks in [1, 2] {
        consumer.group.changed();
        // The topic's brokers are asked, and then those of the retry topic.
        let asked =
            move |state: &State| state.heard("a", request::GET_CONSUMER_LIST_BY_GROUP) >= 2 * looks;
        cluster.until("the members are asked for", asked).await;
    }
}

async fn advance(seconds: u64) {
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(seconds)).await;
    tokio::time::resume();
}

/// One of two members, which has its half of four queues, of a broker that has forgotten the other.
async fn half(cluster: &Cluster) -> Consumer {
    cluster.state().members = vec!["one", "two"];
    let client = cluster.client();
    let options = ConsumerOptions::default();
    let orders = cluster.consumer(&client, "orders", options).await;
    assert_eq!(orders.assigned().len(), 2);
    cluster.restart(&["one"]);
    cluster
        .until("it is told of the member", |state| {
            state.heard("a", request::HEART_BEAT) > 1
        })
        .await;
    orders
}

#[tokio::test]
async fn only_broker_that_was_started_anew_gives_nobody_the_queues_of_those_it_has_forgotten() {
    let cluster = Cluster::start(&["a"], 4).await;
    let orders = half(&cluster).await;
    looks(&cluster, &orders).await;
    assert_eq!(orders.assigned().len(), 2);
    cluster.state().members = vec!["one", "two"];
    looks(&cluster, &orders).await;
    assert_eq!(orders.assigned().len(), 2);
    // Whoever goes now is not waited for.
    cluster.state().members = vec!["one"];
    looks(&cluster, &orders).await;
    assert_eq!(orders.assigned().len(), 4);
}

#[tokio::test]
async fn member_that_does_not_come_back_to_a_broker_has_queues_for_a_heartbeats_time() {
    let cluster = Cluster::start(&["a"], 4).await;
    let orders = half(&cluster).await;
    looks(&cluster, &orders).await;
    for (seconds, queues) in [(29, 2), (2, 2), (6, 4)] {
        advance(seconds).await;
        looks(&cluster, &orders).await;
        assert_eq!(orders.assigned().len(), queues);
    }
}
