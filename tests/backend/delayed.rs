//! Messages that are delivered later.

use std::time::Duration;

use crossfade::Message;
use tokio::time::Instant;

use crate::support::*;

pub(crate) async fn a_delayed_message_comes_no_sooner_than_its_delay(cluster: Cluster) {
    if !cluster.capability.delayed_send {
        return;
    }
    let (topic, settings) = cluster.topic(2).await;
    let group = unique("group");
    let producer = cluster.producer(&topic).await;
    let consumer = cluster.consumer(&topic, &group).await;
    let delay = Duration::from_secs(1);
    let start = Instant::now();
    let message = Message::new("later")
        .with_key("k")
        .with_deliver_after(delay);
    send(&producer, &message, 1).await.unwrap();
    send(&producer, &Message::new("now"), 1).await.unwrap();
    let all = receive(&consumer, 2).await;
    // Brokers look for what is due a few times a second, and start counting before we do.
    assert!(start.elapsed() + Duration::from_millis(200) >= delay);
    assert_eq!([body(&all[0]), body(&all[1])], ["now", "later"]);
    assert_eq!(all[1].message.key, message.key);
    assert_eq!(all[1].attempt, 1);
    ack_all(&consumer, &all).await;
    cluster.drained(&topic, &group, &settings).await;
}

pub(crate) async fn delayed_messages_are_counted_until_they_are_due(cluster: Cluster) {
    if !cluster.capability.counts_delayed {
        return;
    }
    let (topic, settings) = cluster.topic(2).await;
    let (other, other_settings) = cluster.topic(2).await;
    let group = unique("group");
    cluster.admin.create_group(&group).await.unwrap();
    let producer = cluster.producer(&topic).await;
    let message = Message::new("later").with_deliver_after(Duration::from_secs(10));
    for lane in 0..3 {
        send(&producer, &message, lane).await.unwrap();
    }
    let backlog = async || {
        cluster
            .admin
            .backlog(&topic, &group, &settings)
            .await
            .unwrap()
    };
    let before = backlog().await;
    assert_eq!((before.waiting(), before.delayed), (0, Some(3)));
    assert_eq!(cluster.total(&other, &group, &other_settings).await, 0);
    eventually("they are due", async || {
        let now = backlog().await;
        // A message that moves while a look is taken may be seen in both places, and is never seen in none.
        assert!(now.total() >= 3, "{now:?}");
        (now.waiting() == 3 && now.delayed == Some(0)).then_some(())
    })
    .await;
}

#[cfg(feature = "memory")]
pub(crate) async fn delayed_messages_are_exact_and_in_due_order() {
    let cluster = embedded();
    let (topic, _) = cluster.topic(1).await;
    let producer = cluster.producer(&topic).await;
    let consumer = cluster.consumer(&topic, "group").await;
    let start = Instant::now();
    for delay in [3000, 1000, 2000, 1000] {
        let message =
            Message::new(delay.to_string()).with_deliver_after(Duration::from_millis(delay));
        send(&producer, &message, 0).await.unwrap();
    }
    for expected in [1000, 1000, 2000, 3000] {
        let got = consumer.receive(1, Duration::from_secs(60)).await.unwrap();
        assert_eq!(body(&got[0]), expected.to_string());
        let late = start.elapsed() - Duration::from_millis(expected);
        // The millisecond is the resolution of tokio's timer.
        assert!(late <= Duration::from_millis(1), "{late:?}");
    }
}

#[cfg(feature = "memory")]
pub(crate) async fn a_delay_above_three_days_is_an_invalid_message() {
    use crossfade::ErrorKind;

    let cluster = embedded();
    let (topic, _) = cluster.topic(1).await;
    let producer = cluster.producer(&topic).await;
    let days = |days: u64| Duration::from_secs(days * 24 * 60 * 60);
    let message = |delay| Message::new("x").with_deliver_after(delay);
    send(&producer, &message(days(3)), 0).await.unwrap();
    for delay in [days(3) + Duration::from_millis(1), Duration::MAX] {
        let error = send(&producer, &message(delay), 0).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidMessage);
    }
}
