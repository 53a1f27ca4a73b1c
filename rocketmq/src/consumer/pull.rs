//! Fetching one queue: one long poll after the other.

use std::{
    pin::pin,
    sync::{Arc, Weak},
    time::Duration,
};

use tokio::{task::JoinSet, time::timeout};

use super::{Group, Unreadable, give_back, held::Held, offset::ProcessQueue, room::Delivered};
use crate::{
    codes::{pull_flag, request, response},
    error::{Error, ErrorKind, Result},
    frame::{Command, Request},
    message,
    producer::is_illegal_queue,
    subscription::SubscriptionData,
};

/// How long the broker may hold a pull that finds nothing.
const SUSPEND: Duration = Duration::from_secs(15);
/// How much later than that its answer may leave: brokers look at the pulls they hold in rounds of 5 s (apache/rocketmq `PullRequestHoldService.java`, with
/// long polling on, the default).
const LATE: Duration = Duration::from_secs(5);
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// A queue that finds no room for so long is spoken of, and again after as long.
const STANDS_STILL: Duration = Duration::from_secs(60);
/// So many retries of topics that nobody here reads may be on their way back while others of the queue are fetched.
const MOST_STRANGERS: usize = 64;

/// What one pull leaves to the next.
#[derive(Default)]
struct Left {
    /// The topic of the retry that the queue stands at.
    waits_for: Option<Arc<str>>,
    /// Retries of topics that nobody here reads, on their way back to the group. They end with the fetching: then they are fetched again.
    strangers: JoinSet<()>,
}

