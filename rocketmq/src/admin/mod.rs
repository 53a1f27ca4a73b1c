//! Administrative calls: what runs a cluster's topics, groups and offsets, and what shows who uses them.
//!
//! Calls that change something do it on one master after the other; calls that read ask them side by side.

mod access;
mod acl;
mod connection;
mod group;
mod offset;
mod owed;
mod pending;
mod pop;
mod progress;
mod reset;
mod setup;
mod topic;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use serde::Deserialize;
use tokio::time::Instant;

pub use access::{MayGoOn, grown, widened};
pub use acl::{Acl, PlainAccount, PlainAcl, Policy, PolicyEntry, User};
pub use connection::{ConsumerConnections, Member, ProducerMember};
pub use group::GroupConfig;
pub use offset::{GroupBacklog, QueueOffsets};
pub use owed::Owed;
pub use reset::Reset;
pub use topic::{TopicAccess, TopicConfig, TopicConfigs};

use crate::{
    client::Client,
    codes::request,
    error::{Error, ErrorKind, Result},
    fastjson,
    frame::Request,
    together::together,
};

/// Administrative calls to one cluster: all brokers that its name servers know. Clones share what they have read.
#[derive(Clone, Debug)]
pub struct Admin {
    client: Client,
    index: Arc<pending::Index>,
    setups: Arc<setup::Setups>,
}

/// A broker's name and its master's address.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Master {
    /// The broker's name.
    pub broker: Arc<str>,
    /// `host:port`.
    pub address: Arc<str>,
}

/// How far a broker's index of its commit log is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Dispatch {
    /// The end of the commit log, in bytes since its beginning.
    pub commit_log_end: u64,
    /// Bytes before that end which no queue shows yet.
    pub behind_bytes: u64,
}

impl Admin {
    /// Administrative calls through the connections of `client`.
    #[must_use]
    pub fn new(client: &Client) -> Admin {
        Admin {
            client: client.clone(),
            index: Arc::default(),
            setups: Arc::default(),
        }
    }

    /// The masters of all brokers, sorted.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`] when a broker has no master now: nothing can be said about its topics. As [`Client::call_name_server`].
    ///
    /// # Cancellation
    /// Leaves nothing behind.
    pub async fn masters(&self) -> Result<Vec<Master>> {
        let info = self.client.cluster_info().await?;
        let mut masters = Vec::with_capacity(info.brokers.len());
        for (name, broker) in &info.brokers {
            let address = broker.master().ok_or_else(|| {
                Error::new(
                    ErrorKind::Unavailable,
                    format!("broker {name} has no master now"),
                )
            })?;
            masters.push(Master {
                broker: name.as_str().into(),
                address: Arc::clone(address),
            });
        }
        if masters.is_empty() {
            return Err(Error::new(
                ErrorKind::Unavailable,
                "the name server knows no broker",
            ));
        }
        masters.sort();
        Ok(masters)
    }

    /// What a broker says about itself, as text by name.
    ///
    /// # Errors
    /// As [`Client::call`].
    ///
    /// # Cancellation
    /// Leaves nothing behind.
    pub async fn runtime_info(&self, address: &Arc<str>) -> Result<BTreeMap<String, String>> {
        #[derive(Deserialize)]
        struct Body {
            table: BTreeMap<String, String>,
        }
        let request = Request::new(request::GET_BROKER_RUNTIME_INFO);
        let body: Body = self.read(address, "runtime info", request).await?;
        Ok(body.table)
    }

    /// How far a broker's dispatch is.
    ///
    /// # Errors
    /// [`ErrorKind::Protocol`] when the broker does not tell; as [`Client::call`].
    ///
    /// # Cancellation
    /// Leaves nothing behind.
    pub async fn dispatch(&self, address: &Arc<str>) -> Result<Dispatch> {
        let table = self.runtime_info(address).await?;
        let number = |name: &str| {
            table
                .get(name)
                .and_then(|value| value.parse().ok())
                .ok_or_else(|| {
                    let value = table.get(name);
                    Error::new(
                        ErrorKind::Protocol,
                        format!("the broker's `{name}` should be a number and is {value:?}"),
                    )
                    .with_address(address)
                })
        };
        Ok(Dispatch {
            commit_log_end: number("commitLogMaxOffset")?,
            behind_bytes: number("dispatchBehindBytes")?,
        })
    }

    /// Waits until every broker shows in its queues all that it had taken when this was called.
    ///
    /// # Errors
    /// [`ErrorKind::Timeout`] naming the broker that is behind; as [`Self::masters`] and [`Self::dispatch`].
    ///
    /// # Cancellation
    /// Leaves nothing behind.
    pub async fn wait_for_dispatch(&self, timeout: Duration) -> Result<()> {
        let deadline = Instant::now() + timeout;
        let masters = self.masters().await?.into_iter();
        let waits = masters.map(|master| {
            let admin = self.clone();
            async move { admin.wait_for_one_dispatch(&master, deadline).await }
        });
        together(waits.collect()).await.map(drop)
    }

    async fn wait_for_one_dispatch(&self, master: &Master, deadline: Instant) -> Result<()> {
        const PAUSE: Duration = Duration::from_millis(5);
        let mut seen = self.dispatch(&master.address).await?;
        let wanted = seen.commit_log_end;
        while seen.commit_log_end.saturating_sub(seen.behind_bytes) < wanted {
            if Instant::now() + PAUSE > deadline {
                return Err(Error::new(
                    ErrorKind::Timeout,
                    format!(
                        "broker {} is {} bytes behind with its queues",
                        master.broker, seen.behind_bytes
                    ),
                )
                .with_address(&master.address));
            }
            tokio::time::sleep(PAUSE).await;
            seen = self.dispatch(&master.address).await?;
        }
        Ok(())
    }

    /// Calls, and reads the answer's body.
    async fn read<T: serde::de::DeserializeOwned>(
        &self,
        address: &Arc<str>,
        operation: &str,
        request: Request,
    ) -> Result<T> {
        let command = self.client.call(address, operation, request).await?;
        fastjson::from_slice(&command.body).map_err(|error| error.with_address(address))
    }

    /// The same question to every master, side by side; the answers come with the masters, sorted by broker.
    async fn ask_masters<T, F>(
        &self,
        question: impl Fn(Admin, Arc<str>) -> F,
    ) -> Result<Vec<(Master, T)>>
    where
        T: Send + 'static,
        F: Future<Output = Result<T>> + Send + 'static,
    {
        let masters = self.masters().await?;
        let questions = masters
            .iter()
            .map(|master| question(self.clone(), Arc::clone(&master.address)));
        let answers = together(questions.collect()).await?;
        Ok(masters.into_iter().zip(answers).collect())
    }
}
