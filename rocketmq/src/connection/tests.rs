use std::net::SocketAddr;

use bytes::BufMut;
use tokio::net::{TcpListener, TcpStream};

use super::*;

struct Deaf;

impl Listener for Deaf {
    fn request(&self, _: &Arc<str>, _: &Command) -> (i32, &'static str) {
        (3, "no")
    }

    fn opened(&self, _: &Arc<str>) {}

    fn closed(&self, _: &Arc<str>) {}
}

/// A server that reads one frame and then does what `script` says.
async fn scripted<F>(script: impl FnOnce(TcpStream, Command) -> F + Send + 'static) -> Connection
where
    F: Future<Output = ()> + Send,
{
    let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address: SocketAddr = server.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = server.accept().await.unwrap();
        let command = read_frame(&mut stream).await;
        script(stream, command).await;
    });
    let address: Arc<str> = address.to_string().into();
    Connection::open(
        &address,
        Duration::from_secs(5),
        1 << 20,
        None,
        Arc::new(Deaf),
    )
    .await
    .unwrap()
}

async fn read_frame(stream: &mut TcpStream) -> Command {
    let length = stream.read_u32().await.unwrap();
    let mut buffer = BytesMut::new();
    buffer.put_u32(length);
    buffer.resize(4 + length as usize, 0);
    stream.read_exact(&mut buffer[4..]).await.unwrap();
    frame::decode(&mut buffer, 1 << 20).unwrap().unwrap()
}

fn answer(opaque: i32) -> Vec<u8> {
    frame::encode_response(0, opaque, "fine").to_vec()
}

fn pending(connection: &Connection) -> usize {
    connection.shared.state().waiters.len()
}

const WAIT: Duration = Duration::from_secs(5);

#[tokio::test]
async fn answers_reach_their_requests_in_any_order() {
    let connection = scripted(async |mut stream: TcpStream, first: Command| {
        let second = read_frame(&mut stream).await;
        let mut bytes = frame::encode_response(2, second.opaque, "b");
        bytes.extend_from_slice(&frame::encode_response(1, first.opaque, "a"));
        // Byte by byte: frames are put together again.
        for byte in bytes {
            stream.write_u8(byte).await.unwrap();
        }
        let _ = stream.read_u8().await;
    })
    .await;
    let (one, two) = tokio::join!(
        connection.invoke(Request::new(101), WAIT),
        connection.invoke(Request::new(102), WAIT)
    );
    assert_eq!((one.unwrap().code, two.unwrap().code), (1, 2));
    assert_eq!(pending(&connection), 0);
}

#[tokio::test]
async fn a_peer_that_closes_inside_a_frame_makes_the_send_ambiguous() {
    let connection = scripted(async |mut stream: TcpStream, command: Command| {
        let bytes = answer(command.opaque);
        stream.write_all(&bytes[..bytes.len() / 2]).await.unwrap();
    })
    .await;
    let error = connection
        .invoke(Request::new(310), WAIT)
        .await
        .unwrap_err();
    assert_eq!(
        (error.kind(), error.persisted()),
        (ErrorKind::Unavailable, Persisted::Maybe)
    );
    let error = connection
        .invoke(Request::new(310), WAIT)
        .await
        .unwrap_err();
    assert_eq!(
        (error.kind(), error.persisted()),
        (ErrorKind::Unavailable, Persisted::No)
    );
    assert!(!connection.is_open());
}

#[tokio::test]
async fn garbage_and_oversized_frames_end_the_connection() {
    let mut oversized = Vec::new();
    oversized.put_u32(u32::MAX);
    for garbage in [oversized, b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec()] {
        let connection = scripted(async move |mut stream: TcpStream, _| {
            stream.write_all(&garbage).await.unwrap();
            // Kept open: it is this side that gives up.
            let _ = stream.read_u8().await;
        })
        .await;
        let error = connection
            .invoke(Request::new(310), WAIT)
            .await
            .unwrap_err();
        assert_eq!(
            (error.kind(), error.persisted()),
            (ErrorKind::Protocol, Persisted::Maybe)
        );
        assert!(!connection.is_open());
    }
}

#[tokio::test]
async fn a_wrong_opaque_is_dropped_and_the_request_times_out() {
    let connection = scripted(async |mut stream: TcpStream, command: Command| {
        stream.write_all(&answer(command.opaque + 1)).await.unwrap();
        let _ = stream.read_u8().await;
    })
    .await;
    let error = connection
        .invoke(Request::new(310), Duration::from_millis(50))
        .await
        .unwrap_err();
    assert_eq!(
        (error.kind(), error.persisted()),
        (ErrorKind::Timeout, Persisted::Maybe)
    );
    assert!(connection.is_open());
    assert_eq!(pending(&connection), 0);
}

