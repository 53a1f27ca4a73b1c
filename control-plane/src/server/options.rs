//! What a control plane needs to start.

use std::net::SocketAddr;

use crate::{
    api::Tokens,
    coordinator::{Limits, Timing},
    watch::Cluster,
};

/// What [`Server::start`](super::Server::start) needs.
#[derive(Clone, Debug)]
pub struct ServeOptions {
    /// Where to listen; port 0 takes a free one. Default `127.0.0.1:7070`.
    pub listen: String,
    /// `sqlite://FILE` or `sqlite::memory:`. Default `sqlite::memory:`.
    pub store: String,
    /// The cluster that topics leave.
    pub source: Cluster,
    /// The cluster that topics move to.
    pub target: Cluster,
    /// Who may do what. Default: none, everybody on the loopback interface may do everything.
    pub tokens: Tokens,
    /// Leases and intervals.
    pub timing: Timing,
    /// What gates compare with.
    pub limits: Limits,
    /// Whether a store may be continued under other addresses: the same clusters, reached in another way. Default: no.
    pub accept_new_addresses: bool,
}

impl ServeOptions {
    /// The defaults, for these two clusters.
    #[must_use]
    pub fn new(source: Cluster, target: Cluster) -> Self {
        ServeOptions {
            listen: "127.0.0.1:7070".into(),
            store: "sqlite::memory:".into(),
            source,
            target,
            tokens: Tokens::default(),
            timing: Timing::default(),
            limits: Limits::default(),
            accept_new_addresses: false,
        }
    }

    /// In memory, on a free port of the loopback interface, for the clusters at these addresses.
    #[must_use]
    pub fn in_memory(source: &str, target: &str) -> Self {
        ServeOptions {
            listen: "127.0.0.1:0".into(),
            ..ServeOptions::new(Cluster::at(source), Cluster::at(target))
        }
    }

    /// The address to listen on, if all the rest can be used too.
    pub(super) fn check(&self) -> Result<SocketAddr, String> {
        let listen: SocketAddr = self.listen.parse().map_err(|_| {
            format!(
                "cannot listen on {:?}: write an IP address and a port, as in 127.0.0.1:7070",
                self.listen
            )
        })?;
        if self.tokens.is_empty() && !listen.ip().is_loopback() {
            return Err(format!(
                "{} can be reached from other machines, and no token is set: give --operator-token-file and --sdk-token-file, or listen on 127.0.0.1",
                self.listen
            ));
        }
        if self.timing.lease.is_zero() {
            return Err("the lease is 0: it must be at least a few seconds, so that an instance can renew it".into());
        }
        if self.timing.margin.is_zero() {
            return Err("the margin is 0: a broker may store what it has for some seconds after a lease; the default is 6 s".into());
        }
        for (side, cluster) in [("source", &self.source), ("target", &self.target)] {
            if let Cluster::Address(address, security) = cluster {
                let usable = address
                    .parse::<crossfade::backend::address::Address>()
                    .and_then(|_| security.sign_in());
                usable.map_err(|error| format!("{side}: {error}"))?;
            }
        }
        Ok(listen)
    }
}
