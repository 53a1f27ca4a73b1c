//! An administrator sets a group's offsets, and asks members for what this client does not do.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, UNIX_EPOCH},
};

use crossfade_rocketmq::{
    Admin, Client, Command, Consumer, ConsumerOptions, ErrorKind, MessageQueue, Request,
    admin::Reset,
    codes::{request, response},
};
use tokio::time::{Instant, sleep};

use crate::support::*;

/// Receives and acks until every one of the numbers came, whatever else does.
async fn take_all(consumer: &Consumer, numbers: impl IntoIterator<Item = u64>) {
    let mut missing: BTreeSet<u64> = numbers.into_iter().collect();
    until("every message", async || {
        for delivery in consumer.receive(100, QUIET).await.unwrap() {
            // What was handed out before the reset is stale.
            if consumer.ack(delivery.token).is_ok() {
                missing.remove(&number(&delivery));
            }
        }
        missing.is_empty().then_some(())
    })
    .await;
}

async fn is_committed(cluster: &Cluster, topic: &Arc<str>, group: &str, sum: u64) {
    until(&format!("{sum} messages are committed"), async || {
        let committed = cluster.committed(topic, group).await;
        (committed.iter().flatten().sum::<u64>() == sum).then_some(())
    })
    .await;
}

fn sum(set: &BTreeMap<MessageQueue, u64>) -> u64 {
    set.values().sum()
}

