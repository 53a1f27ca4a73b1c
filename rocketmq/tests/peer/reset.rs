//! A broker that tells its members where an administrator has set their offsets.

use std::{sync::atomic::Ordering, time::Duration};

use crossfade_rocketmq::{Consumer, Delivery, ErrorKind, codes::request};
use tokio::time::{sleep, timeout};

use crate::{
    server::{FIRST, Server, TOPIC, consumer},
    unreadable::plain,
};

const CODE: i32 = request::RESET_CONSUMER_CLIENT_OFFSET;
/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(30);

fn names(group: &str, topic: &str) -> String {
    format!(r#""group":"{group}","topic":"{topic}","timestamp":"0","isForce":"false""#)
}

async fn receive(consumer: &Consumer, count: usize) -> Vec<Delivery> {
    let mut got = Vec::new();
    timeout(PATIENCE, async {
        while got.len() < count {
            got.extend(consumer.receive(count, PATIENCE).await.unwrap());
        }
    })
    .await
    .expect("the messages");
    got
}

async fn is_committed(server: &Server, offset: i64) {
    let wait = async {
        while server.committed.load(Ordering::SeqCst) != offset {
            sleep(Duration::from_millis(10)).await;
        }
    };
    let waited = timeout(PATIENCE, wait).await;
    waited.unwrap_or_else(|_| panic!("committed is {}", server.committed.load(Ordering::SeqCst)));
}

#[tokio::test]
async fn queue_that_an_administrator_sets_begins_anew_there_and_what_was_handed_out_is_stale() {
    let messages = (0..3).map(|n| plain(FIRST + n, "text"));
    let server = Server::start(messages.collect()).await;
    server.takes_commits.store(true, Ordering::SeqCst);
    let (client, consumer) = consumer(&server).await;
    let mut held = receive(&consumer, 3).await;
    consumer.ack(held.remove(0).token).unwrap();
    is_committed(&server, FIRST + 1).await;
    let java = format!(
        r#"{{"offsetTable":{{{{"brokerName":"b","queueId":0,"topic":"{TOPIC}"}}:{FIRST}}}}}"#
    );
    let c = format!(
        r#"{{"offsetTable":[{{"brokerName":"b","offset":{},"queueId":0,"topic":"{TOPIC}"}}]}}"#,
        FIRST + 2
    );
    for (table, first) in [(java, FIRST), (c, FIRST + 2)] {
        server
            .ask(&client, CODE, &names("billing", TOPIC), table.as_bytes())
            .await;
        is_committed(&server, first).await;
        for delivery in held {
            let error = consumer.ack(delivery.token).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Stale);
        }
        let end = FIRST + 3;
        held = receive(&consumer, (end - first) as usize).await;
        let offsets: Vec<_> = held.iter().map(|held| held.message.offset as i64).collect();
        assert_eq!(offsets, (first..end).collect::<Vec<_>>());
    }
    for delivery in held {
        consumer.ack(delivery.token).unwrap();
    }
    is_committed(&server, FIRST + 3).await;
}

#[tokio::test]
async fn what_is_not_for_this_member_and_what_cannot_be_read_sets_nothing() {
    let server = Server::start(vec![plain(FIRST, "text")]).await;
    server.takes_commits.store(true, Ordering::SeqCst);
    let (client, consumer) = consumer(&server).await;
    let held = receive(&consumer, 1).await.remove(0);
    let of = |broker: &str, queue: &str, topic: &str, offset: &str| {
        format!(
            r#"{{"offsetTable":{{{{"brokerName":"{broker}","queueId":{queue},"topic":"{topic}"}}:{offset}}}}}"#
        )
    };
    let own = of("b", "0", TOPIC, "7");
    for (fields, body) in [
        (names("others", TOPIC), own.clone()),
        (names("billing", "refunds"), own.clone()),
        (names("billing", "refunds"), of("b", "0", "refunds", "7")),
        (names("billing", TOPIC), of("b", "0", "refunds", "7")),
        (names("billing", TOPIC), of("other", "0", TOPIC, "7")),
        (names("billing", TOPIC), of("b", "1", TOPIC, "7")),
        (names("billing", TOPIC), of("b", "0", TOPIC, "-1")),
        (names("billing", TOPIC), of("b", "0", TOPIC, "1e300")),
        (names("billing", TOPIC), r#"{"offsetTable":{}}"#.to_owned()),
        (names("billing", TOPIC), own[..own.len() - 1].to_owned()),
        (names("billing", TOPIC), String::new()),
        (r#""topic":"orders""#.to_owned(), own.clone()),
        (String::new(), own.clone()),
    ] {
        server.ask(&client, CODE, &fields, body.as_bytes()).await;
    }
    let more = consumer.receive(1, Duration::from_millis(300)).await;
    assert!(more.unwrap().is_empty());
    consumer.ack(held.token).unwrap();
    is_committed(&server, FIRST + 1).await;
}

/// The largest offset that can be said: the pull from there is for the broker to answer.
#[tokio::test]
async fn offset_beyond_every_queue_is_taken_and_the_next_reset_too() {
    let server = Server::start(vec![plain(FIRST, "text")]).await;
    server.takes_commits.store(true, Ordering::SeqCst);
    let (client, consumer) = consumer(&server).await;
    receive(&consumer, 1).await;
    for offset in [i64::MAX, FIRST] {
        let table = format!(
            r#"{{"offsetTable":{{{{"brokerName":"b","queueId":0,"topic":"{TOPIC}"}}:{offset}}}}}"#
        );
        let fields = names("billing", TOPIC);
        server.ask(&client, CODE, &fields, table.as_bytes()).await;
        is_committed(&server, offset).await;
    }
    assert_eq!(receive(&consumer, 1).await[0].message.offset as i64, FIRST);
}
