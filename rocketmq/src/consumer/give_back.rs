//! Giving messages back to the group (apache/rocketmq `ConsumerSendMsgBackRequestHeader.java`).

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{Group, Token, held::Held, inbox::Inbox};
use crate::{codes::request, error::Result, frame::Request, message::DelayLevel};

pub(super) async fn nack(
    group: &Arc<Group>,
    inbox: &Arc<Inbox>,
    token: Token,
    delay: Duration,
) -> Result<()> {
    let held = inbox.outstanding(token)?;
    if inbox.is_broadcast() {
        inbox.keep(token, Instant::now() + delay);
        return Ok(());
    }
    if let Err(error) = send_back(group, &held, DelayLevel::nearest(delay)).await {
        tracing::warn!(group = %group.name, queue = %held.queue.queue, offset = held.message.offset, %error,
            "the broker did not take a message back: it is kept here");
        inbox.keep(token, Instant::now() + delay);
        return Ok(());
    }
    // The group has it again, whether or not the queue is still this member's.
    inbox.ack(token)
}

/// Gives a retry of a topic that this client does not read in this group back to the group: another member does. Tried until the queue ends.
pub(super) async fn stranger(group: Arc<Group>, held: Held) {
    const DELAY: Duration = Duration::from_secs(10);
    const LONGEST_PAUSE: Duration = Duration::from_secs(30);
    let Held { queue, message, .. } = &held;
    tracing::warn!(group = %group.name, topic = %message.topic, "a retry of a topic that is not read here goes back to the group");
    let mut pause = Duration::from_secs(1);
    while !queue.is_ending() {
        match send_back(&group, &held, DelayLevel::nearest(DELAY)).await {
            Ok(()) => {
                queue.ack(message.offset);
                group.signals.room.notify_waiters();
                return;
            }
            Err(error) => {
                tracing::warn!(group = %group.name, %error, "the broker did not take it");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
    }
}

async fn send_back(group: &Group, held: &Held, level: DelayLevel) -> Result<()> {
    let message = &held.message;
    let request = Request::new(request::CONSUMER_SEND_MSG_BACK)
        .field("offset", message.commit_log_offset)
        .text("group", &group.name)
        .field("delayLevel", level.get())
        .text("originMsgId", &message.offset_message_id)
        .text("originTopic", &message.topic)
        .text("unitMode", "false");
    let master = held.queue.master()?;
    group
        .client
        .call(&master, "giving a message back", request)
        .await?;
    Ok(())
}
