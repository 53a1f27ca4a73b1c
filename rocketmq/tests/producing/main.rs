//! Batches and transactions on real clusters: `CROSSFADE_TEST_SOURCE` and `CROSSFADE_TEST_TARGET` name them as `rocketmq://host:port`.
//! Without them a test says that it is skipped; with `CROSSFADE_TEST_NO_SKIP=1` it fails instead.
#![allow(clippy::print_stdout)]

mod batch;
mod support;
mod timer;
mod transaction;

/// Each case on each cluster.
macro_rules! on_each {
    ($($file:ident: $($case:ident),+;)+) => {
        mod source {
            $($(#[tokio::test(flavor = "multi_thread")]
            async fn $case() {
                if let Some(cluster) = crate::support::live("CROSSFADE_TEST_SOURCE", stringify!($case)) {
                    crate::$file::$case(cluster).await;
                }
            })+)+
        }
        mod target {
            $($(#[tokio::test(flavor = "multi_thread")]
            async fn $case() {
                if let Some(cluster) = crate::support::live("CROSSFADE_TEST_TARGET", stringify!($case)) {
                    crate::$file::$case(cluster).await;
                }
            })+)+
        }
    };
}

on_each! {
    batch: batch_lies_in_one_queue_in_order_and_each_message_has_its_own_id,
        batch_that_no_broker_takes_is_refused_before_it_is_sent,
        batch_to_a_sealed_topic_is_refused_as_sealed;
    timer: message_with_a_timer_comes_at_its_time_from_brokers_that_know_timers_and_at_once_from_others;
    transaction: committed_message_arrives_once_and_rolled_back_one_never,
        broker_asks_the_checker_and_delivers_what_it_commits,
        other_client_of_the_group_answers_for_one_that_is_gone,
        transaction_cannot_be_ended_by_another_group,
        delayed_half_message_is_refused_before_it_is_sent;
}