/// Fetches until the queue is revoked or the group is gone.
pub(super) async fn run(
    group: Weak<Group>,
    queue: Arc<ProcessQueue>,
    subscription: SubscriptionData,
) {
    let mut pause = FIRST_PAUSE;
    let mut left = Left::default();
    loop {
        while left.strangers.try_join_next().is_some() {}
        if left.strangers.len() >= MOST_STRANGERS {
            left.strangers.join_next().await;
        }
        let Some(group) = group.upgrade() else {
            return;
        };
        let room = room(&group, &queue, left.waits_for.take()).await;
        if queue.is_ending() {
            return;
        }
        match pull(&group, &queue, &subscription, room, &mut left).await {
            Ok(()) => pause = FIRST_PAUSE,
            Err(error) => {
                tracing::warn!(group = %group.name, queue = %queue.queue, %error, "pull failed");
                drop(group);
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
    }
}

/// Waits until something may be fetched, and says so when that takes long: an application that has forgotten a message stops its queue.
async fn room(group: &Group, queue: &ProcessQueue, waits_for: Option<Arc<str>>) -> usize {
    let mut waiting = pin!(group.room(queue, waits_for.as_ref()));
    loop {
        if let Ok(room) = timeout(STANDS_STILL, &mut waiting).await {
            return room;
        }
        let first = queue.window().committable();
        tracing::warn!(group = %group.name, queue = %queue.queue, first, held = queue.held(),
            "nothing was fetched for a minute: too much is fetched and not acked, waiting to be received or handed out, from offset `first` on");
    }
}

async fn pull(
    group: &Arc<Group>,
    queue: &Arc<ProcessQueue>,
    subscription: &SubscriptionData,
    room: usize,
    left: &mut Left,
) -> Result<()> {
    let next = queue.window().next();
    let source = queue.source()?;
    // A replica that is not to be read from says "nothing wanted here" with an offset behind what it kept back: it is asked for everything, so that it never
    // has a right to say so, and tags are looked at here.
    let wanted = match source.replica && subscription.is_by_tags() {
        true => "*",
        false => &subscription.sub_string,
    };
    // The subscription comes along, so that a broker that has not heard the heartbeat yet can filter too.
    let request = Request::with_capacity(request::PULL_MESSAGE, 352)
        .text("consumerGroup", &group.name)
        .text("topic", &queue.queue.topic)
        .field("queueId", queue.queue.queue)
        .field("queueOffset", next)
        .field("maxMsgNums", room)
        .field("sysFlag", pull_flag::SUSPEND | pull_flag::SUBSCRIPTION)
        .text("commitOffset", "0")
        .field("suspendTimeoutMillis", SUSPEND.as_millis())
        .text("subscription", wanted)
        .field("subVersion", subscription.sub_version)
        .text("expressionType", subscription.expression_type);
    let timeout = SUSPEND + LATE + group.client.options().request_timeout;
    let asked = tokio::select! {
        asked = group.client.invoke(&source.address, request, timeout) => asked,
        // What it would bring is not wanted now.
        () = queue.stepped_back() => return Ok(()),
    };
    let answer = match asked {
        Ok(answer) => answer,
        Err(error) => {
            queue.suggest(0);
            return Err(error);
        }
    };
    let suggested = answer.fields.number("suggestWhichBrokerId");
    queue.suggest(suggested.unwrap_or(0));
    match answer.code {
        response::SUCCESS => found(group, queue, subscription, next, answer, left),
        response::PULL_NOT_FOUND | response::PULL_RETRY_IMMEDIATELY => {
            queue.set_unreadable(None);
            if !source.replica {
                let to = answer.fields.offset("nextBeginOffset")?;
                queue.window().skip_to(next, to);
            } else if answer.code == response::PULL_RETRY_IMMEDIATELY && queue.source()? == source {
                return Err(nothing_from(&source.address));
            }
            Ok(())
        }
        response::PULL_OFFSET_MOVED if source.replica => Err(nothing_from(&source.address)),
        response::PULL_OFFSET_MOVED => {
            // Messages were deleted, or the queue is another one under the same name.
            let start = answer.fields.offset("nextBeginOffset")?;
            tracing::warn!(group = %group.name, queue = %queue.queue, from = next, to = start, "the broker moved the offset");
            if start > next {
                queue.window().skip_to(next, start);
            } else {
                group.restart(queue, start);
            }
            Ok(())
        }
        code => {
            let remark = answer.remark.as_deref().unwrap_or_default();
            if is_illegal_queue(remark) || code == response::TOPIC_NOT_EXIST {
                // Sealed or shrunk: the route says so too.
                group.changed.notify_one();
            } else if matches!(
                code,
                response::SUBSCRIPTION_NOT_EXIST
                    | response::SUBSCRIPTION_NOT_LATEST
                    | response::SUBSCRIPTION_GROUP_NOT_EXIST
            ) {
                group.client.registry().wake.notify_one();
            }
            Err(Error::refused(
                &format!("the pull from {}", queue.queue),
                code,
                answer.remark.as_deref(),
            )
            .with_right(request::PULL_MESSAGE)
            .with_address(&source.address))
        }
    }
}

/// A replica that cannot go on where its master stopped.
fn nothing_from(replica: &Arc<str>) -> Error {
    let why = "a replica gives nothing out: it is behind its master, cannot filter so, or is not to be read from (slaveReadEnable=true allows it); the queue waits for the master";
    Error::new(ErrorKind::Unavailable, why).with_address(replica)
}

/// Takes what a pull from offset `from` on has found.
fn found(
    group: &Arc<Group>,
    queue: &Arc<ProcessQueue>,
    subscription: &SubscriptionData,
    from: u64,
    answer: Command,
    left: &mut Left,
) -> Result<()> {
    let next = answer.fields.offset("nextBeginOffset")?;
    let decoded = message::decode(answer.body, &queue.queue);
    let read = decoded.messages.last();
    let read = read.map_or(from, |message| message.offset + 1);
    let mut batch = Vec::with_capacity(decoded.messages.len());
    for message in decoded.messages {
        // The broker compares hashes of tags only.
        if !subscription.wants(message.tag()) {
            continue;
        }
        batch.push(Held {
            queue: Arc::clone(queue),
            attempt: message.reconsume_times.saturating_add(1),
            message: Arc::new(message),
        });
    }
    let Delivered {
        all,
        at,
        waits_for,
        strangers,
    } = group.deliver(batch, from);
    left.waits_for = waits_for;
    for held in strangers {
        let returned = give_back::stranger(Arc::clone(group), held);
        left.strangers.spawn(returned);
    }
    match decoded.error {
        // What found no room is fetched again.
        _ if !all => Ok(()),
        None => {
            let to = if decoded.more { read } else { next };
            queue.window().skip_to(at, to);
            queue.set_unreadable(None);
            Ok(())
        }
        // Never skipped: what cannot be read is not handled.
        Some(error) => {
            queue.set_unreadable(Some(Unreadable {
                queue: queue.queue.clone(),
                offset: read,
                reason: error.to_string(),
            }));
            Err(error)
        }
    }
}
