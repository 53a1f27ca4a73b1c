//! Offsets while a master is gone and its replica is read.

use super::{
    Consumer, ConsumerOptions, ack,
    cluster::{Cluster, State, place, take},
};
use crate::{client::Client, consumer::tests::stored_message};

const REPLICA: &str = "a-replica";

/// A master with ten messages, all of them on its replica, too.
async fn cluster() -> Cluster {
    let cluster = Cluster::start(&["a", REPLICA], 1).await;
    let mut state = cluster.state();
    state.replicas.insert(REPLICA, "a");
    for broker in ["a", REPLICA] {
        let messages = (0..10).map(|offset| stored_message(offset, "orders"));
        let place = place("orders", broker, 0);
        state.stored.insert(place, messages.collect());
    }
    drop(state);
    cluster
}

async fn member(cluster: &Cluster) -> (Client, Consumer) {
    let client = cluster.client();
    let options = ConsumerOptions::default();
    let orders = cluster.consumer(&client, "orders", options).await;
    (client, orders)
}

fn committed(state: &State, broker: &str) -> Option<u64> {
    state.committed.get(&place("orders", broker, 0)).copied()
}

#[tokio::test]
async fn replica_is_told_what_its_master_knew_when_that_is_gone() {
    let cluster = cluster().await;
    cluster.state().committed.insert(place("orders", "a", 0), 4);
    let (_client, orders) = member(&cluster).await;
    cluster.state().gone.insert("a");
    orders.group.changed();
    // Nothing has been acked here.
    cluster
        .until("the replica is told", |state| {
            committed(state, REPLICA) == Some(4)
        })
        .await;
}

#[tokio::test]
async fn master_that_is_back_is_told_what_was_committed_at_its_replica() {
    let cluster = cluster().await;
    cluster.state().gone.insert("a");
    let (_client, orders) = member(&cluster).await;
    ack(&orders, &take(&orders, 6).await);
    cluster
        .until("the replica is told", |state| {
            committed(state, REPLICA) == Some(6)
        })
        .await;
    {
        let mut state = cluster.state();
        state.committed.insert(place("orders", "a", 0), 2);
        state.gone.clear();
    }
    orders.group.changed();
    cluster
        .until("the master is told", |state| {
            committed(state, "a") == Some(6)
        })
        .await;
}

#[tokio::test]
async fn master_that_is_back_is_told_of_an_earlier_offset_as_well() {
    let cluster = cluster().await;
    {
        let mut state = cluster.state();
        // What an administrator has taken back since, or what lay behind a tail that was lost.
        state.committed.insert(place("orders", "a", 0), 8);
        state.gone.insert("a");
    }
    let (_client, orders) = member(&cluster).await;
    ack(&orders, &take(&orders, 3).await);
    cluster
        .until("the replica is told", |state| {
            committed(state, REPLICA) == Some(3)
        })
        .await;
    cluster.state().gone.clear();
    orders.group.changed();
    cluster
        .until("the master is told", |state| {
            committed(state, "a") == Some(3)
        })
        .await;
}
