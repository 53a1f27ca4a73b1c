//! Executions of a whole connection: a client's requests, and a peer that answers as it likes.

use std::{io, panic, sync::Arc, time::Duration};

use bytes::BytesMut;
use crossfade_rocketmq::{Client, ClientOptions, Request, codes::request, frame};
use rand::{Rng as _, RngExt as _, SeedableRng as _, rngs::StdRng, seq::SliceRandom as _};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::{JoinSet, yield_now},
    time::timeout,
};

use crate::{draw, frames::Frame, run::Report, together};

/// Connections at a time.
pub const TOGETHER: usize = 32;
/// Frames above it end the connection.
const MAX_FRAME_BYTES: usize = 64 << 10;
/// What the peer writes at most of what does not end.
const MAX_FLOOD_BYTES: usize = 1 << 20;
/// For answers that come.
const PATIENT: Duration = Duration::from_secs(30);
/// For answers that may not come.
const IMPATIENT: Duration = Duration::from_millis(20);
/// Within which a call must end, on a busy machine, too.
const LONGEST: Duration = Duration::from_secs(60);

/// What the peer does.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Way {
    /// Every request gets its answer, in any order and in any pieces, among answers that nobody waits for and requests of the peer's own.
    Honest,
    /// The same, spoiled.
    Spoiled,
    /// Noise.
    Noise,
    /// A frame that is larger than allowed.
    Oversized,
    /// An allowed frame that does not end.
    Unfinished,
    /// Answers that nobody waits for, without end.
    Flood,
    /// Requests that want an answer, without end; what comes is not read.
    Questions,
}

const WAYS: [Way; 10] = [
    Way::Honest,
    Way::Honest,
    Way::Spoiled,
    Way::Spoiled,
    Way::Spoiled,
    Way::Noise,
    Way::Oversized,
    Way::Unfinished,
    Way::Flood,
    Way::Questions,
];

/// Executions `from..from + count`, [`TOGETHER`] at a time. Must not run twice at a time: it counts the process's panics.
#[must_use]
pub fn run(seed: u64, from: u64, count: u64) -> Report {
    together::run("connection", (seed, from, count), TOGETHER, execute)
}

/// One connection. Panics when a call does not end, when an answer goes to a request that is not its own, or when one that came is lost.
async fn execute(mut draws: StdRng) {
    let way = *draw::one(&mut draws, &WAYS);
    let requests = draws.random_range(1..=8);
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    // Kept until all calls have ended: one that connects again must not meet the peer of another execution, which was given the same port.
    let listener = Arc::new(listener);
    let accepting = Arc::clone(&listener);
    let address: Arc<str> = listener
        .local_addr()
        .expect("its address")
        .to_string()
        .into();
    let mut options = ClientOptions::new([&*address], "fuzz");
    options.connect_timeout = PATIENT;
    options.max_frame_bytes = MAX_FRAME_BYTES;
    let client = Client::new(options).expect("good options");
    let peer_draws = StdRng::seed_from_u64(draws.next_u64());
    let peer = tokio::spawn(async move {
        // One connection is all that a client opens to one address; it may end as it likes.
        if let Ok((stream, _)) = accepting.accept().await {
            let _ = serve(stream, way, requests, peer_draws).await;
        }
    });
    let wait = match way {
        Way::Honest => PATIENT,
        _ => IMPATIENT,
    };
    let mut calls = JoinSet::new();
    for number in 0..requests {
        let (client, address) = (client.clone(), Arc::clone(&address));
        calls.spawn(async move {
            let request = Request::new(request::GET_MAX_OFFSET).field("number", number);
            let answer = timeout(LONGEST, client.invoke(&address, request, wait)).await;
            let answer = answer.unwrap_or_else(|_| panic!("{way:?}: the call does not end"));
            match answer {
                Ok(command) if way == Way::Honest => {
                    let own = command.fields.number::<usize>("number").ok();
                    assert_eq!(own, Some(number), "another request's answer");
                }
                Err(error) if way == Way::Honest => panic!("the answer came, and: {error}"),
                _ => {}
            }
        });
    }
    while let Some(call) = calls.join_next().await {
        if let Err(failed) = call
            && let Ok(panic) = failed.try_into_panic()
        {
            panic::resume_unwind(panic);
        }
    }
    drop(client);
    peer.abort();
    drop(listener);
}

