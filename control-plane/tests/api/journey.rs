//! Topics on their way.

use std::time::Duration;

use crossfade::{
    Access, Message, Side,
    backend::Subscription,
    stage::{Stage, Weight},
};
use crossfade_control_plane::{ServeOptions, Server};
use tokio::time::timeout;

use crate::support::*;

#[tokio::test]
async fn topic_walks_to_the_end_and_back() {
    let clusters = Clusters::new().await;
    let server = clusters.serve().await;
    let operator = server.operator();
    operator.add(TOPIC, &[GROUP]).await.unwrap();
    let mut hand = Hand::new(server.url(), "orders-1");
    let instance = hand.clone().run().await;
    operator.settled(TOPIC, PATIENCE).await.unwrap();
    let mut revision = operator.show(TOPIC).await.unwrap().revision;
    let there = Stage::ALL[1..].iter().map(|stage| (*stage, true));
    let back = Stage::ALL[..4].iter().rev().map(|stage| (*stage, false));
    for (stage, forward) in there.chain(back) {
        let begun = if forward {
            operator.advance(TOPIC, None).await.unwrap()
        } else {
            operator.rollback(TOPIC, None).await.unwrap()
        };
        assert_eq!(begun.goal, stage);
        let settled = operator.settled(TOPIC, PATIENCE).await.unwrap();
        assert_eq!(settled.stage, stage);
        assert!(settled.revision > revision);
        revision = settled.revision;
        for side in Side::BOTH {
            assert_eq!(
                clusters.access(side).await,
                stage.access(side),
                "{stage} {side}"
            );
        }
    }
    assert_eq!(operator.remove(TOPIC).await.unwrap_err().code(), "conflict");
    drop(instance);
    hand.request.leaving = true;
    let removing = async {
        // A last request of the aborted task may still have been on its way.
        loop {
            hand.sync(Duration::ZERO).await.unwrap();
            match operator.remove(TOPIC).await {
                Ok(()) => return,
                Err(error) => assert_eq!(error.code(), "conflict"),
            }
        }
    };
    timeout(PATIENCE, removing).await.unwrap();
    assert_eq!(operator.show(TOPIC).await.unwrap_err().code(), "not_found");
    server.shutdown().await.unwrap();
}

#[tokio::test]
async fn walk_over_several_stages_publishes_each_of_them() {
    let clusters = Clusters::new().await;
    let server = clusters.serve().await;
    let operator = server.operator();
    operator.add(TOPIC, &[GROUP]).await.unwrap();
    let mut hand = Hand::new(server.url(), "orders-1");
    hand.sync(Duration::ZERO).await.unwrap();
    operator
        .advance(TOPIC, Some(Stage::TargetOnly))
        .await
        .unwrap();
    let mut stages = Vec::new();
    let walk = async {
        while !operator.show(TOPIC).await.unwrap().settled {
            for plan in hand
                .sync(Duration::from_millis(100))
                .await
                .unwrap()
                .plans
                .plans
            {
                stages.push(plan.stage);
            }
        }
    };
    timeout(PATIENCE, walk).await.unwrap();
    assert_eq!(stages, Stage::ALL[1..]);
}

#[tokio::test]
async fn lost_instance_blocks_by_name_until_it_is_confirmed_gone() {
    let clusters = Clusters::new().await;
    let server = clusters.serve().await;
    let operator = server.operator();
    operator.add(TOPIC, &[GROUP]).await.unwrap();
    let _alive = Hand::new(server.url(), "orders-1").run().await;
    Hand::new(server.url(), "orders-2")
        .sync(Duration::ZERO)
        .await
        .unwrap();
    operator.advance(TOPIC, None).await.unwrap();
    assert!(
        blocked_by(&operator, "instances_lost")
            .await
            .contains("orders-2")
    );
    assert_eq!(operator.show(TOPIC).await.unwrap().stage, Stage::SourceOnly);

    let alive = operator
        .confirm_gone("orders-1", "a mistake")
        .await
        .unwrap_err();
    assert_eq!(alive.code(), "conflict");
    assert_eq!(
        operator
            .confirm_gone("orders-9", "a mistake")
            .await
            .unwrap_err()
            .code(),
        "not_found"
    );
    operator
        .confirm_gone("orders-2", "its host was switched off")
        .await
        .unwrap();
    let settled = operator.settled(TOPIC, PATIENCE).await.unwrap();
    assert_eq!(settled.stage, Stage::DualRead);
    let audit = operator.audit(None, 100).await.unwrap();
    let line = audit
        .iter()
        .find(|line| line.entry.action == "confirm_gone")
        .unwrap();
    assert_eq!(line.entry.reason, "its host was switched off");
    assert_eq!(
        operator.audit(Some(line.number), 1).await.unwrap()[0].number,
        line.number - 1
    );
}

