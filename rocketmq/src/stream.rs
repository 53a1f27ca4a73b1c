//! The two directions of a connection, over TCP alone or over TLS on it.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
};

#[cfg(feature = "tls")]
use crate::tls::TlsStream;
use crate::{
    error::{Error, ErrorKind, Result},
    tls::Tls,
};

pub(crate) enum ReadHalf {
    Tcp(OwnedReadHalf),
    #[cfg(feature = "tls")]
    Tls(tokio::io::ReadHalf<TlsStream>),
}

pub(crate) enum WriteHalf {
    Tcp(OwnedWriteHalf),
    #[cfg(feature = "tls")]
    Tls(tokio::io::WriteHalf<TlsStream>),
}

/// Connects within `wait`; a handshake has a bound of its own.
///
/// # Errors
/// [`ErrorKind::Unavailable`], [`ErrorKind::Timeout`]; as the handshake says for TLS.
///
/// # Cancellation
/// The attempt is given up.
pub(crate) async fn connect(
    address: &Arc<str>,
    wait: Duration,
    tls: Option<&Tls>,
) -> Result<(ReadHalf, WriteHalf)> {
    let connected = tokio::time::timeout(wait, TcpStream::connect(&**address));
    let connected = connected.await.map_err(|_| {
        let text = format!("cannot connect within {} ms", wait.as_millis());
        Error::new(ErrorKind::Timeout, text)
    })?;
    let stream = connected.map_err(|source| {
        let text = format!("cannot connect: {source}");
        Error::new(ErrorKind::Unavailable, text).with_source(source)
    })?;
    // A small request must not wait for the answer to the one before it.
    let _ = stream.set_nodelay(true);
    match tls {
        None => {
            let (read, write) = stream.into_split();
            Ok((ReadHalf::Tcp(read), WriteHalf::Tcp(write)))
        }
        #[cfg(feature = "tls")]
        Some(tls) => {
            let (read, write) = tokio::io::split(tls.handshake(address, stream).await?);
            Ok((ReadHalf::Tls(read), WriteHalf::Tls(write)))
        }
        #[cfg(not(feature = "tls"))]
        Some(tls) => match *tls {},
    }
}

impl AsyncRead for ReadHalf {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            ReadHalf::Tcp(half) => Pin::new(half).poll_read(cx, buffer),
            #[cfg(feature = "tls")]
            ReadHalf::Tls(half) => Pin::new(half).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for WriteHalf {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            WriteHalf::Tcp(half) => Pin::new(half).poll_write(cx, bytes),
            #[cfg(feature = "tls")]
            WriteHalf::Tls(half) => Pin::new(half).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            WriteHalf::Tcp(half) => Pin::new(half).poll_flush(cx),
            #[cfg(feature = "tls")]
            WriteHalf::Tls(half) => Pin::new(half).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            WriteHalf::Tcp(half) => Pin::new(half).poll_shutdown(cx),
            #[cfg(feature = "tls")]
            WriteHalf::Tls(half) => Pin::new(half).poll_shutdown(cx),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn hosts_of_ipv6_are_reached_with_and_without_brackets() {
        let Ok(listener) = tokio::net::TcpListener::bind("[::1]:0").await else {
            // A machine without IPv6.
            return;
        };
        let port = listener.local_addr().unwrap().port();
        // Brokers register the second form (`BrokerController.getBrokerAddr`).
        for host in ["[::1]", "::1"] {
            let address = format!("{host}:{port}").into();
            assert!(
                connect(&address, Duration::from_secs(3), None)
                    .await
                    .is_ok(),
                "{address}"
            );
        }
    }
}
