//! SQL92 expressions.

use crossfade_rocketmq::{Client, Consumer, ConsumerOptions, Error, ErrorKind, Filter};

use crate::support::*;

fn sql(expression: &str) -> ConsumerOptions {
    let mut options = ConsumerOptions::default();
    options.filter = Filter::Sql(expression.to_owned());
    options
}

async fn join(
    client: &Client,
    topic: &str,
    group: &str,
    expression: &str,
) -> Result<Consumer, Error> {
    Consumer::new(client, topic, group, sql(expression)).await
}

/// Brokers whose configuration does not allow expressions say so, and what to set.
fn is_switched_off(name: &str, error: &Error) -> bool {
    let off = error.kind() == ErrorKind::Unsupported;
    if off {
        assert!(
            error.message().contains("enablePropertyFilter=true"),
            "{error}"
        );
        skip(name, &error.to_string());
    }
    off
}

#[tokio::test(flavor = "multi_thread")]
async fn expression_chooses_messages_and_the_offset_passes_the_rest() {
    let name = "expression_chooses_messages_and_the_offset_passes_the_rest";
    on_each(name, async |cluster| {
        let (topic, group) = (cluster.topic(2).await, unique("group"));
        let producer = cluster.producer(&topic).await;
        let messages = (0..12u64).map(|number| {
            let region = if number % 2 == 0 { "north" } else { "south" };
            let message = message(number).property("price", &(number * 2).to_string());
            message.unwrap().property("region", region).unwrap()
        });
        send(&producer, messages).await;
        // Without properties.
        send(&producer, [message(100)]).await;
        let consumer = join(
            &cluster.client,
            &topic,
            &group,
            "price > 10 AND region = 'north'",
        )
        .await;
        let consumer = match consumer {
            Ok(consumer) => consumer,
            Err(error) if is_switched_off(name, &error) => return,
            Err(error) => panic!("{error:?}"),
        };
        assert_eq!(take(&consumer, 3).await, [6, 8, 10]);
        nothing_comes(&consumer).await;
        consumer.close().await.unwrap();
        let committed = cluster.committed(&topic, &group).await;
        assert_eq!(committed.iter().flatten().sum::<u64>(), 13);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn message_that_was_given_back_comes_again_whatever_the_expression() {
    let name = "message_that_was_given_back_comes_again_whatever_the_expression";
    on_each(name, async |cluster| {
        let (topic, group) = (cluster.topic(1).await, unique("group"));
        let consumer = match join(&cluster.client, &topic, &group, "price > 10").await {
            Ok(consumer) => consumer,
            Err(error) if is_switched_off(name, &error) => return,
            Err(error) => panic!("{error:?}"),
        };
        let priced = message(1).property("price", "11").unwrap();
        send(&cluster.producer(&topic).await, [priced]).await;
        let first = consumer.receive(1, WAIT).await.unwrap();
        let delay = std::time::Duration::from_secs(1);
        consumer.nack(first[0].token, delay).await.unwrap();
        let mut attempt = 0;
        until("the message comes again", async || {
            let again = consumer.receive(1, QUIET).await.unwrap();
            attempt = again.first()?.attempt;
            consumer.ack(again[0].token).ok()
        })
        .await;
        assert_eq!(attempt, 2);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn expression_that_the_broker_cannot_read_is_refused() {
    let name = "expression_that_the_broker_cannot_read_is_refused";
    on_each(name, async |cluster| {
        let (topic, group) = (cluster.topic(1).await, unique("group"));
        let error = join(&cluster.client, &topic, &group, "price >")
            .await
            .unwrap_err();
        if is_switched_off(name, &error) {
            return;
        }
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
        println!("{error}");
        // The client has not joined.
        assert!(
            join(&cluster.client, &topic, &group, "price > 1")
                .await
                .is_ok()
        );
    })
    .await;
}
