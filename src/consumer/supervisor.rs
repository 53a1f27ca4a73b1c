//! Follows the plan: which sides are wanted, and when a revision is applied.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::watch,
    task::JoinSet,
    time::{MissedTickBehavior, interval},
};

use super::{
    Shared, barrier,
    outstanding::Outstanding,
    side::{self, Status, Wanted},
};
use crate::{
    control::{
        ContactState,
        wire::{MAX_QUEUE_IDS, MAX_UNREADABLE, SideState, Unreadable},
    },
    side::Side,
    stage::ReadPlan,
};

/// How often the assigned queues are reported and the owner's claims renewed.
const HEARTBEAT: Duration = Duration::from_secs(1);

/// Runs until the consumer is closed; dropping the future ends every task of the consumer at once.
pub(super) async fn run(shared: Arc<Shared>, mut closing: watch::Receiver<bool>) {
    let mut tasks = JoinSet::new();
    let (wanted, mut statuses): (Vec<_>, Vec<_>) = Side::BOTH
        .map(|side| {
            let (wanted_tx, wanted_rx) = watch::channel(Wanted::No);
            let (status_tx, status_rx) = watch::channel(Status::Closed);
            tasks.spawn(side::run(Arc::clone(&shared), side, wanted_rx, status_tx));
            (wanted_tx, status_rx)
        })
        .into_iter()
        .unzip();
    tasks.spawn(renew(Arc::clone(&shared)));
    let asking = Arc::clone(&shared);
    tasks.spawn(async move { barrier::run(&asking).await });
    let _end = End(&shared);
    let mut told = None;
    let mut plans = shared.role.cell().changes();
    let mut contact = shared.contact.changes();
    let mut heartbeat = interval(HEARTBEAT);
    heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        plans.borrow_and_update();
        let standing = *contact.borrow_and_update();
        let plan = shared.role.cell().read_plan();
        let is_closing = *closing.borrow_and_update();
        for (side, wanted) in Side::BOTH.into_iter().zip(&wanted) {
            let next = match (standing, plan) {
                _ if is_closing => Wanted::Purge,
                // Whoever hands nothing out leaves its queues to the others.
                (ContactState::Superseded | ContactState::Stopped, _) => Wanted::Purge,
                (_, Some((_, read))) if standing.reads(read, side) => Wanted::Yes,
                _ => Wanted::No,
            };
            wanted.send_if_modified(|current| std::mem::replace(current, next) != next);
        }
        let seen: Vec<Status> = statuses
            .iter_mut()
            .map(|status| status.borrow_and_update().clone())
            .collect();
        if is_closing && seen.iter().all(|status| matches!(status, Status::Closed)) {
            return;
        }
        if let Some((revision, read)) = plan {
            if reads(read, &seen) {
                shared
                    .reading
                    .send_if_modified(|last| std::mem::replace(last, revision) != revision);
            }
            let applied = applies(read, &seen, &shared.outstanding).then_some(revision);
            let now = (applied, states(&seen));
            if told.as_ref() != Some(&now) {
                match &now {
                    (Some(revision), sides) => {
                        shared.role.set_applied(*revision, sides.clone());
                    }
                    (None, sides) => shared.role.set_sides(sides.clone()),
                }
                told = Some(now);
            }
        }
        let (source, target) = statuses.split_at_mut(1);
        tokio::select! {
            biased;
            changed = plans.changed() => if changed.is_err() { return },
            changed = contact.changed() => if changed.is_err() { return },
            changed = closing.changed() => if changed.is_err() { return },
            changed = source[0].changed() => if changed.is_err() { return },
            changed = target[0].changed() => if changed.is_err() { return },
            _ = heartbeat.tick() => {}
        }
    }
}

/// However the supervisor ends, nobody waits for it in vain.
struct End<'a>(&'a Shared);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.ended.send_replace(true);
        self.0.inbox.wake();
    }
}

/// Waits until [`run`] has closed both sides.
pub(super) async fn ended(shared: &Shared) {
    // The sender lives as long as the consumer.
    let _ = shared.ended.subscribe().wait_for(|ended| *ended).await;
}

/// Each side that is read is subscribed and assigned.
fn reads(read: ReadPlan, statuses: &[Status]) -> bool {
    let mut sides = Side::BOTH.into_iter().zip(statuses);
    sides.all(|(side, status)| !read.includes(side) || matches!(status, Status::Ready(_)))
}

/// And each that is not is stopped and committed, and has no handler left: a side that was closed over one waits for it here.
fn applies(read: ReadPlan, statuses: &[Status], outstanding: &Outstanding) -> bool {
    let mut sides = Side::BOTH.into_iter().zip(statuses);
    let stopped =
        |side, status: &Status| matches!(status, Status::Closed) && !outstanding.has_some_of(side);
    reads(read, statuses)
        && sides.all(|(side, status)| read.includes(side) || stopped(side, status))
}

fn states(statuses: &[Status]) -> Vec<SideState> {
    let ready = Side::BOTH
        .into_iter()
        .zip(statuses)
        .filter_map(|(side, status)| match status {
            Status::Ready(backend) => {
                let assigned = backend.assigned();
                let named = assigned.iter().map(ToString::to_string);
                Some(SideState {
                    side,
                    queues: u32::try_from(assigned.len()).unwrap_or(u32::MAX),
                    queue_ids: match assigned.len() {
                        0..=MAX_QUEUE_IDS => named.collect(),
                        _ => Vec::new(),
                    },
                    unreadable: backend
                        .unreadable()
                        .into_iter()
                        .take(MAX_UNREADABLE)
                        .map(|one| Unreadable::new(one.queue, one.offset, &one.reason))
                        .collect(),
                })
            }
            Status::Closed | Status::Busy => None,
        });
    ready.collect()
}

async fn renew(shared: Arc<Shared>) {
    let mut heartbeat = interval(HEARTBEAT);
    heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        heartbeat.tick().await;
        if let Err(error) = shared.dedup.renew(&shared.owner).await {
            tracing::warn!(group = %shared.subscription.group, %error, "claims were not renewed");
        }
    }
}
