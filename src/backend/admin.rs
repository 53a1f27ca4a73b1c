//! What the control plane needs of a cluster.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
};

use serde::{Deserialize, Serialize};

#[cfg(doc)]
use super::Capability;
use super::{Backlog, DelayLevels, QueueId};
use crate::{
    BoxFuture,
    error::{Error, ErrorKind, Result},
    side::Access,
};

/// A topic's own configuration, as it was before anything was closed or sealed: what [`BackendAdmin::set_access`] puts back.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct TopicSettings {
    /// Its queues, on all brokers together.
    pub queues: u32,
    /// The backend's own record of every field on every broker.
    pub saved: serde_json::Value,
}

/// A topic as it is now.
#[derive(Clone, Debug, PartialEq)]
pub struct TopicDescription {
    /// Its configuration. Worth saving only while `access` is `Open`.
    pub settings: TopicSettings,
    /// What writers may do. Where the brokers disagree: what the most open one lets them do.
    pub access: Access,
    /// Where the brokers disagree about the access: a sentence that names each with its own. [`BackendAdmin::set_access`] puts it right.
    pub disagreement: Option<String>,
    /// The queues that can be read now; none under a seal.
    pub queues: BTreeSet<QueueId>,
    /// RocketMQ 5.x `message.type`, where set; `BatchCQ`, where `queue.type` is that; several joined by " and ", where brokers disagree.
    pub message_type: Option<String>,
}

/// Whether the next broker may still be changed: see [`BackendAdmin::set_access_while`].
pub type MayGoOn = dyn Fn() -> BoxFuture<'static, bool> + Send + Sync;

/// A client that a broker lists.
#[derive(Clone, Debug, Default, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
pub struct ConnectedClient {
    /// The id it gave.
    pub client_id: String,
    /// Where it connects from.
    pub address: String,
    /// The consumer group or the producer group under which it is listed.
    #[serde(default)]
    pub group: String,
    /// `JAVA`, `GO`, `CPP`, ...; empty when the broker does not say.
    #[serde(default)]
    pub language: String,
    /// Of the client, as the broker says it; empty when it does not.
    #[serde(default)]
    pub version: String,
    /// How long ago the broker last heard of it, in milliseconds, where the broker says so.
    #[serde(default)]
    pub last_seen_ms: Option<u64>,
}

/// Who consumes in a group, and how.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct GroupMembers {
    /// The consumers that the brokers list, sorted.
    pub clients: Vec<ConnectedClient>,
    /// Each member reads everything and keeps its offsets itself: the brokers cannot tell what is owed.
    #[serde(default)]
    pub broadcasting: bool,
    /// Members take messages by POP, whose offsets move before the ack: they prove nothing.
    #[serde(default)]
    pub pop: bool,
}

