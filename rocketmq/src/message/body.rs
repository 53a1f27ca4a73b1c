//! Bodies that producers compressed (apache/rocketmq `CompressionType.java`): zlib by every version, LZ4 frames and ZSTD by 5.x.

use std::io::{self, Read};

use bytes::Bytes;
use ruzstd::decoding::StreamingDecoder;

use crate::{
    codes::message_flag,
    error::{Error, ErrorKind, Result},
};

/// How far back a ZSTD body may refer; it is taken from the heap before anything is read. Levels up to 19 have 8 MiB.
const MAX_ZSTD_WINDOW_BYTES: u64 = 32 << 20;

/// The body as the application sent it; none when it would grow above `limit` bytes. One that is not compressed has no limit here.
///
/// # Errors
/// [`ErrorKind::Unsupported`] for a method that no released version has, [`ErrorKind::Protocol`] for a body that cannot be decompressed.
pub(super) fn plain(body: Bytes, sys_flag: i32, limit: usize) -> Result<Option<Bytes>> {
    if sys_flag & message_flag::COMPRESSED == 0 {
        return Ok(Some(body));
    }
    match sys_flag & message_flag::COMPRESSION_MASK {
        // Clients before 4.9.4 name no method: it is zlib.
        0 | message_flag::COMPRESSION_ZLIB => {
            inflate("zlib", &body, limit, flate2::read::ZlibDecoder::new(&*body))
        }
        message_flag::COMPRESSION_LZ4 => inflate(
            "LZ4",
            &body,
            limit,
            lz4_flex::frame::FrameDecoder::new(&*body),
        ),
        message_flag::COMPRESSION_ZSTD => {
            match StreamingDecoder::new_with_max_window_size(&*body, MAX_ZSTD_WINDOW_BYTES) {
                Ok(decoder) => inflate("ZSTD", &body, limit, decoder),
                Err(source) => Err(broken("ZSTD", io::Error::other(source))),
            }
        }
        other => Err(Error::new(
            ErrorKind::Unsupported,
            format!(
                "its body is compressed by the unknown method {}",
                other >> 8
            ),
        )),
    }
}

fn inflate(method: &str, body: &[u8], limit: usize, decoder: impl Read) -> Result<Option<Bytes>> {
    let mut inflated = Vec::with_capacity((body.len() * 2).min(limit));
    // One more shows that there is more.
    let read = decoder.take(limit as u64 + 1).read_to_end(&mut inflated);
    match read {
        Ok(length) if length > limit => Ok(None),
        Ok(_) => {
            // It may have grown to twice of what it holds, and is kept until it is acked.
            inflated.shrink_to_fit();
            Ok(Some(inflated.into()))
        }
        Err(source) => Err(broken(method, source)),
    }
}

fn broken(method: &str, source: io::Error) -> Error {
    let message = format!("its body is no {method}: {source}");
    Error::new(ErrorKind::Protocol, message).with_source(source)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    const TEXT: &[u8] = b"hello hello hello hello";

    fn zlib(body: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(body).unwrap();
        encoder.finish().unwrap()
    }

    fn lz4(body: &[u8]) -> Vec<u8> {
        let mut encoder = lz4_flex::frame::FrameEncoder::new(Vec::new());
        encoder.write_all(body).unwrap();
        encoder.finish().unwrap()
    }

    fn zstd(body: &[u8]) -> Vec<u8> {
        let level = ruzstd::encoding::CompressionLevel::Fastest;
        ruzstd::encoding::compress_to_vec(body, level)
    }

    #[test]
    fn every_method_of_the_brokers_is_read() {
        for (sys_flag, body) in [
            (0, TEXT.to_vec()),
            (1, zlib(TEXT)),
            (769, zlib(TEXT)),
            (257, lz4(TEXT)),
            (513, zstd(TEXT)),
        ] {
            let read = plain(body.into(), sys_flag, TEXT.len()).unwrap();
            assert_eq!(read.unwrap(), TEXT, "{sys_flag}");
        }
    }

    #[test]
    fn a_body_that_grows_above_the_limit_is_not_read() {
        let zeros = vec![0; 100_001];
        for (sys_flag, bomb) in [(769, zlib(&zeros)), (257, lz4(&zeros)), (513, zstd(&zeros))] {
            let bomb = Bytes::from(bomb);
            let read = plain(bomb.clone(), sys_flag, 100_001).unwrap();
            assert_eq!(read.unwrap(), zeros);
            assert!(plain(bomb, sys_flag, 100_000).unwrap().is_none());
        }
    }

    #[test]
    fn zstd_body_that_asks_for_a_large_window_is_not_read() {
        // Magic number, no flags, the window as an exponent above 10; one empty raw block, the last.
        let frame = |exponent: u8| [0x28, 0xb5, 0x2f, 0xfd, 0, exponent << 3, 1, 0, 0];
        let read = |exponent| plain(frame(exponent).to_vec().into(), 513, 100);
        assert_eq!(read(25 - 10).unwrap().unwrap(), "");
        assert_eq!(read(26 - 10).unwrap_err().kind(), ErrorKind::Protocol);
    }

    #[test]
    fn a_body_of_another_method_or_cut_short_is_an_error() {
        let all = [(769, zlib(TEXT)), (257, lz4(TEXT)), (513, zstd(TEXT))];
        for (sys_flag, body) in &all {
            for (other, _) in all.iter().filter(|(other, _)| other != sys_flag) {
                let error = plain(body.clone().into(), *other, 100).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Protocol, "{sys_flag} as {other}");
            }
            // A frame without its end may be a whole text: all but the trailing checksum.
            let half = body[..body.len() / 2].to_vec();
            assert!(plain(half.into(), *sys_flag, 100).is_err(), "{sys_flag}");
        }
        let unknown = plain(Bytes::from_static(TEXT), 0x701, 100).unwrap_err();
        assert_eq!(unknown.kind(), ErrorKind::Unsupported);
    }
}
