//! The calls to the brokers that the coordinator asks for, each with a bound.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use crossfade::{
    BoxFuture, Error, ErrorKind, Result, Side,
    backend::{BackendAdmin, QueueId, TopicSettings},
};
use tokio::time::timeout;

use super::{
    clusters::Clusters,
    inspect::{Look, inspect},
};
use crate::{
    coordinator::{Event, Work},
    store::Store,
};

/// How long a change of access may take on all brokers together.
const CHANGE: Duration = Duration::from_secs(30);

/// Does one piece of work; the event tells the coordinator how it ended. `now` is the coordinator's clock. Before each broker is changed the store is
/// asked whether this control plane still holds the epoch: it may have stood still since it decided.
pub(super) async fn perform(
    clusters: Arc<Clusters>,
    store: Arc<dyn Store>,
    work: Work,
    now: Duration,
) -> Event {
    match work {
        Work::Inspect {
            topic,
            token,
            groups,
            settings,
            delays,
        } => {
            let look = Look {
                topic,
                groups,
                settings,
                delays,
            };
            let facts = inspect(&clusters, &look, now).await;
            Event::Facts {
                topic: look.topic,
                token,
                facts,
            }
        }
        Work::SetAccess {
            topic,
            side,
            settings,
            access,
            token,
        } => {
            let holds_epoch = move || -> BoxFuture<'static, bool> {
                let store = Arc::clone(&store);
                Box::pin(async move { store.check().await.is_ok() })
            };
            let changing = async {
                let admin = clusters.admin(side).await?;
                admin
                    .set_access_while(&topic, &settings, access, &holds_epoch)
                    .await
            };
            let result = bounded(side, changing).await;
            Event::AccessChanged {
                topic,
                side,
                access,
                token,
                result,
            }
        }
        Work::CommitFirstOffsets {
            topic,
            side,
            groups,
            settings,
            token,
        } => {
            let committing = async {
                let admin = clusters.admin(side).await?;
                for group in &groups {
                    admin.commit_first_offsets(&topic, group, &settings).await?;
                }
                Ok(())
            };
            let result = bounded(side, committing).await;
            Event::FirstOffsets {
                topic,
                token,
                result,
            }
        }
        Work::ReadEnds {
            topic,
            side,
            settings,
            frozen,
            token,
        } => {
            let reading = async {
                let admin = clusters.admin(side).await?;
                ends(&*admin, &topic, &settings).await
            };
            let result = bounded(side, reading).await;
            Event::Ends {
                topic,
                token,
                frozen,
                result,
            }
        }
    }
}

/// The ends of every queue that the topic has now, those that it has got since the last look among them.
async fn ends(
    admin: &dyn BackendAdmin,
    topic: &str,
    settings: &TopicSettings,
) -> Result<BTreeMap<QueueId, u64>> {
    let described = admin.topic(topic).await?.ok_or_else(|| {
        Error::new(
            ErrorKind::NotFound,
            "read the ends of a topic",
            format!("topic {topic} does not exist any more"),
        )
    })?;
    let grown = admin.grown(topic, settings, &described)?;
    let ends = admin
        .ends(topic, grown.as_ref().unwrap_or(settings))
        .await?;
    match described
        .queues
        .iter()
        .find(|queue| !ends.contains_key(queue))
    {
        None => Ok(ends),
        Some(queue) => Err(Error::new(
            ErrorKind::Unavailable,
            "read the ends of a topic",
            format!("the end of queue {queue} of topic {topic} is not known"),
        )),
    }
}

async fn bounded<T>(side: Side, call: impl Future<Output = Result<T>>) -> Result<T, String> {
    match timeout(CHANGE, call).await {
        Ok(result) => result.map_err(|error| error.with_side(side).to_string()),
        Err(_) => Err(format!(
            "no answer from the brokers of the {side} within {CHANGE:?}"
        )),
    }
}

#[cfg(test)]
mod tests {
    use crossfade::{Access, backend::memory::MemoryCluster};

    use super::*;
    use crate::{store::SqliteStore, watch::clusters::Cluster};

    #[tokio::test]
    async fn control_plane_that_was_superseded_while_it_stood_still_changes_no_broker() {
        let folder = tempfile::tempdir().unwrap();
        let address = format!("sqlite://{}", folder.path().join("store.db").display());
        let frozen: Arc<dyn Store> = Arc::new(SqliteStore::open(&address).await.unwrap());
        let backend = MemoryCluster::default().backend("test");
        let admin = backend.admin();
        admin.create_topic("orders", 4).await.unwrap();
        let cluster = || Cluster::Backend(Arc::clone(&backend));
        let clusters = Arc::new(Clusters::new(cluster(), cluster()));
        let settings = admin.topic("orders").await.unwrap().unwrap().settings;
        let change = async |access| {
            let work = Work::SetAccess {
                topic: "orders".into(),
                side: Side::Source,
                settings: settings.clone(),
                access,
                token: 1,
            };
            let (clusters, store) = (Arc::clone(&clusters), Arc::clone(&frozen));
            let done = perform(clusters, store, work, Duration::ZERO).await;
            let Event::AccessChanged { result, .. } = done else {
                panic!("{done:?}");
            };
            let found = admin.topic("orders").await.unwrap().unwrap();
            (result.is_ok(), found.access)
        };
        assert_eq!(change(Access::Closed).await, (true, Access::Closed));
        let _successor = SqliteStore::open(&address).await.unwrap();
        assert_eq!(change(Access::Sealed).await, (false, Access::Closed));
    }
}
