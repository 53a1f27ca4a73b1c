//! Gates about the registered instances.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use crossfade::{control::wire::Refused, stage::TopicPlan};
use serde_json::json;

use super::{
    super::{
        membership::{Member, Membership, Standing},
        row::TopicRecord,
    },
    Code, Gate, Scene,
};

/// Where an instance is with the plan in force.
enum Stand {
    Applied,
    Behind,
    Lost,
    Harmless,
}

fn stand(member: &Member, plan: &TopicPlan, members: &Membership, now: Duration) -> Stand {
    match member.standing(&members.timing, now) {
        Standing::Live if member.acked(&plan.topic) == Some(plan.revision) => Stand::Applied,
        Standing::Live => Stand::Behind,
        Standing::Lost => Stand::Lost,
        Standing::Harmless => Stand::Harmless,
    }
}

/// Why it acts by another plan.
fn refusals<'a>(member: &'a Member, plan: &TopicPlan) -> impl Iterator<Item = &'a Refused> {
    let refused = member.refused.iter();
    refused.filter(|refusal| refusal.topic == plan.topic)
}

/// Whether all of [`gates`] are passed.
pub(super) fn applied(row: &TopicRecord, members: &Membership, now: Duration) -> bool {
    members.of_topic(&row.plan.topic).all(|member| {
        let stand = stand(member, &row.plan, members, now);
        let passes = matches!(stand, Stand::Applied | Stand::Harmless);
        passes && refusals(member, &row.plan).next().is_none()
    })
}

pub(super) fn gates(row: &TopicRecord, members: &Membership, now: Duration) -> Vec<Gate> {
    let plan = &row.plan;
    let mut waiting = Vec::new();
    let mut lost = Vec::new();
    let mut refused = Vec::new();
    let mut acked = 0_usize;
    for member in members.of_topic(&plan.topic) {
        match stand(member, plan, members, now) {
            Stand::Applied => acked += 1,
            Stand::Behind => waiting.push(member.name()),
            Stand::Lost => lost.push(member.name()),
            Stand::Harmless => {}
        }
        let refusals = refusals(member, plan);
        refused.extend(refusals.map(|refusal| format!("{}: {}", member.name(), refusal.reason)));
    }
    let live = acked + waiting.len();
    let names = |names: &[String]| -> Vec<(String, u64)> {
        names.iter().map(|name| (name.clone(), 0)).collect()
    };
    let (waiting_names, lost_names, refused_names) =
        (names(&waiting), names(&lost), names(&refused));
    vec![
        Gate::new(
            Code::InstancesAcked,
            waiting.is_empty(),
            if waiting.is_empty() {
                format!(
                    "all {live} live instances have applied revision {}",
                    plan.revision
                )
            } else {
                format!(
                    "{} of {live} live instances have not applied revision {} yet: {}",
                    waiting.len(),
                    plan.revision,
                    waiting.join(", ")
                )
            },
            json!({"revision": plan.revision, "live": live, "acked": acked, "waiting": waiting}),
        )
        .closed_by(waiting_names),
        Gate::new(
            Code::InstancesLost,
            lost.is_empty(),
            if lost.is_empty() {
                "no instance is out of contact".to_owned()
            } else {
                format!(
                    "out of contact, perhaps still running with an old plan: {}. Restart it, or if it is gone for good: crossfade instance confirm-gone NAME --reason TEXT",
                    lost.join(", ")
                )
            },
            json!({"lost": lost}),
        )
        .closed_by(lost_names),
        Gate::new(
            Code::PlansRefused,
            refused.is_empty(),
            if refused.is_empty() {
                "no instance refuses the plan".to_owned()
            } else {
                format!("the plan is refused: {}", refused.join("; "))
            },
            json!({"refused": refused}),
        )
        .closed_by(refused_names),
    ]
}

/// Every managed group has somebody who will read the target.
pub(super) fn roles(scene: &Scene<'_>) -> Gate {
    let Scene { row, members, .. } = scene;
    let live = members
        .of_topic(&row.plan.topic)
        .filter(|member| member.standing(&members.timing, scene.now) == Standing::Live);
    let consumed: BTreeSet<&Arc<str>> = live
        .filter_map(|member| member.record.consumes.get(&row.plan.topic))
        .flatten()
        .collect();
    let without: Vec<&str> = row
        .groups
        .iter()
        .filter(|group| !consumed.contains(group))
        .map(|group| &**group)
        .collect();
    Gate::new(
        Code::RolesRegistered,
        without.is_empty(),
        if without.is_empty() {
            format!("all {} groups have a live registered consumer", row.groups.len())
        } else {
            format!(
                "no live instance consumes {} in the groups {}: start their applications with the SDK, or remove the topic and add it without them",
                row.plan.topic,
                without.join(", ")
            )
        },
        json!({"groups": row.groups.len(), "without": without}),
    )
    .closed_by(without.into_iter().map(|group| (group, 0)))
}

/// Somebody registered sends to the topic: without one, only unmanaged producers can.
pub(super) fn producers(scene: &Scene<'_>) -> Gate {
    let Scene { row, members, .. } = scene;
    let topic = &row.plan.topic;
    let producers = members
        .of_topic(topic)
        .filter(|member| member.record.produces.contains(topic))
        .filter(|member| member.standing(&members.timing, scene.now) == Standing::Live)
        .count();
    Gate::new(
        Code::ProducersRegistered,
        producers > 0,
        if producers > 0 {
            format!("{producers} live instances send to the topic")
        } else {
            "no live instance sends to the topic: whoever writes to it does not use the SDK, and will be refused by the seal at the end".to_owned()
        },
        json!({"producers": producers}),
    )
}
