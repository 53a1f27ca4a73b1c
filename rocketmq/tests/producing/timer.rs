//! Timers of RocketMQ 5.

use std::time::{Duration, Instant};

use crossfade_rocketmq::{Admin, ErrorKind};

use crate::support::*;

/// `timerPrecisionMs`: how much earlier it may come.
const PRECISION: Duration = Duration::from_secs(1);

pub(crate) async fn message_with_a_timer_comes_at_its_time_from_brokers_that_know_timers_and_at_once_from_others(
    cluster: Cluster,
) {
    let client = cluster.client();
    let topic = cluster.topic(&client).await;
    let consumer = consumer(&client, &topic).await;
    let producer = producer(&client, &topic, &unique("producers")).await;
    let knows = knows_timers(&client).await;
    let delay = Duration::from_secs(4);
    let begun = Instant::now();
    let timed = message("later").timer(delay);
    producer.send(&timed, 0, WAIT).await.unwrap();
    let got = receive(&consumer, 1, Duration::from_secs(20)).await;
    assert_eq!(got[0].body, "later");
    let after = begun.elapsed();
    println!("timers known: {knows}; delivered after {after:?}");
    // Above, a busy machine has its way.
    assert_eq!(after >= delay - PRECISION, knows, "{after:?}");
    if knows {
        let too_long = message("never").timer(Duration::from_secs(8 * 24 * 3600));
        let error = producer.send(&too_long, 0, WAIT).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TooLarge, "{error}");
    }
}

async fn knows_timers(client: &crossfade_rocketmq::Client) -> bool {
    let admin = Admin::new(client);
    let masters = admin.masters().await.unwrap();
    let info = admin.runtime_info(&masters[0].address).await.unwrap();
    info["brokerVersionDesc"].starts_with("V5")
}
