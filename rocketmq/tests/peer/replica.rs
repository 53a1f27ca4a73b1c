//! No master, and a replica that is not to be read from at first.

use std::{sync::atomic::Ordering, time::Duration};

use crate::{
    server::{FIRST, Server, consumer},
    unreadable::plain,
};

#[tokio::test]
async fn what_a_replica_keeps_back_is_not_passed_over() {
    let server = Server::start(vec![plain(FIRST, "first"), plain(FIRST + 1, "second")]).await;
    server.is_replica.store(true, Ordering::SeqCst);
    server.committed.store(FIRST, Ordering::SeqCst);
    server.keeps_back.store(3, Ordering::SeqCst);
    server.takes_commits.store(true, Ordering::SeqCst);
    let (_client, consumer) = consumer(&server).await;
    let got = consumer.receive(2, Duration::from_secs(30)).await.unwrap();
    assert_eq!(server.keeps_back.load(Ordering::SeqCst), 0);
    let offsets: Vec<_> = got.iter().map(|one| one.message.offset).collect();
    assert_eq!(offsets, [FIRST as u64, FIRST as u64 + 1]);
    for delivery in got {
        consumer.ack(delivery.token).unwrap();
    }
    consumer.close().await.unwrap();
    // Committed where it was read.
    assert_eq!(server.committed.load(Ordering::SeqCst), FIRST + 2);
}
