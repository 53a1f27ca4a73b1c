//! The topics of one official client on one cluster.

use std::time::Duration;

use crossfade_rocketmq::{Client, ErrorKind, Request, codes::request};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};

pub(crate) const QUEUES: u32 = 4;

/// The last one is that of their group's retries: brokers make it with the group's first heartbeat, and official clients that come before it look again
/// after half a minute.
fn names(prefix: &str) -> [String; 5] {
    let topics = ["ours", "ours-ordered", "theirs", "theirs-ordered"];
    let [a, b, c, d] = topics.map(|name| format!("{prefix}-{name}"));
    [a, b, c, d, format!("%RETRY%{prefix}-theirs")]
}

/// Makes them, and waits until the name server knows.
pub(crate) async fn create(client: &Client, prefix: &str) {
    create_all(client, names(prefix)).await;
}

pub(crate) async fn create_all(client: &Client, names: impl IntoIterator<Item = String>) {
    let mut all = JoinSet::new();
    for topic in names {
        all.spawn(create_one(client.clone(), topic));
    }
    while let Some(one) = all.join_next().await {
        one.unwrap();
    }
}

/// A broker on a busy machine may not answer in time: it is asked again.
async fn create_one(client: Client, topic: String) {
    let deadline = Instant::now() + Duration::from_secs(120);
    let cluster = client.cluster_info().await.unwrap();
    for (_, master) in cluster.masters() {
        let ask = || client.call(master, "create topic", creation(&topic));
        while let Err(error) = ask().await {
            let passes = [
                ErrorKind::Timeout,
                ErrorKind::Unavailable,
                ErrorKind::Throttled,
            ];
            let again = passes.contains(&error.kind()) && Instant::now() < deadline;
            assert!(again, "{error}");
            sleep(Duration::from_millis(100)).await;
        }
    }
    while client.route(&topic).await.is_err() {
        assert!(Instant::now() < deadline, "topic {topic} has no route");
        sleep(Duration::from_millis(20)).await;
    }
}

fn creation(topic: &str) -> Request {
    Request::new(request::UPDATE_AND_CREATE_TOPIC)
        .text("topic", topic)
        .text("defaultTopic", "TBW102")
        .field("readQueueNums", QUEUES)
        .field("writeQueueNums", QUEUES)
        .text("perm", "6")
        .text("topicFilterType", "SINGLE_TAG")
        .text("topicSysFlag", "0")
        .text("order", "false")
}

/// Removes them; what fails is left to the clusters' own end.
pub(crate) async fn delete(client: &Client, prefix: &str) {
    delete_all(client, names(prefix)).await;
}

pub(crate) async fn delete_all(client: &Client, names: impl IntoIterator<Item = String>) {
    let Ok(cluster) = client.cluster_info().await else {
        return;
    };
    for topic in names {
        for (_, master) in cluster.masters() {
            let request = Request::new(request::DELETE_TOPIC_IN_BROKER).text("topic", &topic);
            let _ = client.call(master, "delete topic", request).await;
        }
        let request = Request::new(request::DELETE_TOPIC_IN_NAMESRV).text("topic", &topic);
        let _ = client.call_name_server("delete topic", request).await;
    }
}
