use bytes::BufMut;

use super::*;

const MAX: usize = 1 << 20;

fn whole(request: Request) -> BytesMut {
    request.frame(7, false)
}

#[test]
fn a_request_is_read_back_with_every_field() {
    let mut bytes = whole(
        Request::new(310)
            .text("i", "KEYS\u{1}a\"b\\c\u{2}\n中文")
            .field("e", 3)
            .body("hello"),
    );
    let command = decode(&mut bytes, MAX).unwrap().unwrap();
    assert_eq!((command.code, command.opaque, command.flag), (310, 7, 0));
    assert_eq!(command.fields.get("i"), Some("KEYS\u{1}a\"b\\c\u{2}\n中文"));
    assert_eq!(command.fields.number::<i32>("e").unwrap(), 3);
    assert_eq!(command.body, "hello");
    assert!(bytes.is_empty());
}

#[test]
fn requests_are_appended_to_what_waits_already() {
    let mut outgoing = BytesMut::new();
    for (opaque, body) in [(1, "first"), (2, ""), (3, "third")] {
        let request = Request::new(310).text("a", body).body(body);
        request.encode(opaque, false, &mut outgoing);
    }
    for (opaque, body) in [(1, "first"), (2, ""), (3, "third")] {
        let command = decode(&mut outgoing, MAX).unwrap().unwrap();
        assert_eq!(
            (command.opaque, command.fields.get("a")),
            (opaque, Some(body))
        );
        assert_eq!(command.body, body);
    }
    assert!(outgoing.is_empty());
}

#[test]
fn values_and_bodies_are_not_shown() {
    let request = Request::new(3001)
        .text("SecurityToken", "hush-token")
        .text("Signature", "hush-signature")
        .body(r#"{"password":"hush"}"#);
    let received = decode(&mut whole(request.clone()), MAX).unwrap().unwrap();
    for shown in [format!("{request:?}"), format!("{received:?}")] {
        assert!(!shown.contains("hush"), "{shown}");
        for part in ["3001", "SecurityToken", "body_bytes: 19"] {
            assert!(shown.contains(part), "{shown}");
        }
    }
}

#[test]
fn a_frame_cut_anywhere_is_waited_for() {
    let bytes = whole(Request::new(105).text("topic", "t").body("abc"));
    for end in 0..bytes.len() {
        let mut part = BytesMut::from(&bytes[..end]);
        assert!(decode(&mut part, MAX).unwrap().is_none(), "cut at {end}");
    }
}

#[test]
fn frames_that_follow_one_another_are_read_one_by_one() {
    let mut bytes = whole(Request::new(1));
    bytes.extend_from_slice(&whole(Request::new(2).body("x")));
    assert_eq!(decode(&mut bytes, MAX).unwrap().unwrap().code, 1);
    assert_eq!(decode(&mut bytes, MAX).unwrap().unwrap().code, 2);
    assert!(decode(&mut bytes, MAX).unwrap().is_none());
}

#[test]
fn hostile_frames_are_protocol_errors() {
    let json = |header: &str| {
        let mut frame = Vec::new();
        frame.put_u32(4 + header.len() as u32);
        frame.put_u32(header.len() as u32);
        frame.put_slice(header.as_bytes());
        frame
    };
    let cases: [(&str, Vec<u8>); 9] = [
        ("length above the limit", vec![0x7f, 0xff, 0xff, 0xff]),
        ("negative length", vec![0xff, 0xff, 0xff, 0xff]),
        ("length without a header word", vec![0, 0, 0, 3, 0, 0, 0]),
        ("header longer than the frame", vec![0, 0, 0, 4, 0, 0, 0, 9]),
        ("unknown header type", vec![0, 0, 0, 4, 9, 0, 0, 0]),
        ("empty JSON header", vec![0, 0, 0, 4, 0, 0, 0, 0]),
        (
            "binary header that ends early",
            vec![0, 0, 0, 5, 1, 0, 0, 1, 0],
        ),
        ("a code that is no number", json("{\"code\":\"x\"}")),
        (
            "an HTTP answer",
            b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(),
        ),
    ];
    for (name, bytes) in cases {
        let error = decode(&mut BytesMut::from(&bytes[..]), MAX).expect_err(name);
        assert_eq!(error.kind(), ErrorKind::Protocol, "{name}");
    }
}

#[test]
fn a_header_that_is_far_too_long_is_not_read() {
    for (blanks, read) in [(MAX_HEADER_BYTES - 10, true), (MAX_HEADER_BYTES, false)] {
        let header = format!("{{\"code\":0{}}}", " ".repeat(blanks));
        let mut frame = BytesMut::new();
        frame.put_u32(4 + header.len() as u32);
        frame.put_u32(header.len() as u32);
        frame.put_slice(header.as_bytes());
        assert_eq!(decode(&mut frame, 2 * MAX).is_ok(), read, "{blanks}");
    }
}

#[test]
fn fields_of_any_json_type_are_tolerated() {
    let header = r#"{"code":0,"opaque":1,"flag":1,"extFields":{"a":1,"b":true,"c":null,"d":{"e":[1]},"f":"x"},"new":[]}"#;
    let command = decode_json(Bytes::from(header)).unwrap();
    let get = |name| command.fields.get(name);
    assert_eq!(
        [get("a"), get("b"), get("c"), get("d"), get("f")],
        [Some("1"), Some("true"), None, None, Some("x")]
    );
}

#[test]
fn the_binary_header_is_read() {
    let mut header = Vec::new();
    header.put_i16(19);
    header.put_u8(0);
    header.put_i16(407);
    header.put_i32(5);
    header.put_i32(1);
    header.put_u32(2);
    header.put_slice(b"no");
    header.put_u32(2 + 1 + 4 + 2);
    header.put_u16(1);
    header.put_slice(b"k");
    header.put_u32(2);
    header.put_slice(b"42");
    let command = binary::decode(Bytes::from(header.clone())).unwrap();
    assert_eq!((command.code, command.opaque, command.flag), (19, 5, 1));
    assert_eq!(command.remark.as_deref(), Some("no"));
    assert_eq!(command.fields.number::<u64>("k").unwrap(), 42);
    assert_eq!(command.fields.offset("k").unwrap(), 42);
    for end in 0..header.len() {
        assert!(
            binary::decode(Bytes::copy_from_slice(&header[..end])).is_err(),
            "cut at {end}"
        );
    }
}

#[test]
fn random_bytes_never_panic() {
    use rand::{RngExt as _, SeedableRng as _};
    let mut rng = rand::rngs::SmallRng::seed_from_u64(1);
    for _ in 0..20_000 {
        let mut bytes = whole(Request::new(11).text("topic", "t").body("b"));
        for _ in 0..rng.random_range(1..6) {
            let place = rng.random_range(0..bytes.len());
            bytes[place] = rng.random();
        }
        // Any outcome but a panic.
        let _ = decode(&mut bytes, MAX);
    }
}

#[test]
fn offset_is_a_number_that_is_not_negative_to_java() {
    let header = r#"{"code":0,"opaque":1,"flag":1,"extFields":{"a":"7","b":"9223372036854775807","c":"9223372036854775808","d":"-1","e":"x"}}"#;
    let fields = decode_json(Bytes::from(header)).unwrap().fields;
    for (name, offset) in [
        ("a", Some(7)),
        ("b", Some(i64::MAX as u64)),
        ("c", None),
        ("d", None),
        ("e", None),
        ("f", None),
    ] {
        assert_eq!(fields.offset(name).ok(), offset, "{name}");
    }
}
