use super::*;
use crate::{
    BoxFuture, Message, Persisted, Side,
    backend::{
        fault::{Fault, FaultControl, FaultRules, SendFate},
        memory::MemoryCluster,
    },
    control::{
        FixedPlans, PlanSource,
        wire::{Clusters, SyncRequest, SyncResponse},
    },
    side::Revision,
    stage::{Routing, Stage, Weight},
};

fn plan(revision: u64, previous: u64, stage: Stage) -> TopicPlan {
    TopicPlan {
        topic: "orders".into(),
        stage,
        weight: Weight::ZERO,
        routing: Routing::Unordered,
        moves: Vec::new(),
        revision: Revision(revision),
        previous_revision: Revision(previous),
    }
}

/// Two embedded clusters with the topic, under names of the test's own.
async fn clusters(name: &str) -> Clusters {
    let mut addresses = Vec::new();
    for side in Side::BOTH {
        let name = format!("client-{name}-{side}");
        let admin = MemoryCluster::named(&name).backend("admin").admin();
        admin.create_topic("orders", 4).await.unwrap();
        addresses.push(format!("memory://{name}"));
    }
    Clusters {
        target: addresses.pop(),
        source: addresses.pop(),
    }
}

/// Notes what fixed plans are asked.
#[derive(Debug)]
struct Noted {
    plans: FixedPlans,
    requests: Mutex<Vec<SyncRequest>>,
}

impl Noted {
    fn new(plans: FixedPlans) -> Arc<Self> {
        Arc::new(Noted {
            plans,
            requests: Mutex::default(),
        })
    }

    fn farewells(&self) -> usize {
        let requests = self.requests.lock().unwrap();
        requests.iter().filter(|request| request.leaving).count()
    }
}

