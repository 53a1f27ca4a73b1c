//! The numbers of the protocol, under the names they have in apache/rocketmq
//! (`RequestCode.java`, `ResponseCode.java`, `RemotingSysResponseCode.java`, `PermName.java`, `MessageSysFlag.java`, `PullSysFlag.java`).

/// What a request asks for.
#[allow(missing_docs)]
pub mod request {
    pub const PULL_MESSAGE: i32 = 11;
    pub const QUERY_CONSUMER_OFFSET: i32 = 14;
    pub const UPDATE_CONSUMER_OFFSET: i32 = 15;
    pub const UPDATE_AND_CREATE_TOPIC: i32 = 17;
    pub const GET_ALL_TOPIC_CONFIG: i32 = 21;
    pub const GET_BROKER_CONFIG: i32 = 26;
    pub const GET_BROKER_RUNTIME_INFO: i32 = 28;
    pub const SEARCH_OFFSET_BY_TIMESTAMP: i32 = 29;
    pub const GET_MAX_OFFSET: i32 = 30;
    pub const GET_MIN_OFFSET: i32 = 31;
    pub const HEART_BEAT: i32 = 34;
    pub const UNREGISTER_CLIENT: i32 = 35;
    pub const CONSUMER_SEND_MSG_BACK: i32 = 36;
    pub const GET_CONSUMER_LIST_BY_GROUP: i32 = 38;
    pub const END_TRANSACTION: i32 = 37;
    pub const CHECK_TRANSACTION_STATE: i32 = 39;
    pub const NOTIFY_CONSUMER_IDS_CHANGED: i32 = 40;
    pub const LOCK_BATCH_MQ: i32 = 41;
    pub const UNLOCK_BATCH_MQ: i32 = 42;
    pub const GET_ALL_CONSUMER_OFFSET: i32 = 43;
    pub const GET_ALL_DELAY_OFFSET: i32 = 45;
    pub const CHECK_CLIENT_CONFIG: i32 = 46;
    /// 4.9, as the three after it; 5.3 and later have `AUTH_...` instead.
    pub const UPDATE_AND_CREATE_ACL_CONFIG: i32 = 50;
    pub const DELETE_ACL_CONFIG: i32 = 51;
    pub const GET_BROKER_CLUSTER_ACL_INFO: i32 = 52;
    pub const GET_BROKER_CLUSTER_ACL_CONFIG: i32 = 54;
    pub const GET_TIMER_CHECK_POINT: i32 = 60;
    pub const GET_TIMER_METRICS: i32 = 61;
    pub const GET_ROUTEINFO_BY_TOPIC: i32 = 105;
    pub const GET_BROKER_CLUSTER_INFO: i32 = 106;
    pub const UPDATE_AND_CREATE_SUBSCRIPTIONGROUP: i32 = 200;
    pub const GET_ALL_SUBSCRIPTIONGROUP_CONFIG: i32 = 201;
    pub const GET_TOPIC_STATS_INFO: i32 = 202;
    pub const GET_CONSUMER_CONNECTION_LIST: i32 = 203;
    pub const GET_PRODUCER_CONNECTION_LIST: i32 = 204;
    pub const GET_ALL_TOPIC_LIST_FROM_NAMESERVER: i32 = 206;
    pub const DELETE_SUBSCRIPTIONGROUP: i32 = 207;
    pub const GET_CONSUME_STATS: i32 = 208;
    pub const DELETE_TOPIC_IN_BROKER: i32 = 215;
    pub const DELETE_TOPIC_IN_NAMESRV: i32 = 216;
    pub const RESET_CONSUMER_CLIENT_OFFSET: i32 = 220;
    pub const GET_CONSUMER_STATUS_FROM_CLIENT: i32 = 221;
    pub const INVOKE_BROKER_TO_RESET_OFFSET: i32 = 222;
    pub const QUERY_TOPIC_CONSUME_BY_WHO: i32 = 300;
    pub const GET_SYSTEM_TOPIC_LIST_FROM_BROKER: i32 = 305;
    pub const GET_CONSUMER_RUNNING_INFO: i32 = 307;
    pub const CONSUME_MESSAGE_DIRECTLY: i32 = 309;
    pub const SEND_MESSAGE_V2: i32 = 310;
    pub const SEND_BATCH_MESSAGE: i32 = 320;
    pub const GET_ALL_PRODUCER_INFO: i32 = 328;
    pub const GET_TOPIC_CONFIG: i32 = 351;
    pub const GET_SUBSCRIPTIONGROUP_CONFIG: i32 = 352;
    pub const GET_ALL_MESSAGE_REQUEST_MODE: i32 = 402;
    pub const AUTH_CREATE_USER: i32 = 3001;
    pub const AUTH_UPDATE_USER: i32 = 3002;
    pub const AUTH_DELETE_USER: i32 = 3003;
    pub const AUTH_GET_USER: i32 = 3004;
    pub const AUTH_LIST_USER: i32 = 3005;
    pub const AUTH_CREATE_ACL: i32 = 3006;
    pub const AUTH_UPDATE_ACL: i32 = 3007;
    pub const AUTH_DELETE_ACL: i32 = 3008;
    pub const AUTH_GET_ACL: i32 = 3009;
    pub const AUTH_LIST_ACL: i32 = 3010;
}

