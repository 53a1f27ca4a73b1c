//! What a broker says instead of the truth.

use crossfade_rocketmq::{
    Command,
    codes::{request, response},
};
use rand::{RngExt as _, rngs::StdRng};

use crate::{
    broker::{GROUP, QUEUES, RETRY_TOPIC, TOPIC},
    draw,
    frames::Frame,
    stored,
};

/// Numbers at the borders of what offsets and counts can be.
const NUMBERS: [&str; 10] = [
    "",
    "-1",
    "0",
    "65536",
    "4294967295",
    "9223372036854775806",
    "9223372036854775807",
    "18446744073709551615",
    "18446744073709551616",
    "1e9",
];

/// The bytes that go out instead of an answer; `None`: the connection ends without any.
pub(crate) fn tell(draws: &mut StdRng, asked: &Command, mut answer: Frame) -> Option<Vec<u8>> {
    const CODES: [i32; 10] = [
        response::SUCCESS,
        response::SYSTEM_ERROR,
        response::SYSTEM_BUSY,
        response::TOPIC_NOT_EXIST,
        response::PULL_NOT_FOUND,
        response::PULL_RETRY_IMMEDIATELY,
        response::PULL_OFFSET_MOVED,
        response::QUERY_NOT_FOUND,
        response::SUBSCRIPTION_NOT_LATEST,
        response::FLUSH_DISK_TIMEOUT,
    ];
    match draws.random_range(0..10) {
        0 => answer.code = *draw::one(draws, &CODES),
        1 => draw::spoil(draws, &mut answer.body),
        2 => answer.opaque = answer.opaque.wrapping_add(draws.random_range(-2..3)),
        3 => {
            for (_, value) in &mut answer.fields {
                *value = (*draw::one(draws, &NUMBERS)).to_owned();
            }
        }
        4..8 => invent(draws, asked.code, &mut answer),
        8 => {
            let mut bytes = answer.encode(draws);
            draw::spoil(draws, &mut bytes);
            return Some(bytes);
        }
        _ => match draws.random_bool(0.5) {
            // The request waits until its time is over.
            true => return Some(Vec::new()),
            false => return None,
        },
    }
    let mut bytes = Vec::new();
    if draws.random_bool(0.3) {
        bytes = question(draws).encode(draws);
    }
    let frame = answer.encode(draws);
    if draws.random_bool(0.1) {
        bytes.extend_from_slice(&frame);
    }
    bytes.extend_from_slice(&frame);
    Some(bytes)
}

