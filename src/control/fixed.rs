//! Plans given in code: for tests, and for applications with a configuration service of their own.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio::sync::watch;

use crate::{
    BoxFuture,
    control::{
        PlanSource, document,
        wire::{Clusters, PlanDocument, SyncRequest, SyncResponse, VERSION},
    },
    error::Result,
    side::Revision,
    stage::TopicPlan,
};

/// A plan source that says what the caller publishes; it takes no registrations and gives no lease. Clones share the plans.
#[derive(Clone, Debug)]
pub struct FixedPlans {
    table: Arc<watch::Sender<Table>>,
}

/// Every change gets the next cursor, also that of a plan whose own revision is older: whether to adopt it is the reader's business.
#[derive(Debug, Default)]
struct Table {
    cursor: u64,
    clusters: Clusters,
    /// `None` for a topic that was removed.
    topics: BTreeMap<Arc<str>, (u64, Option<TopicPlan>)>,
}

impl FixedPlans {
    /// These plans.
    #[must_use]
    pub fn new(plans: impl IntoIterator<Item = TopicPlan>) -> Self {
        let fixed = FixedPlans {
            // Cursor 0 would ask for everything again and again.
            table: Arc::new(watch::Sender::new(Table {
                cursor: 1,
                ..Table::default()
            })),
        };
        plans.into_iter().for_each(|plan| fixed.publish(plan));
        fixed
    }

    /// Gives the clusters' addresses, too.
    #[must_use]
    pub fn with_clusters(self, clusters: Clusters) -> Self {
        self.table.send_modify(|table| table.clusters = clusters);
        self
    }

    /// Changes a topic's plan; who waits is told at once.
    pub fn publish(&self, plan: TopicPlan) {
        self.table.send_modify(|table| {
            table.cursor = plan.revision.0.max(table.cursor + 1);
            let topic = Arc::clone(&plan.topic);
            table.topics.insert(topic, (table.cursor, Some(plan)));
        });
    }

    /// The topic is no longer managed.
    pub fn remove(&self, topic: &str) {
        self.table.send_modify(|table| {
            table.cursor += 1;
            table.topics.insert(topic.into(), (table.cursor, None));
        });
    }
}

impl Table {
    fn since(&self, known: Revision) -> PlanDocument {
        let mut document = PlanDocument {
            version: VERSION,
            revision: Revision(self.cursor),
            clusters: self.clusters.clone(),
            ..PlanDocument::default()
        };
        for (topic, (cursor, plan)) in &self.topics {
            match plan {
                _ if *cursor <= known.0 => {}
                Some(plan) => document.plans.push(plan.clone()),
                None => document.removed.push(Arc::clone(topic)),
            }
        }
        document
    }
}

impl PlanSource for FixedPlans {
    fn sync<'a>(&'a self, request: &'a SyncRequest) -> BoxFuture<'a, Result<SyncResponse>> {
        Box::pin(async move {
            let known = request.known_revision;
            let mut changes = self.table.subscribe();
            let news = changes.wait_for(|table| known.0 == 0 || table.cursor > known.0);
            let wait = Duration::from_millis(request.wait_ms);
            Ok(match tokio::time::timeout(wait, news).await {
                Ok(Ok(table)) => SyncResponse {
                    plans: table.since(known),
                    ..SyncResponse::default()
                },
                // The sender lives in `self`, so only the time can be over.
                _ => document::unchanged(request),
            })
        })
    }
}
