//! Groups that take messages by POP (5.x): their offsets move when a message is handed out, before it is acked, so they prove nothing.
//!
//! No broker lists such groups. These are the traces: members whose heartbeat says so, the request mode that an operator or a client has set, and the
//! retry topic of its own that POP gives to every pair of group and topic with the first message that was not acked in time
//! (apache/rocketmq `ConsumeType.java`, `MessageRequestModeManager.java`, `KeyBuilder.buildPopRetryTopic`).

use std::{collections::BTreeMap, sync::Arc};

use serde::Deserialize;

use super::Admin;
use crate::{
    codes::{request, response},
    error::{ErrorKind, Result},
    frame::Request,
    message::RETRY_PREFIX,
};

impl Admin {
    /// Whether a trace says that `group` takes messages by POP, of `topic` where it is a trace of one topic. A group that does so through a proxy and
    /// has acked everything in time leaves none.
    ///
    /// # Errors
    /// As [`Self::masters`] and [`Client::call`](crate::Client::call).
    ///
    /// # Cancellation
    /// Leaves nothing behind.
    pub async fn pops(&self, topic: &str, group: &str) -> Result<bool> {
        // `+`: from 5.3 on, where `enableRetryTopicV2` is set.
        let retries: Vec<Arc<str>> = ["_", "+"]
            .iter()
            .map(|between| format!("{RETRY_PREFIX}{group}{between}{topic}").into())
            .collect();
        if !self.configs_of(&retries).await?.is_empty() {
            return Ok(true);
        }
        let (topic, group) = (Arc::<str>::from(topic), Arc::<str>::from(group));
        let modes = self
            .ask_masters(|admin, address| {
                let (topic, group) = (Arc::clone(&topic), Arc::clone(&group));
                async move { admin.is_set_to_pop(&address, &topic, &group).await }
            })
            .await?;
        Ok(modes.iter().any(|(_, pop)| *pop))
    }

    async fn is_set_to_pop(&self, address: &Arc<str>, topic: &str, group: &str) -> Result<bool> {
        #[derive(Deserialize)]
        struct Mode {
            mode: Option<String>,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Body {
            #[serde(default)]
            message_request_mode_map: BTreeMap<String, BTreeMap<String, Mode>>,
        }
        let request = Request::new(request::GET_ALL_MESSAGE_REQUEST_MODE);
        match self
            .read::<Body>(address, "message request modes", request)
            .await
        {
            Ok(body) => {
                let groups = body.message_request_mode_map.get(topic);
                let mode = groups.and_then(|groups| groups.get(group)?.mode.as_deref());
                Ok(mode == Some("POP"))
            }
            // 4.9 and early 5.x know no modes, and a 5.x broker has none to tell.
            Err(error)
                if error.kind() == ErrorKind::Unsupported
                    || error.code() == Some(response::SYSTEM_ERROR) =>
            {
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }
}
