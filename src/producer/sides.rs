//! The backend producers of both sides, connected before they are needed.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::OnceCell,
    task::{AbortHandle, JoinSet},
};

use crate::{
    backend::{BackendProducer, Backends, TransactionChecker},
    control::TopicCell,
    error::Result,
    side::{Access, Side},
    stage::TopicPlan,
};

/// How long to wait before another attempt to connect in advance.
const WARM_PAUSE: Duration = Duration::from_secs(1);

/// Connected once a side; a failure is tried again by the next send.
#[derive(Debug)]
pub(super) struct Sides {
    topic: Arc<str>,
    backends: Arc<dyn Backends>,
    /// Of a transactional producer.
    checker: Option<Arc<dyn TransactionChecker>>,
    producers: [OnceCell<Arc<dyn BackendProducer>>; 2],
}

impl Sides {
    pub(super) fn new(
        topic: Arc<str>,
        backends: Arc<dyn Backends>,
        checker: Option<Arc<dyn TransactionChecker>>,
    ) -> Self {
        Sides {
            topic,
            backends,
            checker,
            producers: [OnceCell::new(), OnceCell::new()],
        }
    }

    /// The producer of a side that is connected.
    pub(super) fn connected(&self, side: Side) -> Option<&Arc<dyn BackendProducer>> {
        self.producers[side.index()].get()
    }

    /// The producer of a side, connected now if it was not yet.
    pub(super) async fn connect(&self, side: Side) -> Result<&Arc<dyn BackendProducer>> {
        self.producers[side.index()]
            .get_or_try_init(async || {
                let backend = self.backends.backend(side).await;
                let backend = backend.map_err(|error| error.with_side(side))?;
                let producer = match &self.checker {
                    None => backend.producer(&self.topic).await,
                    Some(checker) => {
                        let checker = Arc::clone(checker);
                        backend.transactional_producer(&self.topic, checker).await
                    }
                };
                producer.map_err(|error| error.with_side(side))
            })
            .await
    }
}

/// Connects each side one stage before it is written to; ends when both are connected, or with the handle.
#[derive(Debug)]
pub(super) struct Warmer {
    task: AbortHandle,
}

impl Warmer {
    pub(super) fn start(cell: Arc<TopicCell>, sides: &Arc<Sides>) -> Self {
        let sides = Arc::clone(sides);
        let task = tokio::spawn(async move {
            let mut tasks = JoinSet::new();
            for side in Side::BOTH {
                tasks.spawn(warm(Arc::clone(&cell), Arc::clone(&sides), side));
            }
            tasks.join_all().await;
        });
        Warmer {
            task: task.abort_handle(),
        }
    }
}

impl Drop for Warmer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn warm(cell: Arc<TopicCell>, sides: Arc<Sides>, side: Side) {
    let mut changes = cell.changes();
    loop {
        changes.borrow_and_update();
        let needed = cell
            .load()
            .is_some_and(|plan| is_soon_written(plan.plan(), side));
        if needed {
            match sides.connect(side).await {
                Ok(_) => return,
                Err(error) => {
                    tracing::debug!(topic = %cell.topic(), %side, %error, "not connected in advance");
                    tokio::time::sleep(WARM_PAUSE).await;
                }
            }
        } else if changes.changed().await.is_err() {
            return;
        }
    }
}

/// Whether this stage or a neighbour writes to the side: whether it is not sealed.
fn is_soon_written(plan: &TopicPlan, side: Side) -> bool {
    plan.stage.access(side) != Access::Sealed
}
