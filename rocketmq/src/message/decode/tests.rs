//! Stored messages, whole and broken.

use std::io::Write as _;

use bytes::{BufMut, BytesMut};

use super::*;

struct Stored<'a> {
    offset: u64,
    sys_flag: i32,
    magic: i32,
    body: &'a [u8],
    properties: &'a str,
    host: &'a [u8],
}

impl Default for Stored<'_> {
    fn default() -> Self {
        Stored {
            offset: 41,
            sys_flag: 0,
            magic: MAGIC,
            body: b"hello",
            properties: "UNIQ_KEY\u{1}A\u{2}UNIQ_KEY\u{1}B\u{2}TAGS\u{1}t",
            host: &[127, 0, 0, 1, 0, 0, 0x2a, 0x9f],
        }
    }
}

fn stored(message: &Stored<'_>) -> BytesMut {
    let mut out = BytesMut::new();
    out.put_u32(0);
    out.put_i32(message.magic);
    out.put_u32(crc32fast::hash(message.body) & 0x7fff_ffff);
    out.put_i32(3);
    out.put_i32(0);
    out.put_u64(message.offset);
    out.put_u64(4096);
    out.put_i32(message.sys_flag);
    out.put_i64(1);
    out.put_slice(message.host);
    out.put_i64(2);
    out.put_slice(message.host);
    out.put_i32(2);
    out.put_i64(0);
    out.put_u32(message.body.len() as u32);
    out.put_slice(message.body);
    if message.magic == MAGIC {
        out.put_u8(1);
    } else {
        out.put_u16(1);
    }
    out.put_slice(b"t");
    out.put_u16(message.properties.len() as u16);
    out.put_slice(message.properties.as_bytes());
    let length = out.len() as u32;
    out[..4].copy_from_slice(&length.to_be_bytes());
    out
}

fn queue(topic: &str) -> MessageQueue {
    MessageQueue {
        topic: topic.into(),
        broker: "b".into(),
        queue: 3,
    }
}

#[test]
fn two_messages_are_read_with_all_they_carry() {
    let mut body = stored(&Stored::default());
    body.extend_from_slice(&stored(&Stored {
        magic: MAGIC_LONG_TOPIC,
        sys_flag: message_flag::BORN_HOST_V6 | message_flag::STORE_HOST_V6,
        host: &[1; 20],
        ..Stored::default()
    }));
    let decoded = decode(body.freeze(), &queue("t"));
    assert!(decoded.error.is_none());
    let [first, second] = &decoded.messages[..] else {
        panic!("two messages")
    };
    assert_eq!(
        (first.offset, first.commit_log_offset, first.reconsume_times),
        (41, 4096, 2)
    );
    assert_eq!(first.body, "hello");
    assert_eq!(first.message_id(), "A");
    assert_eq!(first.property("TAGS"), Some("t"));
    assert_eq!(
        &*first.offset_message_id,
        "7F00000100002A9F0000000000001000"
    );
    assert_eq!(second.body, "hello");
}

/// A message of a batch: its own come first, the batch's behind them.
#[test]
fn of_two_ids_the_first_counts_and_of_two_tags_the_last() {
    let body = stored(&Stored {
        properties: "UNIQ_KEY\u{1}own\u{2}TAGS\u{1}own\u{2}UNIQ_KEY\u{1}batch\u{2}TAGS\u{1}batch\u{2}",
        ..Stored::default()
    });
    let decoded = decode(body.freeze(), &queue("t"));
    let message = &decoded.messages[0];
    assert_eq!(message.message_id(), "own");
    assert_eq!(message.tag(), Some("batch"));
}

#[test]
fn message_with_others_inside_is_broken_and_one_of_those_by_itself_is_not() {
    for (sys_flag, broken) in [(0x40, false), (0x80, false), (0xc0, true)] {
        let body = stored(&Stored {
            sys_flag,
            ..Stored::default()
        });
        let decoded = decode(body.freeze(), &queue("t"));
        assert_eq!(decoded.messages.is_empty(), broken, "{sys_flag:#x}");
        assert_eq!(decoded.error.is_some(), broken, "{sys_flag:#x}");
    }
}

#[test]
fn message_behind_which_no_offset_can_be_is_broken_and_those_before_it_are_read() {
    for offset in [i64::MAX as u64, u64::MAX] {
        let mut body = stored(&Stored::default());
        body.extend_from_slice(&stored(&Stored {
            offset,
            ..Stored::default()
        }));
        let decoded = decode(body.freeze(), &queue("t"));
        assert_eq!(decoded.messages.len(), 1);
        let error = decoded.error.expect("the second one is broken");
        assert_eq!(error.kind(), ErrorKind::Protocol);
    }
}

#[test]
fn a_retry_has_its_original_topic_again() {
    let body = stored(&Stored {
        properties: "RETRY_TOPIC\u{1}orders\u{2}",
        ..Stored::default()
    });
    let read = |topic| {
        decode(body.clone().freeze(), &queue(topic)).messages[0]
            .topic
            .clone()
    };
    assert_eq!(&*read("%RETRY%g"), "orders");
    // In any other topic the property is just a property.
    assert_eq!(&*read("t"), "t");
}

