//! Which offsets a group's queues are set to (apache/rocketmq `ResetOffsetBody.java`; `ResetOffsetBodyForC.java` where an administrator's client is in C++).

use std::{collections::BTreeMap, sync::Arc};

use serde::Deserialize;
use serde_json::Value;

use crate::{
    error::{Error, ErrorKind, Result},
    fastjson,
    route::MessageQueue,
};

/// A table of ten thousand queues is half as large.
const MAX_BYTES: usize = 2 << 20;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Body {
    offset_table: Value,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Queue {
    topic: Arc<str>,
    broker_name: Arc<str>,
    queue_id: u32,
}

#[derive(Deserialize)]
struct QueueAndOffset {
    #[serde(flatten)]
    queue: Queue,
    offset: i64,
}

impl From<Queue> for MessageQueue {
    fn from(queue: Queue) -> MessageQueue {
        MessageQueue {
            topic: queue.topic,
            broker: queue.broker_name,
            queue: queue.queue_id,
        }
    }
}

/// Reads either form; the last offset of a queue that is named twice.
///
/// # Errors
/// [`ErrorKind::Protocol`] for what is no such table, has a negative number in it, or is too large.
pub(crate) fn parse(body: &[u8]) -> Result<BTreeMap<MessageQueue, u64>> {
    if body.len() > MAX_BYTES {
        let why = format!("a table of offsets has {} bytes: it is none", body.len());
        return Err(Error::new(ErrorKind::Protocol, why));
    }
    match fastjson::from_slice::<Body>(body)?.offset_table {
        Value::Object(table) => table
            .into_iter()
            .map(|(key, offset)| {
                let queue: Queue = serde_json::from_str(&key).map_err(broken)?;
                entry(queue, serde_json::from_value(offset).map_err(broken)?)
            })
            .collect(),
        list => {
            let list: Vec<QueueAndOffset> = serde_json::from_value(list).map_err(broken)?;
            let entries = list.into_iter().map(|one| entry(one.queue, one.offset));
            entries.collect()
        }
    }
}

fn entry(queue: Queue, offset: i64) -> Result<(MessageQueue, u64)> {
    let queue = queue.into();
    let offset = u64::try_from(offset).map_err(|_| {
        let why = format!("a table of offsets has {offset} for {queue}");
        Error::new(ErrorKind::Protocol, why)
    })?;
    Ok((queue, offset))
}

fn broken(source: serde_json::Error) -> Error {
    let why = format!("a table of offsets is not readable: {source}");
    Error::new(ErrorKind::Protocol, why).with_source(source)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(number: u32) -> MessageQueue {
        MessageQueue {
            topic: "t".into(),
            broker: "b".into(),
            queue: number,
        }
    }

    #[test]
    fn tables_for_clients_in_java_and_in_c_are_read_alike() {
        let java = br#"{"offsetTable":{{"brokerName":"b","queueId":0,"topic":"t"}:7,{"brokerName":"b","queueId":1,"topic":"t"}:0}}"#;
        let c = br#"{"offsetTable":[{"brokerName":"b","offset":7,"queueId":0,"topic":"t"},{"brokerName":"b","offset":0,"queueId":1,"topic":"t"}]}"#;
        let expected = BTreeMap::from([(queue(0), 7), (queue(1), 0)]);
        assert_eq!(parse(java).unwrap(), expected);
        assert_eq!(parse(c).unwrap(), expected);
        assert!(parse(br#"{"offsetTable":{}}"#).unwrap().is_empty());
    }

    #[test]
    fn whatever_is_no_table_is_a_protocol_error() {
        let huge = format!(r#"{{"offsetTable":[{}0]}}"#, "0,".repeat(MAX_BYTES / 2));
        for text in [
            "",
            "{}",
            "[]",
            r#"{"offsetTable":null}"#,
            r#"{"offsetTable":7}"#,
            r#"{"offsetTable":{1:2}}"#,
            r#"{"offsetTable":{"x":2}}"#,
            r#"{"offsetTable":{{"brokerName":"b","queueId":-1,"topic":"t"}:7}}"#,
            r#"{"offsetTable":{{"brokerName":"b","queueId":0,"topic":"t"}:-7}}"#,
            r#"{"offsetTable":{{"brokerName":"b","queueId":0,"topic":"t"}:"7"}}"#,
            r#"{"offsetTable":{{"brokerName":"b","queueId":0,"topic":"t"}:9223372036854775808}}"#,
            r#"{"offsetTable":{{"brokerName":"b","queueId":0}:7}}"#,
            r#"{"offsetTable":[{"brokerName":"b","queueId":0,"topic":"t"}]}"#,
            r#"{"offsetTable":[7]}"#,
            &huge,
        ] {
            let shown = &text[..text.len().min(100)];
            assert_eq!(
                parse(text.as_bytes()).expect_err(shown).kind(),
                ErrorKind::Protocol
            );
        }
    }
}
