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
            Stand::Lost => lost.push(member),
            Stand::Harmless => {}
        }
        let refusals = refusals(member, plan);
        refused.extend(refusals.map(|refusal| format!("{}: {}", member.name(), refusal.reason)));
    }
    let live = acked + waiting.len();
    let names = |names: &[String]| -> Vec<(String, u64)> {
        names.iter().map(|name| (name.clone(), 0)).collect()
    };
    let (waiting_names, refused_names) = (names(&waiting), names(&refused));
    let lost_names: Vec<String> = lost.iter().map(|member| member.name()).collect();
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
            out_of_contact(&lost, members, now),
            json!({"lost": lost_names}),
        )
        .closed_by(names(&lost_names)),
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

/// Who is out of contact, and what is to be done: nothing for one whose name runs again.
fn out_of_contact(lost: &[&Member], members: &Membership, now: Duration) -> String {
    let runs_again = |member: &Member| {
        members.iter().any(|other| {
            other.record.instance == member.record.instance
                && other.standing(&members.timing, now) == Standing::Live
        })
    };
    let (by_word, others): (Vec<&Member>, Vec<&Member>) =
        lost.iter().partition(|member| member.needs_a_word());
    let (again, gone): (Vec<&Member>, Vec<&Member>) =
        others.into_iter().partition(|member| runs_again(member));
    let named = |members: &[&Member]| {
        let names: Vec<String> = members.iter().map(|member| member.name()).collect();
        names.join(", ")
    };
    let mut words = Vec::new();
    if !gone.is_empty() {
        words.push(format!(
            "out of contact, perhaps still running with an old plan: {}. Start it again; if it is gone for good: crossfade instance confirm-gone NAME --reason TEXT",
            named(&gone)
        ));
    }
    if !by_word.is_empty() {
        words.push(format!(
            "out of contact, and they send to an ordered topic, where no broker's list proves that a process is gone: {}. Make sure that the process has ended, then: crossfade instance confirm-gone NAME --reason TEXT",
            named(&by_word)
        ));
    }
    if !again.is_empty() {
        words.push(format!(
            "earlier processes of instances that run again: {}. Each counts as gone once its lease is over and no broker has listed it for {} s; there is nothing to do",
            named(&again),
            members.timing.relist.as_secs()
        ));
    }
    match words.is_empty() {
        true => "no instance is out of contact".to_owned(),
        false => words.join("; "),
    }
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
