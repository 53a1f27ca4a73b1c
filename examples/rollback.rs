//! A topic goes to the target by half and comes back, while a producer and a consumer run on; every message is handled once.
//!
//! `cargo run --example rollback`

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use crossfade::{
    Client, Message, Result, Revision,
    backend::{Subscription, registry},
    control::FixedPlans,
    stage::{Routing, Stage, TopicPlan, Weight},
};

const TOPIC: &str = "payments";
const GROUP: &str = "ledger";
const PER_STAGE: usize = 100;

fn plan(revision: u64, stage: Stage) -> Result<TopicPlan> {
    Ok(TopicPlan {
        topic: TOPIC.into(),
        stage,
        weight: Weight::from_basis_points(5_000)?,
        routing: Routing::Unordered,
        moves: Vec::new(),
        revision: Revision(revision),
        previous_revision: Revision(revision - 1),
    })
}

#[tokio::main]
async fn main() -> Result<()> {
    let source = registry::open("memory://rollback-old", "rollback-source").await?;
    let target = registry::open("memory://rollback-new", "rollback-target").await?;
    for cluster in [&source, &target] {
        cluster.admin().create_topic(TOPIC, 4).await?;
        cluster.admin().create_group(GROUP).await?;
    }
    let plans = FixedPlans::new([plan(1, Stage::SourceOnly)?]);
    let client = Client::builder()
        .instance("rollback")
        .source(source)
        .target(target)
        .plans(Arc::new(plans.clone()))
        .start()
        .await?;
    let producer = client.producer(TOPIC).await?;
    let consumer = client.consumer(Subscription::new(TOPIC, GROUP)).await?;

    let mut handled: BTreeMap<String, u32> = BTreeMap::new();
    let journey = [
        Stage::SourceOnly,
        Stage::DualRead,
        Stage::DualWrite,
        Stage::DualRead,
        Stage::SourceOnly,
    ];
    for (step, stage) in journey.into_iter().enumerate() {
        if step > 0 {
            plans.publish(plan(step as u64 + 1, stage)?);
        }
        while client.plan(TOPIC).is_none_or(|plan| plan.stage != stage) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        // The consumer says when it reads every side that this stage reads.
        consumer.ready(Duration::from_secs(10)).await?;
        let mut sent = [0; 2];
        for number in 0..PER_STAGE {
            let receipt = producer
                .send(Message::new(format!("{step}-{number}")))
                .await?;
            sent[receipt.side.index()] += 1;
        }
        while handled.len() < (step + 1) * PER_STAGE {
            for delivery in consumer.receive(64, Duration::from_secs(1)).await? {
                let body = String::from_utf8_lossy(&delivery.message.body).into_owned();
                *handled.entry(body).or_default() += 1;
                consumer.ack(&delivery).await?;
            }
        }
        say(&format!(
            "{stage} {}: {} to the source, {} to the target",
            stage.chinese(),
            sent[0],
            sent[1]
        ));
    }
    let doubled = handled.values().filter(|times| **times > 1).count();
    say(&format!(
        "{} sent, {} handled, {doubled} doubled",
        journey.len() * PER_STAGE,
        handled.len()
    ));
    assert_eq!((handled.len(), doubled), (journey.len() * PER_STAGE, 0));
    client.shutdown(Duration::from_secs(5)).await
}

#[allow(clippy::print_stdout, reason = "an example speaks to a person")]
fn say(line: &str) {
    println!("{line}");
}
