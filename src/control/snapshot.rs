//! The plans in force, and who still uses an older one.
//!
//! A send takes its topic's snapshot once and holds it until its end is definite. The snapshot is the staleness token: when
//! the last holder of an older one lets go, the producers' half of "fully applied" is true. No lock and no counter of its own is on the send path.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
};

use arc_swap::{ArcSwap, ArcSwapOption};
use tokio::sync::{Notify, watch};

use crate::{
    control::wire::{ConsumerState, Role, SideState},
    error::Result,
    side::Revision,
    stage::{Adoption, ReadPlan, Route, Routing, TopicPlan, WritePlan, adopt},
};

/// One plan, held by every send that was begun under it.
#[derive(Debug)]
pub struct InUse {
    plan: TopicPlan,
    write: WritePlan,
    released: Arc<Notify>,
}

impl InUse {
    /// The plan.
    #[must_use]
    pub fn plan(&self) -> &TopicPlan {
        &self.plan
    }

    /// Where its writes go.
    #[must_use]
    pub fn write_plan(&self) -> WritePlan {
        self.write
    }

    /// Where one message goes: see [`TopicPlan::route`].
    #[must_use]
    pub fn route(&self, ordering_key: Option<&[u8]>, draw: impl FnOnce() -> u32) -> Route {
        if self.plan.moves.is_empty() {
            return Route::To(self.write.side(ordering_key, draw));
        }
        self.plan.route(ordering_key, draw)
    }

    /// Whether the topic promises order.
    #[must_use]
    pub fn is_ordered(&self) -> bool {
        self.plan.routing == Routing::Ordered
    }
}

impl Drop for InUse {
    fn drop(&mut self) {
        self.released.notify_one();
    }
}

/// One topic: its plan in force, the older ones still in use, and the roles of this instance.
#[derive(Debug)]
pub struct TopicCell {
    topic: Arc<str>,
    current: ArcSwapOption<InUse>,
    changes: watch::Sender<Option<Revision>>,
    /// Told whenever something may have been applied; the session waits on it.
    progress: Arc<Notify>,
    roles: Mutex<Roles>,
}

#[derive(Debug, Default)]
struct Roles {
    older: Vec<Weak<InUse>>,
    producers: usize,
    consumers: Vec<Weak<ConsumerProgress>>,
    /// Why the newest plan was not taken.
    refusal: Option<String>,
}

#[derive(Debug)]
struct ConsumerProgress {
    group: Arc<str>,
    applied: AtomicU64,
    sides: Mutex<Vec<SideState>>,
}

impl TopicCell {
    /// The topic.
    #[must_use]
    pub fn topic(&self) -> &Arc<str> {
        &self.topic
    }

    /// The plan in force; hold it as long as what was decided by it is under way.
    #[must_use]
    pub fn load(&self) -> Option<Arc<InUse>> {
        self.current.load_full()
    }

    /// Decides something by the plan in force, and holds it no longer than that.
    pub fn decide<T>(&self, by: impl FnOnce(&InUse) -> T) -> Option<T> {
        self.current.load().as_ref().map(|current| by(current))
    }

    /// Where reads come from now, with the revision that says so.
    #[must_use]
    pub fn read_plan(&self) -> Option<(Revision, ReadPlan)> {
        self.current
            .load()
            .as_ref()
            .map(|current| (current.plan.revision, current.plan.read_plan()))
    }

