//! Topics and their configuration on every master.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    sync::Arc,
};

use serde::{Deserialize, Serialize};

use super::{Admin, Master};
use crate::{
    codes::{permission, request, response},
    error::{Error, ErrorKind, Result},
    fastjson,
    frame::Request,
};

/// A topic's configuration on one broker (apache/rocketmq `TopicConfig.java`).
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TopicConfig {
    /// The topic.
    pub topic_name: String,
    /// Queues that can be pulled.
    #[serde(rename = "readQueueNums")]
    pub read_queues: u32,
    /// Queues that can be sent to.
    #[serde(rename = "writeQueueNums")]
    pub write_queues: u32,
    /// See [`permission`].
    #[serde(rename = "perm")]
    pub permission: i32,
    /// `SINGLE_TAG` or `MULTI_TAG`.
    #[serde(rename = "topicFilterType", default = "single_tag")]
    pub filter_type: String,
    /// Bits that mark unit topics.
    #[serde(rename = "topicSysFlag", default)]
    pub system_flag: i32,
    /// 4.9 brokers do not store it.
    #[serde(default)]
    pub order: bool,
    /// 5.x: `message.type` and others. Set when a topic is created; later changes of the configuration leave them as they are.
    #[serde(default)]
    pub attributes: BTreeMap<String, String>,
}

fn single_tag() -> String {
    "SINGLE_TAG".to_owned()
}

/// A topic's configuration by broker.
pub type TopicConfigs = BTreeMap<Arc<str>, TopicConfig>;

/// What a topic lets clients do. Brokers refuse sends because of the queue counts only; the permission is advice in the route.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum TopicAccess {
    /// Everything as configured.
    Open,
    /// The configured queues, read only by the route: clients that follow it stop sending.
    Closed,
    /// No queues: every send and every pull is refused.
    Sealed,
}

impl TopicConfig {
    /// A topic with `queues` queues to read and write, and defaults for the rest.
    #[must_use]
    pub fn new(topic: &str, queues: u32) -> Self {
        TopicConfig {
            topic_name: topic.to_owned(),
            read_queues: queues,
            write_queues: queues,
            permission: permission::READ | permission::WRITE,
            filter_type: single_tag(),
            system_flag: 0,
            order: false,
            attributes: BTreeMap::new(),
        }
    }

    /// The queues that may hold messages, read from this configuration as it is when the topic is open.
    #[must_use]
    pub fn queues(&self) -> u32 {
        self.read_queues.max(self.write_queues)
    }

    /// What this configuration lets clients do.
    #[must_use]
    pub fn access(&self) -> TopicAccess {
        if self.read_queues == 0 && self.write_queues == 0 {
            TopicAccess::Sealed
        } else if self.permission & permission::WRITE == 0 {
            TopicAccess::Closed
        } else {
            TopicAccess::Open
        }
    }

    /// This configuration, of an open topic, with another access.
    #[must_use]
    pub fn with_access(&self, access: TopicAccess) -> TopicConfig {
        let mut config = self.clone();
        if access != TopicAccess::Open {
            config.permission = permission::READ;
        }
        if access == TopicAccess::Sealed {
            config.read_queues = 0;
            config.write_queues = 0;
        }
        config
    }

    /// Whether a broker that was told `self` may answer `stored`.
    fn is_stored_as(&self, stored: &TopicConfig) -> bool {
        // 4.9 does not store `order`; attributes are not sent with a change.
        let fields = |config: &TopicConfig| {
            (
                config.read_queues,
                config.write_queues,
                config.permission,
                config.system_flag,
            )
        };
        fields(self) == fields(stored) && self.filter_type == stored.filter_type
    }

    /// `CreateTopicRequestHeader.java`.
    fn request(&self) -> Request {
        Request::new(request::UPDATE_AND_CREATE_TOPIC)
            .text("topic", &self.topic_name)
            .text("defaultTopic", "TBW102")
            .field("readQueueNums", self.read_queues)
            .field("writeQueueNums", self.write_queues)
            .field("perm", self.permission)
            .text("topicFilterType", &self.filter_type)
            .field("topicSysFlag", self.system_flag)
            .field("order", self.order)
    }

    /// `AttributeParser.java`: `+key=value`, separated by commas.
    fn added_attributes(&self) -> String {
        let mut out = String::new();
        for (index, (key, value)) in self.attributes.iter().enumerate() {
            let comma = if index > 0 { "," } else { "" };
            // Writing to a `String` cannot fail.
            let _ = write!(out, "{comma}+{key}={value}");
        }
        out
    }
}

