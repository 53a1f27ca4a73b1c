//! Several messages in one request.

use crossfade::{ErrorKind, IdempotencyKey, Message, Persisted, Result, Revision, backend::*};

use crate::support::*;

/// Sends messages as one, on the lane of the first.
async fn send_batch(
    producer: &std::sync::Arc<dyn BackendProducer>,
    messages: &[Message],
    lane: u64,
) -> Result<Vec<Stored>> {
    let keys: Vec<_> = messages
        .iter()
        .map(|_| IdempotencyKey::new(unique("key")).unwrap())
        .collect();
    let ids: Vec<_> = messages.iter().map(|_| MessageId::default()).collect();
    let batch: Vec<_> = messages
        .iter()
        .zip(&keys)
        .zip(&ids)
        .map(|((message, idempotency_key), message_id)| Outgoing {
            message,
            idempotency_key,
            message_id,
            revision: Revision(7),
            lane,
        })
        .collect();
    producer.send_batch(&batch, TIMEOUT).await
}

pub(crate) async fn a_batch_lies_whole_in_one_queue_in_order(cluster: Cluster) {
    if !cluster.capability.batch {
        return;
    }
    let (topic, settings) = cluster.topic(4).await;
    let group = unique("group");
    let producer = cluster.producer(&topic).await;
    let batch: Vec<_> = (0..20)
        .map(|number: u32| {
            Message::new(number.to_string())
                .with_key("k")
                .with_tag("t")
                .with_property("number", number.to_string())
        })
        .collect();
    let stored = send_batch(&producer, &batch, 2).await.unwrap();
    assert_eq!(stored.len(), batch.len());
    let consumer = cluster.consumer(&topic, &group).await;
    let mut all = receive(&consumer, batch.len()).await;
    all.sort_by_key(|incoming| incoming.offset);
    for ((sent, stored), incoming) in batch.iter().zip(&stored).zip(&all) {
        assert_eq!(incoming.message.body, sent.body);
        assert_eq!(incoming.message.properties, sent.properties);
        assert_eq!(incoming.message.key, sent.key);
        assert_eq!(incoming.message.tag, sent.tag);
        assert_eq!(incoming.queue, stored.queue);
        assert_eq!(Some(incoming.offset), stored.offset);
        assert_eq!(incoming.message_id, stored.message_id);
        assert_eq!(incoming.revision, Some(Revision(7)));
    }
    let keys: std::collections::BTreeSet<_> = all
        .iter()
        .map(|incoming| incoming.message.idempotency_key.clone())
        .collect();
    assert_eq!(keys.len(), batch.len());
    receive_nothing(&consumer).await;
    ack_all(&consumer, &all).await;
    cluster.drained(&topic, &group, &settings).await;
}

pub(crate) async fn a_batch_that_cannot_go_together_is_an_invalid_message(cluster: Cluster) {
    if !cluster.capability.batch {
        return;
    }
    let (topic, _) = cluster.topic(1).await;
    let producer = cluster.producer(&topic).await;
    let delayed = Message::new("later").with_deliver_after(std::time::Duration::from_secs(1));
    let half = cluster.capability.max_body_bytes.unwrap() / 2 + 1;
    let large = || Message::new(vec![b'x'; half]);
    for batch in [
        vec![],
        vec![Message::new("now"), delayed],
        vec![large(), large()],
    ] {
        let error = send_batch(&producer, &batch, 0).await.unwrap_err();
        let told = (error.kind(), error.persisted());
        assert_eq!(told, (ErrorKind::InvalidMessage, Persisted::No));
    }
    let consumer = cluster.consumer(&topic, &unique("group")).await;
    receive_nothing(&consumer).await;
}

pub(crate) async fn a_batch_to_a_sealed_topic_is_refused_whole(cluster: Cluster) {
    if !cluster.capability.batch || !cluster.capability.seal {
        return;
    }
    let (topic, settings) = cluster.topic(2).await;
    let producer = cluster.producer(&topic).await;
    let admin = &cluster.admin;
    let sealed = admin.set_access(&topic, &settings, crossfade::Access::Sealed);
    sealed.await.unwrap();
    let batch = [Message::new("a"), Message::new("b")];
    let error = send_batch(&producer, &batch, 0).await.unwrap_err();
    let told = (error.kind(), error.persisted());
    assert_eq!(told, (ErrorKind::Sealed, Persisted::No));
}
