//! `crossfade serve`.

use std::{io::IsTerminal as _, path::PathBuf, time::Duration};

use crossfade::Side;
use serde_json::json;
use tracing_subscriber::EnvFilter;

use super::{
    credentials::CredentialFiles,
    fault::{Fault, failed, misused},
    say,
};
use crate::{
    ServeOptions, Server,
    api::{Token, Tokens},
};

/// Run the control plane.
///
/// It prints `ready http://...` on standard output once it serves, and logs to standard error (RUST_LOG chooses how much). SIGINT and SIGTERM
/// stop it in good order; killing it loses nothing either. While it is down the applications go on with their last plan.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  crossfade serve --source 'rocketmq://10.0.0.1:9876;10.0.0.2:9876' --target rocketmq://10.0.1.1:9876 \\\n    --store sqlite:///var/lib/crossfade/plans.db --operator-token-file operator.token --sdk-token-file sdk.token --listen 0.0.0.0:7070\n\nClusters with access control or TLS (ACL 2.0: a super user; 4.9: admin = true):\n  crossfade serve --source rocketmq://10.0.0.1:9876 --target rocketmq://10.0.1.1:9876 --source-credentials source.conf --target-credentials target.conf"
)]
pub(super) struct Args {
    /// Where to listen. Addresses that other machines can reach need tokens.
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:7070")]
    listen: String,
    /// Where plans, instances and the audit log are kept: sqlite://FILE, or sqlite::memory: for a trial.
    #[arg(long, value_name = "STORE", default_value = "sqlite://crossfade.db")]
    store: String,
    /// The cluster that topics leave: rocketmq://host:port;host:port. (An embedded memory:// cluster lives inside one process: it is for `demo`
    /// and for programs that run the control plane themselves.)
    #[arg(long, value_name = "URL")]
    source: String,
    /// The cluster that topics move to.
    #[arg(long, value_name = "URL")]
    target: String,
    #[command(flatten)]
    credentials: CredentialFiles,
    /// Continue a store although the clusters' addresses are not the ones that it was made with: the same clusters, reached in another way.
    #[arg(long)]
    accept_new_addresses: bool,
    /// A file with the token of the applications.
    #[arg(long, value_name = "FILE")]
    sdk_token_file: Option<PathBuf>,
    /// A file with the token of those who decide.
    #[arg(long, value_name = "FILE")]
    operator_token_file: Option<PathBuf>,
    /// A file with the token of those who look.
    #[arg(long, value_name = "FILE")]
    read_only_token_file: Option<PathBuf>,
    /// The token of the applications, when there is no file.
    #[arg(long, hide = true, env = "CROSSFADE_SDK_TOKEN", hide_env_values = true)]
    sdk_token: Option<String>,
    #[arg(
        long,
        hide = true,
        env = "CROSSFADE_OPERATOR_TOKEN",
        hide_env_values = true
    )]
    operator_token: Option<String>,
    #[arg(
        long,
        hide = true,
        env = "CROSSFADE_READ_ONLY_TOKEN",
        hide_env_values = true
    )]
    read_only_token: Option<String>,
    /// How long an instance counts as alive after its last request.
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(2..=3_600))]
    lease: u64,
    /// Added to the lease on this side. RocketMQ may store what it was sent for 5 s more, so less than 6 is for rehearsals only.
    #[arg(long, value_name = "SECONDS", default_value_t = 6, value_parser = clap::value_parser!(u64).range(1..=600))]
    margin: u64,
    /// Most messages that a group may lag on the target when the source is closed (the gate target_lag).
    #[arg(long, value_name = "MESSAGES", default_value_t = 10_000)]
    max_target_lag: u64,
    /// Most messages that may wait for a group on the side that the keys of an ordered topic are to leave (the gate moving_lag).
    #[arg(long, value_name = "MESSAGES", default_value_t = 1_000)]
    max_moving_lag: u64,
}

pub(super) async fn run(args: Args, json: bool) -> Result<(), Fault> {
    log("info");
    let tokens = args.tokens()?;
    if tokens.is_empty() {
        tracing::warn!("no token is set: everybody on this machine may do everything");
    }
    if [&args.source, &args.target]
        .iter()
        .any(|address| address.starts_with("memory://"))
    {
        tracing::warn!(
            "an embedded cluster (memory://) lives in this process alone: no application and no other program reaches it, and nothing makes topics on it"
        );
    }
    let source = args.credentials.cluster(Side::Source, args.source);
    let target = args.credentials.cluster(Side::Target, args.target);
    let mut options = ServeOptions::new(source, target);
    options.listen = args.listen;
    options.store = args.store;
    options.tokens = tokens;
    options.accept_new_addresses = args.accept_new_addresses;
    options.timing.lease = Duration::from_secs(args.lease);
    options.timing.margin = Duration::from_secs(args.margin);
    options.limits.target_lag = args.max_target_lag;
    options.limits.moving_lag = args.max_moving_lag;
    // Before `ready`: a signal that comes right after it must not kill.
    let stop =
        stop_signal().map_err(|error| failed(format!("signals cannot be waited for: {error}")))?;
    let mut server = Server::start(options).await.map_err(failed)?;
    say(match json {
        true => json!({"ready": server.url()}).to_string(),
        false => format!("ready {}", server.url()),
    });
    tokio::select! {
        ended = server.ended() => match ended {
            Ok(()) => Err(failed("the control plane ended by itself")),
            Err(error) => Err(failed(error.to_string())),
        },
        _ = stop => {
            tracing::info!("stopping");
            server.shutdown().await.map_err(|error| failed(error.to_string()))
        }
    }
}

impl Args {
    fn tokens(&self) -> Result<Tokens, Fault> {
        let token = |file: &Option<PathBuf>, text: &Option<String>| match (file, text) {
            (Some(file), _) => Token::from_file(file).map(Some),
            (None, Some(text)) => Token::new(text).map(Some),
            (None, None) => Ok(None),
        };
        let all = || {
            Ok(Tokens {
                sdk: token(&self.sdk_token_file, &self.sdk_token)?,
                operator: token(&self.operator_token_file, &self.operator_token)?,
                read_only: token(&self.read_only_token_file, &self.read_only_token)?,
            })
        };
        all().map_err(|why: String| misused(why))
    }
}

/// Logs to standard error: as much as RUST_LOG says, or else `level`.
pub(super) fn log(level: &str) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(level));
    // A second logger in one process is no reason to stop.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .try_init();
}

/// What asks a program to end.
#[derive(Clone, Copy, Debug)]
pub(super) enum Stop {
    /// SIGINT: Ctrl-C.
    Interrupt,
    /// SIGTERM.
    #[cfg_attr(not(unix), expect(dead_code, reason = "there is no such signal"))]
    Terminate,
}

/// Resolves at SIGINT or SIGTERM.
#[cfg(unix)]
pub(super) fn stop_signal() -> std::io::Result<impl Future<Output = Stop>> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => Stop::Interrupt,
            _ = terminate.recv() => Stop::Terminate,
        }
    })
}

#[cfg(not(unix))]
pub(super) fn stop_signal() -> std::io::Result<impl Future<Output = Stop>> {
    Ok(async {
        let _ = tokio::signal::ctrl_c().await;
        Stop::Interrupt
    })
}
