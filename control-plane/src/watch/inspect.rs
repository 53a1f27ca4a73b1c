//! One look at both clusters for one topic.

use std::{
    collections::{BTreeMap, BTreeSet, btree_map::Entry},
    sync::Arc,
    time::Duration,
};

use crossfade::{
    Result, Side,
    backend::{BackendAdmin, DelayLevels, TopicSettings},
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
    /// Whether somebody asks for the delay levels.
    pub(super) delays: bool,
}

/// Both sides at the same time. What cannot be found out is a sentence in `unknown`, never a guess.
pub(super) async fn inspect(clusters: &Clusters, look: &Look, begun: Duration) -> Facts {
    let (source, target) = tokio::join!(
        with_delays(clusters, look, Side::Source),
        with_delays(clusters, look, Side::Target)
    );
    Facts {
        begun,
        sides: [source, target],
    }
}

/// The delay levels have an answer and a bound of their own: most stages do without, and a drain must not wait for a configuration.
async fn with_delays(clusters: &Clusters, look: &Look, side: Side) -> SideFacts {
    let (mut facts, delays) =
        tokio::join!(bounded(clusters, look, side), delays(clusters, look, side));
    match delays {
        Ok(delays) => facts.delays = delays.into(),
        Err(why) => facts.delays_unknown = Some(why.into()),
    }
    facts
}

async fn delays(
    clusters: &Clusters,
    look: &Look,
    side: Side,
) -> Result<BTreeMap<String, DelayLevels>, String> {
    if !look.delays {
        return Err("they were not asked for at that stage: ask again".to_owned());
    }
    let asking = async { clusters.admin(side).await?.delay_levels().await };
    match timeout(LOOK, asking).await {
        Ok(known) => known.map_err(|error| error.with_side(side).to_string()),
        Err(_) => Err(format!(
            "the brokers of the {side} did not tell them within {LOOK:?}"
        )),
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

#[cfg(test)]
mod tests {
    use std::{
        future::{pending, ready},
        sync::{
            Mutex,
            atomic::{AtomicU32, Ordering},
        },
    };

    use crossfade::{
        BoxFuture, Error, ErrorKind,
        backend::{
            fault::{Layer, Layered},
            memory::MemoryCluster,
        },
    };
    use tokio::time::Instant;

    use super::*;
    use crate::watch::clusters::Cluster;

    const TOPIC: &str = "orders";
    const GROUP: &str = "billing";

    /// How the brokers answer when they are asked for their delay levels.
    #[derive(Clone, Copy, Debug)]
    enum Levels {
        Told,
        Unreadable,
        Never,
    }

    #[derive(Debug)]
    struct Asked {
        levels: Mutex<Levels>,
        times: Arc<AtomicU32>,
    }

    impl Layer for Asked {
        fn around<'a, T: Send + 'a>(
            &'a self,
            operation: &'static str,
            call: BoxFuture<'a, Result<T>>,
        ) -> BoxFuture<'a, Result<T>> {
            if operation != "delay levels" {
                return call;
            }
            self.times.fetch_add(1, Ordering::Relaxed);
            match *self.levels.lock().unwrap() {
                Levels::Told => call,
                Levels::Unreadable => {
                    let what = "`messageDelayLevel` is \"soon\"";
                    let error = Error::new(ErrorKind::Unexpected, operation, what);
                    Box::pin(ready(Err(error)))
                }
                Levels::Never => Box::pin(pending()),
            }
        }
    }

    /// What a look at two such clusters sees of the target, and how often the levels were asked for there.
    async fn look(levels: Levels, delays: bool) -> (SideFacts, u32) {
        let times = Arc::new(AtomicU32::new(0));
        let plain = MemoryCluster::default().backend("test");
        let admin = plain.admin();
        admin.create_topic(TOPIC, 4).await.unwrap();
        admin.create_group(GROUP).await.unwrap();
        let settings = admin.topic(TOPIC).await.unwrap().unwrap().settings;
        let layer = Asked {
            levels: levels.into(),
            times: Arc::clone(&times),
        };
        let target = Layered::over(Arc::clone(&plain), layer);
        let clusters = Clusters::new(Cluster::Backend(plain), Cluster::Backend(Arc::new(target)));
        let look = Look {
            topic: TOPIC.into(),
            groups: vec![GROUP.into()],
            settings: [settings.clone(), settings],
            delays,
        };
        let [source, target] = inspect(&clusters, &look, Duration::ZERO).await.sides;
        assert_eq!(source.delays_unknown.is_none(), delays);
        (target, times.load(Ordering::Relaxed))
    }

    /// All but the delay levels is there.
    fn assert_known(facts: &SideFacts) {
        assert_eq!(facts.unknown, Vec::<String>::new());
        assert_eq!((facts.queues.len(), facts.ends.len()), (4, 4));
        assert!(facts.groups[GROUP].exists);
        assert!(facts.backlogs.contains_key(GROUP));
    }

    #[tokio::test(start_paused = true)]
    async fn delay_levels_that_cannot_be_read_leave_the_look_known() {
        let (facts, _) = look(Levels::Told, true).await;
        assert_known(&facts);
        assert_eq!((facts.delays.len(), facts.delays_unknown), (1, None));

        let (facts, _) = look(Levels::Unreadable, true).await;
        assert_known(&facts);
        let why = facts.delays_unknown.unwrap();
        assert!(why.contains("soon") && why.contains("target"), "{why}");

        let begun = Instant::now();
        let (facts, _) = look(Levels::Never, true).await;
        assert_known(&facts);
        assert!(facts.delays_unknown.is_some());
        assert_eq!(begun.elapsed().as_secs(), LOOK.as_secs());
    }

    #[tokio::test(start_paused = true)]
    async fn delay_levels_are_asked_for_only_where_a_gate_wants_them() {
        let (_, times) = look(Levels::Told, true).await;
        assert_eq!(times, 1);
        let (facts, times) = look(Levels::Never, false).await;
        assert_known(&facts);
        assert_eq!(times, 0);
        assert!(facts.delays_unknown.is_some());
    }
}
