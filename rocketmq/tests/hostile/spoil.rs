//! The ways in which an answer goes wrong.

use rand::{RngExt as _, rngs::StdRng};

use super::answers::Answer;

/// What becomes of the bytes of one frame.
pub(crate) enum Bytes {
    /// They are written; the connection goes on.
    Write(Vec<u8>),
    /// They are written, then nothing more comes.
    Silence(Vec<u8>),
    /// They are written, then the connection is closed.
    Close(Vec<u8>),
    /// They are written again and again until nobody reads them.
    Endless(Vec<u8>),
}

/// How many answers are spoiled, as a share of all: few, so that long calls get far, or most of them.
pub(crate) const SHARES: [f64; 4] = [0.01, 0.05, 0.2, 0.6];

/// The frame of an answer: as it should be, or, in a `share` of the cases, spoiled in one of a dozen ways.
pub(crate) fn frame(mut answer: Answer, opaque: i32, share: f64, draws: &mut StdRng) -> Bytes {
    let way = match draws.random_bool(share) {
        true => draws.random_range(1..13),
        false => 0,
    };
    match way {
        1 => answer.code = draws.random(),
        2 => flip(&mut answer.body, draws),
        3 => {
            let end = draws.random_range(0..=answer.body.len());
            answer.body.truncate(end);
        }
        4 => exaggerate(&mut answer.body, draws),
        5 => {
            for (_, value) in &mut answer.fields {
                *value = ["", "-1", "18446744073709551615", "1e9", "x"][draws.random_range(0..5)]
                    .to_owned();
            }
        }
        6 => repeat_list(&mut answer.body),
        _ => {}
    }
    let opaque = if way == 7 {
        opaque.wrapping_add(draws.random_range(1..3))
    } else {
        opaque
    };
    let mut bytes = if draws.random_bool(0.3) {
        binary(&answer, opaque)
    } else {
        json(&answer, opaque)
    };
    match way {
        8 => {
            // The header is hit as well as the body.
            flip(&mut bytes, draws);
            Bytes::Write(bytes)
        }
        9 => {
            let end = draws.random_range(0..bytes.len());
            bytes.truncate(end);
            match draws.random_bool(0.5) {
                true => Bytes::Silence(bytes),
                false => Bytes::Close(bytes),
            }
        }
        10 => {
            // A length that never comes, allowed or not, negative in Java's eyes or nothing.
            let length = [0, 3, 200 << 10, 64 << 20, u32::MAX][draws.random_range(0..5)];
            bytes[..4].copy_from_slice(&length.to_be_bytes());
            Bytes::Endless(bytes)
        }
        11 => Bytes::Write([bytes.clone(), bytes].concat()),
        12 => {
            let mut noise = vec![0; draws.random_range(0..200)];
            draws.fill(&mut noise[..]);
            Bytes::Close(noise)
        }
        _ => Bytes::Write(bytes),
    }
}

/// Up to four bytes take any value.
fn flip(bytes: &mut [u8], draws: &mut StdRng) {
    for _ in 0..draws.random_range(1..=4) {
        if let Some(last) = bytes.len().checked_sub(1) {
            bytes[draws.random_range(0..=last)] = draws.random();
        }
    }
}

/// Every number of a text becomes as large as it can be, in one of four senses.
fn exaggerate(body: &mut Vec<u8>, draws: &mut StdRng) {
    let large = [
        "4294967295",
        "18446744073709551616",
        "-9223372036854775808",
        "1e308",
    ][draws.random_range(0..4)];
    let mut out = Vec::with_capacity(2 * body.len());
    for run in body.chunk_by(|a, b| a.is_ascii_digit() == b.is_ascii_digit()) {
        match run[0].is_ascii_digit() {
            true => out.extend_from_slice(large.as_bytes()),
            false => out.extend_from_slice(run),
        }
    }
    *body = out;
}

/// The first list of a text has its members ten thousand times, each claiming all queues that there can be.
fn repeat_list(body: &mut Vec<u8>) {
    let Ok(text) = std::str::from_utf8(body) else {
        return;
    };
    let Some((head, rest)) = text.rsplit_once('[') else {
        return;
    };
    let Some((members, tail)) = rest.split_once(']') else {
        return;
    };
    let members = members.replace("Nums\":2", "Nums\":65536");
    let many = vec![members; 10_000 / (1 + rest.len() / 64)].join(",");
    *body = format!("{head}[{many}]{tail}").into_bytes();
}

fn json(answer: &Answer, opaque: i32) -> Vec<u8> {
    let fields: Vec<String> = answer
        .fields
        .iter()
        .map(|(name, value)| format!(r#""{name}":"{value}""#))
        .collect();
    let header = format!(
        r#"{{"code":{},"extFields":{{{}}},"flag":1,"language":"JAVA","opaque":{opaque},"serializeTypeCurrentRPC":"JSON","version":399}}"#,
        answer.code,
        fields.join(",")
    );
    framed(0, header.as_bytes(), &answer.body)
}

/// apache/rocketmq `RocketMQSerializable.java`.
fn binary(answer: &Answer, opaque: i32) -> Vec<u8> {
    let mut fields = Vec::new();
    for (name, value) in &answer.fields {
        fields.extend_from_slice(&(name.len() as u16).to_be_bytes());
        fields.extend_from_slice(name.as_bytes());
        fields.extend_from_slice(&(value.len() as u32).to_be_bytes());
        fields.extend_from_slice(value.as_bytes());
    }
    let mut header = Vec::new();
    header.extend_from_slice(&(answer.code as i16).to_be_bytes());
    header.extend_from_slice(&[0, 1, 143]);
    header.extend_from_slice(&opaque.to_be_bytes());
    header.extend_from_slice(&1_i32.to_be_bytes());
    header.extend_from_slice(&0_u32.to_be_bytes());
    header.extend_from_slice(&(fields.len() as u32).to_be_bytes());
    header.extend_from_slice(&fields);
    framed(1, &header, &answer.body)
}

fn framed(kind: u8, header: &[u8], body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    out.extend_from_slice(&((4 + header.len() + body.len()) as u32).to_be_bytes());
    out.extend_from_slice(&((u32::from(kind) << 24) | header.len() as u32).to_be_bytes());
    out.extend_from_slice(header);
    out.extend_from_slice(body);
    out
}