/// What a response says.
#[allow(missing_docs)]
pub mod response {
    pub const SUCCESS: i32 = 0;
    pub const SYSTEM_ERROR: i32 = 1;
    pub const SYSTEM_BUSY: i32 = 2;
    pub const REQUEST_CODE_NOT_SUPPORTED: i32 = 3;
    pub const FLUSH_DISK_TIMEOUT: i32 = 10;
    pub const SLAVE_NOT_AVAILABLE: i32 = 11;
    pub const FLUSH_SLAVE_TIMEOUT: i32 = 12;
    pub const MESSAGE_ILLEGAL: i32 = 13;
    pub const SERVICE_NOT_AVAILABLE: i32 = 14;
    pub const VERSION_NOT_SUPPORTED: i32 = 15;
    pub const NO_PERMISSION: i32 = 16;
    pub const TOPIC_NOT_EXIST: i32 = 17;
    pub const PULL_NOT_FOUND: i32 = 19;
    pub const PULL_RETRY_IMMEDIATELY: i32 = 20;
    pub const PULL_OFFSET_MOVED: i32 = 21;
    pub const QUERY_NOT_FOUND: i32 = 22;
    pub const SUBSCRIPTION_PARSE_FAILED: i32 = 23;
    pub const SUBSCRIPTION_NOT_EXIST: i32 = 24;
    pub const SUBSCRIPTION_NOT_LATEST: i32 = 25;
    pub const SUBSCRIPTION_GROUP_NOT_EXIST: i32 = 26;
    pub const INVALID_PARAMETER: i32 = 29;
    pub const CONSUMER_NOT_ONLINE: i32 = 206;
    pub const UPDATE_AND_CREATE_ACL_CONFIG_FAILED: i32 = 209;
    pub const DELETE_ACL_CONFIG_FAILED: i32 = 210;
    pub const FLOW_CONTROL: i32 = 215;
}

/// Permissions of a topic.
pub mod permission {
    /// Consumers may pull.
    pub const READ: i32 = 4;
    /// Advice to producers; brokers do not enforce it.
    pub const WRITE: i32 = 2;
}

/// Flags of a stored message.
#[allow(missing_docs)]
pub mod message_flag {
    pub const COMPRESSED: i32 = 1;
    pub const TRANSACTION_PREPARED: i32 = 1 << 2;
    pub const TRANSACTION_COMMIT: i32 = 2 << 2;
    pub const TRANSACTION_ROLLBACK: i32 = 3 << 2;
    pub const BORN_HOST_V6: i32 = 1 << 4;
    pub const STORE_HOST_V6: i32 = 1 << 5;
    /// Both: several messages in one, of a topic of the kind `BatchCQ` (5.x; apache/rocketmq `SendMessageProcessor.java`, `PullAPIWrapper.java`).
    pub const INNER_BATCH: i32 = 3 << 6;
    pub const COMPRESSION_MASK: i32 = 7 << 8;
    pub const COMPRESSION_LZ4: i32 = 1 << 8;
    pub const COMPRESSION_ZSTD: i32 = 2 << 8;
    pub const COMPRESSION_ZLIB: i32 = 3 << 8;
}

/// Flags of a pull.
#[allow(missing_docs)]
pub mod pull_flag {
    pub const SUSPEND: i32 = 1 << 1;
    pub const SUBSCRIPTION: i32 = 1 << 2;
}

/// Why access control turned a request away.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Denial {
    /// The request was not signed.
    Unsigned,
    /// The user is unknown, disabled, or signs with another key.
    Credentials,
    /// The user is known, and may not do this.
    Right,
}

/// Brokers say it in words alone: 4.9 by [`response::SYSTEM_ERROR`] (`PlainPermissionManager.java`), 5.x by [`response::NO_PERMISSION`]
/// (`DefaultAuthenticationHandler.java`, `AclAuthorizationHandler.java`).
pub(crate) fn denial(code: i32, remark: &str) -> Option<Denial> {
    const UNSIGNED: [&str; 2] = ["No accessKey is configured", "username cannot be null"];
    const CREDENTIALS: [&str; 8] = [
        "No acl config for",
        "No PlainAccessResource for",
        "Check signature failed",
        "check signature failed",
        "is not found.",
        " not found.",
        "is disabled.",
        "Authentication failed",
    ];
    // The same code says that a topic, a group or a broker itself forbids it (`PullMessageProcessor.java`, `AdminBrokerProcessor.java`): no matter of users.
    const FORBIDDEN: [&str; 4] = [
        "is forbidden",
        GROUP_DISABLED,
        "can not consume by broadcast way",
        "Can not update config in black list",
    ];
    let old = code == response::SYSTEM_ERROR && remark.contains("AclException");
    let new =
        code == response::NO_PERMISSION && !FORBIDDEN.iter().any(|words| remark.contains(words));
    if !old && !new {
        None
    } else if UNSIGNED.iter().any(|words| remark.contains(words)) {
        Some(Denial::Unsigned)
    } else if CREDENTIALS.iter().any(|words| remark.contains(words)) {
        Some(Denial::Credentials)
    } else {
        Some(Denial::Right)
    }
}

