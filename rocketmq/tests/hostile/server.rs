//! The hostile cluster: name server and broker on one port.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use bytes::BytesMut;
use crossfade_rocketmq::frame;
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

use super::{
    answers::answer,
    spoil::{self, Bytes},
};

/// Written over and over as a frame that does not end.
static ENDLESS: [u8; 32 << 10] = [b'['; 32 << 10];
/// Less than what anybody should have in memory for it.
const MAX_ENDLESS: usize = 2_000;

/// Serves until the runtime ends; its address. One seed gives one sequence of draws for each connection.
pub(crate) async fn start(seed: u64, client_id: &str, answered: Arc<AtomicUsize>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let share = spoil::SHARES[seed as usize % spoil::SHARES.len()];
    let mut draws = StdRng::seed_from_u64(seed);
    let own: [Arc<str>; 2] = [address.as_str().into(), client_id.into()];
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let draws = StdRng::seed_from_u64(draws.random());
            let (own, answered) = (own.clone(), Arc::clone(&answered));
            tokio::spawn(async move {
                // Whatever the client does to its end of the connection is its right.
                let [address, client_id] = own;
                let _ = serve(stream, &address, &client_id, share, draws, &answered).await;
            });
        }
    });
    address
}

async fn serve(
    mut stream: TcpStream,
    address: &str,
    client_id: &str,
    share: f64,
    mut draws: StdRng,
    answered: &AtomicUsize,
) -> std::io::Result<()> {
    let mut buffer = BytesMut::new();
    loop {
        while let Some(command) = frame::decode(&mut buffer, 64 << 20).expect("a client's frame") {
            answered.fetch_add(1, Ordering::SeqCst);
            match spoil::frame(
                answer(&command, address, client_id),
                command.opaque,
                share,
                &mut draws,
            ) {
                Bytes::Write(bytes) => stream.write_all(&bytes).await?,
                Bytes::Silence(bytes) => {
                    stream.write_all(&bytes).await?;
                    // What comes is read, so that the client sees no full socket.
                    while stream.read_buf(&mut buffer).await? > 0 {
                        buffer.clear();
                    }
                    return Ok(());
                }
                Bytes::Close(bytes) => return stream.write_all(&bytes).await,
                Bytes::Endless(bytes) => {
                    stream.write_all(&bytes).await?;
                    for _ in 0..MAX_ENDLESS {
                        stream.write_all(&ENDLESS).await?;
                    }
                    return Ok(());
                }
            }
        }
        if stream.read_buf(&mut buffer).await? == 0 {
            return Ok(());
        }
    }
}
