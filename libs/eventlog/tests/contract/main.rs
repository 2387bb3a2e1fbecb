//! The contract of the log: the same cases on the log in memory and on real Kafka, then what only
//! Kafka can do wrong.

#[cfg(test)]
mod away;
#[cfg(test)]
mod cases;
#[cfg(test)]
mod given;
#[cfg(test)]
mod members;
#[cfg(test)]
mod refusals;

macro_rules! contract {
    ($($case:ident),+ $(,)?) => {
        mod memory {$(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                crate::cases::$case(crate::given::memory().await).await;
            }
        )+}

        mod kafka {$(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                crate::cases::$case(crate::given::kafka().await).await;
            }
        )+}
    };
}

contract! {
    an_empty_append_is_nothing,
    a_stream_keeps_its_order,
    a_position_is_where_the_record_lies,
    a_record_too_large_is_refused_alone,
    the_watermark_is_behind_what_was_accepted,
    making_topics_again_changes_nothing,
    a_caller_too_late_is_told_unknown_and_the_record_lands,
    a_subscription_begins_where_it_is_told,
    two_members_share_and_nothing_is_lost_when_one_goes,
    a_slow_taker_loses_nothing,
    what_was_given_up_comes_back,
    what_was_given_up_with_a_full_queue_comes_back_and_is_read_on,
    a_cursor_beyond_the_end_is_a_failure,
    a_read_is_bounded,
    a_token_survives_its_text,
}