    /// Tells of every change; the value is the revision in force, `None` before the first plan and after a removal.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<Option<Revision>> {
        self.changes.subscribe()
    }

    /// Puts a plan in force, if the rules allow it.
    ///
    /// # Errors
    /// [`InvalidPlan`](crate::ErrorKind::InvalidPlan): the plan in force stays.
    pub fn publish(&self, plan: TopicPlan) -> Result<Adoption> {
        let mut roles = lock(&self.roles);
        let current = self.current.load_full();
        let adoption = adopt(current.as_deref().map(InUse::plan), &plan)?;
        if adoption == Adoption::Adopt {
            let revision = plan.revision;
            let next = InUse {
                write: plan.write_plan(),
                plan,
                released: Arc::clone(&self.progress),
            };
            // From here on no new send can take the older one: `swap` settles with every reader that is loading it.
            if let Some(old) = self.current.swap(Some(Arc::new(next))) {
                roles.older.push(Arc::downgrade(&old));
            }
            roles.refusal = None;
            drop(current);
            drop(roles);
            self.changes.send_replace(Some(revision));
            self.progress.notify_one();
        }
        Ok(adoption)
    }

    /// The newest plan was not taken; the one in force, if any, stays.
    pub fn refuse(&self, reason: &str) {
        lock(&self.roles).refusal = Some(reason.to_owned());
    }

    /// Why the newest plan was not taken; `None` once one was, or when the topic is not managed.
    #[must_use]
    pub fn refusal(&self) -> Option<String> {
        lock(&self.roles).refusal.clone()
    }

    /// The topic is no longer managed. True when it was.
    pub fn withdraw(&self) -> bool {
        let mut roles = lock(&self.roles);
        roles.refusal = None;
        let Some(old) = self.current.swap(None) else {
            return false;
        };
        roles.older.push(Arc::downgrade(&old));
        drop(roles);
        drop(old);
        self.changes.send_replace(None);
        self.progress.notify_one();
        true
    }

    /// The revision that this instance has fully applied, if that is the one in force: no send begun under an older plan is
    /// under way, and every consumer has done what the plan asks of it.
    #[must_use]
    pub fn applied(&self) -> Option<Revision> {
        let mut roles = lock(&self.roles);
        let current = self.current.load().as_ref()?.plan.revision;
        roles.older.retain(|old| old.strong_count() > 0);
        let consumers_applied = roles
            .consumers
            .iter()
            .filter_map(Weak::upgrade)
            .all(|consumer| consumer.applied.load(Ordering::Acquire) >= current.0);
        (roles.older.is_empty() && consumers_applied).then_some(current)
    }

    /// What this instance does with the topic; `None` when it does nothing.
    #[must_use]
    pub fn role(&self) -> Option<Role> {
        let mut roles = lock(&self.roles);
        roles
            .consumers
            .retain(|consumer| consumer.strong_count() > 0);
        let mut consumes: Vec<ConsumerState> = roles
            .consumers
            .iter()
            .filter_map(Weak::upgrade)
            .map(|consumer| ConsumerState {
                group: Arc::clone(&consumer.group),
                sides: lock(&consumer.sides).clone(),
            })
            .collect();
        consumes.sort_by(|a, b| a.group.cmp(&b.group));
        (roles.producers > 0 || !consumes.is_empty()).then(|| Role {
            topic: Arc::clone(&self.topic),
            produces: roles.producers > 0,
            consumes,
        })
    }

    /// This instance sends to the topic until the role is dropped.
    #[must_use]
    pub fn add_producer(self: &Arc<Self>) -> ProducerRole {
        lock(&self.roles).producers += 1;
        self.progress.notify_one();
        ProducerRole {
            cell: Arc::clone(self),
        }
    }

    /// This instance consumes the topic in `group` until the role is dropped.
    #[must_use]
    pub fn add_consumer(self: &Arc<Self>, group: Arc<str>) -> ConsumerRole {
        let progress = Arc::new(ConsumerProgress {
            group,
            applied: AtomicU64::new(0),
            sides: Mutex::default(),
        });
        lock(&self.roles).consumers.push(Arc::downgrade(&progress));
        self.progress.notify_one();
        ConsumerRole {
            cell: Arc::clone(self),
            progress: Some(progress),
        }
    }
}

/// While it lives, this instance is registered as a producer of the topic.
#[derive(Debug)]
pub struct ProducerRole {
    cell: Arc<TopicCell>,
}

impl ProducerRole {
    /// The topic's cell.
    #[must_use]
    pub fn cell(&self) -> &Arc<TopicCell> {
        &self.cell
    }
}

impl Drop for ProducerRole {
    fn drop(&mut self) {
        lock(&self.cell.roles).producers -= 1;
        self.cell.progress.notify_one();
    }
}

/// While it lives, this instance is registered as a consumer of the topic, and tells what it has applied.
#[derive(Debug)]
pub struct ConsumerRole {
    cell: Arc<TopicCell>,
    /// Taken only by `drop`, so that the count is down before the session is told.
    progress: Option<Arc<ConsumerProgress>>,
}

impl ConsumerRole {
    /// The topic's cell.
    #[must_use]
    pub fn cell(&self) -> &Arc<TopicCell> {
        &self.cell
    }

    /// Each side that `revision` adds is subscribed and assigned, each side that it removes is stopped and committed.
    pub fn set_applied(&self, revision: Revision, sides: Vec<SideState>) {
        if let Some(progress) = &self.progress {
            *lock(&progress.sides) = sides;
            progress.applied.fetch_max(revision.0, Ordering::AcqRel);
        }
        self.cell.progress.notify_one();
    }

    /// The queues assigned have changed under the same plan.
    pub fn set_sides(&self, sides: Vec<SideState>) {
        if let Some(progress) = &self.progress {
            *lock(&progress.sides) = sides;
        }
        self.cell.progress.notify_one();
    }
}

impl Drop for ConsumerRole {
    fn drop(&mut self) {
        self.progress = None;
        self.cell.progress.notify_one();
    }
}

/// All topics that this instance knows.
#[derive(Debug, Default)]
pub struct PlanTable {
    cells: ArcSwap<HashMap<Arc<str>, Arc<TopicCell>>>,
    /// Serialises the copies of the map.
    growing: Mutex<()>,
    progress: Arc<Notify>,
}

