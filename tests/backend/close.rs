//! Leaving in good order.

use std::time::Duration;

use crossfade::ErrorKind;

use crate::support::*;

pub(crate) async fn a_closed_consumer_refuses_and_leaves_the_list(cluster: Cluster) {
    let (topic, _) = cluster.topic(1).await;
    let group = unique("group");
    let producer = cluster.producer(&topic).await;
    let consumer = cluster.consumer(&topic, &group).await;
    send_numbers(&producer, 1).await;
    let got = receive(&consumer, 1).await.remove(0);
    let waiting = {
        let consumer = consumer.clone();
        tokio::spawn(async move { consumer.receive(1, Duration::from_secs(30)).await })
    };
    tokio::time::sleep(Duration::from_millis(100)).await;
    consumer.close().await.unwrap();
    // A receive that waits ends at once.
    let error = waiting.await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Closed);
    let error = consumer.receive(1, QUIET).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Closed);
    let kinds = [ErrorKind::Closed, ErrorKind::StaleDelivery];
    let error = consumer.ack(got.token).await.unwrap_err();
    assert!(kinds.contains(&error.kind()), "{error:?}");
    assert!(consumer.assigned().is_empty());
    eventually("the list is empty", async || {
        let clients = cluster.admin.members(&group).await.unwrap().clients;
        clients.is_empty().then_some(())
    })
    .await;
    consumer.close().await.unwrap();
}

pub(crate) async fn what_was_acked_before_close_is_committed(cluster: Cluster) {
    let (topic, settings) = cluster.topic(2).await;
    let group = unique("group");
    let producer = cluster.producer(&topic).await;
    let consumer = cluster.consumer(&topic, &group).await;
    send_numbers(&producer, 6).await;
    let mut all = receive(&consumer, 6).await;
    all.sort_by_key(|incoming| incoming.offset);
    ack_all(&consumer, &all[..4]).await;
    consumer.close().await.unwrap();
    assert_eq!(cluster.total(&topic, &group, &settings).await, 2);
    let heir = cluster.consumer(&topic, &group).await;
    let rest = receive(&heir, 2).await;
    assert_eq!(numbers(&rest), numbers(&all[4..]));
}
