//! Where a topic's queues are: what the name servers answer (apache/rocketmq `TopicRouteData.java`, `ClusterInfo.java`).

use std::{collections::BTreeMap, fmt, sync::Arc};

use serde::Deserialize;

use crate::{
    codes::permission,
    error::{Error, ErrorKind, Result},
    fastjson,
};

/// Of one topic, on all brokers together. A route with more is a broken answer: a list of them all could fill the memory.
const MAX_QUEUES: u64 = 65_536;

/// One queue of a topic.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct MessageQueue {
    /// The topic.
    pub topic: Arc<str>,
    /// The broker's name; its master and slaves share it.
    pub broker: Arc<str>,
    /// Its number on that broker, from 0.
    pub queue: u32,
}

impl fmt::Display for MessageQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}:{}", self.topic, self.broker, self.queue)
    }
}

/// A broker: one name, an address for each of its replicas.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
pub struct Broker {
    /// The cluster it belongs to.
    #[serde(default)]
    pub cluster: String,
    /// Its name.
    #[serde(rename = "brokerName")]
    pub name: Arc<str>,
    /// Addresses by broker id; the master is 0.
    #[serde(default, rename = "brokerAddrs")]
    pub addresses: BTreeMap<u64, Arc<str>>,
}

impl Broker {
    /// The master's address.
    #[must_use]
    pub fn master(&self) -> Option<&Arc<str>> {
        self.addresses.get(&0)
    }

    /// The master's address, or while there is none the replica's with the lowest id.
    #[must_use]
    pub fn answering(&self) -> Option<&Arc<str>> {
        self.addresses.values().next()
    }
}

/// The queues that one broker has of a topic.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
pub struct BrokerQueues {
    /// The broker.
    #[serde(rename = "brokerName")]
    pub broker: Arc<str>,
    /// Queues that can be pulled.
    #[serde(default, rename = "readQueueNums")]
    pub read: u32,
    /// Queues that can be sent to.
    #[serde(default, rename = "writeQueueNums")]
    pub write: u32,
    /// See [`permission`].
    #[serde(default, rename = "perm")]
    pub permission: i32,
}

/// A topic's route.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
pub struct TopicRoute {
    /// The brokers that have the topic, sorted by name.
    #[serde(default, rename = "brokerDatas")]
    pub brokers: Vec<Broker>,
    /// What each of them has of it, sorted by broker.
    #[serde(default, rename = "queueDatas")]
    pub queues: Vec<BrokerQueues>,
}

impl TopicRoute {
    pub(crate) fn parse(body: &[u8]) -> Result<TopicRoute> {
        let mut route: TopicRoute = fastjson::from_slice(body)?;
        let queues = |of: fn(&BrokerQueues) -> u32| -> u64 {
            route
                .queues
                .iter()
                .map(|queues| u64::from(of(queues)))
                .sum()
        };
        let most = queues(|queues| queues.read).max(queues(|queues| queues.write));
        if most > MAX_QUEUES {
            return Err(Error::new(
                ErrorKind::Protocol,
                format!("a route names {most} queues of one topic; at most {MAX_QUEUES} are taken"),
            ));
        }
        // Every client must see the same order, or they allocate the queues differently.
        route.brokers.sort_by(|a, b| a.name.cmp(&b.name));
        route.queues.sort_by(|a, b| a.broker.cmp(&b.broker));
        Ok(route)
    }

    /// The address of the broker's master.
    #[must_use]
    pub fn master(&self, broker: &str) -> Option<&Arc<str>> {
        self.broker(broker)?.master()
    }

    /// The broker of this name.
    #[must_use]
    pub fn broker(&self, name: &str) -> Option<&Broker> {
        self.brokers.iter().find(|broker| &*broker.name == name)
    }

    /// The masters' addresses.
    pub fn masters(&self) -> impl Iterator<Item = &Arc<str>> {
        self.brokers.iter().filter_map(Broker::master)
    }

    /// The queues that can be pulled, sorted.
    #[must_use]
    pub fn readable(&self, topic: &Arc<str>) -> Vec<MessageQueue> {
        self.list(topic, permission::READ, |queues| queues.read)
    }

    /// The queues that can be sent to, sorted: those of brokers with a master.
    #[must_use]
    pub fn writable(&self, topic: &Arc<str>) -> Vec<MessageQueue> {
        self.list(topic, permission::WRITE, |queues| {
            if self.master(&queues.broker).is_some() {
                queues.write
            } else {
                0
            }
        })
    }

