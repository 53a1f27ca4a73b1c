//! Brokers that take the numbered delays for other times.

use std::{future::ready, sync::Arc, time::Duration};

use crossfade::{
    BoxFuture, Error, ErrorKind, Result,
    backend::{
        Backend,
        fault::{Layer, Layered},
        memory::{MemoryCluster, MemoryConfig},
    },
    stage::Stage,
};
use crossfade_control_plane::{
    Cluster, ServeOptions, Server,
    api::{Move, Way},
    coordinator::{AskedOverride, Gate},
};

use crate::support::*;

/// A cluster with the topic and the group, whose shortest delay this is.
async fn cluster(shortest: Duration) -> Arc<dyn Backend> {
    let mut config = MemoryConfig::default();
    config.retry_delays[0] = shortest;
    let backend = MemoryCluster::new(config).backend("test");
    let admin = backend.admin();
    admin.create_topic(TOPIC, QUEUES).await.unwrap();
    admin.create_group(GROUP).await.unwrap();
    backend
}

/// A control plane between a source whose shortest delay is 1 s and this target.
async fn serve(target: Arc<dyn Backend>) -> Server {
    let options = ServeOptions {
        source: Cluster::Backend(cluster(Duration::from_secs(1)).await),
        target: Cluster::Backend(target),
        ..Clusters::new().await.options()
    };
    Server::start(options).await.unwrap()
}

#[tokio::test]
async fn topic_between_brokers_of_other_delays_takes_its_first_step_only_with_a_reason() {
    let server = serve(cluster(Duration::from_secs(3)).await).await;
    let operator = server.operator();
    operator.add(TOPIC, &[GROUP]).await.unwrap();
    let _instance = Hand::new(server.url(), "orders-1").run().await;
    operator.settled(TOPIC, PATIENCE).await.unwrap();
    let told = blocked_by(&operator, "delay_levels").await;
    for words in ["`1s 5s", "of the source", "`3s 5s", "of the target"] {
        assert!(told.contains(words), "{words}: {told}");
    }
    let mut how = Move::default();
    let refused = operator.walk(Way::Advance, TOPIC, &how).await.unwrap_err();
    let closed = |gate: &&serde_json::Value| gate["code"] == "delay_levels";
    let gate = refused.gates().iter().find(closed).unwrap();
    assert_eq!(gate["passed"], false, "{refused}");

    // Other gates of a topic that was just added may want another look.
    how.wait = true;
    how.overrides.push(AskedOverride {
        gate: "delay_levels".into(),
        reason: "no retry counts on its time".into(),
    });
    operator.walk(Way::Advance, TOPIC, &how).await.unwrap();
    let settled = operator.settled(TOPIC, PATIENCE).await.unwrap();
    assert_eq!(settled.stage, Stage::DualRead);
    server.shutdown().await.unwrap();
}

/// Its brokers do not tell what they take the numbered delays for.
#[derive(Debug)]
struct Unreadable;

impl Layer for Unreadable {
    fn around<'a, T: Send + 'a>(
        &'a self,
        operation: &'static str,
        call: BoxFuture<'a, Result<T>>,
    ) -> BoxFuture<'a, Result<T>> {
        if operation != "delay levels" {
            return call;
        }
        let error = Error::new(ErrorKind::Unexpected, operation, "`soon` is no delay");
        Box::pin(ready(Err(error)))
    }
}

#[tokio::test]
async fn delays_that_cannot_be_read_hold_up_the_first_step_alone() {
    let target = cluster(Duration::from_secs(1)).await;
    let server = serve(Arc::new(Layered::over(target, Unreadable))).await;
    let operator = server.operator();
    operator.add(TOPIC, &[GROUP]).await.unwrap();
    let _instance = Hand::new(server.url(), "orders-1").run().await;
    operator.settled(TOPIC, PATIENCE).await.unwrap();
    let told = blocked_by(&operator, "delay_levels").await;
    assert!(told.contains("`soon` is no delay"), "{told}");
    let view = operator.show(TOPIC).await.unwrap();
    let answered = |gate: &&Gate| gate.code == "clusters_answer";
    let answered = view.gates.iter().find(answered).unwrap();
    assert!(answered.passed, "{answered:?}");

    let how = Move {
        to: Some(Stage::TargetOnly),
        wait: true,
        overrides: vec![AskedOverride {
            gate: "delay_levels".into(),
            reason: "nothing is delayed".into(),
        }],
    };
    operator.walk(Way::Advance, TOPIC, &how).await.unwrap();
    let settled = operator.settled(TOPIC, PATIENCE).await.unwrap();
    assert_eq!(settled.stage, Stage::TargetOnly);
    server.shutdown().await.unwrap();
}
