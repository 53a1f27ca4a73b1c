//! The behaviour of a backend: one file for each operation, the same cases on every cluster that is at hand.
//!
//! The embedded cluster always, under tokio's paused clock. `CROSSFADE_TEST_SOURCE` and `CROSSFADE_TEST_TARGET` name live clusters
//! by address; without them their cases say so and pass, or fail where `CROSSFADE_TEST_NO_SKIP=1` is set.

mod support;

mod ack;
mod admin;
mod batch;
mod close;
mod connections;
mod crash;
mod dead_letter;
mod delayed;
mod fault;
mod nack;
mod namespace;
mod new_group;
mod opening;
mod ordered;
mod rebalance;
mod receive;
mod seal;
mod send;
mod transaction;

/// Cases that run on every cluster.
macro_rules! everywhere {
    ($($file:ident: $($case:ident),+;)+) => {
        #[cfg(feature = "memory")]
        mod memory {
            $(mod $file {
                $(#[tokio::test(start_paused = true)]
                async fn $case() {
                    crate::$file::$case(crate::support::embedded()).await;
                })+
            })+
        }
        /// The wrapper promises what it wraps, however slow it makes it.
        #[cfg(feature = "memory")]
        mod memory_behind_fault {
            $(mod $file {
                $(#[tokio::test(start_paused = true)]
                async fn $case() {
                    crate::$file::$case(crate::support::embedded_and_slow()).await;
                })+
            })+
        }
        mod source {
            $(mod $file {
                $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $case() {
                    if let Some(cluster) = crate::support::live("CROSSFADE_TEST_SOURCE").await {
                        crate::$file::$case(cluster).await;
                    }
                })+
            })+
        }
        mod target {
            $(mod $file {
                $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $case() {
                    if let Some(cluster) = crate::support::live("CROSSFADE_TEST_TARGET").await {
                        crate::$file::$case(cluster).await;
                    }
                })+
            })+
        }
    };
}

/// Cases that need a cluster set up in a way that live ones are not, or whose exact outcome only the embedded one promises.
macro_rules! embedded_only {
    ($($file:ident: $($case:ident),+;)+) => {
        #[cfg(feature = "memory")]
        mod embedded_only {
            $(mod $file {
                $(#[tokio::test(start_paused = true)]
                async fn $case() {
                    crate::$file::$case().await;
                })+
            })+
        }
    };
}