impl Admin {
    /// The topics that people made, sorted: without those of the brokers, of retries and of dead letters.
    ///
    /// # Errors
    /// As [`Self::masters`] and [`Client::call`](crate::Client::call).
    ///
    /// # Cancellation
    /// Leaves nothing behind.
    pub async fn topics(&self) -> Result<Vec<String>> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Body {
            #[serde(default)]
            topic_list: BTreeSet<String>,
        }
        let request = Request::new(request::GET_ALL_TOPIC_LIST_FROM_NAMESERVER);
        let command = self
            .client
            .call_name_server("list of topics", request)
            .await?;
        let mut topics = fastjson::from_slice::<Body>(&command.body)?.topic_list;
        let system = self
            .ask_masters(|admin, address| async move {
                let request = Request::new(request::GET_SYSTEM_TOPIC_LIST_FROM_BROKER);
                let body: Body = admin.read(&address, "system topics", request).await?;
                Ok(body.topic_list)
            })
            .await?;
        let info = self.client.cluster_info().await?;
        for (master, names) in &system {
            topics.remove(&*master.broker);
            topics.retain(|topic| !names.contains(topic));
        }
        let belongs_to_brokers = |topic: &String| {
            ["%RETRY%", "%DLQ%", "rmq_sys_", "RMQ_SYS_"]
                .iter()
                .any(|prefix| topic.starts_with(prefix))
                || info.clusters.contains_key(topic)
                || info
                    .clusters
                    .keys()
                    .any(|cluster| topic == &format!("{cluster}_REPLY_TOPIC"))
        };
        topics.retain(|topic| !belongs_to_brokers(topic));
        Ok(topics.into_iter().collect())
    }

    /// A topic's configuration on the broker at `address`; `None` when it does not have it.
    ///
    /// # Errors
    /// As [`Client::call`](crate::Client::call).
    ///
    /// # Cancellation
    /// Leaves nothing behind.
    pub async fn topic_config(
        &self,
        address: &Arc<str>,
        topic: &str,
    ) -> Result<Option<TopicConfig>> {
        let request = Request::new(request::GET_TOPIC_CONFIG).text("topic", topic);
        match self.read(address, "topic configuration", request).await {
            Ok(config) => Ok(Some(config)),
            Err(error) if error.code() == Some(response::TOPIC_NOT_EXIST) => Ok(None),
            // 4.9 brokers give all or nothing.
            Err(error) if error.kind() == ErrorKind::Unsupported => {
                self.topic_config_among_all(address, topic).await
            }
            Err(error) => Err(error),
        }
    }

    async fn topic_config_among_all(
        &self,
        address: &Arc<str>,
        topic: &str,
    ) -> Result<Option<TopicConfig>> {
        Ok(self.all_topic_configs(address).await?.remove(topic))
    }

    async fn all_topic_configs(&self, address: &Arc<str>) -> Result<BTreeMap<String, TopicConfig>> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Body {
            #[serde(default)]
            topic_config_table: BTreeMap<String, TopicConfig>,
        }
        let request = Request::new(request::GET_ALL_TOPIC_CONFIG);
        let body: Body = self.read(address, "topic configurations", request).await?;
        Ok(body.topic_config_table)
    }

    /// The same for several topics at once; unknown ones are left out.
    ///
    /// # Errors
    /// As [`Self::topic_configs`].
    ///
    /// # Cancellation
    /// Leaves nothing behind.
    pub async fn configs_of(
        &self,
        topics: &[Arc<str>],
    ) -> Result<BTreeMap<Arc<str>, TopicConfigs>> {
        let names: Arc<[Arc<str>]> = topics.into();
        let answers = self
            .ask_masters(|admin, address| {
                let names = Arc::clone(&names);
                async move { admin.configs_on(&address, &names).await }
            })
            .await?;
        let mut all: BTreeMap<Arc<str>, TopicConfigs> = BTreeMap::new();
        for (master, configs) in answers {
            for (topic, config) in configs {
                let of_topic = all.entry(topic).or_default();
                of_topic.insert(Arc::clone(&master.broker), config);
            }
        }
        Ok(all)
    }

    async fn configs_on(
        &self,
        address: &Arc<str>,
        topics: &[Arc<str>],
    ) -> Result<Vec<(Arc<str>, TopicConfig)>> {
        let mut found = Vec::new();
        for topic in topics {
            let request = Request::new(request::GET_TOPIC_CONFIG).text("topic", topic);
            match self.read(address, "topic configuration", request).await {
                Ok(config) => found.push((Arc::clone(topic), config)),
                Err(error) if error.code() == Some(response::TOPIC_NOT_EXIST) => {}
                // 4.9 brokers give all or nothing: once is enough.
                Err(error) if error.kind() == ErrorKind::Unsupported => {
                    let mut all = self.all_topic_configs(address).await?;
                    let known = topics
                        .iter()
                        .filter_map(|topic| Some((Arc::clone(topic), all.remove(&**topic)?)));
                    return Ok(known.collect());
                }
                Err(error) => return Err(error),
            }
        }
        Ok(found)
    }

    /// A topic's configuration on every master that has it. Empty for an unknown topic.
    ///
    /// # Errors
    /// As [`Self::masters`] and [`Self::topic_config`].
    ///
    /// # Cancellation
    /// Leaves nothing behind.
    pub async fn topic_configs(&self, topic: &str) -> Result<TopicConfigs> {
        let name: Arc<str> = topic.into();
        let configs = self
            .ask_masters(|admin, address| {
                let topic = Arc::clone(&name);
                async move { admin.topic_config(&address, &topic).await }
            })
            .await?;
        Ok(configs
            .into_iter()
            .filter_map(|(master, config)| Some((master.broker, config?)))
            .collect())
    }

    /// Creates the topic on every master that does not have it; the others keep theirs.
    ///
    /// # Errors
    /// [`ErrorKind::Broker`] with [`response::INVALID_PARAMETER`] for a name that brokers refuse; as [`Self::masters`] and
    /// [`Self::topic_config`].
    ///
    /// # Cancellation
    /// The topic may exist on some brokers. Repeating the call is safe.
    pub async fn create_topic(&self, config: &TopicConfig) -> Result<()> {
        for master in self.masters().await? {
            if self
                .topic_config(&master.address, &config.topic_name)
                .await?
                .is_some()
            {
                continue;
            }
            let mut request = config.request();
            if !config.attributes.is_empty() {
                request = request.text("attributes", &config.added_attributes());
            }
            self.put(&master, config, request).await?;
        }
        Ok(())
    }

    /// Replaces the configuration of a topic on one broker, all fields but the attributes, and reads it back.
    ///
    /// # Errors
    /// [`ErrorKind::Broker`] when the broker stored something else; as [`Self::topic_config`]. After an error the configuration is unknown.
    ///
    /// # Cancellation
    /// The configuration may or may not be changed. Repeating the call is safe.
    pub async fn update_topic(&self, master: &Master, config: &TopicConfig) -> Result<()> {
        self.put(master, config, config.request()).await
    }

    async fn put(&self, master: &Master, config: &TopicConfig, request: Request) -> Result<()> {
        let address = &master.address;
        let operation = format!("change of topic {}", config.topic_name);
        self.client.call(address, &operation, request).await?;
        let stored = self.topic_config(address, &config.topic_name).await?;
        if stored
            .as_ref()
            .is_some_and(|stored| config.is_stored_as(stored))
        {
            return Ok(());
        }
        let message = format!("{operation}: the broker stored {stored:?} instead of {config:?}");
        Err(Error::new(ErrorKind::Broker, message).with_address(address))
    }

    /// Deletes a topic with its messages, on every broker and in the name servers. An unknown topic is no error.
    ///
    /// # Errors
    /// As [`Self::masters`] and [`Client::call`](crate::Client::call).
    ///
    /// # Cancellation
    /// The topic may be deleted on some brokers. Repeating the call is safe.
    pub async fn delete_topic(&self, topic: &str) -> Result<()> {
        let operation = format!("deletion of topic {topic}");
        for master in self.masters().await? {
            let request = Request::new(request::DELETE_TOPIC_IN_BROKER).text("topic", topic);
            self.client
                .call(&master.address, &operation, request)
                .await?;
        }
        let request = Request::new(request::DELETE_TOPIC_IN_NAMESRV).text("topic", topic);
        self.client.call_name_server(&operation, request).await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn access_is_told_from_counts_and_permission() {
        let open = TopicConfig::new("t", 4);
        for access in [TopicAccess::Open, TopicAccess::Closed, TopicAccess::Sealed] {
            assert_eq!(open.with_access(access).access(), access);
        }
        assert_eq!(open.with_access(TopicAccess::Open), open);
        assert_eq!(open.with_access(TopicAccess::Closed).queues(), 4);
        assert_eq!(open.with_access(TopicAccess::Sealed).queues(), 0);
    }

    #[test]
    fn configurations_of_both_generations_are_read() {
        let four = br#"{"order":false,"perm":6,"readQueueNums":4,"topicFilterType":"SINGLE_TAG","topicName":"t","topicSysFlag":0,"writeQueueNums":4}"#;
        let five = br#"{"attributes":{"message.type":"NORMAL"},"order":false,"perm":6,"readQueueNums":4,"topicFilterType":"SINGLE_TAG","topicName":"t","topicSysFlag":0,"writeQueueNums":4,"mappingDetail":null}"#;
        let mut expected = TopicConfig::new("t", 4);
        assert_eq!(fastjson::from_slice::<TopicConfig>(four).unwrap(), expected);
        expected
            .attributes
            .insert("message.type".to_owned(), "NORMAL".to_owned());
        assert_eq!(fastjson::from_slice::<TopicConfig>(five).unwrap(), expected);
        assert_eq!(expected.added_attributes(), "+message.type=NORMAL");
        let text = serde_json::to_string(&expected).unwrap();
        assert_eq!(
            serde_json::from_str::<TopicConfig>(&text).unwrap(),
            expected
        );
    }
}
