//! From an address to a backend: the one place that names every implementation.

use std::sync::Arc;

use super::{Backend, address::Address, security::Security};
use crate::error::{Error, ErrorKind, Result};

/// RocketMQ brokers' own default (`maxMessageSize`): 4 MiB.
pub const DEFAULT_MAX_BODY_BYTES: usize = 4 << 20;

/// What an address does not say.
#[derive(Clone, Debug, PartialEq)]
pub struct OpenOptions {
    /// The largest body that this client sends; the brokers' own limit holds besides. An embedded cluster that is made by this call gets it as its own.
    pub max_body_bytes: usize,
    /// Credentials and TLS; an embedded cluster has neither.
    pub security: Security,
    /// The producer group of transactional producers, where the backend has such groups: the application's own.
    pub transaction_group: Option<String>,
}

impl Default for OpenOptions {
    fn default() -> Self {
        OpenOptions {
            max_body_bytes: DEFAULT_MAX_BODY_BYTES,
            security: Security::default(),
            transaction_group: None,
        }
    }
}

/// Connects to the cluster at `address` (see [`Address`]) under `client_id`, the id that the brokers will list.
///
/// # Errors
/// `InvalidConfig` when the address or the id cannot be used, `Unsupported` when this build has no backend for the scheme (the message
/// names the cargo feature), `Unavailable` and `PermissionDenied` from the cluster.
///
/// # Cancellation
/// Leaves nothing behind.
pub async fn open(address: &str, client_id: &str) -> Result<Arc<dyn Backend>> {
    open_with(address, client_id, &OpenOptions::default()).await
}

/// [`open`] with credentials, and other limits.
///
/// # Errors
/// As [`open`]; `InvalidConfig` for credentials or files that cannot be used.
///
/// # Cancellation
/// Leaves nothing behind.
#[cfg_attr(
    not(any(feature = "memory", feature = "rocketmq")),
    expect(unused_variables)
)]
pub async fn open_with(
    address: &str,
    client_id: &str,
    options: &OpenOptions,
) -> Result<Arc<dyn Backend>> {
    check_client_id(client_id)?;
    let address: Address = address.parse()?;
    match address {
        #[cfg(feature = "memory")]
        Address::Memory(address) => {
            let config = super::memory::MemoryConfig {
                auto_create_topics: address.auto_create,
                max_body_bytes: options.max_body_bytes,
                ..Default::default()
            };
            Ok(super::memory::MemoryCluster::named_or(&address.name, config).backend(client_id))
        }
        #[cfg(feature = "rocketmq")]
        Address::Rocketmq(address) => {
            super::rocketmq::RocketmqBackend::connect(&address, client_id, options).await
        }
        #[cfg(not(all(feature = "memory", feature = "rocketmq")))]
        address => Err(Error::new(
            ErrorKind::Unsupported,
            "open a cluster",
            format!(
                "this build has no backend for {scheme}://; build it with the cargo feature `{scheme}`",
                scheme = address.scheme()
            ),
        )),
    }
}

fn check_client_id(client_id: &str) -> Result<()> {
    if client_id.is_empty() || client_id.len() > 255 || client_id.chars().any(char::is_control) {
        return Err(Error::new(
            ErrorKind::InvalidConfig,
            "open a cluster",
            format!(
                "the client id must be 1 to 255 bytes of text without control characters; this one has {} bytes",
                client_id.len()
            ),
        ));
    }
    Ok(())
}
