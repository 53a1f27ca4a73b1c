//! Messages that cannot be read, where their queue stands; and those that cannot be read in one pull.

use std::{io::Write as _, sync::atomic::Ordering, time::Duration};

use bytes::{BufMut, Bytes, BytesMut};
use crossfade_rocketmq::{Consumer, Delivery, Unreadable};

use crate::server::{FIRST, Server, TOPIC, consumer};

/// `MessageSysFlag`: compressed, by LZ4.
const LZ4: i32 = 0x1 | 0x1 << 8;
/// By zlib.
const ZLIB: i32 = 0x1 | 0x3 << 8;

/// As a broker stores it.
fn stored(offset: i64, body: &[u8], sys_flag: i32, crc: u32) -> Bytes {
    let mut message = BytesMut::new();
    message.put_i32(-626_843_481);
    message.put_u32(crc);
    message.put_i32(0);
    message.put_i32(0);
    message.put_i64(offset);
    message.put_i64(offset * 100);
    message.put_i32(sys_flag);
    for _ in ["born", "stored"] {
        message.put_i64(1_700_000_000_000);
        message.put_slice(&[127, 0, 0, 1, 0, 0, 0, 1]);
    }
    message.put_i32(0);
    message.put_i64(0);
    message.put_u32(body.len() as u32);
    message.put_slice(body);
    message.put_u8(TOPIC.len() as u8);
    message.put_slice(TOPIC.as_bytes());
    message.put_u16(0);
    let mut whole = BytesMut::new();
    whole.put_u32(4 + message.len() as u32);
    whole.put_slice(&message);
    whole.freeze()
}

fn crc(body: &[u8]) -> u32 {
    crc32fast::hash(body) & 0x7fff_ffff
}

pub(crate) fn plain(offset: i64, body: &str) -> Bytes {
    let body = body.as_bytes();
    stored(offset, body, 0, crc(body))
}

async fn bodies(consumer: &Consumer) -> Vec<Delivery> {
    consumer.receive(8, Duration::from_secs(30)).await.unwrap()
}

/// Asks until the queue stands somewhere.
async fn stands(consumer: &Consumer) -> Unreadable {
    let standing = tokio::time::timeout(Duration::from_secs(30), async {
        loop {
            if let Some(one) = consumer.unreadable().pop() {
                return one;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    standing.await.expect("the queue stands there")
}

#[tokio::test]
async fn what_cannot_be_read_is_never_passed_and_is_told_until_the_offset_is_set_past_it() {
    let no_message = Bytes::from_static(&[0, 0, 0, 12, 1, 2, 3, 4, 5, 6, 7, 8]);
    for (bad, why) in [
        (stored(FIRST + 1, b"b", LZ4, crc(b"b")), "LZ4"),
        (stored(FIRST + 1, b"b", 0, crc(b"b") ^ 1), "checksum"),
        (no_message, "magic"),
    ] {
        let (first, last) = (plain(FIRST, "a"), plain(FIRST + 2, "c"));
        let server = Server::start(vec![first, bad, last]).await;
        server.takes_commits.store(true, Ordering::SeqCst);
        let (_client, reader) = consumer(&server).await;
        let read = bodies(&reader).await;
        assert_eq!(read.len(), 1);
        assert_eq!(read[0].message.body, "a");
        let Unreadable {
            queue,
            offset,
            reason,
        } = stands(&reader).await;
        assert_eq!((&*queue.topic, queue.queue), (TOPIC, 0));
        assert_eq!(i64::try_from(offset), Ok(FIRST + 1));
        assert!(reason.contains(why), "{reason}");
        reader.ack(read[0].token).unwrap();
        reader.close().await.unwrap();
        assert!(reader.unreadable().is_empty());
        assert_eq!(server.committed.load(Ordering::SeqCst), FIRST + 1);

        // An operator gives it up.
        server.committed.store(FIRST + 2, Ordering::SeqCst);
        let (_client, reader) = consumer(&server).await;
        let read = bodies(&reader).await;
        assert_eq!(read[0].message.body, "c");
        assert!(reader.unreadable().is_empty());
    }
}

#[tokio::test]
async fn bodies_that_grow_too_large_for_one_pull_come_in_several_and_none_is_passed() {
    const LARGE: usize = 9 << 20;
    let zlib = flate2::Compression::fast();
    let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), zlib);
    encoder.write_all(&vec![b'x'; LARGE]).unwrap();
    let packed = encoder.finish().unwrap();
    let large = |offset| stored(offset, &packed, ZLIB, crc(&packed));
    let all = (FIRST..FIRST + 4).map(large).collect();
    let server = Server::start(all).await;
    server.takes_commits.store(true, Ordering::SeqCst);
    let (_client, reader) = consumer(&server).await;
    let mut offsets = Vec::new();
    while offsets.len() < 4 {
        let read = bodies(&reader).await;
        assert!(!read.is_empty(), "only {offsets:?}");
        for delivery in read {
            assert_eq!(delivery.message.body.len(), LARGE);
            offsets.push(delivery.message.offset as i64);
            reader.ack(delivery.token).unwrap();
        }
    }
    assert_eq!(offsets, (FIRST..FIRST + 4).collect::<Vec<_>>());
    reader.close().await.unwrap();
    assert_eq!(server.committed.load(Ordering::SeqCst), FIRST + 4);
}
