//! `crossfade-rocketmq` beside the Java client 4.9.7: the same broker, the same run, rounds in turn, medians and their ratio.
//!
//! ```text
//! scripts/rocketmq up && set -a && . .clusters/env && set +a && cargo bench --bench rocketmq_vs_java
//! ```
//! Synchronous sends of 256-byte bodies with 1 and with 32 in flight, and reading with a new group. Each client has its defaults.
//! About 100 s for both clusters. `-- --only source|target` takes one of them, `-- --rounds N` more or fewer rounds (default 3).
#![allow(clippy::print_stdout, reason = "a benchmark is a program that prints")]

use std::{
    env,
    error::Error,
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use crossfade_rocketmq::{
    Admin, Client, ClientOptions, Consumer, ConsumerOptions, Message, Producer, ProducerOptions,
    admin::TopicConfig,
};
use serde::Deserialize;

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

const QUEUES: u32 = 8;
const BODY: [u8; 256] = [0; 256];
const SEND: Duration = Duration::from_secs(2);
const CONSUME: u64 = 40_000;

/// What one round measured.
#[derive(Clone, Copy, Debug, Deserialize)]
struct Round {
    per_second: f64,
    p50_us: f64,
    p99_us: f64,
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments: Vec<String> = env::args().collect();
    let option = |name: &str| {
        let at = arguments.iter().position(|argument| argument == name)?;
        arguments.get(at + 1)
    };
    let rounds = option("--rounds").map_or(Ok(3), |text| text.parse::<usize>())?;
    for (side, variable) in [
        ("source", "CROSSFADE_TEST_SOURCE"),
        ("target", "CROSSFADE_TEST_TARGET"),
    ] {
        if option("--only").is_some_and(|only| only != side) {
            continue;
        }
        let Ok(address) = env::var(variable) else {
            println!("skipped: rocketmq_vs_java on the {side}: no broker ({variable})");
            continue;
        };
        let server = address.trim_start_matches("rocketmq://");
        println!("{side}: {address}, medians of {rounds} rounds");
        compare(server, rounds.max(1)).await?;
    }
    Ok(())
}

async fn compare(server: &str, rounds: usize) -> Result<()> {
    let stamp = SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos();
    let topic = format!("bench-{stamp}");
    let client = Client::new(ClientOptions::new(
        server.split(';'),
        format!("bench-{stamp}"),
    ))?;
    let admin = Admin::new(&client);
    admin
        .create_topic(&TopicConfig::new(&topic, QUEUES))
        .await?;
    let producer = Arc::new(Producer::new(&client, &topic, ProducerOptions::default()).await?);
    let mut java = Java::start(server)?;

    // The compilers of the JVMs, here and in the broker, need a while.
    java.ask(&format!("send {topic} 32 4000"))?;
    send(&producer, 32, SEND).await?;

    for in_flight in [1, 32] {
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for _ in 0..rounds {
            ours.push(send(&producer, in_flight, SEND).await?);
            let order = format!("send {topic} {in_flight} {}", SEND.as_millis());
            theirs.push(java.ask(&order)?);
        }
        report(&format!("send, {in_flight} in flight"), &ours, &theirs);
    }

    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for round in 0..=rounds {
        let group = format!("bench-ours-{stamp}-{round}");
        let here = consume(&client, &topic, &group).await?;
        let group = format!("bench-java-{stamp}-{round}");
        let there = java.ask(&format!("consume {topic} {group} {CONSUME}"))?;
        // The first one warms up.
        if round > 0 {
            ours.push(here);
            theirs.push(there);
        }
    }
    report("consume", &ours, &theirs);

    java.stop()?;
    admin.delete_topic(&topic).await?;
    Ok(())
}

async fn send(producer: &Arc<Producer>, in_flight: u64, span: Duration) -> Result<Round> {
    let begun = Instant::now();
    let tasks: Vec<_> = (0..in_flight)
        .map(|first| {
            let producer = Arc::clone(producer);
            tokio::spawn(async move {
                let mut times = Vec::new();
                let mut lane = first;
                let mut now = Instant::now();
                while begun.elapsed() < span {
                    let message = Message::new(Bytes::from_static(&BODY));
                    producer
                        .send(&message, lane, Duration::from_secs(3))
                        .await?;
                    let after = Instant::now();
                    times.push(after - now);
                    now = after;
                    lane += 1;
                }
                Ok::<_, crossfade_rocketmq::Error>(times)
            })
        })
        .collect();
    let mut times = Vec::new();
    for task in tasks {
        times.extend(task.await??);
    }
    let seconds = begun.elapsed().as_secs_f64();
    times.sort_unstable();
    let at = |index: usize| times[index].as_secs_f64() * 1e6;
    Ok(Round {
        per_second: times.len() as f64 / seconds,
        p50_us: at(times.len() / 2),
        p99_us: at(times.len() * 99 / 100),
    })
}

async fn consume(client: &Client, topic: &str, group: &str) -> Result<Round> {
    let consumer = Consumer::new(client, topic, group, ConsumerOptions::default()).await?;
    let mut first = None;
    let mut handled = 0;
    while handled < CONSUME {
        let deliveries = consumer.receive(32, Duration::from_secs(20)).await?;
        if deliveries.is_empty() {
            return Err(format!("only {handled} of {CONSUME} messages came").into());
        }
        first.get_or_insert_with(Instant::now);
        for delivery in &deliveries {
            consumer.ack(delivery.token)?;
        }
        handled += deliveries.len() as u64;
    }
    let seconds = first.map_or(0.0, |first| first.elapsed().as_secs_f64());
    consumer.close().await?;
    Ok(Round {
        per_second: handled as f64 / seconds,
        p50_us: 0.0,
        p99_us: 0.0,
    })
}

fn report(what: &str, ours: &[Round], theirs: &[Round]) {
    let median = |rounds: &[Round], value: fn(&Round) -> f64| {
        let mut values: Vec<f64> = rounds.iter().map(value).collect();
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    let rates = [ours, theirs].map(|rounds| median(rounds, |round| round.per_second));
    print!(
        "  {what}: {:.0}/s, Java {:.0}/s, ratio {:.2}",
        rates[0],
        rates[1],
        rates[0] / rates[1]
    );
    if theirs[0].p50_us > 0.0 {
        for (name, value) in [
            ("p50", (|round: &Round| round.p50_us) as fn(&Round) -> f64),
            ("p99", |round| round.p99_us),
        ] {
            let (here, there) = (median(ours, value), median(theirs, value));
            print!("; {name} {here:.0} us, Java {there:.0} us");
        }
    }
    println!();
}

/// The Java program, which obeys lines.
struct Java {
    child: Child,
    orders: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Java {
    fn start(server: &str) -> Result<Java> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let jars = Command::new(root.join("scripts/rocketmq.d/jars"))
            .arg("4.9.7")
            .stderr(Stdio::inherit())
            .output()?;
        if !jars.status.success() {
            return Err("no jars of the Java client: scripts/rocketmq.d/jars 4.9.7 failed".into());
        }
        let jars = String::from_utf8(jars.stdout)?;
        let logs = Path::new(env!("CARGO_TARGET_TMPDIR")).join("java-logs");
        let mut child = Command::new("java")
            .arg("-Xmx512m")
            .arg(format!("-Drocketmq.client.logRoot={}", logs.display()))
            .args(["-cp", &format!("{}/*", jars.trim())])
            .arg(root.join("tests/java/JavaBench.java"))
            .arg(server)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let orders = child.stdin.take();
        let answers = BufReader::new(child.stdout.take().ok_or("no standard output")?);
        Ok(Java {
            child,
            orders,
            answers,
        })
    }

    fn ask(&mut self, order: &str) -> Result<Round> {
        let orders = self.orders.as_mut().ok_or("the Java program has ended")?;
        writeln!(orders, "{order}")?;
        orders.flush()?;
        // The client prints lines of its own, too.
        let mut line = String::new();
        while !line.starts_with('{') {
            line.clear();
            if self.answers.read_line(&mut line)? == 0 {
                return Err(format!("the Java program ended at {order:?}").into());
            }
        }
        serde_json::from_str(&line)
            .map_err(|error| format!("the Java program answered {line:?}: {error}").into())
    }

    fn stop(mut self) -> Result<()> {
        self.orders = None;
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for Java {
    fn drop(&mut self) {
        // It has ended already unless something failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
