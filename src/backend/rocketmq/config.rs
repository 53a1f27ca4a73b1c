//! What an address leaves open.

use std::time::Duration;

use crate::{
    backend::address::RocketmqAddress,
    error::{Error, ErrorKind, Result},
};

/// A broker drops a send that waited 200 ms in its queue (`waitTimeMillsInSendQueue`), and gives a store up to 5 s (`syncFlushTimeout`).
pub(super) const AMBIGUITY_BOUND: Duration = Duration::from_secs(5);

/// The first of the brokers' delay levels.
pub(super) const SHORTEST_REDELIVERY: Duration = Duration::from_secs(1);

/// The producer group under which the brokers list producers.
pub(super) const PRODUCER_GROUP: &str = "crossfade";

/// The name servers to ask.
///
/// # Errors
/// `Unsupported` for an address with credentials.
pub(super) fn name_servers(address: &RocketmqAddress) -> Result<Vec<String>> {
    if address.access_key.is_some() {
        return Err(Error::new(
            ErrorKind::Unsupported,
            "open a cluster",
            "signed requests (access_key) are not built yet: use a cluster without ACL, or let this client in by its address",
        ));
    }
    Ok(address.name_servers.clone())
}