/// Members that are online are told by 4.9, and hear of it with their next pull on 5.x: what is sent afterwards ends a pull that is held.
async fn member_online(cluster: Cluster, options: ConsumerOptions) {
    // One queue never has a message: the group has committed nothing there, for all that 4.9 knows.
    const QUEUES: u32 = 3;
    let topic = cluster.topic(QUEUES).await;
    let producer = cluster.producer(&topic).await;
    let (group, other) = (unique("group"), unique("group"));
    let (_one, member) = cluster.member(&topic, &group, &options).await;
    let (_two, bystander) = cluster.member(&topic, &other, &options).await;
    for batch in [[0, 1], [2, 3], [4, 5]] {
        send(&producer, batch.map(message)).await;
    }
    take_all(&bystander, 0..6).await;
    take_all(&member, 0..6).await;
    is_committed(&cluster, &topic, &other, 6).await;
    let mut held = Vec::new();
    send(&producer, [message(6)]).await;
    until("the last message", async || {
        held.extend(member.receive(1, QUIET).await.unwrap());
        held.iter().any(|held| number(held) == 6).then_some(())
    })
    .await;
    let admin = Admin::new(&cluster.client);
    let set = admin.reset_offsets(&group, &topic, Reset::Earliest).await;
    let set = set.unwrap();
    assert_eq!(set.len(), QUEUES as usize, "{set:?}");
    assert_eq!(sum(&set), 0, "{set:?}");
    send(&producer, [message(7), message(8)]).await;
    take_all(&member, 0..9).await;
    for delivery in held {
        let error = member.ack(delivery.token).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Stale);
    }
    is_committed(&cluster, &topic, &group, 9).await;
    nothing_comes(&member).await;
    let more = take(&bystander, 3).await;
    assert_eq!(more, [6, 7, 8], "a group that was not set back");
    nothing_comes(&bystander).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn group_with_a_member_online_is_set_back_and_gets_everything_again_and_no_other_group_does()
{
    let name =
        "group_with_a_member_online_is_set_back_and_gets_everything_again_and_no_other_group_does";
    on_each(name, |cluster| {
        member_online(cluster, ConsumerOptions::default())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn group_that_reads_in_order_is_set_back_while_it_has_the_locks() {
    let name = "group_that_reads_in_order_is_set_back_while_it_has_the_locks";
    let mut ordered = ConsumerOptions::default();
    ordered.ordered = true;
    on_each(name, |cluster| member_online(cluster, ordered.clone())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn group_without_members_is_set_to_the_beginning_the_end_and_a_time() {
    let name = "group_without_members_is_set_to_the_beginning_the_end_and_a_time";
    on_each(name, async |cluster| {
        let (topic, group, other) = (cluster.topic(1).await, unique("group"), unique("group"));
        let producer = cluster.producer(&topic).await;
        for number in 0..4 {
            send(&producer, [message(number)]).await;
            // Each has a time of its own.
            sleep(Duration::from_millis(30)).await;
        }
        let mut stored = BTreeMap::new();
        for group in [&group, &other] {
            let (_client, member) = cluster
                .member(&topic, group, &ConsumerOptions::default())
                .await;
            while stored.len() < 4 || cluster.committed(&topic, group).await != [Some(4)] {
                for delivery in member.receive(4, QUIET).await.unwrap() {
                    stored.insert(number(&delivery), delivery.message.store_timestamp_ms);
                    member.ack(delivery.token).unwrap();
                }
            }
            member.close().await.unwrap();
        }
        let admin = Admin::new(&cluster.client);
        let third = UNIX_EPOCH + Duration::from_millis(stored[&2] as u64);
        for (to, offset) in [
            (Reset::Earliest, 0),
            (Reset::Latest, 4),
            (Reset::At(third), 2),
        ] {
            // A broker may take a moment to hear that a member has gone: then it tells that member, who is not there.
            until("the group is set", async || {
                let set = admin.reset_offsets(&group, &topic, to).await.unwrap();
                assert_eq!((set.len(), sum(&set)), (1, offset), "{to:?}");
                (cluster.committed(&topic, &group).await == [Some(offset)]).then_some(())
            })
            .await;
        }
        let (_client, member) = cluster
            .member(&topic, &group, &ConsumerOptions::default())
            .await;
        assert_eq!(take(&member, 2).await, [2, 3]);
        nothing_comes(&member).await;
        assert_eq!(cluster.committed(&topic, &other).await, [Some(4)]);
    })
    .await;
}

/// As `mqadmin` asks: without looking at what is committed.
#[tokio::test(flavor = "multi_thread")]
async fn broker_takes_a_reset_of_a_group_that_has_read_nothing_of_a_queue() {
    let name = "broker_takes_a_reset_of_a_group_that_has_read_nothing_of_a_queue";
    on_each(name, async |cluster| {
        let (topic, group) = (cluster.topic(2).await, unique("group"));
        send(&cluster.producer(&topic).await, [message(0)]).await;
        let (client, member) = cluster
            .member(&topic, &group, &ConsumerOptions::default())
            .await;
        take_all(&member, [0]).await;
        is_committed(&cluster, &topic, &group, 1).await;
        until("the broker takes it", async || {
            let request = Request::new(request::INVOKE_BROKER_TO_RESET_OFFSET)
                .text("topic", &topic)
                .text("group", &group)
                .text("timestamp", "0")
                .text("isForce", "true");
            let answer = ask(&client, &topic, request).await;
            (answer.code == response::SUCCESS).then_some(())
        })
        .await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn topic_that_is_nowhere_is_not_set() {
    on_each("topic_that_is_nowhere_is_not_set", async |cluster| {
        let admin = Admin::new(&cluster.client);
        let topic = unique("topic");
        let set = admin.reset_offsets("nobody", &topic, Reset::Latest).await;
        assert_eq!(set.unwrap_err().kind(), ErrorKind::TopicNotFound);
    })
    .await;
}

async fn ask(client: &Client, topic: &str, request: Request) -> Command {
    let route = client.route(topic).await.unwrap();
    let master = route.masters().next().unwrap();
    client.invoke(master, request, WAIT).await.unwrap()
}

/// Brokers wait 10 s for a member's answer, and pass its words on (`AdminBrokerProcessor.callConsumer`).
#[tokio::test(flavor = "multi_thread")]
async fn what_a_member_does_not_do_is_refused_at_once_and_the_administrator_is_told_so() {
    let name = "what_a_member_does_not_do_is_refused_at_once_and_the_administrator_is_told_so";
    on_each(name, async |cluster| {
        let (topic, group) = (cluster.topic(1).await, unique("group"));
        send(&cluster.producer(&topic).await, [message(0)]).await;
        let (client, member) = cluster
            .member(&topic, &group, &ConsumerOptions::default())
            .await;
        let got = member.receive(1, WAIT).await.unwrap();
        let broker = client.route(&topic).await.unwrap().brokers[0].name.clone();
        for (code, number) in [
            (request::GET_CONSUMER_RUNNING_INFO, "307"),
            (request::CONSUME_MESSAGE_DIRECTLY, "309"),
        ] {
            let request = Request::new(code)
                .text("consumerGroup", &group)
                .text("clientId", client.client_id())
                .text("jstackEnable", "false")
                .text("topic", &topic)
                .text("brokerName", &broker)
                .text("msgId", &got[0].message.offset_message_id);
            let asked = Instant::now();
            let answer = ask(&cluster.client, &topic, request).await;
            let after = asked.elapsed();
            assert!(after < Duration::from_secs(5), "{after:?}");
            assert_eq!(
                answer.code,
                response::REQUEST_CODE_NOT_SUPPORTED,
                "{answer:?}"
            );
            let remark = answer.remark.unwrap();
            assert!(
                remark.contains(number) && remark.contains("not supported"),
                "{remark}"
            );
        }
        // INVOKE_BROKER_TO_GET_CONSUMER_STATUS: brokers leave out the members that refuse.
        let request = Request::new(223)
            .text("topic", &topic)
            .text("group", &group)
            .text("clientAddr", "");
        let asked = Instant::now();
        let answer = ask(&cluster.client, &topic, request).await;
        assert_eq!(answer.code, response::SUCCESS, "{answer:?}");
        assert!(
            asked.elapsed() < Duration::from_secs(4),
            "{:?}",
            asked.elapsed()
        );
    })
    .await;
}
