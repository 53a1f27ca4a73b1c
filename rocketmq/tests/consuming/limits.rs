//! What is fetched ahead is bounded.

use bytes::Bytes;
use crossfade_rocketmq::{ConsumerOptions, Message};

use crate::support::*;

#[tokio::test(flavor = "multi_thread")]
async fn large_bodies_pause_the_fetch_at_the_limit_of_bytes() {
    const BODY: usize = 100 << 10;
    const LIMIT: usize = 1 << 20;
    const MESSAGES: usize = 60;
    let name = "large_bodies_pause_the_fetch_at_the_limit_of_bytes";
    on_each(name, async |cluster| {
        let topic = cluster.topic(4).await;
        let large = (0..MESSAGES).map(|_| Message::new(Bytes::from(vec![b'x'; BODY])));
        send(&cluster.producer(&topic).await, large).await;
        let mut options = ConsumerOptions::default();
        options.max_outstanding_bytes = LIMIT;
        let (_client, consumer) = cluster.member(&topic, &unique("group"), &options).await;
        let (mut came, mut held) = (0, Vec::new());
        while came < MESSAGES {
            until("the limit is reached, or everything came", async || {
                held.extend(consumer.receive(MESSAGES, QUIET).await.unwrap());
                (held.len() * BODY >= LIMIT || came + held.len() == MESSAGES).then_some(())
            })
            .await;
            // The last one may pass the limit; nothing comes behind it while nothing is acked.
            held.extend(consumer.receive(MESSAGES, QUIET).await.unwrap());
            let bytes = held.len() * BODY;
            assert!(bytes < LIMIT + BODY, "{bytes} bytes");
            came += held.len();
            for delivery in held.drain(..) {
                consumer.ack(delivery.token).unwrap();
            }
        }
        assert_eq!(came, MESSAGES);
    })
    .await;
}