/// An answer that can be read and is not true.
fn invent(draws: &mut StdRng, code: i32, answer: &mut Frame) {
    match code {
        request::GET_ROUTEINFO_BY_TOPIC => answer.body = route(draws).into_bytes(),
        request::PULL_MESSAGE => messages(draws, answer),
        request::GET_CONSUMER_LIST_BY_GROUP => {
            let members = draws.random_range(0..2_000);
            let members: Vec<_> = (0..members).map(|n| format!(r#""member-{n}""#)).collect();
            answer.body = format!(r#"{{"consumerIdList":[{}]}}"#, members.join(",")).into_bytes();
        }
        request::LOCK_BATCH_MQ => {
            let queues: Vec<_> = (0..draws.random_range(0..4))
                .map(|_| {
                    let topic = *draw::one(draws, &[TOPIC, RETRY_TOPIC, "other"]);
                    let broker = *draw::one(draws, &["b", "other"]);
                    let queue = draws.random_range(0..=QUEUES);
                    format!(r#"{{"topic":"{topic}","brokerName":"{broker}","queueId":{queue}}}"#)
                })
                .collect();
            answer.body = format!(r#"{{"lockOKMQSet":[{}]}}"#, queues.join(",")).into_bytes();
        }
        _ => {
            answer.fields.clear();
            for name in ["offset", "queueId", "queueOffset", "msgId"] {
                let value = (*draw::one(draws, &NUMBERS)).to_owned();
                answer.fields.push((name.to_owned(), value));
            }
        }
    }
}

/// Queues and brokers that come and go; nobody listens at some of their addresses.
fn route(draws: &mut StdRng) -> String {
    let names = ["b", "b", "other"];
    let brokers: Vec<_> = (0..draws.random_range(0..3))
        .map(|_| {
            let name = *draw::one(draws, &names);
            let id = *draw::one(draws, &["0", "1", "-1", "18446744073709551615"]);
            format!(
                r#"{{"brokerAddrs":{{{id}:"127.0.0.1:9"}},"brokerName":"{name}","cluster":"c"}}"#
            )
        })
        .collect();
    let queues: Vec<_> = (0..draws.random_range(0..3))
        .map(|_| {
            let name = *draw::one(draws, &names);
            let count = *draw::one(draws, &["0", "1", "64", "65535", "4294967295", "-1"]);
            let permission = *draw::one(draws, &["0", "2", "4", "6", "-1"]);
            format!(
                r#"{{"brokerName":"{name}","perm":{permission},"readQueueNums":{count},"writeQueueNums":{count}}}"#
            )
        })
        .collect();
    let (brokers, queues) = (brokers.join(","), queues.join(","));
    format!(r#"{{"brokerDatas":[{brokers}],"queueDatas":[{queues}]}}"#)
}

/// Messages of queues that do not exist, at places where none can be, in any order.
fn messages(draws: &mut StdRng, answer: &mut Frame) {
    const OFFSETS: [u64; 8] = [
        0,
        1,
        7,
        1 << 40,
        i64::MAX as u64 - 1,
        i64::MAX as u64,
        u64::MAX - 1,
        u64::MAX,
    ];
    answer.code = *draw::one(
        draws,
        &[
            response::SUCCESS,
            response::SUCCESS,
            response::PULL_NOT_FOUND,
            response::PULL_RETRY_IMMEDIATELY,
            response::PULL_OFFSET_MOVED,
        ],
    );
    answer.body.clear();
    for _ in 0..draws.random_range(0..6) {
        let topic = *draw::one(draws, &[TOPIC, TOPIC, RETRY_TOPIC, "other"]);
        let queue = *draw::one(draws, &[0, 1, QUEUES, u32::MAX]);
        let offset = *draw::one(draws, &OFFSETS);
        let retries = *draw::one(draws, &[0, 1, u32::MAX]);
        let message = stored::plain(topic, queue, offset, retries, b"lie");
        answer.body.extend_from_slice(&message);
    }
    for (_, value) in &mut answer.fields {
        if draws.random_bool(0.5) {
            *value = (*draw::one(draws, &NUMBERS)).to_owned();
        }
    }
}

/// Something of the broker's own, to the group or to anybody.
fn question(draws: &mut StdRng) -> Frame {
    let mut frame = Frame::any(draws);
    frame.flag = *draw::one(draws, &[0, 2]);
    let own = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    match draws.random_range(0..3) {
        0 => {
            frame.code = request::RESET_CONSUMER_CLIENT_OFFSET;
            let topic = *draw::one(draws, &[TOPIC, RETRY_TOPIC, "other"]);
            frame.fields = vec![own("group", GROUP), own("topic", topic)];
            let offset = *draw::one(draws, &NUMBERS);
            let queue = draws.random_range(0..=QUEUES);
            let table = match draws.random_bool(0.5) {
                true => format!(
                    r#"{{{{"topic":"{topic}","brokerName":"b","queueId":{queue}}}:{offset}}}"#
                ),
                false => format!(
                    r#"[{{"topic":"{topic}","brokerName":"b","queueId":{queue},"offset":{offset}}}]"#
                ),
            };
            frame.body = format!(r#"{{"offsetTable":{table}}}"#).into_bytes();
            if draws.random_bool(0.3) {
                draw::spoil(draws, &mut frame.body);
            }
        }
        1 => {
            frame.code = request::NOTIFY_CONSUMER_IDS_CHANGED;
            frame.fields = vec![own("consumerGroup", GROUP)];
        }
        _ => {}
    }
    frame
}