async fn serve(
    mut stream: TcpStream,
    way: Way,
    requests: usize,
    mut draws: StdRng,
) -> io::Result<()> {
    let mut asked = Vec::new();
    let mut buffer = BytesMut::new();
    while asked.len() < requests {
        if stream.read_buf(&mut buffer).await? == 0 {
            return Ok(());
        }
        while let Ok(Some(command)) = frame::decode(&mut buffer, MAX_FRAME_BYTES) {
            let number = command.fields.get("number").unwrap_or_default().to_owned();
            asked.push((command.opaque, number));
        }
        // Others do not wait for all.
        if way != Way::Honest && draws.random_bool(0.5) {
            break;
        }
    }
    match way {
        Way::Honest => {
            let bytes = answers(&asked, &mut draws);
            write_in_pieces(&mut stream, &bytes, &mut draws).await?;
            return read_on(stream).await;
        }
        Way::Spoiled => {
            let mut bytes = answers(&asked, &mut draws);
            draw::spoil(&mut draws, &mut bytes);
            write_in_pieces(&mut stream, &bytes, &mut draws).await?;
        }
        Way::Noise => {
            let noise = draw::bytes(&mut draws, 4 << 10);
            write_in_pieces(&mut stream, &noise, &mut draws).await?;
        }
        Way::Oversized => {
            let more = *draw::one(
                &mut draws,
                &[1, 4, 1 << 20, u32::MAX as usize - MAX_FRAME_BYTES],
            );
            let length = (MAX_FRAME_BYTES + more) as u32;
            stream.write_all(&length.to_be_bytes()).await?;
            flood(&mut stream, &[0; 4 << 10]).await?;
        }
        Way::Unfinished => {
            let length = MAX_FRAME_BYTES as u32;
            stream.write_all(&length.to_be_bytes()).await?;
            let part = vec![0; draws.random_range(0..MAX_FRAME_BYTES)];
            stream.write_all(&part).await?;
        }
        Way::Flood => {
            let frame = Frame::answer(draws.random_range(1 << 20..1 << 30), Vec::new());
            let bytes = frame.encode(&mut draws);
            flood(&mut stream, &bytes.repeat(64)).await?;
        }
        Way::Questions => {
            let mut frame = Frame::any(&mut draws);
            frame.flag = 0;
            let bytes = frame.encode(&mut draws);
            return flood(&mut stream, &bytes.repeat(16)).await;
        }
    }
    match draws.random_bool(0.5) {
        true => Ok(()),
        false => read_on(stream).await,
    }
}

/// All answers, in any order, some of them twice, among other frames.
fn answers(asked: &[(i32, String)], draws: &mut StdRng) -> Vec<u8> {
    let mut frames = Vec::new();
    for (opaque, number) in asked {
        let fields = vec![("number".to_owned(), number.clone())];
        let answer = Frame::answer(*opaque, fields).encode(draws);
        if draws.random_bool(0.1) {
            frames.push(answer.clone());
        }
        frames.push(answer);
    }
    for _ in 0..draws.random_range(0..4) {
        let mut frame = Frame::any(draws);
        // Nobody waits for it.
        frame.opaque = draws.random_range(1 << 20..1 << 30);
        frames.push(frame.encode(draws));
    }
    frames.shuffle(draws);
    frames.concat()
}

async fn write_in_pieces(
    stream: &mut TcpStream,
    bytes: &[u8],
    draws: &mut StdRng,
) -> io::Result<()> {
    let mut rest = bytes;
    while !rest.is_empty() {
        let (piece, later) = rest.split_at(draws.random_range(1..=rest.len()));
        stream.write_all(piece).await?;
        stream.flush().await?;
        yield_now().await;
        rest = later;
    }
    Ok(())
}

async fn flood(stream: &mut TcpStream, bytes: &[u8]) -> io::Result<()> {
    for _ in 0..MAX_FLOOD_BYTES / bytes.len() {
        stream.write_all(bytes).await?;
    }
    Ok(())
}

/// Reads until the client closes.
async fn read_on(mut stream: TcpStream) -> io::Result<()> {
    let mut buffer = [0; 4 << 10];
    while stream.read(&mut buffer).await? > 0 {}
    Ok(())
}
