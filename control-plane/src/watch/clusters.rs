//! Both clusters as the control plane sees them: connected on first use, and again after a failure to connect.

use std::{fmt, sync::Arc, time::Duration};

use crossfade::{
    Error, ErrorKind, Result, Side,
    backend::{
        Backend, BackendAdmin, Capability,
        registry::{self, OpenOptions},
        security::Security,
    },
    control::wire,
};
use tokio::{sync::OnceCell, time::timeout};

use crate::coordinator::Refusal;

/// The id under which the brokers list the control plane.
pub const CLIENT_ID: &str = "crossfade-control-plane";
/// How long connecting may take.
const CONNECT: Duration = Duration::from_secs(10);

/// Where a cluster is.
#[derive(Clone)]
pub enum Cluster {
    /// An address, which goes to the instances with every plan, and who signs in there, which does not.
    Address(String, Box<Security>),
    /// A backend that is connected already. The instances are not told where it is.
    Backend(Arc<dyn Backend>),
}

impl fmt::Debug for Cluster {
    /// An address may name a user; it is not repeated here.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Cluster::Address(address, _) => {
                f.debug_tuple("Address").field(&public(address)).finish()
            }
            Cluster::Backend(backend) => f.debug_tuple("Backend").field(backend).finish(),
        }
    }
}

impl Cluster {
    /// A cluster without access control.
    #[must_use]
    pub fn at(address: &str) -> Cluster {
        Cluster::Address(address.to_owned(), Box::default())
    }
}

/// Both clusters.
#[derive(Debug)]
pub(crate) struct Clusters {
    sides: [(Cluster, OnceCell<Arc<dyn Backend>>); 2],
}

impl Clusters {
    pub(crate) fn new(source: Cluster, target: Cluster) -> Self {
        Clusters {
            sides: [(source, OnceCell::new()), (target, OnceCell::new())],
        }
    }

    /// What the instances are told: the addresses without user and key.
    pub(crate) fn public(&self) -> wire::Clusters {
        let address = |side: Side| match &self.sides[side.index()].0 {
            Cluster::Address(address, _) => Some(public(address)),
            Cluster::Backend(_) => None,
        };
        wire::Clusters {
            source: address(Side::Source),
            target: address(Side::Target),
        }
    }

    /// The administrative calls of a side.
    pub(crate) async fn admin(&self, side: Side) -> Result<Arc<dyn BackendAdmin>> {
        Ok(self.backend(side).await?.admin())
    }

    async fn backend(&self, side: Side) -> Result<&Arc<dyn Backend>> {
        let (cluster, cell) = &self.sides[side.index()];
        let backend = cell
            .get_or_try_init(|| async {
                match cluster {
                    Cluster::Backend(backend) => Ok(Arc::clone(backend)),
                    Cluster::Address(address, security) => connect(address, security).await,
                }
            })
            .await
            .map_err(|error: Error| error.with_side(side))?;
        Ok(backend)
    }

    /// Connects to both clusters, as far as they answer within `within`. One that does not is tried again later.
    ///
    /// # Errors
    /// A sentence with the side, for what stays wrong until somebody changes it here: an address that leads elsewhere, files or variables with credentials.
    ///
    /// # Cancellation
    /// Leaves nothing behind.
    pub(crate) async fn can_be_used(&self, within: Duration) -> Result<(), String> {
        use ErrorKind::{InvalidConfig, Unsupported};
        let one = async |side: Side| match timeout(within, self.backend(side)).await {
            Ok(Err(error)) if matches!(error.kind(), InvalidConfig | Unsupported) => {
                Err(error.to_string())
            }
            _ => Ok(()),
        };
        let (source, target) = tokio::join!(one(Side::Source), one(Side::Target));
        source.and(target)
    }

    /// That both clusters' backends can read in order.
    ///
    /// # Errors
    /// `conflict` that names the side that cannot; `unavailable` with what a cluster says.
    ///
    /// # Cancellation
    /// Leaves nothing behind.
    pub(crate) async fn read_in_order(&self) -> Result<(), Refusal> {
        let one = async |side: Side| {
            let unavailable = |why: String| Err(Refusal::new("unavailable", why));
            match timeout(CONNECT, self.backend(side)).await {
                Ok(Ok(backend)) => {
                    let refusal = refusal(side, backend.scheme(), backend.capability());
                    refusal.map_or(Ok(()), Err)
                }
                Ok(Err(error)) => unavailable(error.to_string()),
                Err(_) => unavailable(format!("{side}: no answer within {CONNECT:?}")),
            }
        };
        let (source, target) = tokio::join!(one(Side::Source), one(Side::Target));
        source.and(target)
    }

