//! Committing what was acked: each broker by itself, so that one that does not answer holds up nothing at the others.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use tokio::task::{AbortHandle, JoinSet};

use super::{Group, by_broker::by_broker, offset::ProcessQueue, release};
use crate::{
    client::Client,
    error::{Error, Result},
    together::together,
};

const EVERY: Duration = Duration::from_millis(500);
/// How long after an ack of what is read in order: others may wait for the committed offset.
const SOON: Duration = Duration::from_millis(100);

/// Commits what was acked, every so often, and lets others have the queues that are theirs. Ended by its owner.
pub(super) async fn run(group: Arc<Group>) {
    let mut rounds = JoinSet::new();
    let mut under_way: BTreeMap<Arc<str>, AbortHandle> = BTreeMap::new();
    let mut wait = EVERY;
    loop {
        let acked = group.signals.acked.notified();
        if tokio::time::timeout(wait, acked).await.is_ok() {
            tokio::time::sleep(SOON).await;
        }
        wait = EVERY;
        while rounds.try_join_next().is_some() {}
        under_way.retain(|_, round| !round.is_finished());
        for (broker, queues) in by_broker(group.committing()) {
            if under_way.contains_key(&broker) {
                wait = SOON;
                continue;
            }
            let round = rounds.spawn(round(Arc::clone(&group), Arc::clone(&broker), queues));
            under_way.insert(broker, round);
        }
        for inbox in group.inboxes() {
            if let Err(error) = inbox.save().await {
                tracing::warn!(group = %group.name, topic = %inbox.topic(), %error, "offsets were not saved");
            }
        }
    }
}

async fn round(group: Arc<Group>, broker: Arc<str>, queues: Vec<Arc<ProcessQueue>>) {
    // Reported where it fails; the next round tries again.
    let _ = commit_at(&group.client, &group.name, queues).await;
    release::release_at(&group, &broker).await;
}

/// How the commits of several queues went.
pub(super) struct Committed {
    pub(super) done: Vec<Arc<ProcessQueue>>,
    /// The last failure, if there was one.
    pub(super) failed: Option<Error>,
}

/// Commits several queues, all at the same time.
///
/// # Errors
/// The last failure, once all were tried.
pub(super) async fn commit_all(
    client: &Client,
    group: &Arc<str>,
    queues: impl IntoIterator<Item = Arc<ProcessQueue>>,
) -> Result<()> {
    let brokers = by_broker(queues).into_values().map(|queues| {
        let (client, group) = (client.clone(), Arc::clone(group));
        async move { Ok(commit_at(&client, &group, queues).await) }
    });
    let brokers = together(brokers.collect()).await?;
    let failed = brokers.into_iter().filter_map(|broker| broker.failed);
    failed.last().map_or(Ok(()), Err)
}

/// Commits queues of one broker at the same time. Where nothing was committed yet, one queue of each topic goes ahead of the others: 4.9 makes the table of
/// the group's offsets of a topic then, and commits that come meanwhile are lost with tables of their own.
pub(super) async fn commit_at(
    client: &Client,
    group: &Arc<str>,
    queues: Vec<Arc<ProcessQueue>>,
) -> Committed {
    let mut topics = BTreeSet::new();
    let (first, others): (Vec<_>, Vec<_>) = queues
        .into_iter()
        .partition(|queue| queue.is_untouched() && topics.insert(Arc::clone(&queue.queue.topic)));
    let mut committed = Committed {
        done: Vec::with_capacity(first.len() + others.len()),
        failed: None,
    };
    for queues in [first, others] {
        let commits = queues.into_iter().map(|queue| {
            let (client, group) = (client.clone(), Arc::clone(group));
            async move {
                let result = queue.commit(&client, &group).await;
                if let Err(error) = &result {
                    tracing::warn!(%group, queue = %queue.queue, %error, "an offset commit failed");
                }
                Ok((queue, result))
            }
        });
        match together(commits.collect()).await {
            Ok(results) => {
                for (queue, result) in results {
                    match result {
                        Ok(()) => committed.done.push(queue),
                        Err(error) => committed.failed = Some(error),
                    }
                }
            }
            Err(error) => committed.failed = Some(error),
        }
    }
    committed
}