impl PlanTable {
    /// The cell of a topic, made when it is first asked for.
    #[must_use]
    pub fn cell(&self, topic: &str) -> Arc<TopicCell> {
        if let Some(cell) = self.cells.load().get(topic) {
            return Arc::clone(cell);
        }
        let _growing = lock(&self.growing);
        let mut cells = HashMap::clone(&self.cells.load());
        let topic: Arc<str> = topic.into();
        let cell = cells
            .entry(Arc::clone(&topic))
            .or_insert_with(|| self.new_cell(topic));
        let cell = Arc::clone(cell);
        self.cells.store(Arc::new(cells));
        cell
    }

    /// The cell of a topic, if it was asked for before or has come with a plan.
    #[must_use]
    pub fn find(&self, topic: &str) -> Option<Arc<TopicCell>> {
        self.cells.load().get(topic).cloned()
    }

    /// Makes the cells of many topics with one copy of the map.
    pub fn reserve<'a>(&self, topics: impl Iterator<Item = &'a Arc<str>>) {
        let _growing = lock(&self.growing);
        let known = self.cells.load_full();
        let mut cells: Option<HashMap<_, _>> = None;
        for topic in topics.filter(|topic| !known.contains_key(&***topic)) {
            cells
                .get_or_insert_with(|| HashMap::clone(&known))
                .entry(Arc::clone(topic))
                .or_insert_with(|| self.new_cell(Arc::clone(topic)));
        }
        if let Some(cells) = cells {
            self.cells.store(Arc::new(cells));
        }
    }

    fn new_cell(&self, topic: Arc<str>) -> Arc<TopicCell> {
        Arc::new(TopicCell {
            topic,
            current: ArcSwapOption::empty(),
            changes: watch::Sender::new(None),
            progress: Arc::clone(&self.progress),
            roles: Mutex::default(),
        })
    }

    /// Every cell, in no order.
    #[must_use]
    pub fn cells(&self) -> Vec<Arc<TopicCell>> {
        self.cells.load().values().cloned().collect()
    }

    /// Waits until something may have been applied, or a role came or went, since the last call returned.
    ///
    /// # Cancellation
    /// A notice that was not taken is kept for the next call.
    pub async fn progress(&self) {
        self.progress.notified().await;
    }
}

/// A panic while the lock was held cannot leave these plain values half changed.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stage::{Stage, Weight};

    fn plan(revision: u64, previous: u64, stage: Stage) -> TopicPlan {
        TopicPlan {
            topic: "orders".into(),
            stage,
            weight: Weight::ZERO,
            routing: Routing::Unordered,
            moves: Vec::new(),
            revision: Revision(revision),
            previous_revision: Revision(previous),
        }
    }

    #[test]
    fn revision_is_applied_once_the_last_send_under_the_older_one_has_ended() {
        let cell = PlanTable::default().cell("orders");
        let _role = cell.add_producer();
        cell.publish(plan(1, 0, Stage::SourceOnly)).unwrap();
        let first = cell.load().unwrap();
        let second = cell.load().unwrap();
        assert_eq!(cell.applied(), Some(Revision(1)));
        cell.publish(plan(2, 1, Stage::DualRead)).unwrap();
        assert_eq!(cell.applied(), None);
        drop(first);
        assert_eq!(cell.applied(), None);
        drop(second);
        assert_eq!(cell.applied(), Some(Revision(2)));
    }

    #[test]
    fn revision_is_not_applied_before_every_consumer_has_done_its_part() {
        let cell = PlanTable::default().cell("orders");
        let fast = cell.add_consumer("billing".into());
        let slow = cell.add_consumer("audit".into());
        cell.publish(plan(1, 0, Stage::SourceOnly)).unwrap();
        fast.set_applied(Revision(1), Vec::new());
        assert_eq!(cell.applied(), None);
        slow.set_applied(Revision(1), Vec::new());
        assert_eq!(cell.applied(), Some(Revision(1)));
        drop(slow);
        cell.publish(plan(2, 1, Stage::DualRead)).unwrap();
        fast.set_applied(Revision(2), Vec::new());
        assert_eq!(cell.applied(), Some(Revision(2)));
    }

    #[test]
    fn refused_plan_leaves_the_one_in_force() {
        let cell = PlanTable::default().cell("orders");
        cell.publish(plan(5, 0, Stage::SourceOnly)).unwrap();
        assert!(cell.publish(plan(6, 5, Stage::DualWrite)).is_err());
        assert!(cell.publish(plan(4, 0, Stage::SourceOnly)).is_err());
        assert_eq!(
            cell.read_plan(),
            Some((Revision(5), ReadPlan::One(crate::Side::Source)))
        );
        // After a gap the newest plan is taken, however far away it is.
        cell.publish(plan(9, 7, Stage::TargetOnly)).unwrap();
    }
}
