//! A writer that has not heard of a change meets the seal of a real broker. `scripts/rocketmq up` gives the clusters; the environment names them.
#![cfg(feature = "rocketmq")]
#![allow(clippy::print_stdout)]

use std::{
    env,
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use crossfade::{
    Access, Client, Message, Revision, Side,
    backend::registry,
    control::FixedPlans,
    stage::{Routing, Stage, TopicPlan, Weight},
};

const SENDS: u32 = 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writer_with_an_old_plan_is_refused_by_the_seal_and_writes_to_the_other_side() {
    let Some(addresses) = clusters() else { return };
    for (stale, sealed) in [
        (Stage::SourceOnly, Side::Source),
        (Stage::TargetOnly, Side::Target),
    ] {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let topic = format!("stale-{:x}", since.as_nanos());
        let mut admins = Vec::new();
        for address in &addresses {
            let backend = registry::open(address, &format!("{topic}-admin"))
                .await
                .unwrap();
            let admin = backend.admin();
            admin.create_topic(&topic, 4).await.unwrap();
            admins.push((backend, admin));
        }
        let plans = FixedPlans::new([TopicPlan {
            topic: topic.as_str().into(),
            stage: stale,
            weight: Weight::ZERO,
            routing: Routing::default(),
            moves: Vec::new(),
            revision: Revision(1),
            previous_revision: Revision(0),
        }]);
        let client = Client::builder()
            .instance(&topic)
            .set("source.address", &addresses[0])
            .unwrap()
            .set("target.address", &addresses[1])
            .unwrap()
            .plans(Arc::new(plans))
            .start()
            .await
            .unwrap();
        let producer = client.producer(&topic).await.unwrap();
        let receipt = producer.send(Message::new("before")).await.unwrap();
        assert_eq!(receipt.side, sealed);

        let admin = &admins[sealed.index()].1;
        let settings = admin.topic(&topic).await.unwrap().unwrap().settings;
        let before = admin.ends(&topic, &settings).await.unwrap();
        admin
            .set_access(&topic, &settings, Access::Sealed)
            .await
            .unwrap();
        let mut times = Vec::new();
        for number in 0..SENDS {
            let begun = Instant::now();
            let receipt = producer.send(Message::new(number.to_string())).await;
            let receipt = receipt.unwrap();
            times.push(begun.elapsed());
            assert_eq!(receipt.side, sealed.other());
        }
        assert_eq!(admin.ends(&topic, &settings).await.unwrap(), before);
        let other = &admins[sealed.other().index()].1;
        let own = other.topic(&topic).await.unwrap().unwrap().settings;
        let written = other.ends(&topic, &own).await.unwrap();
        assert_eq!(written.values().sum::<u64>(), u64::from(SENDS));
        times.sort_unstable();
        println!(
            "{sealed} sealed, plan {stale}: {SENDS} of {SENDS} sends went to the other side, median {:?}, max {:?}",
            times[times.len() / 2],
            times[times.len() - 1]
        );

        client.shutdown(Duration::from_secs(10)).await.unwrap();
        for (backend, admin) in admins {
            admin.delete_topic(&topic).await.unwrap();
            backend.close().await;
        }
    }
}

/// The clusters' addresses; says what is missing otherwise.
fn clusters() -> Option<[String; 2]> {
    let address = |variable: &str| {
        let address = env::var(variable).ok().filter(|text| !text.is_empty());
        if address.is_none() {
            let line = format!("a stale writer on real brokers: no broker ({variable})");
            let forbidden = env::var("CROSSFADE_TEST_NO_SKIP").is_ok_and(|value| value == "1");
            assert!(!forbidden, "{line}, and nothing may be skipped");
            println!("skipped: {line}");
        }
        address
    };
    Some([
        address("CROSSFADE_TEST_SOURCE")?,
        address("CROSSFADE_TEST_TARGET")?,
    ])
}
