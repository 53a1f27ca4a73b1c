//! Two control planes and one store.

use crossfade::backend::security::Security;
use crossfade_control_plane::{Cluster, ServeOptions, Server, store::StoreErrorKind};
use tokio::time::timeout;

use crate::support::*;

/// A store in a file.
fn on_disk(folder: &tempfile::TempDir, clusters: &Clusters) -> ServeOptions {
    ServeOptions {
        store: format!("sqlite://{}", folder.path().join("store.db").display()),
        ..clusters.options()
    }
}

/// The store has no topic yet: only the start itself can have said what it is about.
#[tokio::test]
async fn control_plane_that_cannot_start_leaves_the_one_that_runs_alone() {
    let clusters = Clusters::new().await;
    let folder = tempfile::tempdir().unwrap();
    let options = on_disk(&folder, &clusters);
    let first = Server::start(options.clone()).await.unwrap();
    let [source, target] = &clusters.addresses;
    let unreadable = Security::from_file(folder.path().join("missing.conf"));
    let bad = [
        (
            "cannot listen on",
            ServeOptions {
                listen: first.address().to_string(),
                ..options.clone()
            },
        ),
        (
            "it belongs to",
            ServeOptions {
                target: Cluster::at("memory://another"),
                ..options.clone()
            },
        ),
        (
            "it belongs to",
            ServeOptions {
                source: Cluster::at(target),
                target: Cluster::at(source),
                ..options.clone()
            },
        ),
        (
            "target: cluster address",
            ServeOptions {
                target: Cluster::at("kafka://b"),
                ..options.clone()
            },
        ),
        (
            "missing.conf",
            ServeOptions {
                source: Cluster::Address(source.clone(), Box::new(unreadable)),
                ..options.clone()
            },
        ),
    ];
    for (words, options) in bad {
        let why = Server::start(options).await.unwrap_err();
        assert!(why.contains(words), "{words}: {why}");
    }
    // Every write needs the epoch.
    first.operator().add(TOPIC, &[GROUP]).await.unwrap();
    first.shutdown().await.unwrap();
}

#[tokio::test]
async fn second_control_plane_on_one_store_ends_the_first() {
    let clusters = Clusters::new().await;
    let folder = tempfile::tempdir().unwrap();
    let options = on_disk(&folder, &clusters);
    let mut first = Server::start(options.clone()).await.unwrap();
    let second = Server::start(options).await.unwrap();
    let ended = timeout(PATIENCE, first.ended()).await.unwrap();
    assert_eq!(ended.unwrap_err().kind(), StoreErrorKind::Superseded);
    second.operator().add(TOPIC, &[GROUP]).await.unwrap();
}

#[tokio::test]
async fn new_addresses_are_taken_over_with_once_they_are_accepted_and_known_from_then_on() {
    let clusters = Clusters::new().await;
    let folder = tempfile::tempdir().unwrap();
    let options = on_disk(&folder, &clusters);
    let mut first = Server::start(options.clone()).await.unwrap();
    let moved = ServeOptions {
        target: Cluster::at("memory://moved"),
        ..options.clone()
    };
    let accepted = ServeOptions {
        accept_new_addresses: true,
        ..moved.clone()
    };
    let second = Server::start(accepted).await.unwrap();
    let ended = timeout(PATIENCE, first.ended()).await.unwrap();
    assert_eq!(ended.unwrap_err().kind(), StoreErrorKind::Superseded);
    second.shutdown().await.unwrap();
    // Said once, and for good.
    Server::start(moved).await.unwrap();
    assert!(Server::start(options).await.is_err());
}
