//! Executions of what decodes: frames, stored messages, bodies in fastjson's JSON.

use bytes::{Bytes, BytesMut};
use crossfade_rocketmq::{
    Command, ErrorKind, MessageQueue, fastjson, frame,
    message::{self, ReceivedMessage},
};
use rand::{RngExt as _, rngs::StdRng};
use serde_json::Value;

use crate::{
    draw,
    frames::Frame,
    json,
    stored::{BOMB_BYTES, Stored},
};

/// Frames above it are refused; what is drawn is smaller, unless it was spoiled.
pub const MAX_FRAME_BYTES: usize = 64 << 10;

/// One execution in so many has bodies that grow a thousand times.
const BOMBS: u32 = 2_000;

/// Runs one execution. Panics when the decoder does, or when it reads what was not written.
pub fn execute(draws: &mut StdRng) {
    match draws.random_range(0..BOMBS) {
        0 => bombs(draws),
        n if n % 3 == 0 => frames(draws),
        n if n % 3 == 1 => messages(draws),
        _ => text(draws),
    }
}

/// A stream of frames, the last ones spoiled: what is whole comes out as it went in, however it is cut into pieces.
fn frames(draws: &mut StdRng) {
    let whole = draws.random_range(0..4);
    let whole: Vec<_> = (0..whole).map(|_| Frame::any(draws)).collect();
    let mut stream = Vec::new();
    for frame in &whole {
        stream.extend(frame.encode(draws));
    }
    let mut tail = Vec::new();
    for _ in 0..draws.random_range(0..3) {
        tail.extend(Frame::any(draws).encode(draws));
    }
    draw::spoil(draws, &mut tail);
    stream.extend(tail);

    let (at_once, failed) = read(&stream, &[stream.len()]);
    assert!(at_once.len() >= whole.len(), "a whole frame was not read");
    for (read, written) in at_once.iter().zip(&whole) {
        same_frame(read, written);
    }
    let mut cuts: Vec<_> = (0..draws.random_range(1..6))
        .map(|_| draws.random_range(0..=stream.len()))
        .collect();
    cuts.sort_unstable();
    cuts.push(stream.len());
    let (in_pieces, failed_in_pieces) = read(&stream, &cuts);
    assert_eq!(at_once.len(), in_pieces.len(), "pieces make a difference");
    assert_eq!(failed, failed_in_pieces, "pieces make a difference");
    for (one, other) in at_once.iter().zip(&in_pieces) {
        assert_eq!((one.opaque, &one.body), (other.opaque, &other.body));
    }
}

/// The frames of a stream that comes up to each of `cuts` in turn, and whether it ended badly.
fn read(stream: &[u8], cuts: &[usize]) -> (Vec<Command>, bool) {
    let (mut frames, mut buffer, mut start) = (Vec::new(), BytesMut::new(), 0);
    for &end in cuts {
        buffer.extend_from_slice(&stream[start..end]);
        start = end;
        loop {
            let before = buffer.len();
            match frame::decode(&mut buffer, MAX_FRAME_BYTES) {
                Ok(Some(command)) => {
                    assert!(before - buffer.len() >= 8, "a frame of fewer than 8 bytes");
                    frames.push(command);
                }
                Ok(None) => {
                    assert_eq!(before, buffer.len(), "half a frame was taken");
                    break;
                }
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::Protocol);
                    return (frames, true);
                }
            }
        }
    }
    (frames, false)
}

fn same_frame(read: &Command, written: &Frame) {
    assert_eq!(read.code, written.code);
    assert_eq!((read.opaque, read.flag), (written.opaque, written.flag));
    assert_eq!(read.remark, written.remark);
    assert_eq!(read.body, written.body);
    for (name, _) in &written.fields {
        let first = written.fields.iter().find(|(other, _)| other == name);
        let first = first.map(|(_, value)| value.as_str());
        assert_eq!(read.fields.get(name), first, "{name}");
    }
}

/// The body of a pull, the last messages spoiled: what is whole comes out as it went in.
fn messages(draws: &mut StdRng) {
    let whole = draws.random_range(0..4);
    let whole: Vec<_> = (0..whole).map(|_| Stored::any(draws)).collect();
    let mut body: Vec<u8> = whole
        .iter()
        .flat_map(|stored| stored.bytes.clone())
        .collect();
    let mut tail = Vec::new();
    for _ in 0..draws.random_range(0..3) {
        tail.extend(Stored::any(draws).bytes);
    }
    draw::spoil(draws, &mut tail);
    body.extend(tail);

    let retry = draws.random_bool(0.3);
    let queue = MessageQueue {
        topic: if retry { "%RETRY%g" } else { "t" }.into(),
        broker: "b".into(),
        queue: 0,
    };
    let decoded = message::decode(Bytes::from(body), &queue);
    assert!(
        decoded.messages.len() >= whole.len(),
        "a whole message was not read"
    );
    for (read, written) in decoded.messages.iter().zip(&whole) {
        same_message(read, written);
    }
}

fn same_message(read: &ReceivedMessage, written: &Stored) {
    assert_eq!(read.offset, written.offset);
    assert_eq!(read.reconsume_times, written.reconsume_times);
    assert_eq!(read.body, written.body);
    for (name, value) in &written.properties {
        let first = written.properties.iter().find(|(other, _)| other == name);
        assert_eq!(
            read.property(name),
            first.map(|(_, value)| value.as_str()),
            "{name}: {value}"
        );
    }
}

/// A pull whose bodies grow a thousand times: it is read as far as memory is allowed to go, in order.
fn bombs(draws: &mut StdRng) {
    let bombs: Vec<_> = (0..draws.random_range(1..40))
        .map(|_| Stored::bomb(draws))
        .collect();
    let body: Vec<u8> = bombs
        .iter()
        .flat_map(|stored| stored.bytes.clone())
        .collect();
    let queue = MessageQueue {
        topic: "t".into(),
        broker: "b".into(),
        queue: 0,
    };
    let decoded = message::decode(Bytes::from(body), &queue);
    assert!(!decoded.messages.is_empty(), "nothing was read");
    for (read, written) in decoded.messages.iter().zip(&bombs) {
        assert_eq!(read.offset, written.offset);
        assert_eq!(read.body.len(), BOMB_BYTES);
    }
}

/// A text as a broker writes it, whole or spoiled. What plain JSON is, is read as such.
fn text(draws: &mut StdRng) {
    let (text, value) = json::any(draws);
    assert_eq!(fastjson::parse(text.as_bytes()).ok(), Some(value), "{text}");
    let mut spoiled = text.into_bytes();
    draw::spoil(draws, &mut spoiled);
    if draws.random_bool(0.05) {
        // Deep, or wide.
        let many = [&b"["[..], b"{", b"{\"a\":", b"[0,", b"{0:"];
        spoiled.splice(
            0..0,
            draw::one(draws, &many).repeat(draws.random_range(1..2_000)),
        );
    }
    let read = fastjson::parse(&spoiled);
    if let Ok(plain) = serde_json::from_slice::<Value>(&spoiled)
        && depth(&plain) <= 60
    {
        assert_eq!(
            read.as_ref().ok(),
            Some(&plain),
            "{}",
            String::from_utf8_lossy(&spoiled)
        );
    }
    if let Err(error) = read {
        assert_eq!(error.kind(), ErrorKind::Protocol);
    }
}

fn depth(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Value::Object(map) => 1 + map.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}
