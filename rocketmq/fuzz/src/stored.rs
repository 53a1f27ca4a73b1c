//! Messages as a broker stores them (apache/rocketmq `MessageDecoder.java`), with bodies compressed in every way.

use std::{io::Write as _, sync::LazyLock};

use rand::{RngExt as _, rngs::StdRng};

use crate::draw;

const MAGIC: i32 = -626_843_481;
const MAGIC_LONG_TOPIC: i32 = -626_843_477;
const ZLIB: i32 = 0x301;
const LZ4: i32 = 0x101;
const ZSTD: i32 = 0x201;
const BORN_HOST_V6: i32 = 1 << 4;
const STORE_HOST_V6: i32 = 1 << 5;

/// A message, and what a reader should make of it.
#[derive(Clone, Debug)]
pub(crate) struct Stored {
    pub(crate) offset: u64,
    pub(crate) reconsume_times: u32,
    /// As the application sent it.
    pub(crate) body: Vec<u8>,
    pub(crate) properties: Vec<(String, String)>,
    pub(crate) bytes: Vec<u8>,
}

impl Stored {
    /// Any message; its body is short.
    pub(crate) fn any(draws: &mut StdRng) -> Stored {
        let body = draw::bytes(draws, 200);
        let method = *draw::one(draws, &[0, 0, 1, ZLIB, LZ4, ZSTD]);
        let packed = match method {
            0 => body.clone(),
            1 | ZLIB => zlib(&body),
            LZ4 => lz4(&body),
            _ => zstd(&body),
        };
        let names = [
            "UNIQ_KEY",
            "TAGS",
            "KEYS",
            "RETRY_TOPIC",
            "REAL_TOPIC",
            "REAL_QID",
            "PGROUP",
            "ключ",
        ];
        let properties = draws.random_range(0..5);
        let properties =
            (0..properties).map(|_| ((*draw::one(draws, &names)).to_owned(), draw::text(draws)));
        let properties = properties.collect();
        let mut stored = Stored {
            offset: draws.random_range(0..1 << 40),
            reconsume_times: draws.random_range(0..17),
            body,
            properties,
            bytes: Vec::new(),
        };
        stored.encode(draws, method, &packed);
        stored
    }

    /// One that grows a thousand times when it is read, to [`BOMB_BYTES`]; those are not kept here.
    pub(crate) fn bomb(draws: &mut StdRng) -> Stored {
        static PACKED: LazyLock<[(i32, Vec<u8>); 3]> = LazyLock::new(|| {
            let zeros = vec![0; BOMB_BYTES];
            [
                (ZLIB, zlib(&zeros)),
                (LZ4, lz4(&zeros)),
                (ZSTD, zstd(&zeros)),
            ]
        });
        let (method, packed) = draw::one(draws, &*PACKED);
        let mut stored = Stored {
            offset: draws.random_range(0..1 << 40),
            reconsume_times: 0,
            body: Vec::new(),
            properties: Vec::new(),
            bytes: Vec::new(),
        };
        stored.encode(draws, *method, packed);
        stored
    }

    fn encode(&mut self, draws: &mut StdRng, method: i32, packed: &[u8]) {
        let hosts = draws.random_range(0..4) * BORN_HOST_V6;
        let magic = *draw::one(draws, &[MAGIC, MAGIC_LONG_TOPIC]);
        let sys_flag = method | hosts;
        let out = &mut self.bytes;
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&magic.to_be_bytes());
        out.extend_from_slice(&(crc32fast::hash(packed) & 0x7fff_ffff).to_be_bytes());
        // Queue and flag.
        out.extend_from_slice(&[0; 8]);
        out.extend_from_slice(&self.offset.to_be_bytes());
        out.extend_from_slice(&(self.offset * 3).to_be_bytes());
        out.extend_from_slice(&sys_flag.to_be_bytes());
        for v6 in [BORN_HOST_V6, STORE_HOST_V6] {
            out.extend_from_slice(&1_764_000_000_000_i64.to_be_bytes());
            let address = if sys_flag & v6 == 0 { 4 } else { 16 };
            out.resize(out.len() + address, 0x7f);
            out.extend_from_slice(&10_911_u32.to_be_bytes());
        }
        out.extend_from_slice(&self.reconsume_times.to_be_bytes());
        out.extend_from_slice(&[0; 8]);
        out.extend_from_slice(&(packed.len() as u32).to_be_bytes());
        out.extend_from_slice(packed);
        match magic {
            MAGIC => out.push(1),
            _ => out.extend_from_slice(&[0, 1]),
        }
        out.push(b't');
        let mut properties = String::new();
        for (name, value) in &self.properties {
            properties.extend([name, "\u{1}", value, "\u{2}"]);
        }
        out.extend_from_slice(&(properties.len() as u16).to_be_bytes());
        out.extend_from_slice(properties.as_bytes());
        let length = out.len() as u32;
        out[..4].copy_from_slice(&length.to_be_bytes());
    }
}

/// A message that is not compressed, without properties of its sender's.
pub(crate) fn plain(topic: &str, queue: u32, offset: u64, retries: u32, body: &[u8]) -> Vec<u8> {
    let mut out = vec![0; 4];
    out.extend_from_slice(&MAGIC.to_be_bytes());
    out.extend_from_slice(&(crc32fast::hash(body) & 0x7fff_ffff).to_be_bytes());
    out.extend_from_slice(&queue.to_be_bytes());
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&offset.to_be_bytes());
    out.extend_from_slice(&offset.wrapping_mul(128).to_be_bytes());
    out.extend_from_slice(&[0; 4]);
    for _ in ["born", "stored"] {
        out.extend_from_slice(&1_764_000_000_000_i64.to_be_bytes());
        out.extend_from_slice(&[127, 0, 0, 1, 0, 0, 0x2a, 0x9f]);
    }
    out.extend_from_slice(&retries.to_be_bytes());
    out.extend_from_slice(&[0; 8]);
    out.extend_from_slice(&(body.len() as u32).to_be_bytes());
    out.extend_from_slice(body);
    out.push(topic.len() as u8);
    out.extend_from_slice(topic.as_bytes());
    // What a broker notes of a retry.
    let properties = match topic.strip_prefix("%RETRY%") {
        Some(_) => "RETRY_TOPIC\u{1}t\u{2}",
        None => "",
    };
    out.extend_from_slice(&(properties.len() as u16).to_be_bytes());
    out.extend_from_slice(properties.as_bytes());
    let length = out.len() as u32;
    out[..4].copy_from_slice(&length.to_be_bytes());
    out
}

/// What a bomb's body has.
pub(crate) const BOMB_BYTES: usize = 8 << 20;

fn zlib(body: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
    // Writing to memory cannot fail.
    let _ = encoder.write_all(body);
    encoder.finish().unwrap_or_default()
}

fn lz4(body: &[u8]) -> Vec<u8> {
    let mut encoder = lz4_flex::frame::FrameEncoder::new(Vec::new());
    let _ = encoder.write_all(body);
    encoder.finish().unwrap_or_default()
}

fn zstd(body: &[u8]) -> Vec<u8> {
    ruzstd::encoding::compress_to_vec(body, ruzstd::encoding::CompressionLevel::Fastest)
}
