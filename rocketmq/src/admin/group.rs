//! Consumer groups.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use serde::{Deserialize, Serialize};

use super::{Admin, owed::DEAD_LETTER_PREFIX};
use crate::{
    codes::request, error::Result, frame::Request, message::RETRY_PREFIX, producer::check_name,
};

/// Groups of the brokers' own (apache/rocketmq `MixAll.CID_RMQ_SYS_PREFIX`).
const SYSTEM_PREFIX: &str = "CID_RMQ_SYS_";
const MAX_GROUP_BYTES: usize = 255;

/// A group's configuration on one broker (apache/rocketmq `SubscriptionGroupConfig.java`).
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct GroupConfig {
    /// The group.
    pub group_name: String,
    /// Whether it may pull at all.
    #[serde(default = "yes")]
    pub consume_enable: bool,
    /// Whether a new group may start at the first message.
    #[serde(default = "yes")]
    pub consume_from_min_enable: bool,
    /// Whether members may each read everything.
    #[serde(default = "yes")]
    pub consume_broadcast_enable: bool,
    /// Queues of its retry topic.
    #[serde(rename = "retryQueueNums", default = "one")]
    pub retry_queues: u32,
    /// Deliveries after the first one, before a message becomes a dead letter.
    #[serde(default = "sixteen")]
    pub retry_max_times: i32,
    /// The replica to pull from: the master.
    #[serde(default)]
    pub broker_id: u64,
    /// The replica that a slow group is sent to.
    #[serde(default = "one_id")]
    pub which_broker_when_consume_slowly: u64,
    /// Whether members hear at once of others that come and go.
    #[serde(default = "yes")]
    pub notify_consumer_ids_changed_enable: bool,
    /// What else the broker has of it, as it is: `groupRetryPolicy`, `consumeMessageOrderly`, `attributes` and others of 5.x.
    #[serde(flatten)]
    pub others: BTreeMap<String, serde_json::Value>,
}

fn yes() -> bool {
    true
}
fn one() -> u32 {
    1
}
fn one_id() -> u64 {
    1
}
fn sixteen() -> i32 {
    16
}

impl GroupConfig {
    /// A group with the brokers' defaults.
    #[must_use]
    pub fn new(group: &str) -> Self {
        GroupConfig {
            group_name: group.to_owned(),
            consume_enable: true,
            consume_from_min_enable: true,
            consume_broadcast_enable: true,
            retry_queues: one(),
            retry_max_times: sixteen(),
            broker_id: 0,
            which_broker_when_consume_slowly: one_id(),
            notify_consumer_ids_changed_enable: true,
            others: BTreeMap::new(),
        }
    }
}

impl Admin {
    /// The groups that the broker at `address` knows, by name.
    ///
    /// # Errors
    /// As [`Client::call`](crate::Client::call).
    ///
    /// # Cancellation
    /// Leaves nothing behind.
    pub async fn groups(&self, address: &Arc<str>) -> Result<BTreeMap<String, GroupConfig>> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Body {
            #[serde(default)]
            subscription_group_table: BTreeMap<String, GroupConfig>,
        }
        let request = Request::new(request::GET_ALL_SUBSCRIPTIONGROUP_CONFIG);
        let body: Body = self.read(address, "list of groups", request).await?;
        Ok(body.subscription_group_table)
    }

    /// Whether every master knows the group.
    ///
    /// # Errors
    /// As [`Self::masters`] and [`Self::groups`].
    ///
    /// # Cancellation
    /// Leaves nothing behind.
    pub async fn group_exists(&self, group: &str) -> Result<bool> {
        let known = self
            .ask_masters(|admin, address| async move { admin.groups(&address).await })
            .await?;
        Ok(known.iter().all(|(_, groups)| groups.contains_key(group)))
    }

    /// Creates the group on every master that does not know it; the others keep theirs.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`](crate::ErrorKind::InvalidInput) for a name that brokers refuse; as [`Self::masters`] and [`Self::groups`].
    ///
    /// # Cancellation
    /// The group may exist on some brokers. Repeating the call is safe.
    pub async fn create_group(&self, config: &GroupConfig) -> Result<()> {
        check_name("group", &config.group_name, MAX_GROUP_BYTES)?;
        // Strings, numbers and booleans always serialize.
        let body = serde_json::to_vec(config).unwrap_or_default();
        for master in self.masters().await? {
            let known = self.groups(&master.address).await?;
            if known.contains_key(&config.group_name) {
                continue;
            }
            let request =
                Request::new(request::UPDATE_AND_CREATE_SUBSCRIPTIONGROUP).body(body.clone());
            let operation = format!("creation of group {}", config.group_name);
            self.client
                .call(&master.address, &operation, request)
                .await?;
        }
        Ok(())
    }

    /// Deletes a group, its offsets, and its retry and dead-letter topics with what lies in them, on every broker. An unknown group is no error.
    /// A member that is still connected makes the group again with its next heartbeat, where brokers let it.
    ///
    /// # Errors
    /// As [`Self::masters`] and [`Client::call`](crate::Client::call).
    ///
    /// # Cancellation
    /// The group may be deleted on some brokers, and its topics stay. Repeating the call is safe.
    pub async fn delete_group(&self, group: &str) -> Result<()> {
        for master in self.masters().await? {
            // 4.9 reads `removeOffset`, 5.x `cleanOffset`.
            let request = Request::new(request::DELETE_SUBSCRIPTIONGROUP)
                .text("groupName", group)
                .text("removeOffset", "true")
                .text("cleanOffset", "true");
            let operation = format!("deletion of group {group}");
            self.client
                .call(&master.address, &operation, request)
                .await?;
        }
        for prefix in [RETRY_PREFIX, DEAD_LETTER_PREFIX] {
            self.delete_topic(&format!("{prefix}{group}")).await?;
        }
        Ok(())
    }

    /// The groups that read the topic now or have offsets in it, on any broker, sorted; without the brokers' own, and without those that were deleted
    /// everywhere and have left their offsets behind.
    ///
    /// # Errors
    /// As [`Self::masters`] and [`Client::call`](crate::Client::call).
    ///
    /// # Cancellation
    /// Leaves nothing behind.
    pub async fn groups_of_topic(&self, topic: &str) -> Result<Vec<String>> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Body {
            #[serde(default)]
            group_list: BTreeSet<String>,
        }
        let topic: Arc<str> = topic.into();
        let answers = self
            .ask_masters(|admin, address| {
                let request =
                    Request::new(request::QUERY_TOPIC_CONSUME_BY_WHO).text("topic", &topic);
                async move {
                    let body: Body = admin.read(&address, "groups of a topic", request).await?;
                    Ok(body.group_list)
                }
            })
            .await?;
        let named: BTreeSet<String> = answers.into_iter().flat_map(|(_, names)| names).collect();
        let named = named
            .into_iter()
            .filter(|group| !group.starts_with(SYSTEM_PREFIX));
        let known = self
            .ask_masters(|admin, address| async move { admin.groups(&address).await })
            .await?;
        Ok(named
            .filter(|group| known.iter().any(|(_, groups)| groups.contains_key(group)))
            .collect())
    }
}
