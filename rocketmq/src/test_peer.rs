//! A server on a socket that answers frames as a test says.

use std::sync::Arc;

use bytes::{BufMut as _, BytesMut};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    sync::watch,
};

use crate::frame::{self, Command};

/// Serves until the runtime ends; what `answer` gives is written as it is. Answers with its address.
pub(crate) async fn serve(
    answer: impl Fn(&Command) -> Vec<u8> + Clone + Send + 'static,
) -> Arc<str> {
    serve_with_cuts(watch::Sender::new(()), answer).await
}

/// The same; connections end whenever something is sent to `cuts`.
pub(crate) async fn serve_with_cuts(
    cuts: watch::Sender<()>,
    answer: impl Fn(&Command) -> Vec<u8> + Clone + Send + 'static,
) -> Arc<str> {
    let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = server.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = server.accept().await {
            let (answer, mut cut) = (answer.clone(), cuts.subscribe());
            tokio::spawn(async move {
                let mut buffer = BytesMut::new();
                loop {
                    while let Ok(Some(command)) = frame::decode(&mut buffer, 64 << 20) {
                        let bytes = answer(&command);
                        if stream.write_all(&bytes).await.is_err() {
                            return;
                        }
                    }
                    let read = tokio::select! {
                        _ = cut.changed() => return,
                        read = stream.read_buf(&mut buffer) => read,
                    };
                    if !matches!(read, Ok(1..)) {
                        return;
                    }
                }
            });
        }
    });
    address.into()
}

/// A port on which nobody listens.
pub(crate) async fn nobody() -> Arc<str> {
    let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
    server.local_addr().unwrap().to_string().into()
}

/// A response with a body.
pub(crate) fn success(command: &Command, body: &str) -> Vec<u8> {
    let header = format!(
        r#"{{"code":0,"flag":1,"language":"JAVA","opaque":{},"version":399}}"#,
        command.opaque
    );
    let mut bytes = Vec::new();
    bytes.put_u32((4 + header.len() + body.len()) as u32);
    bytes.put_u32(header.len() as u32);
    bytes.extend_from_slice(header.as_bytes());
    bytes.extend_from_slice(body.as_bytes());
    bytes
}
