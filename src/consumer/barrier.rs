//! Which moves of ordering keys this consumer's group has passed: asked from the brokers, so that they are passed while the control plane is away.

use std::{
    collections::BTreeSet,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::Notify;

use super::Shared;
use crate::{
    error::{Error, ErrorKind, Result},
    message::IdempotencyKey,
    side::{Revision, Side},
    stage::{Move, TopicPlan, bucket_of},
};

/// Between two questions while a message waits.
pub(super) const ASK_EVERY: Duration = Duration::from_millis(100);
/// The longest wait for an answer.
const ASK_TIMEOUT: Duration = Duration::from_secs(3);
/// How many questions without an answer, or with the same, are between two lines in the log.
const TELL_EVERY: u32 = 100;

/// The moves that are passed, by their revisions.
#[derive(Debug, Default)]
pub(super) struct Barriers {
    passed: Mutex<BTreeSet<Revision>>,
    wanted: Notify,
}

/// Why a message has to wait.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Wait {
    /// It was routed under a newer plan than the one in force here.
    Plan(Revision),
    /// Messages of its key may still be unhandled on the side that the key has left.
    Barrier(Revision),
}

impl Barriers {
    /// Whether a message of `side` that was routed under `routed` has to wait, by the plan in force.
    pub(super) fn wait(
        &self,
        plan: &TopicPlan,
        side: Side,
        ordering_key: &str,
        routed: Revision,
    ) -> Option<Wait> {
        if plan.revision < routed {
            return Some(Wait::Plan(routed));
        }
        if plan.moves.is_empty() {
            return None;
        }
        let bucket = bucket_of(ordering_key.as_bytes());
        let passed = self.lock();
        let holds = |moving: &&Move| {
            moving.holds(side, bucket, routed) && !passed.contains(&moving.revision)
        };
        let held = plan.moves.iter().find(holds)?;
        self.wanted.notify_one();
        Some(Wait::Barrier(held.revision))
    }

    fn lock(&self) -> MutexGuard<'_, BTreeSet<Revision>> {
        self.passed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Asks for as long as somebody waits; runs until the consumer is gone.
pub(super) async fn run(shared: &Shared) {
    let mut asked = 0_u32;
    loop {
        shared.barriers.wanted.notified().await;
        let moves = shared.role.cell().decide(|plan| plan.plan().moves.clone());
        let moves = moves.unwrap_or_default();
        let unpassed: Vec<Move> = {
            let mut passed = shared.barriers.lock();
            passed.retain(|revision| moves.iter().any(|moving| moving.revision == *revision));
            let waits = |moving: &Move| !moving.is_frozen() && !passed.contains(&moving.revision);
            moves.into_iter().filter(waits).collect()
        };
        for moving in unpassed {
            match is_passed(shared, &moving).await {
                Ok(true) => {
                    asked = 0;
                    shared.barriers.lock().insert(moving.revision);
                    for lanes in &shared.lanes {
                        lanes.changed.notify_one();
                    }
                }
                outcome => {
                    asked = asked.wrapping_add(1);
                    if asked.is_multiple_of(TELL_EVERY) {
                        tell(shared, &moving, outcome.err());
                    }
                }
            }
        }
        tokio::time::sleep(ASK_EVERY).await;
    }
}

async fn is_passed(shared: &Shared, moving: &Move) -> Result<bool> {
    let queues: Vec<_> = moving.queues().into_iter().collect();
    let asked = async {
        let backend = shared.backends.backend(moving.from).await?;
        let (topic, group) = (&shared.subscription.topic, &shared.subscription.group);
        backend.committed(topic, group, &queues).await
    };
    let answer = tokio::time::timeout(ASK_TIMEOUT, asked).await;
    let committed = answer.unwrap_or_else(|_| {
        let why = format!("no answer within {ASK_TIMEOUT:?}");
        Err(Error::new(
            ErrorKind::Timeout,
            "read committed offsets",
            why,
        ))
    })?;
    Ok(moving.is_passed(|queue| committed.get(&queue.id()).copied().flatten()))
}

fn tell(shared: &Shared, moving: &Move, error: Option<Error>) {
    let (topic, group) = (&shared.subscription.topic, &shared.subscription.group);
    let (from, revision) = (moving.from, moving.revision);
    let why = error.map_or_else(
        || "the group still has messages there that were sent before the keys moved".to_owned(),
        |error| error.to_string(),
    );
    tracing::warn!(%topic, %group, %revision, left = %from, why, "messages of moved keys wait for the side that the keys left");
}

/// What one line of a held message says.
pub(super) fn tell_held(shared: &Shared, side: Side, key: Option<&IdempotencyKey>, wait: Wait) {
    let (topic, group) = (&shared.subscription.topic, &shared.subscription.group);
    match wait {
        Wait::Plan(revision) => {
            tracing::debug!(%topic, %group, %side, %revision, ?key, "a message waits for the plan that routed it");
        }
        Wait::Barrier(revision) => {
            tracing::debug!(%topic, %group, %side, %revision, ?key, "a message waits for the barrier of its key's move");
        }
    }
}
