//! Java programs that know nothing of this library (client 4.9.7) share a topic with it, on both clusters.
//! `scripts/rocketmq up` gives the clusters; the environment names them.
#![cfg(feature = "rocketmq")]
#![allow(clippy::print_stdout)]

use std::{
    collections::{BTreeMap, BTreeSet},
    env,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use crossfade::{
    Client, Message, Revision, Side, Subscription,
    backend::registry,
    control::FixedPlans,
    stage::{Routing, Stage, TopicPlan, Weight},
};

const OURS: usize = 40;
const JAVA: usize = 20;
const BOUND: Duration = Duration::from_secs(240);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn java_and_this_library_handle_each_others_messages_on_both_clusters() {
    let Some((addresses, jars)) = needs() else {
        return;
    };
    let stamp = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_nanos();
    let topic = format!("interop-{stamp}");
    let mut admins = Vec::new();
    for address in &addresses {
        let backend = registry::open(address, &format!("interop-{stamp}"))
            .await
            .unwrap();
        let admin = backend.admin();
        admin.create_topic(&topic, 4).await.unwrap();
        admins.push((backend, admin));
    }

    let plans = FixedPlans::new([TopicPlan {
        topic: topic.as_str().into(),
        stage: Stage::DualWrite,
        weight: Weight::from_basis_points(5_000).unwrap(),
        routing: Routing::default(),
        moves: Vec::new(),
        revision: Revision(1),
        previous_revision: Revision(0),
    }]);
    let client = Client::builder()
        .instance(format!("interop-{stamp}"))
        .set("source.address", &addresses[0])
        .unwrap()
        .set("target.address", &addresses[1])
        .unwrap()
        .plans(std::sync::Arc::new(plans))
        .start()
        .await
        .unwrap();

    // Both kinds of producer.
    let java = Side::BOTH.map(|side| {
        let (count, prefix) = (JAVA.to_string(), format!("java-{side}"));
        let server = name_servers(&addresses[side.index()]);
        start(&jars, "JavaProducer", &[server, &topic, &count, &prefix])
    });
    let producer = client.producer(&topic).await.unwrap();
    let mut sent: [BTreeSet<String>; 2] = Default::default();
    for number in 0..OURS {
        let id = format!("ours-{number}");
        let message = Message::new(id.clone())
            .with_key(&id)
            .with_tag("rust")
            .with_property("origin", format!("rust {number}"));
        let receipt = producer.send(message).await.unwrap();
        sent[receipt.side.index()].insert(id);
    }
    assert!(sent.iter().all(|ids| ids.len() > OURS / 8), "{sent:?}");
    for (side, program) in Side::BOTH.into_iter().zip(java) {
        let ids = finish(program, "sent\t").await;
        assert_eq!(ids.len(), JAVA);
        sent[side.index()].extend(ids);
    }

    // Java handles what we sent, and its own.
    let java = Side::BOTH.map(|side| {
        let (group, count) = (
            format!("java-{stamp}"),
            sent[side.index()].len().to_string(),
        );
        let server = name_servers(&addresses[side.index()]);
        start(
            &jars,
            "JavaConsumer",
            &[server, &group, &topic, &count, "180"],
        )
    });

    // We handle what Java sent, and our own.
    let subscription = Subscription::new(topic.as_str(), format!("ours-{stamp}"));
    let consumer = client.consumer(subscription).await.unwrap();
    let mut handled: [BTreeSet<String>; 2] = Default::default();
    let deadline = Instant::now() + BOUND;
    while handled.iter().map(BTreeSet::len).sum::<usize>() < OURS + 2 * JAVA {
        assert!(Instant::now() < deadline, "only {handled:?} came");
        for delivery in consumer.receive(32, Duration::from_secs(1)).await.unwrap() {
            let body = String::from_utf8(delivery.message.body.to_vec()).unwrap();
            let (by, number) = body.rsplit_once('-').unwrap();
            let language = by.split('-').next().unwrap();
            let expected = if language == "java" { "java" } else { "rust" };
            let origin = ("origin".to_owned(), format!("{expected} {number}"));
            assert!(
                delivery.message.properties.contains(&origin),
                "{delivery:?}"
            );
            assert_eq!(delivery.message.key.as_deref(), Some(body.as_str()));
            assert_eq!(delivery.message.tag.as_deref(), Some(expected));
            assert_eq!(delivery.revision.is_some(), expected == "rust");
            assert!(delivery.message.idempotency_key.is_some());
            consumer.ack(&delivery).await.unwrap();
            let new = handled[delivery.side.index()].insert(body);
            assert!(new, "a second time: {delivery:?}");
        }
    }
    assert_eq!(handled, sent);

    for (side, program) in Side::BOTH.into_iter().zip(java) {
        let printed = finish(program, "handled\t").await;
        // Java promises each message at least once.
        let lines: BTreeMap<&str, (&str, &str)> = printed
            .iter()
            .map(|line| {
                let mut words = line.split('\t');
                let mut word = || words.next().unwrap_or_default();
                (word(), (word(), word()))
            })
            .collect();
        let bodies: BTreeSet<String> = lines.keys().map(|body| (*body).to_owned()).collect();
        assert_eq!(bodies, sent[side.index()]);
        for (body, (keys, origin)) in lines {
            assert_eq!(keys, body);
            if let Some(number) = body.strip_prefix("ours-") {
                assert_eq!(origin, format!("rust {number}"));
            }
        }
    }

    client.shutdown(Duration::from_secs(10)).await.unwrap();
    for (backend, admin) in admins {
        admin.delete_topic(&topic).await.unwrap();
        backend.close().await;
    }
}

/// The clusters' addresses and the folder of the Java client's jars; says what is missing otherwise.
fn needs() -> Option<([String; 2], String)> {
    let missing = |what: &str| {
        let test = "java_and_this_library_handle_each_others_messages_on_both_clusters";
        let forbidden = env::var("CROSSFADE_TEST_NO_SKIP").is_ok_and(|value| value == "1");
        assert!(!forbidden, "{test}: {what}, and nothing may be skipped");
        println!("skipped: {test}: {what}");
        None
    };
    let Ok(source) = env::var("CROSSFADE_TEST_SOURCE") else {
        return missing("no broker (CROSSFADE_TEST_SOURCE)");
    };
    let Ok(target) = env::var("CROSSFADE_TEST_TARGET") else {
        return missing("no broker (CROSSFADE_TEST_TARGET)");
    };
    if Command::new("java").arg("-version").output().is_err() {
        return missing("no java");
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/rocketmq.d/jars");
    match Command::new(script).arg("4.9.7").output() {
        Ok(output) if output.status.success() => {
            let jars = String::from_utf8(output.stdout).unwrap();
            Some(([source, target], jars.trim().to_owned()))
        }
        _ => missing("no jars of the Java client (scripts/rocketmq.d/jars 4.9.7)"),
    }
}

fn name_servers(address: &str) -> &str {
    address.trim_start_matches("rocketmq://")
}

/// A program of `tests/java`, compiled by `java` itself.
struct Program(Option<Child>);

fn start(jars: &str, class: &str, arguments: &[&str]) -> Program {
    let logs = Path::new(env!("CARGO_TARGET_TMPDIR")).join("java-logs");
    let source = format!("{}/tests/java/{class}.java", env!("CARGO_MANIFEST_DIR"));
    let child = Command::new("java")
        .args(["-Xmx128m", "-cp", &format!("{jars}/*")])
        .arg(format!("-Drocketmq.client.logRoot={}", logs.display()))
        .arg(source)
        .args(arguments)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    Program(Some(child))
}

/// The lines that the program printed after `prefix`; the client prints others, too. It must end well and in time. All fits into the pipe.
async fn finish(mut program: Program, prefix: &str) -> Vec<String> {
    let deadline = Instant::now() + BOUND;
    while let Some(child) = &mut program.0 {
        if child.try_wait().unwrap().is_some() {
            break;
        }
        assert!(Instant::now() < deadline, "a Java program does not end");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let output = program.0.take().unwrap().wait_with_output().unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "a Java program failed: {printed}");
    let lines = printed.lines();
    lines
        .filter_map(|line| line.strip_prefix(prefix))
        .map(str::to_owned)
        .collect()
}

impl Drop for Program {
    fn drop(&mut self) {
        if let Some(mut child) = self.0.take() {
            // It may have ended already.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
