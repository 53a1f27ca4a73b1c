//! Gates about what the clusters let be known, and what they let writers do.

use std::time::Duration;

use crossfade::Side;
use serde_json::json;

use super::{Code, Gate, Scene};

/// Stands for every gate that needs a look, until there was one.
pub(in super::super) fn not_looked_yet() -> Gate {
    Gate::new(
        Code::ClustersAnswer,
        false,
        "the clusters have not answered yet since this control plane began to look at the topic: ask again",
        json!({"unknown": ["source", "target"]}),
    )
}

/// Stands for every gate that needs a look, when the last one is older than the question.
pub(in super::super) fn not_looked_since(age: Duration) -> Gate {
    Gate::new(
        Code::ClustersAnswer,
        false,
        format!(
            "no complete look at the clusters since this was asked; the last one is {:.1} s old and decides nothing: ask again",
            age.as_secs_f64()
        ),
        json!({"looked_ms_ago": u64::try_from(age.as_millis()).unwrap_or(u64::MAX)}),
    )
}

pub(super) fn answer(scene: &Scene<'_>) -> Gate {
    let unknown: Vec<String> = Side::BOTH
        .into_iter()
        .flat_map(|side| {
            let side_facts = scene.facts.side(side);
            side_facts
                .unknown
                .iter()
                .map(move |what| format!("{side}: {what}"))
        })
        .collect();
    Gate::new(
        Code::ClustersAnswer,
        unknown.is_empty(),
        if unknown.is_empty() {
            "both clusters answer".to_owned()
        } else {
            format!("unknown, and unknown blocks: {}", unknown.join("; "))
        },
        json!({"unknown": unknown}),
    )
}

/// Writers may do on each side what the stage says, or already what its neighbour in the step does.
pub(super) fn permissions(scene: &Scene<'_>) -> Gate {
    let stage = scene.row.plan.stage;
    let next = stage.toward(crossfade::stage::Stage::TargetOnly);
    let mut wrong = Vec::new();
    let mut found = Vec::new();
    for side in Side::BOTH {
        let wanted = stage.access(side);
        let on_the_way = next.map(|next| next.access(side));
        let access = scene.facts.side(side).access;
        found.push(access);
        let mixed = scene.facts.side(side).disagreement.iter();
        wrong.extend(mixed.map(|mixed| format!("{side}: {mixed}")));
        if access.is_some() && access != Some(wanted) && access != on_the_way {
            wrong.push(format!(
                "the {side} is {} and should be {wanted}",
                access.map_or("unknown".to_owned(), |access| access.to_string())
            ));
        }
    }
    Gate::new(
        Code::Permissions,
        wrong.is_empty(),
        if wrong.is_empty() {
            format!("both sides are as {stage} says")
        } else {
            format!(
                "{}: somebody else has changed it; the control plane puts it right",
                wrong.join("; ")
            )
        },
        json!({"source": found.first(), "target": found.get(1)}),
    )
    .closed_by(wrong.into_iter().map(|what| (what, 0)))
}
