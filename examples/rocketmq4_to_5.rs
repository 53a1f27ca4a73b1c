//! A topic moves from RocketMQ 4.x to 5.x with the control plane in the same process.
//!
//! `cargo run --example rocketmq4_to_5 -- rocketmq://SOURCE:9876 rocketmq://TARGET:9876`; without arguments it takes
//! `CROSSFADE_TEST_SOURCE` and `CROSSFADE_TEST_TARGET`.

use std::{env, process::ExitCode, time::Duration};

use crossfade::{
    Client, Message,
    backend::{Subscription, registry},
    stage::Stage,
};
use crossfade_control_plane::{ServeOptions, Server};

const GROUP: &str = "crossfade-example-billing";
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

    // What an operator has done before: the topic and the group exist on both sides.
    let mut clusters = Vec::new();
    for address in [&source, &target] {
        let cluster = registry::open(address, "crossfade-example-setup").await?;
        cluster.admin().create_topic(&topic, 4).await?;
        cluster.admin().create_group(GROUP).await?;
        clusters.push(cluster);
    }

    let server = Server::start(ServeOptions::in_memory(&source, &target)).await?;
    let operator = server.operator();
    operator.add(&topic, &[GROUP]).await?;

    // The application names the control plane and nothing else: the addresses come with the plan.
    let client = Client::builder()
        .instance("example")
        .control(server.url())
        .start()
        .await?;
    let producer = client.producer(&topic).await?;
    let consumer = client.consumer(Subscription::new(&*topic, GROUP)).await?;

    for stage in Stage::ALL {
        if stage != Stage::SourceOnly {
            operator.advance(&topic, Some(stage)).await?;
        }
        operator.settled(&topic, Duration::from_secs(60)).await?;
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
    for cluster in clusters {
        cluster.admin().delete_topic(&topic).await?;
        cluster.close().await;
    }
    Ok(())
}

#[allow(clippy::print_stdout, reason = "an example speaks to a person")]
fn say(line: &str) {
    println!("{line}");
}
