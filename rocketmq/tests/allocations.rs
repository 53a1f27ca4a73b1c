//! What a send takes from the heap, on the thread that sends and reads the answers.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    sync::Arc,
    thread,
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use crossfade_rocketmq::{
    Client, ClientOptions, Credentials, Message, Producer, ProducerOptions,
    codes::request,
    frame::{self, Command},
};

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
    static BYTES: Cell<u64> = const { Cell::new(0) };
}

fn count(bytes: usize) {
    ALLOCATIONS.set(ALLOCATIONS.get() + 1);
    BYTES.set(BYTES.get() + bytes as u64);
}

// SAFETY: every call goes to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: the caller's promises are the system allocator's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size);
        // SAFETY: the pointer came from this allocator, which is the system's.
        unsafe { System.realloc(pointer, layout, size) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the pointer came from this allocator, which is the system's.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const WAIT: Duration = Duration::from_secs(30);
const SENDS: u64 = 2_000;

/// A name server and broker on a thread of its own, which answers sends as a broker of 5.5.0 does.
fn serve() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let own = address.clone();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let own = own.clone();
            thread::spawn(move || answer_all(stream.unwrap(), &own));
        }
    });
    address
}

fn answer_all(mut stream: TcpStream, own: &str) {
    let (mut buffer, mut bytes) = (BytesMut::new(), [0; 1 << 16]);
    while let Ok(read @ 1..) = stream.read(&mut bytes) {
        buffer.extend_from_slice(&bytes[..read]);
        while let Some(command) = frame::decode(&mut buffer, 1 << 20).unwrap() {
            // The client may be gone.
            let _ = stream.write_all(&answer(&command, own));
        }
    }
}

fn answer(command: &Command, own: &str) -> Vec<u8> {
    let (mut fields, mut body) = (String::new(), String::new());
    match command.code {
        request::GET_ROUTEINFO_BY_TOPIC => {
            body = format!(
                r#"{{"brokerDatas":[{{"cluster":"c","brokerName":"b","brokerAddrs":{{"0":"{own}"}}}}],
                "queueDatas":[{{"brokerName":"b","readQueueNums":4,"writeQueueNums":4,"perm":6}}]}}"#
            );
        }
        request::SEND_MESSAGE_V2 => {
            fields = format!(
                r#""queueId":"{}","transactionId":"7F0000010001","TRACE_ON":"true","MSG_REGION":"DefaultRegion","msgId":"7F00000100002A9F0000000000001000","queueOffset":"17""#,
                command.fields.get("e").unwrap()
            );
        }
        _ => {}
    }
    let header = format!(
        r#"{{"code":0,"extFields":{{{fields}}},"flag":1,"language":"JAVA","opaque":{},"serializeTypeCurrentRPC":"JSON","version":495}}"#,
        command.opaque
    );
    let mut frame = Vec::new();
    frame.extend_from_slice(&(4 + header.len() as u32 + body.len() as u32).to_be_bytes());
    frame.extend_from_slice(&(header.len() as u32).to_be_bytes());
    frame.extend_from_slice(header.as_bytes());
    frame.extend_from_slice(body.as_bytes());
    frame
}

/// What each send of a body takes: allocations, and their bytes.
fn measure(credentials: Option<Credentials>, body: usize) -> (f64, f64) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let mut options = ClientOptions::new([serve()], "one");
        // No heartbeat or route in between.
        options.heartbeat = Duration::from_secs(600);
        options.route_refresh = Duration::from_secs(600);
        options.request_timeout = WAIT;
        options.credentials = credentials.map(|fixed| Arc::new(fixed) as Arc<_>);
        let client = Client::new(options).unwrap();
        let producer = Producer::new(&client, "orders", ProducerOptions::default())
            .await
            .unwrap();
        let body = Bytes::from(vec![b'x'; body]);
        let send = async |lane| {
            let message = Message::new(body.clone());
            let stored = producer.send(&message, lane, WAIT).await.unwrap();
            assert_eq!((u64::from(stored.queue), stored.offset), (lane % 4, 17));
            let place = stored.offset_message_id.commit_log_offset();
            assert_eq!(place, Some(4096), "{stored:?}");
        };
        // Until tables and buffers have their size.
        for lane in 0..100 {
            send(lane).await;
        }
        let before = (ALLOCATIONS.get(), BYTES.get());
        for lane in 0..SENDS {
            send(lane).await;
        }
        let each = |count: u64| count as f64 / SENDS as f64;
        (
            each(ALLOCATIONS.get() - before.0),
            each(BYTES.get() - before.1),
        )
    })
}

#[test]
fn a_send_allocates_nothing_but_its_message() {
    let (allocations, _) = measure(None, 256);
    // The properties; and every few hundred sends a buffer that answers are read into.
    assert!((1.0..1.05).contains(&allocations), "{allocations}");
}

#[test]
fn a_signed_send_allocates_its_fields_besides_and_never_its_body() {
    let credentials = Credentials::new("user", "secret").unwrap();
    let (allocations, bytes) = measure(Some(credentials), 64 << 10);
    assert!((3.0..3.05).contains(&allocations), "{allocations}");
    assert!(bytes < 4096.0, "{bytes}");
}