#[test]
fn a_skim_reads_places_and_properties_whatever_the_body_is() {
    let mut body = stored(&Stored {
        sys_flag: 513,
        body: b"not ZSTD",
        ..Stored::default()
    });
    body.extend_from_slice(&stored(&Stored::default()));
    let whole = body.clone().freeze();
    let skimmed = skim(whole, &queue("t")).unwrap();
    assert_eq!(skimmed.len(), 2);
    assert_eq!(skimmed[0].offset, 41);
    assert_eq!(skimmed[0].property("UNIQ_KEY"), Some("A"));
    assert_eq!(skimmed[0].property("none"), None);
    body.truncate(body.len() - 1);
    let error = skim(body.freeze(), &queue("t")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Protocol);
}

#[test]
fn what_came_before_a_broken_message_is_kept() {
    let whole = stored(&Stored::default());
    for end in 1..whole.len() {
        let mut body = whole.clone();
        body.extend_from_slice(&whole[..end]);
        let decoded = decode(body.freeze(), &queue("t"));
        assert_eq!(decoded.messages.len(), 1, "cut at {end}");
        assert_eq!(decoded.error.unwrap().kind(), ErrorKind::Protocol);
    }
}

/// What inflates to `bytes` zeros.
fn growing(bytes: usize) -> Vec<u8> {
    let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(&vec![0; bytes]).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn bodies_that_grow_too_large_together_are_left_for_the_next_pull() {
    let large = growing(MAX_INFLATED_TOGETHER / 2 + 1);
    let large = stored(&Stored {
        sys_flag: 769,
        body: &large,
        ..Stored::default()
    });
    let plain = stored(&Stored::default());
    let whole = [plain.clone(), large.clone(), plain, large.clone()].concat();
    let decoded = decode(whole.into(), &queue("t"));
    assert!(decoded.error.is_none(), "{:?}", decoded.error);
    assert_eq!(decoded.messages.len(), 3);
    assert!(decoded.more);
    // The next pull begins with what was left.
    let decoded = decode(large.freeze(), &queue("t"));
    assert_eq!(decoded.messages.len(), 1);
    assert!(!decoded.more);
}

#[test]
fn one_body_may_grow_larger_than_many_together() {
    let large = growing(MAX_INFLATED_TOGETHER + 1);
    let large = stored(&Stored {
        sys_flag: 769,
        body: &large,
        ..Stored::default()
    });
    let decoded = decode(large.freeze(), &queue("t"));
    assert_eq!(decoded.messages[0].body.len(), MAX_INFLATED_TOGETHER + 1);
}

#[test]
fn changed_bytes_never_panic() {
    let whole = stored(&Stored::default());
    for place in 0..whole.len() {
        for byte in [0, 1, 0x7f, 0x80, 0xff] {
            let mut body = whole.clone();
            body[place] = byte;
            // Any outcome but a panic.
            let _ = decode(body.freeze(), &queue("t"));
        }
    }
}

#[test]
fn a_wrong_checksum_is_an_error() {
    let mut body = stored(&Stored::default());
    let place = body.windows(5).position(|w| w == b"hello").unwrap();
    body[place] = b'j';
    assert!(decode(body.freeze(), &queue("t")).error.is_some());
}

#[test]
fn footprint_counts_what_is_stored_and_once_more_what_is_inflated() {
    let with = |properties: &str| {
        let message = Stored {
            properties,
            ..Stored::default()
        };
        let body = stored(&message).freeze();
        let length = body.len();
        let read = decode(body, &queue("t")).messages.remove(0);
        (read.footprint_bytes(), length)
    };
    let large = "K\u{1}".to_owned() + &"v".repeat(10_000);
    let ((small, _), (large, length)) = (with("K\u{1}v"), with(&large));
    assert_eq!(large - small, 10_000 - 1);
    assert!(large >= length);
    let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(&[b'x'; 10_000]).unwrap();
    let packed = encoder.finish().unwrap();
    let message = Stored {
        sys_flag: message_flag::COMPRESSED,
        body: &packed,
        ..Stored::default()
    };
    let body = stored(&message).freeze();
    let length = body.len();
    let read = decode(body, &queue("t")).messages.remove(0);
    assert!(read.footprint_bytes() >= length + 10_000);
}

#[test]
fn offset_that_nothing_can_lie_behind_is_no_offset() {
    for (offset, taken) in [
        (u64::MAX, false),
        (1 << 63, false),
        (i64::MAX as u64 - 1, true),
    ] {
        let mut body = stored(&Stored::default());
        // Length, magic number, checksum, queue and flag are before it.
        body[20..28].copy_from_slice(&offset.to_be_bytes());
        let decoded = decode(body.clone().freeze(), &queue("t"));
        assert_eq!(decoded.error.is_none(), taken, "{offset}");
        assert_eq!(skim(body.freeze(), &queue("t")).is_ok(), taken, "{offset}");
    }
}
