//! What a good name server and a good broker would say: one broker, one topic with two queues, one group.

use bytes::{BufMut, BytesMut};
use crossfade_rocketmq::{
    codes::{request, response},
    frame::Command,
};

pub(crate) const TOPIC: &str = "orders";
pub(crate) const GROUP: &str = "billing";
const QUEUES: u32 = 2;
/// Of each queue.
const MESSAGES: u64 = 4;

/// An answer's code, further header fields and body.
pub(crate) struct Answer {
    pub(crate) code: i32,
    pub(crate) fields: Vec<(&'static str, String)>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    fn plain(code: i32) -> Answer {
        Answer {
            code,
            fields: Vec::new(),
            body: Vec::new(),
        }
    }

    fn fields<const N: usize>(fields: [(&'static str, u64); N]) -> Answer {
        let fields = fields.map(|(name, value)| (name, value.to_string()));
        Answer {
            fields: fields.into(),
            ..Answer::plain(response::SUCCESS)
        }
    }

    fn body(text: String) -> Answer {
        Answer {
            body: text.into_bytes(),
            ..Answer::plain(response::SUCCESS)
        }
    }
}

/// The answer to a request that was sent to `address`; the group's only member is `client_id`.
pub(crate) fn answer(command: &Command, address: &str, client_id: &str) -> Answer {
    let asked = |name: &str| command.fields.get(name).unwrap_or_default().to_owned();
    let broker = format!(
        r#"{{"brokerAddrs":{{0:"{address}"}},"brokerName":"a","cluster":"c","enableActingMaster":false}}"#
    );
    match command.code {
        request::GET_ROUTEINFO_BY_TOPIC => Answer::body(format!(
            r#"{{"brokerDatas":[{broker}],"filterServerTable":{{}},"queueDatas":[{{"brokerName":"a","perm":6,"readQueueNums":{QUEUES},"topicSysFlag":0,"writeQueueNums":{QUEUES}}}]}}"#
        )),
        request::GET_BROKER_CLUSTER_INFO => Answer::body(format!(
            r#"{{"brokerAddrTable":{{"a":{broker}}},"clusterAddrTable":{{"c":["a"]}}}}"#
        )),
        request::SEND_MESSAGE_V2 => Answer {
            fields: vec![
                ("msgId", "7F00000100002A9F0000000000000001".into()),
                ("queueId", asked("e")),
                ("queueOffset", "7".into()),
            ],
            ..Answer::plain(response::SUCCESS)
        },
        request::GET_CONSUMER_LIST_BY_GROUP => {
            Answer::body(format!(r#"{{"consumerIdList":["{client_id}"]}}"#))
        }
        request::QUERY_CONSUMER_OFFSET | request::GET_MIN_OFFSET => Answer::fields([("offset", 0)]),
        request::GET_MAX_OFFSET => Answer::fields([("offset", MESSAGES)]),
        request::PULL_MESSAGE => pull(
            asked("queueOffset").parse().unwrap_or(0),
            asked("queueId").parse().unwrap_or(0),
        ),
        request::GET_BROKER_RUNTIME_INFO => Answer::body(
            r#"{"table":{"commitLogMaxOffset":"4096","dispatchBehindBytes":"0","scheduleMessageOffset_2":"0,0","brokerVersionDesc":"V4_9_7"}}"#
                .into(),
        ),
        request::GET_ALL_TOPIC_CONFIG => Answer::body(format!(
            r#"{{"dataVersion":{{"counter":1,"timestamp":1}},"topicConfigTable":{{"{TOPIC}":{{"order":false,"perm":6,"readQueueNums":{QUEUES},"topicFilterType":"SINGLE_TAG","topicName":"{TOPIC}","topicSysFlag":0,"writeQueueNums":{QUEUES}}}}}}}"#
        )),
        request::GET_ALL_TOPIC_LIST_FROM_NAMESERVER
        | request::GET_SYSTEM_TOPIC_LIST_FROM_BROKER => {
            Answer::body(r#"{"topicList":["TBW102","a"]}"#.into())
        }
        request::GET_ALL_SUBSCRIPTIONGROUP_CONFIG => Answer::body(format!(
            r#"{{"dataVersion":{{"counter":1}},"subscriptionGroupTable":{{"{GROUP}":{{"brokerId":0,"consumeBroadcastEnable":true,"consumeEnable":true,"consumeFromMinEnable":true,"groupName":"{GROUP}","notifyConsumerIdsChangedEnable":true,"retryMaxTimes":16,"retryQueueNums":1,"whichBrokerWhenConsumeSlowly":1}}}}}}"#
        )),
        request::GET_CONSUMER_CONNECTION_LIST => Answer::body(format!(
            r#"{{"connectionSet":[{{"clientAddr":"127.0.0.1:1","clientId":"x","language":"JAVA","version":399}}],"consumeType":"CONSUME_PASSIVELY","messageModel":"CLUSTERING","subscriptionTable":{{"{TOPIC}":{{}}}}}}"#
        )),
        request::GET_ALL_PRODUCER_INFO => Answer::body(
            r#"{"data":{"p":[{"clientId":"y","language":"JAVA","lastUpdateTimestamp":1,"remoteIP":"127.0.0.1:2","version":399}]}}"#
                .into(),
        ),
        request::GET_ALL_DELAY_OFFSET => Answer::body(r#"{"offsetTable":{2:0}}"#.into()),
        request::GET_ALL_CONSUMER_OFFSET => Answer::body(format!(
            r#"{{"offsetTable":{{"{TOPIC}@{GROUP}":{{0:1,1:1}}}}}}"#
        )),
        request::GET_TOPIC_CONFIG
        | request::GET_SUBSCRIPTIONGROUP_CONFIG
        | request::GET_TIMER_CHECK_POINT
        | request::GET_TIMER_METRICS
        | request::GET_ALL_MESSAGE_REQUEST_MODE => {
            Answer::plain(response::REQUEST_CODE_NOT_SUPPORTED)
        }
        _ => Answer::plain(response::SUCCESS),
    }
}

fn pull(offset: u64, queue: u32) -> Answer {
    let found = offset < MESSAGES;
    let next = if found { offset + 1 } else { offset };
    let mut answer = Answer::fields([
        ("nextBeginOffset", next),
        ("minOffset", 0),
        ("maxOffset", MESSAGES),
        ("suggestWhichBrokerId", 0),
    ]);
    if found {
        answer.body = stored(offset, queue).to_vec();
    } else {
        answer.code = response::PULL_NOT_FOUND;
    }
    answer
}

/// One message in the brokers' storage format (apache/rocketmq `MessageDecoder.java`).
fn stored(offset: u64, queue: u32) -> BytesMut {
    const BODY: &[u8] = b"hello";
    const PROPERTIES: &[u8] = b"UNIQ_KEY\x01A\x02TAGS\x01t";
    const HOST: [u8; 8] = [127, 0, 0, 1, 0, 0, 0x2a, 0x9f];
    let mut out = BytesMut::new();
    out.put_u32(0);
    out.put_i32(-626_843_481);
    out.put_u32(crc32fast::hash(BODY) & 0x7fff_ffff);
    out.put_u32(queue);
    out.put_i32(0);
    out.put_u64(offset);
    out.put_u64(offset * 128);
    out.put_i32(0);
    out.put_i64(1);
    out.put_slice(&HOST);
    out.put_i64(2);
    out.put_slice(&HOST);
    out.put_i32(0);
    out.put_i64(0);
    out.put_u32(BODY.len() as u32);
    out.put_slice(BODY);
    out.put_u8(TOPIC.len() as u8);
    out.put_slice(TOPIC.as_bytes());
    out.put_u16(PROPERTIES.len() as u16);
    out.put_slice(PROPERTIES);
    let length = out.len() as u32;
    out[..4].copy_from_slice(&length.to_be_bytes());
    out
}
