//! A topic moves from RocketMQ 4.x to 5.x with the control plane in the same process.
//!
//! `cargo run --example rocketmq4_to_5 -- rocketmq://SOURCE:9876 rocketmq://TARGET:9876`; without arguments it takes
//! `CROSSFADE_TEST_SOURCE` and `CROSSFADE_TEST_TARGET`.

use std::{env, process::ExitCode, sync::Arc, time::Duration};

use crossfade::{
    Client, Message,
    backend::{Backend, Subscription, registry},
    stage::Stage,
};
use crossfade_control_plane::{ServeOptions, Server};

const PER_STAGE: usize = 200;

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("error: {error}"));
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Outcome<()> {
    let mut arguments = env::args().skip(1);
    let mut address = |variable: &str| {
        arguments
            .next()
            .or_else(|| env::var(variable).ok())
            .ok_or(format!("give two addresses, or set {variable}"))
    };
    let (source, target) = (
        address("CROSSFADE_TEST_SOURCE")?,
        address("CROSSFADE_TEST_TARGET")?,
    );
    let topic = format!("crossfade-example-{}", std::process::id());
    let group = format!("{topic}-billing");
    let mut clusters = Vec::new();
    for address in [&source, &target] {
        clusters.push(registry::open(address, "crossfade-example-setup").await?);
    }
    let journey = journey(&clusters, [&source, &target], &topic, &group).await;
    // Nothing stays, whatever became of it.
    let mut cleaned = Ok(());
    for cluster in clusters {
        let admin = cluster.admin();
        cleaned = cleaned.and(admin.delete_topic(&topic).await);
        cleaned = cleaned.and(admin.delete_group(&group).await);
        cluster.close().await;
    }
    journey?;
    Ok(cleaned?)
}

async fn journey(
    clusters: &[Arc<dyn Backend>],
    [source, target]: [&str; 2],
    topic: &str,
    group: &str,
) -> Outcome<()> {
    // What an operator has done before: the topic and the group exist on both sides.
    for cluster in clusters {
        cluster.admin().create_topic(topic, 4).await?;
        cluster.admin().create_group(group).await?;
    }

    let server = Server::start(ServeOptions::in_memory(source, target)).await?;
    let operator = server.operator();
    operator.add(topic, &[group]).await?;

    // The application names the control plane and nothing else: the addresses come with the plan.
    let client = Client::builder()
        .instance("example")
        .control(server.url())
        .start()
        .await?;
    let producer = client.producer(topic).await?;
    let consumer = client.consumer(Subscription::new(topic, group)).await?;

    for stage in Stage::ALL {
        if stage != Stage::SourceOnly {
            operator.advance(topic, Some(stage)).await?;
        }
        operator.settled(topic, Duration::from_secs(60)).await?;
        let (mut sent, mut handled) = ([0; 2], [0; 2]);
        for number in 0..PER_STAGE {
            let receipt = producer
                .send(Message::new(format!("{stage} {number}")))
                .await?;
            sent[receipt.side.index()] += 1;
        }
        while handled[0] + handled[1] < PER_STAGE {
            for delivery in consumer.receive(64, Duration::from_secs(1)).await? {
                consumer.ack(&delivery).await?;
                handled[delivery.side.index()] += 1;
            }
        }
        say(&format!(
            "{stage} {}: sent {sent:?}, handled {handled:?} (source, target)",
            stage.chinese()
        ));
    }

    client.shutdown(Duration::from_secs(10)).await?;
    server.shutdown().await?;
    Ok(())
}

#[allow(clippy::print_stdout, reason = "an example speaks to a person")]
fn say(line: &str) {
    println!("{line}");
}
