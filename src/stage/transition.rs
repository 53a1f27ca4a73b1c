//! Which plan may replace which.

use crate::{
    error::{Error, ErrorKind, Result},
    stage::{Routing, TopicPlan},
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
    if next.routing != Routing::Unordered || !next.moves.is_empty() {
        return refuse(format!(
            "topic {}: ordered routing and moves are not supported by this version",
            next.topic
        ));
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
    Ok(Adoption::Adopt)
}