everywhere! {
    send: a_sent_message_arrives_whole,
        one_lane_is_one_queue_in_order,
        lanes_spread_over_all_queues,
        a_body_above_the_limit_is_an_invalid_message,
        a_property_with_a_separator_is_an_invalid_message,
        an_unknown_topic_is_not_found;
    receive: nothing_there_gives_an_empty_list_when_the_wait_is_over,
        a_waiting_receive_gets_a_later_message,
        at_most_max_are_given,
        the_fetch_pauses_at_the_outstanding_limit,
        an_ack_lets_a_receive_go_on_that_waits_at_the_limit,
        tags_filter_and_the_offset_passes_the_rest,
        an_sql_expression_filters_and_the_offset_passes_the_rest,
        a_dropped_receive_loses_nothing,
        two_groups_get_every_message_each;
    ack: acks_out_of_order_commit_what_is_contiguous,
        an_unknown_token_is_a_stale_delivery,
        a_second_ack_is_a_stale_delivery;
    nack: a_nacked_message_comes_again_with_the_next_attempt,
        a_nacked_message_is_owed_until_its_retry_is_acked;
    rebalance: members_share_all_queues,
        one_member_too_many_gets_no_queue,
        a_member_that_closes_leaves_its_queues_to_the_others;
    ordered: queues_are_handed_out_in_the_order_of_their_offsets,
        a_queue_is_handed_over_once_what_was_handed_out_is_acked,
        members_that_come_and_go_handle_each_queue_in_order,
        what_was_let_go_comes_again_in_order_when_its_queue_stays_after_all,
        a_closed_member_leaves_its_queues_to_the_others_at_once,
        an_ordered_message_that_is_given_up_is_the_groups_again,
        committed_offsets_tell_what_was_acked;
    new_group: a_new_group_starts_at_the_first_message,
        first_offsets_are_committed_once,
        a_group_goes_on_where_it_stopped;
    seal: a_sealed_topic_refuses_every_send,
        what_was_owed_under_a_seal_is_told_and_read_after_it,
        a_member_of_a_sealed_topic_finds_its_queues_after_the_unseal,
        opening_restores_the_settings_exactly,
        a_closed_topic_still_stores;
    close: a_closed_consumer_refuses_and_leaves_the_list,
        what_was_acked_before_close_is_committed;
    delayed: a_delayed_message_comes_no_sooner_than_its_delay,
        delayed_messages_are_counted_until_they_are_due;
    admin: topics_are_created_listed_and_deleted,
        groups_are_created_and_found,
        a_deleted_group_is_gone_and_begins_anew,
        every_broker_takes_the_delay_levels_for_the_stock_ones,
        a_backlog_counts_what_was_sent_and_not_acked;
    connections: members_are_listed_by_client_id,
        a_group_without_members_lists_nobody;
    crash: a_dropped_consumer_is_gone_and_its_messages_come_again;
    opening: the_backend_says_who_it_is;
    namespace: names_in_a_namespace_are_bare_for_clients_and_prefixed_on_the_brokers,
        one_topic_name_in_two_namespaces_is_two_topics;
    batch: a_batch_lies_whole_in_one_queue_in_order,
        a_batch_that_cannot_go_together_is_an_invalid_message,
        a_batch_to_a_sealed_topic_is_refused_whole;
    transaction: a_committed_message_arrives_once_and_a_rolled_back_one_never,
        a_half_message_is_owed_until_its_transaction_ends,
        an_open_transaction_is_asked_about_and_ends_as_the_checker_says,
        another_client_of_the_group_ends_what_a_crashed_one_began,
        a_sealed_topic_refuses_half_messages_and_takes_their_commits,
        a_delayed_half_message_and_a_producer_without_a_checker_are_refused;
}

embedded_only! {
    send: a_full_cluster_throttles_and_recovers_with_a_deleted_topic,
        unmanaged_messages_have_their_id_as_key,
        topics_are_made_by_a_send_only_where_that_is_allowed;
    receive: two_tasks_share_one_consumer,
        a_queue_that_does_not_get_on_keeps_no_other_from_being_read,
        all_tasks_that_wait_are_woken_when_a_seal_ends;
    ack: acks_are_committed_after_the_interval_and_forgotten_by_a_crash;
    nack: delays_are_rounded_up_to_a_level,
        retries_of_two_topics_of_one_group_stay_apart;
    dead_letter: a_message_out_of_retries_goes_to_the_dead_letter_topic;
    crash: a_crowd_that_comes_and_goes_loses_nothing;
    rebalance: deliveries_of_a_queue_that_moved_are_stale;
    seal: under_a_seal_delayed_and_retried_messages_still_move,
        no_send_succeeds_after_a_seal_has_returned;
    delayed: delayed_messages_are_exact_and_in_due_order,
        a_delay_above_three_days_is_an_invalid_message;
    transaction: questions_are_asked_at_their_times_and_given_up_after_the_last;
    opening: one_name_is_one_cluster,
        a_known_scheme_without_its_feature_or_a_bad_address_is_refused,
        topics_are_made_where_the_address_says_so,
        a_closed_backend_refuses;
    fault: each_fate_stores_and_answers_as_it_says,
        shares_are_kept_and_one_seed_is_one_sequence,
        delays_are_within_their_range,
        a_stalled_cluster_answers_nothing_until_it_resumes,
        a_stall_holds_a_receive_that_waits_already;
}
