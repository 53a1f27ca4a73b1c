//! Topics of the kind `BatchCQ` (5.x), which keep a batch that has an id of its own, as Java's client sends it, as one message with the others inside.

use std::sync::Arc;

use bytes::{BufMut as _, BytesMut};
use crossfade_rocketmq::{
    Admin, ConsumerOptions, Request,
    admin::TopicConfig,
    codes::{request, response},
};

use crate::support::*;

#[tokio::test(flavor = "multi_thread")]
async fn queue_stands_at_an_inner_batch_and_passes_over_nothing() {
    let name = "queue_stands_at_an_inner_batch_and_passes_over_nothing";
    on_each(name, async |cluster| {
        let topic = unique("topic");
        let admin = Admin::new(&cluster.client);
        let mut config = TopicConfig::new(&topic, 1);
        let kind = ("queue.type".to_owned(), "BatchCQ".to_owned());
        config.attributes.extend([kind]);
        admin.create_topic(&config).await.unwrap();
        until("the topic is there", async || {
            cluster.client.route(&topic).await.ok()?;
            admin.topic_configs(&topic).await.ok().map(drop)
        })
        .await;
        let configs = admin.topic_configs(&topic).await.unwrap();
        let mut configs = configs.values();
        // 4.9 knows no kinds: it keeps every message by itself.
        let has_kinds = configs.all(|found| found.attributes == config.attributes);
        let topic: Arc<str> = topic.into();
        let producer = cluster.producer(&topic).await;
        // Ours has no id of its own.
        let batch: Vec<_> = (0..2).map(message).collect();
        producer.send_batch(&batch, 0, WAIT).await.unwrap();
        send_as_java(&cluster, &topic).await;
        let options = ConsumerOptions::default();
        let (_client, consumer) = cluster.member(&topic, &unique("group"), &options).await;
        if !has_kinds {
            assert_eq!(take(&consumer, 4).await, [0, 1, 2, 3]);
            return;
        }
        assert_eq!(take(&consumer, 2).await, [0, 1]);
        until("the queue stands", async || {
            let got = consumer.receive(1, QUIET).await.unwrap();
            assert!(got.is_empty(), "{got:?}");
            (!consumer.unreadable().is_empty()).then_some(())
        })
        .await;
        let stands = consumer.unreadable().pop().unwrap();
        assert!(stands.reason.contains("BatchCQ"), "{stands:?}");
        assert_eq!(stands.offset, 2);
    })
    .await;
}

/// A batch of the messages 2 and 3 with an id of its own.
async fn send_as_java(cluster: &Cluster, topic: &Arc<str>) {
    let mut body = BytesMut::new();
    for number in ["2", "3"] {
        body.put_u32(22 + number.len() as u32);
        body.put_bytes(0, 12);
        body.put_u32(number.len() as u32);
        body.put_slice(number.as_bytes());
        body.put_u16(0);
    }
    let route = cluster.client.route(topic).await.unwrap();
    let broker = &route.brokers[0];
    let properties = format!("UNIQ_KEY\u{1}{:032X}\u{2}", std::process::id());
    let request = Request::new(request::SEND_BATCH_MESSAGE)
        .text("a", "producers")
        .text("b", topic)
        .text("c", topic)
        .text("d", "4")
        .text("e", "0")
        .text("f", "0")
        .text("g", "1700000000000")
        .text("h", "0")
        .text("i", &properties)
        .text("j", "0")
        .text("k", "false")
        .text("m", "true")
        .text("n", &broker.name)
        .body(body.freeze());
    let master = &broker.addresses[&0];
    let sent = cluster.client.call(master, "a batch", request).await;
    assert_eq!(sent.unwrap().code, response::SUCCESS);
}