/// Before the name of a group that may not consume: its `consumeEnable` is false.
const GROUP_DISABLED: &str = "subscription group no permission";

/// Whether a group is refused because of its own configuration.
pub(crate) fn is_group_disabled(code: i32, remark: &str) -> bool {
    code == response::NO_PERMISSION && remark.starts_with(GROUP_DISABLED)
}

/// Whether a broker filters by tags only (`PullMessageProcessor.java`, `ClientManageProcessor.java`).
pub(crate) fn is_filter_disabled(code: i32, remark: &str) -> bool {
    code == response::SYSTEM_ERROR
        && remark.contains("does not support consumer to filter message by")
}

/// The right that a request takes, in the words of the brokers' own rules.
pub(crate) fn right(request_code: i32) -> &'static str {
    match request_code {
        request::SEND_MESSAGE_V2 | request::SEND_BATCH_MESSAGE | request::END_TRANSACTION => {
            "PUB on the topic"
        }
        request::PULL_MESSAGE
        | request::HEART_BEAT
        | request::UPDATE_CONSUMER_OFFSET
        | request::CHECK_CLIENT_CONFIG
        | request::LOCK_BATCH_MQ
        | request::UNLOCK_BATCH_MQ => "SUB on the topic and on the group",
        request::QUERY_CONSUMER_OFFSET => "SUB on the topic and on the group (5.x: or GET)",
        request::CONSUMER_SEND_MSG_BACK
        | request::GET_CONSUMER_LIST_BY_GROUP
        | request::UNREGISTER_CLIENT => "SUB on the group",
        request::UPDATE_AND_CREATE_TOPIC | request::UPDATE_AND_CREATE_SUBSCRIPTIONGROUP => {
            "admin = true on 4.9, CREATE and UPDATE on it on 5.x"
        }
        request::INVOKE_BROKER_TO_RESET_OFFSET => "on 5.x UPDATE on the topic and on the group",
        request::DELETE_TOPIC_IN_BROKER | request::DELETE_SUBSCRIPTIONGROUP => {
            "admin = true on 4.9, DELETE on it on 5.x"
        }
        request::UPDATE_AND_CREATE_ACL_CONFIG
        | request::DELETE_ACL_CONFIG
        | request::AUTH_CREATE_USER..=request::AUTH_LIST_ACL => {
            "that of an administrator: on 5.x GET and UPDATE on the cluster"
        }
        _ => "on 5.x GET on it, or a super user's",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_by_access_control_are_told_apart() {
        use Denial::{Credentials, Right, Unsigned};
        let old = |what: &str| {
            format!(
                "org.apache.rocketmq.acl.common.AclException: {what}, org.apache.rocketmq.acl.plain.PlainPermissionManager.validate(PlainPermissionManager.java:1)"
            )
        };
        for (code, remark, denial) in [
            (1, old("No accessKey is configured"), Some(Unsigned)),
            (1, old("No acl config for reader"), Some(Credentials)),
            (1, old("Check signature failed for accessKey=reader"), Some(Credentials)),
            (1, old("No default permission for topic:orders"), Some(Right)),
            (1, old("Need admin permission for request code=17, but accessKey=reader is not"), Some(Right)),
            (16, "username cannot be null.".into(), Some(Unsigned)),
            (16, "User:reader is not found.".into(), Some(Credentials)),
            (16, "User:reader is disabled.".into(), Some(Credentials)),
            (16, "check signature failed.".into(), Some(Credentials)),
            (16, "User:reader has no permission to access Topic:orders from 10.0.0.1, no matched policies.".into(), Some(Right)),
            (16, "the broker[10.0.0.1] sending message is forbidden".into(), None),
            (16, "subscription group no permission, billing".into(), None),
            (16, "the consumer group[billing] can not consume by broadcast way".into(), None),
            (16, "the consumer group[billing] is forbidden for topic[orders]".into(), None),
            (16, "Can not update config in black list.".into(), None),
            (1, "the queue is not found.".into(), None),
        ] {
            assert_eq!(super::denial(code, &remark), denial, "{remark}");
        }
    }
}
