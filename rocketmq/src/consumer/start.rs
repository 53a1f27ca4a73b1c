//! Where a queue that is new to this member begins.

use std::sync::Arc;

use super::{Group, local::LocalOffsets, moment::Moment, offset::query};
use crate::{
    codes::request,
    error::{Error, ErrorKind, Result},
    frame::Request,
    route::{Broker, MessageQueue, TopicRoute},
};

/// Where a queue begins, and what is known of it.
pub(super) struct Start {
    /// The first offset to fetch.
    pub(super) offset: u64,
    /// What the broker has for certain.
    pub(super) committed: Option<u64>,
    /// Who was asked.
    pub(super) address: Option<Arc<str>>,
    /// When the request was sent that locked the queue.
    pub(super) locked: Option<Moment>,
    /// Who keeps the offsets instead of the broker.
    pub(super) local: Option<Arc<LocalOffsets>>,
}

impl Start {
    fn at(offset: u64) -> Start {
        Start {
            offset,
            committed: None,
            address: None,
            locked: None,
            local: None,
        }
    }
}

/// Where to begin: a group at its committed offset, else at the first message that the master keeps; a member of a broadcast at its own offset, else at the end.
///
/// # Errors
/// No answer, or a refusal; [`ErrorKind::Unavailable`] while there is only a replica that does not know the group.
pub(super) async fn find(
    group: &Group,
    route: &TopicRoute,
    queue: &MessageQueue,
    local: Option<&Arc<LocalOffsets>>,
) -> Result<Start> {
    let mut start = match group.moved(queue) {
        Some(offset) => Start::at(offset),
        None => {
            let broker = route.broker(&queue.broker);
            let address = broker.and_then(Broker::answering).ok_or_else(|| {
                let why = format!("broker {} has no address now", queue.broker);
                Error::new(ErrorKind::Unavailable, why)
            })?;
            let replica = route.master(&queue.broker) != Some(address);
            match local {
                None => Start {
                    address: Some(Arc::clone(address)),
                    ..of_group(group, queue, address, replica).await?
                },
                Some(local) => match local.get(queue) {
                    Some(offset) => Start::at(offset),
                    None => Start::at(limit(group, queue, address, request::GET_MAX_OFFSET).await?),
                },
            }
        }
    };
    start.local = local.cloned();
    Ok(start)
}

async fn of_group(
    group: &Group,
    queue: &MessageQueue,
    address: &Arc<str>,
    replica: bool,
) -> Result<Start> {
    let committed = query(&group.client, &group.name, queue, address).await?;
    // It may have the last messages only, and it may not have been told of the group: its first message is no place to begin. 4.9 says 0 for "never".
    if replica && committed.is_none_or(|offset| offset == 0) {
        let why = format!(
            "the replica of broker {} does not know how far the group has read {queue}: the queue waits for the master",
            queue.broker
        );
        return Err(Error::new(ErrorKind::Unavailable, why).with_address(address));
    }
    if let Some(offset) = committed {
        let mut start = Start::at(offset);
        // 4.9 says 0 for "never". It is committed, then: an administrator can set the offsets of a group only that has one in every queue.
        start.committed = committed.filter(|offset| *offset > 0);
        return Ok(start);
    }
    match limit(group, queue, address, request::GET_MIN_OFFSET).await {
        Ok(first) => Ok(Start::at(first)),
        // Whoever may only read may not ask this on 5.x. The first pull is told where the messages begin.
        Err(error) if error.kind() == ErrorKind::PermissionDenied => Ok(Start::at(0)),
        Err(error) => Err(error),
    }
}

/// The first offset of a queue, or its end.
async fn limit(group: &Group, queue: &MessageQueue, address: &Arc<str>, code: i32) -> Result<u64> {
    let request = Request::new(code)
        .text("topic", &queue.topic)
        .field("queueId", queue.queue);
    let operation = "the limit of a queue";
    let answer = group.client.call(address, operation, request).await?;
    answer.fields.offset("offset")
}