    /// That source and target are two clusters: a topic cannot be sealed on one side and open on the other where both are one.
    ///
    /// # Errors
    /// `conflict` that names a broker of both; `unavailable` with what a cluster says.
    ///
    /// # Cancellation
    /// Leaves nothing behind.
    pub(crate) async fn told_apart(&self) -> Result<(), Refusal> {
        let brokers = async |side: Side| {
            let asking = async { self.admin(side).await?.brokers().await };
            match timeout(CONNECT, asking).await {
                Ok(Ok(brokers)) => Ok(brokers),
                Ok(Err(error)) => Err(format!("{side}: {error}")),
                Err(_) => Err(format!("{side}: no answer within {CONNECT:?}")),
            }
            .map_err(|why| Refusal::new("unavailable", why))
        };
        let (source, target) = tokio::join!(brokers(Side::Source), brokers(Side::Target));
        match source?.intersection(&target?).next() {
            None => Ok(()),
            Some(broker) => Err(Refusal::new(
                "conflict",
                format!(
                    "source and target are one cluster: broker {broker} belongs to both. Nothing can move; give the address of another cluster"
                ),
            )),
        }
    }

    /// Closes what this process has opened itself.
    pub(crate) async fn close(&self) {
        for (cluster, cell) in &self.sides {
            if let (Cluster::Address(..), Some(backend)) = (cluster, cell.get()) {
                backend.close().await;
            }
        }
    }
}

/// Why a side cannot carry an ordered topic.
fn refusal(side: Side, scheme: &str, capability: Capability) -> Option<Refusal> {
    (!capability.ordered).then(|| {
        Refusal::new(
            "conflict",
            format!(
                "the {side} cannot be read in order: its backend ({scheme}) has no ordered consumers. Add the topic without --ordered, if its messages may be handled in any order while it moves"
            ),
        )
    })
}

async fn connect(address: &str, security: &Security) -> Result<Arc<dyn Backend>> {
    let options = OpenOptions {
        security: security.clone(),
        ..OpenOptions::default()
    };
    match timeout(CONNECT, registry::open_with(address, CLIENT_ID, &options)).await {
        Ok(opened) => opened,
        Err(_) => Err(Error::new(
            ErrorKind::Timeout,
            "connect",
            format!("no answer from {} within {CONNECT:?}", public(address)),
        )),
    }
}

/// An address without user and key.
pub(crate) fn public(address: &str) -> String {
    address.split('?').next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(feature = "rocketmq")]
    #[tokio::test]
    async fn what_stays_wrong_is_told_with_its_side_and_a_silent_cluster_is_not() {
        // Nobody listens there.
        let silent = "rocketmq://127.0.0.1:1";
        let keyless =
            "rocketmq://127.0.0.1:1?access_key=reader&secret_key_env=CROSSFADE_NO_SUCH_VARIABLE";
        for (target, wrong) in [(silent, false), (keyless, true)] {
            let clusters = Clusters::new(Cluster::at(silent), Cluster::at(target));
            let told = clusters.can_be_used(CONNECT).await;
            assert_eq!(told.is_err(), wrong, "{target}: {told:?}");
            if let Err(why) = told {
                assert!(why.contains("(target)"), "{why}");
                assert!(why.contains("CROSSFADE_NO_SUCH_VARIABLE"), "{why}");
            }
        }
    }

    #[test]
    fn side_without_ordered_consumers_is_refused_by_name() {
        let with = |ordered| {
            let mut capability = Capability::default();
            capability.ordered = ordered;
            refusal(Side::Target, "memory", capability)
        };
        assert_eq!(with(true), None);
        let refusal = with(false).unwrap();
        assert_eq!(refusal.code, "conflict");
        assert!(refusal.message.contains("the target") && refusal.message.contains("memory"));
    }
}