    fn list(
        &self,
        topic: &Arc<str>,
        permission: i32,
        count: impl Fn(&BrokerQueues) -> u32,
    ) -> Vec<MessageQueue> {
        self.queues
            .iter()
            .filter(|queues| queues.permission & permission != 0)
            .flat_map(|queues| {
                (0..count(queues)).map(|queue| MessageQueue {
                    topic: Arc::clone(topic),
                    broker: Arc::clone(&queues.broker),
                    queue,
                })
            })
            .collect()
    }
}

/// The brokers of the clusters that a name server knows.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct ClusterInfo {
    /// Brokers by name.
    #[serde(default, rename = "brokerAddrTable")]
    pub brokers: BTreeMap<String, Broker>,
    /// Names of brokers by cluster.
    #[serde(default, rename = "clusterAddrTable")]
    pub clusters: BTreeMap<String, Vec<String>>,
}

impl ClusterInfo {
    pub(crate) fn parse(body: &[u8]) -> Result<ClusterInfo> {
        fastjson::from_slice(body)
    }

    /// The masters' addresses, by the brokers' names.
    pub fn masters(&self) -> impl Iterator<Item = (&str, &Arc<str>)> {
        self.brokers
            .iter()
            .filter_map(|(name, broker)| Some((name.as_str(), broker.master()?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_of_both_generations_are_read() {
        let four = br#"{"brokerDatas":[{"brokerAddrs":{"0":"127.0.0.1:1"},"brokerName":"b","cluster":"c"}],"filterServerTable":{},
            "queueDatas":[{"brokerName":"b","perm":6,"readQueueNums":2,"topicSysFlag":0,"writeQueueNums":1}]}"#;
        let five = br#"{"brokerDatas":[{"brokerAddrs":{0:"127.0.0.1:1"},"brokerName":"b","cluster":"c","enableActingMaster":false,"zoneName":"z"}],
            "queueDatas":[{"brokerName":"b","perm":6,"readQueueNums":2,"topicSysFlag":0,"writeQueueNums":1}],"topicQueueMappingByBroker":null}"#;
        let topic: Arc<str> = "t".into();
        for body in [&four[..], &five[..]] {
            let route = TopicRoute::parse(body).unwrap();
            assert_eq!(route.readable(&topic).len(), 2);
            assert_eq!(route.writable(&topic).len(), 1);
            assert_eq!(route.master("b").map(|a| &**a), Some("127.0.0.1:1"));
        }
    }

    #[test]
    fn a_route_with_more_queues_than_memory_is_refused() {
        let many = |brokers: usize, queues: u64| {
            let one = format!(
                r#"{{"brokerName":"b","perm":6,"readQueueNums":{queues},"writeQueueNums":1}}"#
            );
            let text = format!(r#"{{"queueDatas":[{}]}}"#, vec![one; brokers].join(","));
            TopicRoute::parse(text.as_bytes()).map(|route| route.queues.len())
        };
        assert_eq!(many(2, 32_768).unwrap(), 2);
        for (brokers, queues) in [(2, 32_769), (70_000, 1), (1, u64::from(u32::MAX))] {
            assert_eq!(
                many(brokers, queues).unwrap_err().kind(),
                ErrorKind::Protocol
            );
        }
    }

    #[test]
    fn permissions_and_missing_masters_take_queues_away() {
        let route = |permission: i32, id: u64| TopicRoute {
            brokers: vec![Broker {
                cluster: String::new(),
                name: "b".into(),
                addresses: [(id, "a:1".into())].into(),
            }],
            queues: vec![BrokerQueues {
                broker: "b".into(),
                read: 4,
                write: 4,
                permission,
            }],
        };
        let topic: Arc<str> = "t".into();
        for (permission, id, readable, writable) in [
            (6, 0, 4, 4),
            (4, 0, 4, 0),
            (2, 0, 0, 4),
            (0, 0, 0, 0),
            (6, 1, 4, 0),
        ] {
            let route = route(permission, id);
            assert_eq!(
                (route.readable(&topic).len(), route.writable(&topic).len()),
                (readable, writable),
                "permission {permission}, broker id {id}"
            );
        }
    }
}
