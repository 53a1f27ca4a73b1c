//! What a broker's refusal of a send means.

use crate::{
    codes::{request, response},
    error::{Error, ErrorKind, Persisted},
};

/// A refused send. 4.9 uses code 1 for what 5.x has codes for, and for its own failures, after which nobody knows what was stored.
pub(super) fn refusal(topic: &str, code: i32, remark: Option<&str>) -> Error {
    let text = remark.unwrap_or_default();
    let error = Error::refused(&format!("the send to topic {topic}"), code, remark)
        .with_right(request::SEND_MESSAGE_V2);
    match code {
        response::SYSTEM_ERROR | response::INVALID_PARAMETER if is_illegal_queue(text) => {
            error.with_kind(ErrorKind::Sealed)
        }
        // 4.9 has no code of its own for a commit log that has stalled, nor 5.x for a full slot of its timer wheel; either is found before the message is
        // appended (SendMessageProcessor, PutMessageStatus OS_PAGECACHE_BUSY and WHEEL_TIMER_FLOW_CONTROL).
        response::SYSTEM_ERROR if text.contains("flow control") => {
            error.with_kind(ErrorKind::Throttled)
        }
        response::TOPIC_NOT_EXIST => error.with_kind(ErrorKind::Sealed),
        response::MESSAGE_ILLEGAL => error.with_kind(ErrorKind::TooLarge),
        response::SYSTEM_ERROR
            if error.kind() != ErrorKind::PermissionDenied
                && !text.contains("broker unable to service") =>
        {
            error.with_persisted(Persisted::Maybe)
        }
        _ => error,
    }
}

/// What a broker says when the queue is not one of the topic's (4.9.7 by code 1, 5.5.0 by code 29).
pub(crate) fn is_illegal_queue(remark: &str) -> bool {
    (remark.contains("queueId") && remark.contains("illegal")) || remark.contains("/ by zero")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_told_apart() {
        use ErrorKind::{Broker, PermissionDenied, Sealed, Throttled, TooLarge, Unavailable};
        use Persisted::{Maybe, No};
        for (code, remark, kind, persisted) in [
            (1, "request queueId[0] is illegal, x", Sealed, No),
            (29, "request queueId[0] is illegal, x", Sealed, No),
            (1, "java.lang.ArithmeticException: / by zero", Sealed, No),
            (17, "topic[t] not exist", Sealed, No),
            (13, "the message is illegal", TooLarge, No),
            (2, "[TIMEOUT_CLEAN_QUEUE]broker busy", Throttled, No),
            (215, "flow control", Throttled, No),
            (
                1,
                "[PC_SYNCHRONIZED]broker busy, start flow control for a while",
                Throttled,
                No,
            ),
            (14, "service not available now", Unavailable, No),
            (
                16,
                "the broker sending message is forbidden",
                PermissionDenied,
                No,
            ),
            (
                1,
                "org.apache.rocketmq.acl.common.AclException: No accessKey is configured, x",
                PermissionDenied,
                No,
            ),
            (1, "broker unable to service, until, 2026", Broker, No),
            (1, "UNKNOWN_ERROR", Broker, Maybe),
            (1, "java.lang.NullPointerException", Broker, Maybe),
        ] {
            let error = refusal("t", code, Some(remark));
            assert_eq!(
                (error.kind(), error.persisted()),
                (kind, persisted),
                "{code} {remark}"
            );
        }
    }
}
