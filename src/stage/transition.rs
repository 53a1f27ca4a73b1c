//! Which plan may replace which.

use crate::{
    error::{Error, ErrorKind, Result},
    stage::{Buckets, Move, Routing, TopicPlan},
};

/// What to do with a plan that has arrived.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Adoption {
    /// It takes effect.
    Adopt,
    /// It is the one in force.
    Known,
}

/// Checks `next` against the plan in force.
///
/// The check "not two stages away" holds between consecutive rows of a topic only: whoever comes back after a gap
/// adopts the newest plan, because nothing else could bring it back.
///
/// # Errors
/// [`ErrorKind::InvalidPlan`] for another topic's plan, an older one, another one under the same revision, one that is two stages
/// away from the row just before it, or a routing that this version cannot do.
pub fn adopt(current: Option<&TopicPlan>, next: &TopicPlan) -> Result<Adoption> {
    let refuse = |why: String| Err(Error::new(ErrorKind::InvalidPlan, "adopt plan", why));
    if next.topic.is_empty() {
        return refuse("the plan names no topic".into());
    }
    if next.previous_revision >= next.revision {
        return refuse(format!(
            "topic {}: revision {} claims to follow revision {}",
            next.topic, next.revision, next.previous_revision
        ));
    }
    if let Err(why) = sound_moves(next) {
        return refuse(format!("topic {}: {why}", next.topic));
    }
    let Some(current) = current else {
        return Ok(Adoption::Adopt);
    };
    if current.topic != next.topic {
        return refuse(format!(
            "a plan of topic {} arrived for {}",
            next.topic, current.topic
        ));
    }
    if next.revision < current.revision {
        return refuse(format!(
            "topic {}: revision {} is older than revision {} in force",
            next.topic, next.revision, current.revision
        ));
    }
    if next.revision == current.revision {
        if next == current {
            return Ok(Adoption::Known);
        }
        return refuse(format!(
            "topic {}: two different plans under revision {}",
            next.topic, next.revision
        ));
    }
    if next.previous_revision == current.revision
        && next.stage != current.stage
        && !next.stage.is_neighbour(current.stage)
    {
        return refuse(format!(
            "topic {}: revision {} ({}) is two stages or more away from revision {} ({})",
            next.topic, next.revision, next.stage, current.revision, current.stage
        ));
    }
    if current.routing != next.routing {
        return refuse(format!(
            "topic {}: revision {} changes the routing; only a topic that was removed can come back with another one",
            next.topic, next.revision
        ));
    }
    if next.previous_revision == current.revision
        && next.routing == Routing::Ordered
        && let Err(why) = keys_moved_in_order(current, next)
    {
        return refuse(format!(
            "topic {}: revision {}: {why}",
            next.topic, next.revision
        ));
    }
    Ok(Adoption::Adopt)
}

/// What can be said of a row's moves without the row before it.
fn sound_moves(plan: &TopicPlan) -> std::result::Result<(), &'static str> {
    if plan.routing == Routing::Unordered && !plan.moves.is_empty() {
        return Err("an unordered topic has moves");
    }
    if plan
        .moves
        .iter()
        .filter(|moving| moving.is_frozen())
        .count()
        > 1
    {
        return Err("two moves are frozen at once");
    }
    let sound = |moving: &Move| moving.buckets.is_sound() && moving.revision <= plan.revision;
    if !plan.moves.iter().all(sound) {
        return Err("a move has no keys, unknown keys or a later revision");
    }
    Ok(())
}

/// Keys change sides only by a move that was frozen by the row before and has a barrier now.
fn keys_moved_in_order(
    current: &TopicPlan,
    next: &TopicPlan,
) -> std::result::Result<(), &'static str> {
    let Some((buckets, from)) = Buckets::between(current.share(), next.share()) else {
        return Ok(());
    };
    let same = |moving: &&Move| moving.buckets == buckets && moving.from == from;
    if current.frozen().filter(same).is_none() {
        return Err("ordering keys change sides that were not frozen before");
    }
    let moved =
        |moving: &Move| same(&moving) && !moving.is_frozen() && moving.revision == next.revision;
    if !next.moves.iter().any(moved) {
        return Err("ordering keys change sides without a barrier");
    }
    Ok(())
}