/// What is left of a timeout is never a round number; whoever counts equal texts wants them equal.
#[tokio::test]
async fn timeouts_are_told_in_whole_milliseconds() {
    let connection = scripted(async |mut stream: TcpStream, _| {
        let _ = stream.read_u8().await;
    })
    .await;
    let wait = Duration::from_micros(20_812);
    let error = connection.invoke(Request::new(310), wait).await;
    let error = error.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert!(error.message().ends_with("within 20 ms"), "{error}");
}

#[tokio::test]
async fn a_dropped_request_leaves_nothing_behind() {
    let connection = scripted(async |mut stream: TcpStream, command: Command| {
        let second = read_frame(&mut stream).await;
        stream.write_all(&answer(command.opaque)).await.unwrap();
        stream.write_all(&answer(second.opaque)).await.unwrap();
        let _ = stream.read_u8().await;
    })
    .await;
    let dropped = timeout(
        Duration::from_millis(20),
        connection.invoke(Request::new(310), WAIT),
    );
    assert!(dropped.await.is_err());
    assert_eq!(pending(&connection), 0);
    // The late answer to the first request does not disturb the second.
    assert!(connection.invoke(Request::new(311), WAIT).await.is_ok());
}

#[tokio::test]
async fn requests_of_the_broker_are_answered() {
    let (sender, receiver) = tokio::sync::oneshot::channel();
    let connection = scripted(async |mut stream: TcpStream, command: Command| {
        let request = Request::new(307).frame(99, false);
        stream.write_all(&request).await.unwrap();
        let reply = read_frame(&mut stream).await;
        sender.send(reply).unwrap();
        stream.write_all(&answer(command.opaque)).await.unwrap();
        let _ = stream.read_u8().await;
    })
    .await;
    connection.invoke(Request::new(1), WAIT).await.unwrap();
    let reply = receiver.await.unwrap();
    assert!(reply.is_response());
    assert_eq!((reply.code, reply.opaque), (3, 99));
}

/// As a broker does that takes TLS only.
#[tokio::test]
async fn a_peer_that_closes_without_a_word_is_asked_about_tls() {
    let connection = scripted(async |stream: TcpStream, _| drop(stream)).await;
    let error = connection.invoke(Request::new(1), WAIT).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.message().contains("TLS"), "{error}");
}

#[tokio::test]
async fn a_closed_port_is_a_definite_error() {
    let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address: Arc<str> = server.local_addr().unwrap().to_string().into();
    drop(server);
    let error = Connection::open(&address, WAIT, 1 << 20, None, Arc::new(Deaf))
        .await
        .unwrap_err();
    assert_eq!(
        (error.kind(), error.persisted()),
        (ErrorKind::Unavailable, Persisted::No)
    );
}

/// What it asks for is more than any socket takes unread.
async fn blocked() -> (Connection, TcpStream) {
    let (sender, receiver) = tokio::sync::oneshot::channel();
    let connection = scripted(async |stream: TcpStream, _| {
        let _ = sender.send(stream);
    })
    .await;
    connection.oneway(&Request::new(1)).unwrap();
    let stream = receiver.await.unwrap();
    let body = "x".repeat(32 << 20);
    connection.oneway(&Request::new(310).body(body)).unwrap();
    // The writer has taken it, so it is in the middle of the write.
    let taken = async {
        while !connection.shared.state().outgoing.is_empty() {
            tokio::task::yield_now().await;
        }
    };
    timeout(WAIT, taken).await.unwrap();
    (connection, stream)
}

/// Reads to the end, and says how many bytes came.
async fn drain(mut stream: TcpStream) -> usize {
    let mut bytes = Vec::new();
    let read = timeout(WAIT, stream.read_to_end(&mut bytes)).await;
    // A reset is an end, too.
    let _ = read.expect("the socket is still open");
    bytes.len()
}

#[tokio::test]
async fn a_dropped_connection_to_a_peer_that_does_not_read_is_closed() {
    let (connection, stream) = blocked().await;
    let shared = Arc::downgrade(&connection.shared);
    drop(connection);
    let begun = Instant::now();
    let gone = async {
        while shared.strong_count() > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(WAIT, gone)
        .await
        .expect("the writer is still there");
    assert!(begun.elapsed() < Duration::from_secs(1));
    assert!(drain(stream).await < 32 << 20);
}

#[tokio::test]
async fn a_connection_that_was_given_up_lets_its_writer_go() {
    let (connection, _stream) = blocked().await;
    connection
        .shared
        .end(ErrorKind::Unavailable, "silence".to_owned());
    // The reader and the owner hold it still.
    let gone = async {
        while Arc::strong_count(&connection.shared) > 2 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(WAIT, gone)
        .await
        .expect("the writer is still there");
}
