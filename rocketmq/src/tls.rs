//! Connections over TLS: whom to trust, and who we are. RocketMQ serves TLS and plain connections on one port (`tls.server.mode` permissive, the
//! default, or enforcing).

#[cfg(feature = "tls")]
mod connect;
#[cfg(not(feature = "tls"))]
mod missing;

use std::path::PathBuf;

#[cfg(feature = "tls")]
pub(crate) use connect::{Tls, TlsStream};
#[cfg(not(feature = "tls"))]
pub(crate) use missing::Tls;

/// How connections over TLS are made; needs the feature `tls`. Files are PEM, and read when the client is made.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct TlsOptions {
    /// Whose certificates are taken. Default: those that the system trusts.
    pub trust: Trust,
    /// A client certificate (with its chain) and its private key, for clusters that ask for one. Default: none.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// The name in the cluster's certificates, a host name or an IP address. Default: the host of each address; brokers are known by the address that they
    /// register (`brokerIP1`), mostly an IP address.
    pub server_name: Option<String>,
}

/// Whose certificates are taken.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum Trust {
    /// Those signed by an authority that the system trusts.
    #[default]
    System,
    /// Those signed by an authority in this file.
    File(PathBuf),
    /// Any: whoever sits between can read and change everything. For tests, and for brokers that run with the certificate that they make up themselves
    /// (`tls.test.mode.enable`, their default).
    Anybody,
}
