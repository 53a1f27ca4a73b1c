//! This crate's words for what the RocketMQ client says.

use std::time::Duration;

use crossfade_rocketmq::{
    Error as ClientError, ErrorKind as ClientKind, Persisted as Stored, codes,
};

use crate::error::{Error, ErrorKind, Persisted, Retry};

/// The error of `operation`; bad input is of kind `input`.
pub(super) fn convert(operation: &'static str, input: ErrorKind, error: ClientError) -> Error {
    let kind = match error.kind() {
        ClientKind::InvalidInput => input,
        ClientKind::TooLarge => ErrorKind::InvalidMessage,
        ClientKind::Unavailable => ErrorKind::Unavailable,
        ClientKind::Timeout => ErrorKind::Timeout,
        ClientKind::NotNameServer => ErrorKind::InvalidConfig,
        ClientKind::TopicNotFound => ErrorKind::NotFound,
        ClientKind::Sealed => ErrorKind::Sealed,
        ClientKind::Throttled => ErrorKind::Throttled,
        ClientKind::PermissionDenied => ErrorKind::PermissionDenied,
        ClientKind::Stale => ErrorKind::StaleDelivery,
        ClientKind::Closed => ErrorKind::Closed,
        ClientKind::Unsupported => ErrorKind::Unsupported,
        ClientKind::Broker
            if error.code() == Some(codes::response::SUBSCRIPTION_GROUP_NOT_EXIST) =>
        {
            ErrorKind::NotFound
        }
        _ => ErrorKind::Unexpected,
    };
    let converted = Error::new(kind, operation, error.to_string());
    let converted = match error.persisted() {
        Stored::No => converted,
        // Whatever stands in the way, trying again is how an ambiguous end is made definite.
        Stored::Maybe => converted
            .with_persisted(Persisted::Maybe)
            .with_retry(Retry::After(Duration::from_millis(100))),
    };
    converted.with_source(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_access_control_refuses_is_definite_and_not_tried_again() {
        for (code, remark) in [
            (
                16,
                "User:x has no permission to access Topic:t from 10.0.0.1, no matched policies.",
            ),
            (16, "check signature failed."),
            (
                1,
                "org.apache.rocketmq.acl.common.AclException: No acl config for x, y",
            ),
        ] {
            let error = ClientError::refused("the send", code, Some(remark));
            let error = convert("send", ErrorKind::InvalidMessage, error);
            assert_eq!(error.kind(), ErrorKind::PermissionDenied);
            assert_eq!(error.persisted(), Persisted::No);
            assert_eq!(error.retry(), Retry::Never);
            assert!(error.message().contains(remark), "{error}");
        }
    }
}
