//! Opening a backend.

use crate::support::*;

pub(crate) async fn the_backend_says_who_it_is(cluster: Cluster) {
    let id = unique("client");
    let client = cluster.client(&id).await;
    assert_eq!(client.client_id(), id);
    assert!(["memory", "rocketmq"].contains(&client.scheme()));
    assert_eq!(client.capability(), cluster.capability);
    client.close().await;
}

#[cfg(feature = "memory")]
pub(crate) async fn one_name_is_one_cluster() {
    use crossfade::{
        ErrorKind,
        backend::{
            memory::{MemoryCluster, MemoryConfig},
            registry::open,
        },
    };

    let names = [unique("one"), unique("two")];
    let address = |index: usize| format!("memory://{}", names[index]);
    let first = open(&address(0), "a").await.unwrap();
    let again = open(&address(0), "b").await.unwrap();
    let other = open(&address(1), "a").await.unwrap();
    first.admin().create_topic("orders", 1).await.unwrap();
    assert_eq!(again.admin().topics().await.unwrap(), ["orders"]);
    assert!(other.admin().topics().await.unwrap().is_empty());
    let error = MemoryCluster::register(&names[0], MemoryConfig::default()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidConfig);
    MemoryCluster::unregister(&names[0]);
    let fresh = open(&address(0), "a").await.unwrap();
    assert!(fresh.admin().topics().await.unwrap().is_empty());
}

#[cfg(feature = "memory")]
pub(crate) async fn a_known_scheme_without_its_feature_or_a_bad_address_is_refused() {
    use crossfade::{ErrorKind, backend::registry::open};

    for (address, id) in [
        ("kafka://a:1", "a"),
        ("memory://a?b=c", "a"),
        ("memory://a", ""),
    ] {
        let error = open(address, id).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{address}");
    }
    #[cfg(not(feature = "rocketmq"))]
    {
        let error = open("rocketmq://127.0.0.1:9876", "a").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.message().contains("rocketmq"));
    }
}

#[cfg(feature = "memory")]
pub(crate) async fn topics_are_made_where_the_address_says_so() {
    use crossfade::{ErrorKind, backend::registry::open};

    let made = open("memory://opening-made?auto_create=true", "a").await;
    assert!(made.unwrap().producer("orders").await.is_ok());
    let refused = open("memory://opening-refused", "a").await.unwrap();
    let error = refused.producer("orders").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
}

#[cfg(feature = "memory")]
pub(crate) async fn a_closed_backend_refuses() {
    use crossfade::{ErrorKind, Message, backend::Subscription};

    let cluster = embedded();
    let (topic, _) = cluster.topic(1).await;
    let client = cluster.client("client").await;
    let producer = client.producer(&topic).await.unwrap();
    client.close().await;
    let error = client.producer(&topic).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Closed);
    let error = client
        .consumer(&Subscription::new(topic, "group"))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Closed);
    let error = send(&producer, &Message::new("x"), 0).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Closed);
}
