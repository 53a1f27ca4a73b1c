//! How a group shares the queues.

use std::sync::Arc;

use crossfade::backend::{BackendConsumer, QueueId};

use crate::support::*;

/// Waits until the members have the numbers of queues given, sorted, and no queue has two readers.
async fn shares(members: &[&Arc<dyn BackendConsumer>], expected: &[usize]) -> Vec<Vec<QueueId>> {
    eventually(&format!("shares of {expected:?}"), async || {
        let shares: Vec<_> = members.iter().map(|member| member.assigned()).collect();
        let mut sizes: Vec<_> = shares.iter().map(Vec::len).collect();
        sizes.sort_unstable();
        let mut queues: Vec<_> = shares.iter().flatten().collect();
        queues.sort();
        queues.dedup();
        let apart = queues.len() == expected.iter().sum::<usize>();
        (apart && sizes == expected).then_some(shares)
    })
    .await
}

pub(crate) async fn members_share_all_queues(cluster: Cluster) {
    let (topic, settings) = cluster.topic(4).await;
    let group = unique("group");
    let producer = cluster.producer(&topic).await;
    let first = cluster.consumer(&topic, &group).await;
    shares(&[&first], &[4]).await;
    let second = cluster.consumer(&topic, &group).await;
    shares(&[&first, &second], &[2, 2]).await;
    let third = cluster.consumer(&topic, &group).await;
    shares(&[&first, &second, &third], &[1, 1, 2]).await;
    send_numbers(&producer, 12).await;
    let mut all = Vec::new();
    for member in [&first, &second, &third] {
        let count = member.assigned().len() * 3;
        let some = receive(member, count).await;
        ack_all(member, &some).await;
        all.extend(some);
    }
    assert_eq!(numbers(&all), (0..12).collect::<Vec<_>>());
    cluster.drained(&topic, &group, &settings).await;
}

pub(crate) async fn one_member_too_many_gets_no_queue(cluster: Cluster) {
    let (topic, _) = cluster.topic(2).await;
    let group = unique("group");
    let first = cluster.consumer(&topic, &group).await;
    let second = cluster.consumer(&topic, &group).await;
    let third = cluster.consumer(&topic, &group).await;
    shares(&[&first, &second, &third], &[0, 1, 1]).await;
}

pub(crate) async fn a_member_that_closes_leaves_its_queues_to_the_others(cluster: Cluster) {
    let (topic, settings) = cluster.topic(4).await;
    let group = unique("group");
    let producer = cluster.producer(&topic).await;
    let first = cluster.consumer(&topic, &group).await;
    let second = cluster.consumer(&topic, &group).await;
    shares(&[&first, &second], &[2, 2]).await;
    send_numbers(&producer, 8).await;
    let half = receive(&second, 4).await;
    ack_all(&second, &half).await;
    second.close().await.unwrap();
    shares(&[&first], &[4]).await;
    // What the other has committed does not come again.
    let rest = receive(&first, 4).await;
    let mut all = numbers(&half);
    all.extend(numbers(&rest));
    all.sort_unstable();
    assert_eq!(all, (0..8).collect::<Vec<_>>());
    receive_nothing(&first).await;
    ack_all(&first, &rest).await;
    cluster.drained(&topic, &group, &settings).await;
}

#[cfg(feature = "memory")]
pub(crate) async fn deliveries_of_a_queue_that_moved_are_stale() {
    use crossfade::ErrorKind;

    let cluster = embedded();
    let (topic, settings) = cluster.topic(2).await;
    let producer = cluster.producer(&topic).await;
    let first = cluster.consumer(&topic, "group").await;
    send_numbers(&producer, 2).await;
    let all = receive(&first, 2).await;
    let second = cluster.consumer(&topic, "group").await;
    shares(&[&first, &second], &[1, 1]).await;
    let moved = second.assigned().remove(0);
    for incoming in &all {
        let acked = first.ack(incoming.token).await;
        match incoming.queue == moved {
            true => assert_eq!(acked.unwrap_err().kind(), ErrorKind::StaleDelivery),
            false => acked.unwrap(),
        }
    }
    let again = receive(&second, 1).await;
    assert_eq!(again[0].queue, moved);
    // The queue comes back; the old token stays stale.
    second.close().await.unwrap();
    let back = receive(&first, 1).await;
    let old = all.iter().find(|incoming| incoming.queue == moved).unwrap();
    let error = first.ack(old.token).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::StaleDelivery);
    ack_all(&first, &back).await;
    cluster.drained(&topic, "group", &settings).await;
}