impl PlanSource for Noted {
    fn sync<'a>(&'a self, request: &'a SyncRequest) -> BoxFuture<'a, Result<SyncResponse>> {
        self.requests.lock().unwrap().push(request.clone());
        self.plans.sync(request)
    }
}

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn messages_pass_through_a_stage_change_and_the_shutdown_says_goodbye() {
    let plans =
        FixedPlans::new([plan(1, 0, Stage::DualRead)]).with_clusters(clusters("journey").await);
    let noted = Noted::new(plans.clone());
    let client = Client::builder()
        .instance("orders-7")
        .plans(noted.clone())
        .start()
        .await
        .unwrap();
    let producer = client.producer("orders").await.unwrap();
    let consumer = client
        .consumer(Subscription::new("orders", "billing"))
        .await
        .unwrap();
    consumer.ready(10 * SECOND).await.unwrap();
    let first = producer.send(Message::new("one")).await.unwrap();
    assert_eq!((first.side, first.revision), (Side::Source, Revision(1)));
    plans.publish(plan(2, 1, Stage::DualWrite));
    plans.publish(plan(3, 2, Stage::Draining));
    while client.plan("orders").unwrap().stage != Stage::Draining {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let second = producer.send(Message::new("two")).await.unwrap();
    assert_eq!((second.side, second.revision), (Side::Target, Revision(3)));
    let mut bodies = Vec::new();
    while bodies.len() < 2 {
        for delivery in consumer.receive(8, SECOND).await.unwrap() {
            consumer.ack(&delivery).await.unwrap();
            bodies.push(delivery.message.body);
        }
    }
    bodies.sort();
    assert_eq!(bodies, ["one", "two"]);
    assert!(client.metrics_text().contains("orders"));

    client.shutdown(10 * SECOND).await.unwrap();
    let last = noted.requests.lock().unwrap().pop().unwrap();
    assert!(last.leaving);
    assert_eq!(last.instance, "orders-7");
    assert!(last.client_ids[0].starts_with("orders-7@") && last.client_ids[0].ends_with("@source"));
    assert_eq!(
        last.counters
            .iter()
            .map(|c| c.sent[0] + c.sent[1])
            .sum::<u64>(),
        2
    );
    let closed = |error: Error| assert_eq!(error.kind(), ErrorKind::Closed);
    closed(producer.send(Message::new("three")).await.unwrap_err());
    closed(consumer.receive(1, SECOND).await.unwrap_err());
    closed(client.producer("orders").await.unwrap_err());
    closed(client.shutdown(SECOND).await.unwrap_err());
}

#[tokio::test(start_paused = true)]
async fn shutdown_with_a_delivery_in_hand_is_bounded_and_no_clean_leave() {
    let plans =
        FixedPlans::new([plan(1, 0, Stage::SourceOnly)]).with_clusters(clusters("in-hand").await);
    let noted = Noted::new(plans);
    let client = Client::builder()
        .plans(noted.clone())
        .start()
        .await
        .unwrap();
    let producer = client.producer("orders").await.unwrap();
    let consumer = client
        .consumer(Subscription::new("orders", "billing"))
        .await
        .unwrap();
    producer.send(Message::new("one")).await.unwrap();
    let in_hand = consumer.receive(1, 60 * SECOND).await.unwrap();
    assert_eq!(in_hand.len(), 1);
    let begun = tokio::time::Instant::now();
    let error = client.shutdown(5 * SECOND).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert!(begun.elapsed() <= 5 * SECOND);
    assert_eq!(noted.farewells(), 0);
    // Nothing keeps contact for it any more.
    let asked = noted.requests.lock().unwrap().len();
    tokio::time::sleep(120 * SECOND).await;
    assert_eq!(noted.requests.lock().unwrap().len(), asked);
}

#[tokio::test(start_paused = true)]
async fn shutdown_with_an_ambiguous_send_under_way_is_no_clean_leave() {
    // The broker may store the message for five seconds more.
    for (deadline, farewells) in [(2 * SECOND, 0), (10 * SECOND, 1)] {
        let cluster = MemoryCluster::default();
        let admin = cluster.backend("admin").admin();
        admin.create_topic("orders", 4).await.unwrap();
        let faults = FaultControl::new(1);
        faults.set_rules(FaultRules {
            late_by: 5 * SECOND,
            ..FaultRules::default()
        });
        faults.script([SendFate::RequestLost]);
        let noted = Noted::new(FixedPlans::new([plan(1, 0, Stage::SourceOnly)]));
        let client = Client::builder()
            .plans(noted.clone())
            .source(Arc::new(Fault::with_control(cluster.backend("a"), faults)))
            .set("producer.attempts", "1")
            .unwrap()
            .start()
            .await
            .unwrap();
        let producer = client.producer("orders").await.unwrap();
        let error = producer.send(Message::new("one")).await.unwrap_err();
        assert_eq!(error.persisted(), Persisted::Maybe);
        let ended = client.shutdown(deadline).await;
        assert_eq!(ended.is_ok(), farewells == 1, "{ended:?}");
        assert_eq!(noted.farewells(), farewells);
    }
}

#[tokio::test(start_paused = true)]
async fn dropping_everything_is_a_crash_and_a_producer_alone_keeps_contact() {
    let plans =
        FixedPlans::new([plan(1, 0, Stage::SourceOnly)]).with_clusters(clusters("crash").await);
    let noted = Noted::new(plans);
    let client = Client::builder()
        .plans(noted.clone())
        .start()
        .await
        .unwrap();
    let producer = client.producer("orders").await.unwrap();
    drop(client);
    let asked = || noted.requests.lock().unwrap().len();
    let before = asked();
    tokio::time::sleep(120 * SECOND).await;
    assert!(asked() > before);
    producer.send(Message::new("one")).await.unwrap();
    drop(producer);
    // Aborted tasks end when the runtime comes to them.
    tokio::time::sleep(Duration::from_millis(1)).await;
    let before = asked();
    tokio::time::sleep(120 * SECOND).await;
    assert_eq!(asked(), before);
    assert_eq!(noted.farewells(), 0);
}

#[tokio::test(start_paused = true)]
async fn side_without_an_address_is_invalid_config() {
    let plans = FixedPlans::new([plan(1, 0, Stage::SourceOnly)]);
    let client = Client::builder()
        .plans(Arc::new(plans))
        .start()
        .await
        .unwrap();
    let producer = client.producer("orders").await.unwrap();
    let error = producer.send(Message::new("one")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidConfig);
    let error = client.producer("unknown").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::StageUnknown);
    assert_eq!(client.plan("unknown"), None);
    for topic in ["", "a\nb", &"x".repeat(256)] {
        let error = client.producer(topic).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidConfig);
    }
}

