//! Who is connected. A broker forgets a client at once when its connection ends, and 120 s after its last heartbeat when it froze.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use super::Admin;
use crate::{
    codes::{request, response},
    error::Result,
    frame::Request,
};

/// A client as a broker lists it.
#[derive(Clone, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd)]
#[serde(rename_all = "camelCase")]
pub struct Member {
    /// The id it gave.
    pub client_id: String,
    /// Where it connects from: `host:port`.
    #[serde(rename = "clientAddr", default)]
    pub address: String,
    /// `JAVA`, `CPP`, `GO`, `OTHER`, ...
    #[serde(default)]
    pub language: String,
    /// The ordinal of its version in apache/rocketmq `MQVersion.java`.
    #[serde(default)]
    pub version: i32,
}

/// The members of a consumer group.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ConsumerConnections {
    /// Each connection once, sorted; a client has one to every broker.
    pub members: Vec<Member>,
    /// The topics that they read, without the group's retry topic, sorted.
    pub topics: Vec<String>,
    /// Whether each member reads everything and keeps its offsets itself.
    pub broadcasting: bool,
    /// Whether members say that they take messages by POP (5.x).
    pub pop: bool,
}

/// A producer as a broker lists it.
#[derive(Clone, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd)]
#[serde(rename_all = "camelCase")]
pub struct ProducerMember {
    /// The id it gave.
    pub client_id: String,
    /// Where it connects from.
    #[serde(rename = "remoteIP", default)]
    pub address: String,
    /// When the broker last heard of it, by the broker's clock, in ms since 1970.
    #[serde(rename = "lastUpdateTimestamp", default)]
    pub last_update_ms: i64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Connections {
    #[serde(default)]
    connection_set: Vec<Member>,
    message_model: Option<String>,
    consume_type: Option<String>,
    #[serde(default)]
    subscription_table: BTreeMap<String, serde::de::IgnoredAny>,
}

impl Admin {
    /// The members of a consumer group on all brokers; nobody is no error.
    ///
    /// # Errors
    /// As [`Self::masters`] and [`Client::call`](crate::Client::call).
    ///
    /// # Cancellation
    /// Leaves nothing behind.
    pub async fn consumers(&self, group: &str) -> Result<ConsumerConnections> {
        let answers = self
            .ask_masters(|admin, address| {
                let request = Request::new(request::GET_CONSUMER_CONNECTION_LIST)
                    .text("consumerGroup", group);
                async move {
                    let answer = admin.read(&address, "members of a group", request).await;
                    unless_absent(answer, response::CONSUMER_NOT_ONLINE)
                }
            })
            .await?;
        let mut members = BTreeSet::new();
        let mut topics = BTreeSet::new();
        let (mut broadcasting, mut pop) = (false, false);
        for connections in answers.into_iter().filter_map(|(_, answer)| answer) {
            members.extend(connections.connection_set);
            topics.extend(connections.subscription_table.into_keys());
            broadcasting |= connections.message_model.as_deref() == Some("BROADCASTING");
            pop |= connections.consume_type.as_deref() == Some("CONSUME_POP");
        }
        topics.remove(&format!("%RETRY%{group}"));
        Ok(ConsumerConnections {
            members: members.into_iter().collect(),
            topics: topics.into_iter().collect(),
            broadcasting,
            pop,
        })
    }

    /// The members of a producer group on all brokers; nobody is no error. Brokers do not tell what they send to.
    ///
    /// # Errors
    /// As [`Self::masters`] and [`Client::call`](crate::Client::call).
    ///
    /// # Cancellation
    /// Leaves nothing behind.
    pub async fn producers(&self, group: &str) -> Result<Vec<Member>> {
        let answers = self
            .ask_masters(|admin, address| {
                let request = Request::new(request::GET_PRODUCER_CONNECTION_LIST)
                    .text("producerGroup", group);
                async move {
                    let answer = admin.read(&address, "members of a group", request).await;
                    unless_absent(answer, response::SYSTEM_ERROR)
                }
            })
            .await?;
        let members: BTreeSet<Member> = answers
            .into_iter()
            .filter_map(|(_, answer): (_, Option<Connections>)| answer)
            .flat_map(|connections| connections.connection_set)
            .collect();
        Ok(members.into_iter().collect())
    }

    /// All producers that send heartbeats, by group, on all brokers.
    ///
    /// # Errors
    /// As [`Self::masters`] and [`Client::call`](crate::Client::call).
    ///
    /// # Cancellation
    /// Leaves nothing behind.
    pub async fn all_producers(&self) -> Result<BTreeMap<String, Vec<ProducerMember>>> {
        #[derive(Deserialize)]
        struct Body {
            #[serde(default)]
            data: BTreeMap<String, Vec<ProducerMember>>,
        }
        let answers = self
            .ask_masters(|admin, address| async move {
                let request = Request::new(request::GET_ALL_PRODUCER_INFO);
                let body: Body = admin.read(&address, "list of producers", request).await?;
                Ok(body.data)
            })
            .await?;
        let mut groups: BTreeMap<String, Vec<ProducerMember>> = BTreeMap::new();
        for (group, members) in answers.into_iter().flat_map(|(_, groups)| groups) {
            groups.entry(group).or_default().extend(members);
        }
        for members in groups.values_mut() {
            members.sort();
        }
        Ok(groups)
    }
}

/// `None` for a refusal that means "no such group is online"; 4.9 and 5.x say so by code 1 and words for producers.
fn unless_absent(answer: Result<Connections>, code: i32) -> Result<Option<Connections>> {
    match answer {
        Ok(connections) => Ok(Some(connections)),
        Err(error)
            if error.code() == Some(code)
                && (code != response::SYSTEM_ERROR || error.message().contains("not exist")) =>
        {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}
