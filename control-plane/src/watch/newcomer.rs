//! A topic that is to be managed, as it is now: its target will be sealed at once, so nobody may be using that.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use crossfade::{
    Access, Error, Side,
    backend::{BackendAdmin, TopicDescription},
};
use tokio::time::{Instant, sleep_until, timeout};

use super::clusters::Clusters;
use crate::coordinator::Refusal;

/// How long one side's description may take. With the connecting before it and the look after it, it is over before a client of the API gives up, after 30 s.
const DESCRIBE: Duration = Duration::from_secs(5);
/// How long looking whether the target is in use may take, the watch over new messages included.
const LOOK: Duration = Duration::from_secs(12);
/// How long the target is watched for new messages.
const WATCH: Duration = Duration::from_secs(1);

/// The topic as both clusters describe it.
///
/// # Errors
/// `unavailable` with what the clusters say; `conflict` when both addresses lead to one cluster, or the topic is the brokers' own.
pub(super) async fn describe(
    clusters: &Clusters,
    topic: &str,
) -> Result<[Option<TopicDescription>; 2], Refusal> {
    clusters.told_apart().await?;
    let one = async |side: Side| {
        let asking = async {
            let admin = clusters.admin(side).await?;
            let described = admin.topic(topic).await?;
            let listed =
                described.is_none() || admin.topics().await?.iter().any(|one| one == topic);
            Ok::<_, Error>((described, listed))
        };
        match timeout(DESCRIBE, asking).await {
            Ok(Ok((described, true))) => Ok(described),
            Ok(Ok((_, false))) => Err(Refusal::new(
                "conflict",
                format!(
                    "topic {topic} is the {side}'s own (of its brokers, of retries, or of dead letters): such a topic does not move"
                ),
            )),
            Ok(Err(error)) => Err(Refusal::new("unavailable", format!("{side}: {error}"))),
            Err(_) => Err(Refusal::new(
                "unavailable",
                format!("{side}: no answer within {DESCRIBE:?}"),
            )),
        }
    };
    let (source, target) = tokio::join!(one(Side::Source), one(Side::Target));
    Ok([source?, target?])
}

/// Who uses the topic on its target, and for what; one sentence each. Clients for which `ours` holds are not meant.
///
/// # Errors
/// A sentence: what the target says, or that it does not answer in time.
pub(super) async fn use_of_target(
    clusters: &Clusters,
    topic: &str,
    groups: &[Arc<str>],
    described: &TopicDescription,
    ours: impl Fn(&str) -> bool,
) -> Result<Vec<String>, String> {
    if described.access == Access::Sealed {
        return Ok(Vec::new());
    }
    let asking = async {
        let admin = clusters.admin(Side::Target).await?;
        look(&*admin, topic, groups, described, ours).await
    };
    match timeout(LOOK, asking).await {
        Ok(Ok(found)) => Ok(found),
        Ok(Err(error)) => Err(format!("target: {error}")),
        Err(_) => Err(format!("target: no answer within {LOOK:?}")),
    }
}

async fn look(
    admin: &dyn BackendAdmin,
    topic: &str,
    groups: &[Arc<str>],
    described: &TopicDescription,
    ours: impl Fn(&str) -> bool,
) -> Result<Vec<String>, Error> {
    let settings = &described.settings;
    let before = admin.ends(topic, settings).await?;
    let watched = Instant::now() + WATCH;
    let mut found = Vec::new();
    let mut known = Vec::new();
    let named = admin.groups(topic).await?;
    let named = named.into_iter().map(Arc::from);
    let all: BTreeSet<Arc<str>> = groups.iter().cloned().chain(named).collect();
    for group in &all {
        if !admin.group_exists(group).await? {
            continue;
        }
        known.push(Arc::clone(group));
        let clients = admin.members(group).await?.clients;
        let strangers = clients.iter().map(|client| client.client_id.as_str());
        let strangers: Vec<&str> = strangers.filter(|id| !ours(id)).collect();
        if let Some(first) = strangers.first() {
            found.push(format!(
                "{} clients consume there in group {group} ({first} ...)",
                strangers.len()
            ));
        }
    }
    match admin.backlogs(topic, &known, settings).await {
        Ok(backlogs) => {
            for (group, backlog) in backlogs {
                match backlog.total() {
                    0 => {}
                    total => found.push(format!("it owes {total} messages to group {group}")),
                }
            }
        }
        Err(error) => found.push(format!(
            "what it owes to its groups cannot be counted ({error})"
        )),
    }
    sleep_until(watched).await;
    let after = admin.ends(topic, settings).await?;
    let new = after.iter().map(|(queue, end)| {
        let before = before.get(queue).copied().unwrap_or(0);
        end.saturating_sub(before)
    });
    let new: u64 = new.fold(0, u64::saturating_add);
    if new > 0 {
        found.push(format!("{new} messages came within a second or so"));
    }
    Ok(found)
}