#[tokio::test]
async fn settings_that_do_not_go_together_are_invalid_config() {
    let all: [&[(&str, &str)]; 6] = [
        &[],
        &[("plan.file", "x"), ("plan.url", "http://h")],
        &[
            ("control.url", "http://h"),
            ("control.token", "a"),
            ("control.token_file", "b"),
        ],
        &[("plan.file", "x"), ("plan.cache_dir", "y")],
        &[
            ("plan.file", "x"),
            ("control.backoff_min_ms", "200"),
            ("control.backoff_max_ms", "100"),
        ],
        &[("control.url", "host:7070")],
    ];
    for settings in all {
        let mut builder = Client::builder();
        for (key, value) in settings {
            builder = builder.set(key, value).unwrap();
        }
        let error = builder.start().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{settings:?}");
    }
    let error = Client::builder().instance("a b").start().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidConfig);
}

#[cfg(feature = "http")]
#[tokio::test]
async fn client_starts_from_disk_at_once_while_no_control_plane_listens() {
    use crate::control::{LastKnown, PlanFile, Saved, wire::PlanDocument};
    let folder = tempfile::tempdir().unwrap();
    let file = PlanFile::new(folder.path(), "orders-7", "before").unwrap();
    let cache = LastKnown::new(Arc::new(file), "orders-7");
    let saved = Saved {
        instance: "orders-7".into(),
        epoch: 1,
        plans: PlanDocument {
            version: 1,
            revision: Revision(1),
            clusters: clusters("disk").await,
            plans: vec![plan(1, 0, Stage::Draining)],
            ..PlanDocument::default()
        },
    };
    cache.save(&saved).await.unwrap();
    let free = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", free.local_addr().unwrap());
    drop(free);
    let builder = Client::builder()
        .instance("orders-7")
        .control(url)
        .set("plan.cache_dir", folder.path().to_str().unwrap())
        .unwrap();
    let begun = std::time::Instant::now();
    let client = builder.start().await.unwrap();
    let producer = client.producer("orders").await.unwrap();
    let ready = begun.elapsed();
    // Far below the start timeout of 10 s, with room for a busy machine.
    assert!(ready < 2 * SECOND, "{ready:?}");
    assert_eq!(client.contact(), ContactState::Lost);
    let receipt = producer.send(Message::new("one")).await.unwrap();
    assert_eq!(receipt.side, Side::Target);
}

#[tokio::test(start_paused = true)]
async fn bodies_above_four_mebibytes_need_the_key_that_allows_them() {
    for (bytes, largest, refused) in [(None, 4 << 20, 5 << 20), (Some(8 << 20), 8 << 20, 9 << 20)] {
        let address =
            |side: &str| Some(format!("memory://bodies-{largest}-{side}?auto_create=true"));
        let plans = FixedPlans::new([plan(1, 0, Stage::SourceOnly)]).with_clusters(Clusters {
            source: address("source"),
            target: address("target"),
        });
        let mut builder = Client::builder().plans(Arc::new(plans));
        if let Some(bytes) = bytes {
            builder = builder
                .set("producer.max_body_bytes", &i32::to_string(&bytes))
                .unwrap();
        }
        let client = builder.start().await.unwrap();
        let producer = client.producer("orders").await.unwrap();
        producer
            .send(Message::new(vec![b'x'; largest]))
            .await
            .unwrap();
        let error = producer
            .send(Message::new(vec![b'x'; refused]))
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidMessage);
    }
}
