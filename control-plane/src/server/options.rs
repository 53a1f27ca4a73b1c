//! What a control plane needs to start.

use std::net::SocketAddr;

use crossfade::{
    Error,
    backend::{address::Address, security::Security},
};

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
                usable(address, security).map_err(|why| format!("{side}: {why}"))?;
            }
        }
        Ok(listen)
    }
}

/// Whether it can be told who signs in there. A cluster that does not answer is tried again; what is wrong here stays wrong.
fn usable(address: &str, security: &Security) -> Result<(), String> {
    let address: Address = address.parse().map_err(|error: Error| error.to_string())?;
    let user = security.sign_in().map_err(|error| error.to_string())?;
    match address {
        Address::Rocketmq(address) if address.access_key.is_some() && user.is_some() => Err(
            "credentials are given twice, by the address (access_key) and by a file or in code: take one of them away"
                .into(),
        ),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_by_the_address_and_by_a_file_are_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "access_key = hush\nsecret_key = hush\n").unwrap();
        let by_file = || Security::from_file(file.path());
        let plain = "rocketmq://127.0.0.1:1";
        let by_address = "rocketmq://127.0.0.1:1?access_key=hush&secret_key_env=SECRET";
        for (address, security, taken) in [
            (plain, Security::default(), true),
            (plain, by_file(), true),
            (by_address, Security::default(), true),
            (by_address, by_file(), false),
        ] {
            let source = Cluster::Address(address.into(), Box::new(security));
            let checked = ServeOptions::new(source, Cluster::at("memory://t")).check();
            assert_eq!(checked.is_ok(), taken, "{address}: {checked:?}");
            if let Err(why) = checked {
                assert!(
                    why.starts_with("source: credentials are given twice"),
                    "{why}"
                );
                assert!(!why.contains("hush"), "{why}");
            }
        }
    }
}
