//! The end of retries. On RocketMQ's own levels it takes hours, so live clusters are left out.

#[cfg(feature = "memory")]
pub(crate) async fn a_message_out_of_retries_goes_to_the_dead_letter_topic() {
    use std::time::Duration;

    use crate::support::*;

    let cluster = embedded_with(|config| {
        config.max_retries = 2;
        config.retry_delays = vec![Duration::from_millis(10)];
    });
    let (topic, settings) = cluster.topic(1).await;
    let producer = cluster.producer(&topic).await;
    let consumer = cluster.consumer(&topic, "group").await;
    send_numbers(&producer, 1).await;
    for attempt in 1..=3 {
        assert!(cluster.admin.topic("%DLQ%group").await.unwrap().is_none());
        let got = receive(&consumer, 1).await.remove(0);
        assert_eq!(got.attempt, attempt);
        consumer.nack(got.token, Duration::ZERO).await.unwrap();
    }
    receive_nothing(&consumer).await;
    cluster.drained(&topic, "group", &settings).await;
    let reader = cluster.consumer("%DLQ%group", "undertaker").await;
    let got = receive(&reader, 1).await;
    assert_eq!(body(&got[0]), "0");
    assert_eq!(cluster.admin.topics().await.unwrap(), [topic]);
}
