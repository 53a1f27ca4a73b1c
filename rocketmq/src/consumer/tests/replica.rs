//! Offsets while a master is gone and its replica is read.

use super::{
    Consumer, ConsumerOptions, ack,
    cluster::{Cluster, GROUP, State, place, take},
    nothing_comes, offsets,
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
    {
        let mut state = cluster.state();
        state.committed.insert(place("orders", REPLICA, 0), 2);
        state.gone.insert("a");
    }
    let (_client, orders) = member(&cluster).await;
    ack(&orders, &take(&orders, 4).await);
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
        state.committed.insert(place("orders", REPLICA, 0), 1);
        state.gone.insert("a");
    }
    let (_client, orders) = member(&cluster).await;
    ack(&orders, &take(&orders, 2).await);
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

/// It may have been added later, with the last messages only, or may not be able to read its master's offsets (5.5.0).
#[tokio::test]
async fn replica_that_does_not_know_the_group_says_nothing_of_where_it_begins() {
    // 4.9 says 0 for "never".
    for known in [None, Some(0)] {
        let cluster = cluster().await;
        {
            let mut state = cluster.state();
            state.committed.insert(place("orders", "a", 0), 8);
            if let Some(offset) = known {
                state.committed.insert(place("orders", REPLICA, 0), offset);
            }
            state.gone.insert("a");
        }
        let client = cluster.client();
        let options = ConsumerOptions::default();
        let orders = Consumer::new(&client, "orders", GROUP, options).await;
        let orders = orders.unwrap();
        nothing_comes(&orders).await;
        let (_, why) = orders.inbox.last_failure().expect("a reason");
        assert!(why.contains("waits for the master"), "{why}");
        cluster.state().gone.clear();
        orders.group.changed();
        let rest = take(&orders, 2).await;
        assert_eq!(offsets(&rest), [8, 9]);
        ack(&orders, &rest);
        orders.close().await.unwrap();
        let state = cluster.state();
        assert_eq!(committed(&state, "a"), Some(10));
        assert_eq!(committed(&state, REPLICA), known);
    }
}
