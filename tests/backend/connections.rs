//! Who is connected.

use crossfade::backend::Subscription;

use crate::support::*;

async fn ids(cluster: &Cluster, group: &str) -> Vec<String> {
    let clients = cluster.admin.members(group).await.unwrap().clients;
    let mut ids: Vec<_> = clients.into_iter().map(|client| client.client_id).collect();
    ids.sort();
    ids
}

pub(crate) async fn members_are_listed_by_client_id(cluster: Cluster) {
    let (topic, _) = cluster.topic(2).await;
    let group = unique("group");
    let subscription = Subscription::new(topic.as_str(), group.as_str());
    let names = [unique("a"), unique("b")];
    let first = cluster.client(&names[0]).await;
    let second = cluster.client(&names[1]).await;
    assert_eq!(
        (first.client_id(), second.client_id()),
        (&*names[0], &*names[1])
    );
    let _first = first.consumer(&subscription).await.unwrap();
    let consumer = second.consumer(&subscription).await.unwrap();
    let listed = async |expected: &[String]| {
        eventually("the list is right", async || {
            (ids(&cluster, &group).await == expected).then_some(())
        })
        .await;
    };
    listed(&names).await;
    consumer.close().await.unwrap();
    listed(&names[..1]).await;
}

pub(crate) async fn a_group_without_members_lists_nobody(cluster: Cluster) {
    let group = unique("group");
    cluster.admin.create_group(&group).await.unwrap();
    assert!(ids(&cluster, &group).await.is_empty());
}
