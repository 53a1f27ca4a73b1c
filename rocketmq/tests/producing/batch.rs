//! Several messages in one request.

use std::time::Duration;

use crossfade_rocketmq::{DelayLevel, ErrorKind, Persisted, message::property};

use crate::support::*;

pub(crate) async fn batch_lies_in_one_queue_in_order_and_each_message_has_its_own_id(
    cluster: Cluster,
) {
    let client = cluster.client();
    let topic = cluster.topic(&client).await;
    let producer = producer(&client, &topic, &unique("producers")).await;
    let batch: Vec<_> = (0..50)
        .map(|number: u32| {
            let message = message(&number.to_string()).tag("t").unwrap();
            message.property("number", &number.to_string()).unwrap()
        })
        .collect();
    let sent = producer.send_batch(&batch, 2, WAIT).await.unwrap();
    assert_eq!(sent.len(), batch.len());
    let consumer = consumer(&client, &topic).await;
    let mut received = receive(&consumer, batch.len(), WAIT).await;
    received.sort_by_key(|message| message.offset);
    let pairs = sent.iter().zip(&received).enumerate();
    for ((index, (sent, received)), message) in pairs.zip(&batch) {
        assert_eq!(received.body, index.to_string().into_bytes());
        assert_eq!(received.property("number"), Some(&*index.to_string()));
        assert_eq!(received.property(property::TAGS), Some("t"));
        assert_eq!((sent.queue, sent.offset), (2, index as u64));
        assert_eq!((received.queue.queue, received.offset), (2, sent.offset));
        assert_eq!(received.offset_message_id, sent.offset_message_id);
        let ids: Vec<_> = received
            .properties()
            .filter(|(name, _)| *name == property::UNIQ_KEY)
            .collect();
        assert_eq!(ids, [(property::UNIQ_KEY, message.unique_id())]);
    }
    receive_nothing(&consumer, Duration::from_millis(500)).await;
}

pub(crate) async fn batch_that_no_broker_takes_is_refused_before_it_is_sent(cluster: Cluster) {
    let client = cluster.client();
    let topic = cluster.topic(&client).await;
    let producer = producer(&client, &topic, &unique("producers")).await;
    let large = || crossfade_rocketmq::Message::new(vec![b'x'; 2 << 20].into());
    for (batch, kind) in [
        (vec![], ErrorKind::InvalidInput),
        (
            vec![message("a"), message("b").delay(DelayLevel::SHORTEST)],
            ErrorKind::InvalidInput,
        ),
        (
            vec![message("a"), message("b").timer(WAIT)],
            ErrorKind::InvalidInput,
        ),
        (vec![message("a"), message("")], ErrorKind::InvalidInput),
        (vec![large(), large()], ErrorKind::TooLarge),
    ] {
        let error = producer.send_batch(&batch, 0, WAIT).await.unwrap_err();
        assert_eq!((error.kind(), error.persisted()), (kind, Persisted::No));
        assert_eq!(error.address(), None, "{error}");
    }
    let one = producer.send_batch(&[large()], 0, WAIT).await.unwrap();
    assert_eq!(one.len(), 1);
}

pub(crate) async fn batch_to_a_sealed_topic_is_refused_as_sealed(cluster: Cluster) {
    let client = cluster.client();
    let topic = cluster.topic(&client).await;
    let producer = producer(&client, &topic, &unique("producers")).await;
    cluster.seal(&client, &topic).await;
    let batch = [message("a"), message("b")];
    let error = producer.send_batch(&batch, 0, WAIT).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.persisted()),
        (ErrorKind::Sealed, Persisted::No)
    );
}
