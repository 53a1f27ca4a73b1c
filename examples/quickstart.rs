//! A producer and a consumer on two embedded clusters, with plans given in code: no control plane, no broker.
//!
//! `cargo run --example quickstart`

use std::{sync::Arc, time::Duration};

use crossfade::{
    Client, Message, Result, Revision,
    backend::{Subscription, registry},
    control::FixedPlans,
    stage::{Routing, Stage, TopicPlan, Weight},
};

const TOPIC: &str = "orders";
const GROUP: &str = "billing";

#[tokio::main]
async fn main() -> Result<()> {
    let source = registry::open("memory://old", "quickstart-source").await?;
    let target = registry::open("memory://new", "quickstart-target").await?;
    for cluster in [&source, &target] {
        cluster.admin().create_topic(TOPIC, 4).await?;
        cluster.admin().create_group(GROUP).await?;
    }

    // Three of ten messages go to the target; both sides are read.
    let plan = TopicPlan {
        topic: TOPIC.into(),
        stage: Stage::DualWrite,
        weight: Weight::from_basis_points(3_000)?,
        routing: Routing::Unordered,
        moves: Vec::new(),
        revision: Revision(1),
        previous_revision: Revision(0),
    };
    let client = Client::builder()
        .instance("quickstart")
        .source(source)
        .target(target)
        .plans(Arc::new(FixedPlans::new([plan])))
        .start()
        .await?;

    let producer = client.producer(TOPIC).await?;
    for number in 0..10 {
        let receipt = producer
            .send(Message::new(format!("order {number}")))
            .await?;
        say(&format!("order {number} is on the {}", receipt.side));
    }

    let consumer = client.consumer(Subscription::new(TOPIC, GROUP)).await?;
    let mut handled = 0;
    while handled < 10 {
        for delivery in consumer.receive(32, Duration::from_secs(1)).await? {
            say(&format!(
                "from the {}: {}",
                delivery.side,
                String::from_utf8_lossy(&delivery.message.body)
            ));
            consumer.ack(&delivery).await?;
            handled += 1;
        }
    }
    client.shutdown(Duration::from_secs(5)).await
}

#[allow(clippy::print_stdout, reason = "an example speaks to a person")]
fn say(line: &str) {
    println!("{line}");
}