/// What the control plane needs of a cluster.
///
/// All calls: `Unavailable` when a broker that must be asked cannot be reached, `PermissionDenied`, `NotFound` for an unknown topic or group.
/// Dropping a future of a changing call leaves the change made, made on some brokers, or not made; repeating the call is safe.
pub trait BackendAdmin: fmt::Debug + Send + Sync {
    /// What tells this cluster from another: its brokers, by names that are the same to every client of it. Empty where the backend cannot tell.
    ///
    /// # Errors
    /// See the trait.
    fn brokers(&self) -> BoxFuture<'_, Result<BTreeSet<String>>> {
        Box::pin(std::future::ready(Ok(BTreeSet::new())))
    }

    /// What each broker is configured to take the numbered delays for, by its name as in [`QueueId::broker`]. Empty where messages may wait for any time.
    /// A broker that was not started anew since its configuration was changed may go by other ones.
    ///
    /// # Errors
    /// See the trait.
    fn delay_levels(&self) -> BoxFuture<'_, Result<BTreeMap<String, DelayLevels>>> {
        Box::pin(std::future::ready(Ok(BTreeMap::new())))
    }

    /// The topics, without the broker's internal ones.
    ///
    /// # Errors
    /// See the trait.
    fn topics(&self) -> BoxFuture<'_, Result<Vec<String>>>;

    /// One topic; `None` when no broker has it.
    ///
    /// # Errors
    /// See the trait.
    fn topic<'a>(&'a self, topic: &'a str) -> BoxFuture<'a, Result<Option<TopicDescription>>>;

    /// Creates a topic with `queues` queues on every broker; one that exists is left as it is.
    ///
    /// # Errors
    /// See the trait.
    fn create_topic<'a>(&'a self, topic: &'a str, queues: u32) -> BoxFuture<'a, Result<()>>;

    /// Deletes a topic and its messages; one that does not exist is no error.
    ///
    /// # Errors
    /// See the trait.
    fn delete_topic<'a>(&'a self, topic: &'a str) -> BoxFuture<'a, Result<()>>;

    /// Creates a consumer group; one that exists is left as it is.
    ///
    /// # Errors
    /// See the trait.
    fn create_group<'a>(&'a self, group: &'a str) -> BoxFuture<'a, Result<()>>;

    /// Deletes a consumer group with its offsets, its retry topic and its dead-letter topic, and what lies in those; one that does not exist is no error.
    ///
    /// # Behavior
    /// Meant for a group that everybody has left. Its brokers may make it again for a member that is still connected.
    ///
    /// # Errors
    /// See the trait.
    fn delete_group<'a>(&'a self, group: &'a str) -> BoxFuture<'a, Result<()>>;

    /// Whether every broker knows the group.
    ///
    /// # Errors
    /// See the trait.
    fn group_exists<'a>(&'a self, group: &'a str) -> BoxFuture<'a, Result<bool>>;

    /// The groups that read the topic or have offsets in it, sorted.
    ///
    /// # Errors
    /// See the trait.
    fn groups<'a>(&'a self, topic: &'a str) -> BoxFuture<'a, Result<Vec<String>>>;

    /// Opens, closes or seals a topic on every broker. `Open` puts `settings` back exactly, and takes away nothing that the topic has got since.
    ///
    /// # Behavior
    /// Returns once every broker has confirmed and was read back. A broker that is not in `settings` and has the topic is changed with the others.
    /// A broker that fails does not keep the others from being changed.
    ///
    /// # Errors
    /// `Unsupported` without [`Capability::seal`]; `InvalidConfig` for a seal of a topic that has grown since `settings` was saved: under the seal
    /// nobody could tell by how much, so take [`Self::grown`] first; see the trait; the message names every broker that failed. After an error the access is unknown:
    /// read it with [`Self::topic`].
    fn set_access<'a>(
        &'a self,
        topic: &'a str,
        settings: &'a TopicSettings,
        access: Access,
    ) -> BoxFuture<'a, Result<()>>;

    /// As [`Self::set_access`], by somebody who may lose the right to it meanwhile, while this process stands still say.
    ///
    /// # Behavior
    /// `may_go_on` is asked before each broker is changed; once it says no, no further broker is. The default asks once, before the first.
    ///
    /// # Errors
    /// `Unavailable` when it said no; as [`Self::set_access`].
    fn set_access_while<'a>(
        &'a self,
        topic: &'a str,
        settings: &'a TopicSettings,
        access: Access,
        may_go_on: &'a MayGoOn,
    ) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            if may_go_on().await {
                return self.set_access(topic, settings, access).await;
            }
            Err(Error::new(
                ErrorKind::Unavailable,
                "change a topic's access",
                "nothing was changed: whoever wanted it may not decide any more",
            ))
        })
    }

    /// A topic's own configuration with what it has got since `saved` was: queues that were added, brokers that joined with it. What was taken away since
    /// is still in it. `None` when that is nothing, or nothing can be told because the topic is sealed.
    ///
    /// # Errors
    /// `InvalidConfig` when `saved` is not this backend's.
    fn grown(
        &self,
        topic: &str,
        saved: &TopicSettings,
        now: &TopicDescription,
    ) -> Result<Option<TopicSettings>> {
        let _ = topic;
        Ok((now.settings.queues > saved.queues).then(|| now.settings.clone()))
    }

    /// Creates the group where needed and commits the first offset of every queue for which it has none, so that a group that
    /// connects later starts at the first message.
    ///
    /// # Errors
    /// See the trait.
    fn commit_first_offsets<'a>(
        &'a self,
        topic: &'a str,
        group: &'a str,
        settings: &'a TopicSettings,
    ) -> BoxFuture<'a, Result<()>>;

    /// What the topic owes to a group, also under a seal, wherever on the brokers it lies.
    ///
    /// # Behavior
    /// All that the brokers had taken when the call was made is counted. A message that moves from one place to another meanwhile is
    /// counted once or twice, never not at all.
    ///
    /// # Errors
    /// `Timeout` when the dispatch does not catch up, or when so much waits that it takes another call to look at the rest; see the trait.
    fn backlog<'a>(
        &'a self,
        topic: &'a str,
        group: &'a str,
        settings: &'a TopicSettings,
    ) -> BoxFuture<'a, Result<Backlog>>;

    /// The same for several groups. Backends override it where one look can serve all.
    ///
    /// # Errors
    /// As [`Self::backlog`].
    fn backlogs<'a>(
        &'a self,
        topic: &'a str,
        groups: &'a [Arc<str>],
        settings: &'a TopicSettings,
    ) -> BoxFuture<'a, Result<BTreeMap<Arc<str>, Backlog>>> {
        Box::pin(async move {
            let mut all = BTreeMap::new();
            for group in groups {
                all.insert(
                    Arc::clone(group),
                    self.backlog(topic, group, settings).await?,
                );
            }
            Ok(all)
        })
    }

    /// One past the last message of every queue that the topic has when it is open, also under a seal.
    ///
    /// # Behavior
    /// The answer is begun after the broker has dispatched all that it had taken when the call was made.
    ///
    /// # Errors
    /// As [`Self::backlog`].
    fn ends<'a>(
        &'a self,
        topic: &'a str,
        settings: &'a TopicSettings,
    ) -> BoxFuture<'a, Result<BTreeMap<QueueId, u64>>>;

    /// The consumers that the brokers list for a group; nobody is no error.
    ///
    /// # Errors
    /// See the trait.
    fn members<'a>(&'a self, group: &'a str) -> BoxFuture<'a, Result<GroupMembers>>;

    /// Whether a trace on the brokers says that the group takes messages of the topic in a way whose offsets prove nothing: see [`GroupMembers::pop`].
    /// Backends without such a way say no.
    ///
    /// # Errors
    /// See the trait.
    fn pops<'a>(&'a self, topic: &'a str, group: &'a str) -> BoxFuture<'a, Result<bool>> {
        let _ = (topic, group);
        Box::pin(std::future::ready(Ok(false)))
    }

    /// Every producer that the brokers list, sorted; all of this library's are among them. They do not tell which topics it sends to. `None`
    /// when the brokers keep no such list: then its silence about a client proves nothing.
    ///
    /// # Errors
    /// See the trait.
    fn producers(&self) -> BoxFuture<'_, Result<Option<Vec<ConnectedClient>>>>;
}
