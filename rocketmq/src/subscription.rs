//! Which messages of a topic a group wants (apache/rocketmq `SubscriptionData.java`, `FilterAPI.java`).

use std::{
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use serde::Serialize;

use crate::{
    client::{Client, TopicEntry},
    codes::request,
    error::{ErrorKind, Result},
    frame::Request,
};

/// Which messages of a topic a group gets. Brokers keep one filter for a group and topic: all members must have the same.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Filter {
    /// `*`, or tags separated by `||`.
    Tags(String),
    /// Those for whose properties an SQL92 expression holds, as `price > 10 AND region = 'north'`. Only for brokers with `enablePropertyFilter=true`.
    Sql(String),
}

impl Default for Filter {
    /// All messages.
    fn default() -> Filter {
        Filter::Tags("*".to_owned())
    }
}

/// `ExpressionType.java`.
const TAG: &str = "TAG";
const SQL: &str = "SQL92";

/// `SubscriptionData.java`.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SubscriptionData {
    pub(crate) class_filter_mode: bool,
    pub(crate) topic: Arc<str>,
    pub(crate) sub_string: String,
    pub(crate) tags_set: Vec<String>,
    /// Java's `String.hashCode` of the tags: what the broker compares first.
    pub(crate) code_set: Vec<i32>,
    pub(crate) sub_version: u64,
    pub(crate) expression_type: &'static str,
}

impl SubscriptionData {
    pub(crate) fn new(topic: &Arc<str>, filter: &Filter) -> Self {
        let tags = match filter {
            Filter::Tags(tags) => tags,
            Filter::Sql(expression) => return Self::sql(topic, expression),
        };
        let tags_set: Vec<String> = if tags.trim() == "*" || tags.trim().is_empty() {
            Vec::new()
        } else {
            tags.split("||")
                .map(|tag| tag.trim().to_owned())
                .filter(|tag| !tag.is_empty())
                .collect()
        };
        SubscriptionData {
            class_filter_mode: false,
            topic: Arc::clone(topic),
            sub_string: if tags_set.is_empty() {
                "*".to_owned()
            } else {
                tags_set.join(" || ")
            },
            code_set: tags_set.iter().map(|tag| java_hash(tag)).collect(),
            tags_set,
            sub_version: now_ms(),
            expression_type: TAG,
        }
    }

    /// `FilterAPI.java`.
    fn sql(topic: &Arc<str>, expression: &str) -> Self {
        SubscriptionData {
            class_filter_mode: false,
            topic: Arc::clone(topic),
            sub_string: expression.to_owned(),
            code_set: Vec::new(),
            tags_set: Vec::new(),
            sub_version: now_ms(),
            expression_type: SQL,
        }
    }

    /// Whether the filter is by tags, which this client looks at as well.
    pub(crate) fn is_by_tags(&self) -> bool {
        self.expression_type == TAG
    }

    /// Whether a message with this tag is wanted. The broker compares hashes only.
    pub(crate) fn wants(&self, tag: Option<&str>) -> bool {
        self.tags_set.is_empty() || tag.is_some_and(|tag| self.tags_set.iter().any(|t| t == tag))
    }
}

fn java_hash(text: &str) -> i32 {
    text.encode_utf16().fold(0i32, |hash, unit| {
        hash.wrapping_mul(31).wrapping_add(unit.into())
    })
}

pub(crate) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(0))
}

/// Asks the brokers whether they can filter so: what one of them says of an SQL92 expression later, at a pull, is nobody's answer
/// (`ClientManageProcessor.java`).
///
/// # Errors
/// [`ErrorKind::Unsupported`] when a broker filters by tags only, [`ErrorKind::InvalidInput`] when it does not understand the expression, or another
/// refusal. Brokers that do not answer say nothing.
pub(crate) async fn check(
    client: &Client,
    group: &str,
    entry: &TopicEntry,
    data: &SubscriptionData,
) -> Result<()> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Body<'a> {
        client_id: &'a str,
        group: &'a str,
        subscription_data: &'a SubscriptionData,
    }
    if data.is_by_tags() {
        return Ok(());
    }
    let body = serde_json::to_vec(&Body {
        client_id: client.client_id(),
        group,
        subscription_data: data,
    });
    // Strings and numbers always serialize.
    let body = Bytes::from(body.unwrap_or_default());
    for master in entry.routed().route.masters() {
        let request = Request::new(request::CHECK_CLIENT_CONFIG).body(body.clone());
        let silent = [
            ErrorKind::Unavailable,
            ErrorKind::Timeout,
            ErrorKind::Throttled,
        ];
        match client.call(master, "the filter", request).await {
            Err(error) if !silent.contains(&error.kind()) => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_hashed_as_java_does() {
        assert_eq!(java_hash("TagA"), 2_598_919);
        assert_eq!(java_hash(""), 0);
        assert_eq!(java_hash("中文"), 646_394);
        assert_eq!(java_hash("a much longer tag that overflows"), {
            "a much longer tag that overflows"
                .bytes()
                .fold(0i64, |h, b| (h * 31 + i64::from(b)) & 0xffff_ffff) as u32 as i32
        });
    }

    #[test]
    fn subscriptions_want_their_tags_only() {
        let topic = "t".into();
        let all = SubscriptionData::new(&topic, &Filter::default());
        assert!(all.wants(None) && all.wants(Some("a")));
        let some = SubscriptionData::new(&topic, &Filter::Tags(" a||b ".to_owned()));
        assert_eq!(some.sub_string, "a || b");
        assert!(some.wants(Some("a")) && some.wants(Some("b")));
        assert!(!some.wants(None) && !some.wants(Some("c")));
    }

    #[test]
    fn expression_goes_to_the_broker_as_it_is() {
        let filter = Filter::Sql("a > 1 || b".to_owned());
        let data = SubscriptionData::new(&"t".into(), &filter);
        assert_eq!(data.sub_string, "a > 1 || b");
        assert_eq!(data.expression_type, "SQL92");
        assert!(data.wants(None) && !data.is_by_tags());
    }
}
