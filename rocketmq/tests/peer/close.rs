//! Closing a consumer whose last commit fails, or gets no answer.

use std::{sync::atomic::Ordering, time::Duration};

use crossfade_rocketmq::{Request, codes::request};

use crate::server::{FIRST, Server, consumer};

#[tokio::test]
async fn close_after_a_failed_commit_makes_it_and_says_when_it_is_made() {
    let server = Server::start(Vec::new()).await;
    let (_client, consumer) = consumer(&server).await;
    for _ in 0..2 {
        consumer.close().await.unwrap_err();
    }
    server.takes_commits.store(true, Ordering::SeqCst);
    consumer.close().await.unwrap();
    assert_eq!(server.committed.load(Ordering::SeqCst), FIRST);
    consumer.close().await.unwrap();
}

#[tokio::test]
async fn close_after_a_failed_commit_sets_back_nothing_that_another_member_has_committed() {
    let server = Server::start(Vec::new()).await;
    let (_client, consumer) = consumer(&server).await;
    consumer.close().await.unwrap_err();
    server.takes_commits.store(true, Ordering::SeqCst);
    server.committed.store(FIRST + 3, Ordering::SeqCst);
    consumer.close().await.unwrap();
    assert_eq!(server.committed.load(Ordering::SeqCst), FIRST + 3);
}

#[tokio::test]
async fn close_that_is_given_up_tells_the_broker_and_commits_no_more() {
    let server = Server::start(Vec::new()).await;
    let (client, consumer) = consumer(&server).await;
    server.stuck.store(true, Ordering::SeqCst);
    let closing = tokio::time::timeout(Duration::from_millis(200), consumer.close());
    closing
        .await
        .expect_err("the broker does not answer the commit");
    let heard = server.heard_goodbye().await;
    assert_eq!(heard.last(), Some(&request::UNREGISTER_CLIENT));
    drop(consumer);
    // Answered after all that was sent before it.
    let question = Request::new(request::GET_MIN_OFFSET);
    let answered = client.invoke(&server.address, question, Duration::from_secs(30));
    answered.await.unwrap();
    assert_eq!(server.heard_goodbye().await, heard);
}
