//! One look at both clusters for one topic.

use std::{
    collections::{BTreeSet, btree_map::Entry},
    sync::Arc,
    time::Duration,
};

use crossfade::{
    Result, Side,
    backend::{BackendAdmin, TopicSettings},
};
use tokio::time::timeout;

use super::clusters::Clusters;
use crate::coordinator::{Facts, GroupFacts, SideFacts};

/// How long one side's look may take.
const LOOK: Duration = Duration::from_secs(15);

/// What to look at.
#[derive(Clone, Debug)]
pub(super) struct Look {
    pub(super) topic: Arc<str>,
    /// The managed groups; others that the brokers name are looked at too.
    pub(super) groups: Vec<Arc<str>>,
    /// The saved settings by side: under a seal only they know the queues.
    pub(super) settings: [TopicSettings; 2],
}

/// Both sides at the same time. What cannot be found out is a sentence in `unknown`, never a guess.
pub(super) async fn inspect(clusters: &Clusters, look: &Look, begun: Duration) -> Facts {
    let (source, target) = tokio::join!(
        bounded(clusters, look, Side::Source),
        bounded(clusters, look, Side::Target)
    );
    Facts {
        begun,
        sides: [source, target],
    }
}

async fn bounded(clusters: &Clusters, look: &Look, side: Side) -> SideFacts {
    match timeout(LOOK, one_side(clusters, look, side)).await {
        Ok(facts) => facts,
        Err(_) => SideFacts {
            unknown: vec![format!(
                "no complete answer from the brokers of the {side} within {LOOK:?}"
            )],
            ..SideFacts::default()
        },
    }
}

async fn one_side(clusters: &Clusters, look: &Look, side: Side) -> SideFacts {
    let mut facts = SideFacts::default();
    let filled = match clusters.admin(side).await {
        Ok(admin) => fill(&mut facts, &*admin, look, side).await,
        Err(error) => Err(error),
    };
    if let Err(error) = filled {
        facts.unknown.push(error.with_side(side).to_string());
    }
    facts
}

async fn fill(
    facts: &mut SideFacts,
    admin: &dyn BackendAdmin,
    look: &Look,
    side: Side,
) -> Result<()> {
    let topic = &*look.topic;
    for group in &look.groups {
        facts
            .groups
            .insert(Arc::clone(group), known(admin, group).await?);
    }
    facts.producers = admin.producers().await?;
    let Some(described) = admin.topic(topic).await? else {
        return Ok(());
    };
    let mut settings = look.settings[side.index()].clone();
    facts.grown = admin.grown(topic, &settings, &described)?;
    if let Some(grown) = &facts.grown {
        settings.clone_from(grown);
    }
    facts.access = Some(described.access);
    facts.disagreement = described.disagreement;
    facts.message_type = described.message_type;
    facts.delays = admin.delay_levels().await?.into();
    facts.queues = described.queues;
    facts.ends = admin.ends(topic, &settings).await?;
    // What is owed to a managed group that does not exist cannot be known. One that the brokers name is owed something, also where some of them do
    // not know it.
    let existing = facts.groups.iter().filter(|(_, group)| group.exists);
    let mut owed: BTreeSet<Arc<str>> = existing.map(|(name, _)| Arc::clone(name)).collect();
    for group in admin.groups(topic).await? {
        if let Entry::Vacant(entry) = facts.groups.entry(group.into()) {
            owed.insert(Arc::clone(entry.key()));
            let found = known(admin, entry.key()).await?;
            entry.insert(found);
        }
    }
    let owed: Vec<Arc<str>> = owed.into_iter().collect();
    for group in &owed {
        if admin.pops(topic, group).await?
            && let Some(known) = facts.groups.get_mut(group)
        {
            known.members.pop = true;
        }
    }
    facts.backlogs = admin.backlogs(topic, &owed, &settings).await?;
    Ok(())
}

async fn known(admin: &dyn BackendAdmin, group: &str) -> Result<GroupFacts> {
    Ok(GroupFacts {
        exists: admin.group_exists(group).await?,
        members: admin.members(group).await?,
    })
}
