//! The accept loop: connections bounded in number, headers bounded in time, all of them ended with the loop.

use std::{io, sync::Arc, time::Duration};

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
    sync::{Semaphore, watch},
    task::JoinSet,
    time::{sleep, timeout},
};

/// Connections at the same time; more wait to be accepted.
const MAX_CONNECTIONS: usize = 16_384;
/// How long the headers of a request may take; also how long an idle connection is kept.
const HEADERS: Duration = Duration::from_secs(75);
/// How long open requests may take to end once the server stops.
const GOODBYE: Duration = Duration::from_secs(5);
/// After an error of the listener (no file descriptors left, say).
const PAUSE: Duration = Duration::from_millis(100);

/// Serves until `stopping` turns true, then lets open requests end. Dropping it ends every connection at once.
pub(super) async fn serve(
    listener: TcpListener,
    router: Router,
    mut stopping: watch::Receiver<bool>,
) {
    let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut connections = JoinSet::new();
    let graceful = GracefulShutdown::new();
    loop {
        let accept = async {
            // The semaphore is never closed.
            let permit = Arc::clone(&permits).acquire_owned().await;
            listener.accept().await.map(|(stream, _)| (stream, permit))
        };
        tokio::select! {
            accepted = accept => match accepted {
                Ok((stream, permit)) => {
                    if let Err(error) = stream.set_nodelay(true) {
                        tracing::debug!(%error, "a connection keeps Nagle's delay");
                    }
                    let watched = graceful.watch(connection(stream, router.clone()));
                    connections.spawn(async move {
                        if let Err(error) = watched.await {
                            tracing::debug!(%error, "a connection ended early");
                        }
                        drop(permit);
                    });
                }
                Err(error) => {
                    report(&error);
                    sleep(PAUSE).await;
                }
            },
            Some(_) = connections.join_next() => {}
            () = async { drop(stopping.wait_for(|stopping| *stopping).await) } => break,
        }
    }
    drop(listener);
    if timeout(GOODBYE, graceful.shutdown()).await.is_err() {
        tracing::warn!("some requests did not end within {GOODBYE:?} and were cut off");
    }
}

/// One connection, whatever carries it.
pub(crate) fn connection<I: AsyncRead + AsyncWrite + Unpin + 'static>(
    io: I,
    router: Router,
) -> http1::Connection<TokioIo<I>, TowerToHyperService<Router>> {
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADERS)
        .serve_connection(TokioIo::new(io), TowerToHyperService::new(router))
}

fn report(error: &io::Error) {
    tracing::warn!(%error, "a connection could not be accepted");
}