#[tokio::test]
async fn source_that_owes_messages_is_not_left_until_they_are_read() {
    let clusters = Clusters::new().await;
    let server = clusters.serve().await;
    let operator = server.operator();
    operator.add(TOPIC, &[GROUP]).await.unwrap();
    let _instance = Hand::new(server.url(), "orders-1").run().await;
    let source = crossfade::backend::memory::MemoryCluster::named(
        clusters.addresses[0].trim_start_matches("memory://"),
    );
    for lane in 0..3 {
        source
            .send_unmanaged(TOPIC, &Message::new("late"), lane)
            .unwrap();
    }
    operator
        .advance(TOPIC, Some(Stage::TargetOnly))
        .await
        .unwrap();
    assert!(blocked_by(&operator, "source_drained").await.contains('3'));
    assert_eq!(operator.show(TOPIC).await.unwrap().stage, Stage::Draining);

    let consumer = clusters.backends[0]
        .consumer(&Subscription::new(TOPIC, GROUP))
        .await
        .unwrap();
    let mut read = 0;
    while read < 3 {
        for message in timeout(PATIENCE, consumer.receive(3, PATIENCE))
            .await
            .unwrap()
            .unwrap()
        {
            consumer.ack(message.token).await.unwrap();
            read += 1;
        }
    }
    consumer.close().await.unwrap();
    let settled = operator.settled(TOPIC, PATIENCE).await.unwrap();
    assert_eq!(settled.stage, Stage::TargetOnly);
    assert_eq!(clusters.access(Side::Source).await, Access::Sealed);
}

#[tokio::test]
async fn restart_in_the_middle_goes_on_and_loses_nothing() {
    let clusters = Clusters::new().await;
    let folder = tempfile::tempdir().unwrap();
    let store = format!("sqlite://{}", folder.path().join("store.db").display());
    let mut server = Server::start(ServeOptions {
        store: store.clone(),
        ..clusters.options()
    })
    .await
    .unwrap();
    let listen = server.address().to_string();
    let operator = server.operator();
    operator.add(TOPIC, &[GROUP]).await.unwrap();
    let weight = Weight::from_basis_points(3_000).unwrap();
    operator.weight(TOPIC, weight).await.unwrap();
    let mut hand = Hand::new(server.url(), "orders-1");
    assert_eq!(hand.sync(Duration::ZERO).await.unwrap().epoch, 1);
    let _instance = hand.clone().run().await;
    operator
        .advance(TOPIC, Some(Stage::TargetOnly))
        .await
        .unwrap();
    for start in 2..5 {
        server.abort();
        let again = async {
            loop {
                let options = ServeOptions {
                    store: store.clone(),
                    listen: listen.clone(),
                    ..clusters.options()
                };
                match Server::start(options).await {
                    Ok(server) => return server,
                    // The one before may hold the port for a moment.
                    Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
                }
            }
        };
        server = timeout(PATIENCE, again).await.unwrap();
        let view = operator.show(TOPIC).await.unwrap();
        assert_eq!(
            (view.goal, view.weight_basis_points),
            (Stage::TargetOnly, weight)
        );
        let known = operator.instances().await.unwrap();
        assert_eq!(known.len(), 1, "start {start}");
    }
    let settled = operator.settled(TOPIC, PATIENCE).await.unwrap();
    assert_eq!(settled.stage, Stage::TargetOnly);
    assert!(hand.sync(Duration::ZERO).await.unwrap().epoch >= 4);
}

#[tokio::test]
async fn open_poll_is_answered_by_the_next_plan() {
    let clusters = Clusters::new().await;
    let mut options = clusters.options();
    // A poll is open for half a lease at most; to add a topic takes a look at its target first.
    options.timing.lease = 10 * PATIENCE;
    let server = Server::start(options).await.unwrap();
    let mut hand = Hand::new(server.url(), "orders-1");
    assert!(
        hand.sync(Duration::ZERO)
            .await
            .unwrap()
            .plans
            .plans
            .is_empty()
    );
    let operator = server.operator();
    let (answer, added) = tokio::join!(hand.sync(PATIENCE), operator.add(TOPIC, &[GROUP]));
    added.unwrap();
    let plans = answer.unwrap().plans.plans;
    assert_eq!(plans[0].stage, Stage::SourceOnly);
}

#[tokio::test]
async fn open_poll_is_answered_when_the_server_stops() {
    let clusters = Clusters::new().await;
    let mut options = clusters.options();
    options.timing.lease = 10 * PATIENCE;
    let server = Server::start(options).await.unwrap();
    let operator = server.operator();
    let mut hand = Hand::new(server.url(), "orders-1");
    let poll = tokio::spawn(async move { hand.sync(2 * PATIENCE).await });
    let registered = async {
        while operator.instances().await.unwrap().is_empty() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, registered).await.unwrap();
    server.shutdown().await.unwrap();
    let answer = timeout(PATIENCE, poll).await.unwrap().unwrap();
    assert!(answer.unwrap().plans.plans.is_empty());
}
