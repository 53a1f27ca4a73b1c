//! Asks the control plane again and again until a topic is settled.

use std::time::Duration;

use crossfade::stage::Stage;
use tokio::time::{Instant, sleep};

use super::{Operator, OperatorError};
use crate::coordinator::TopicView;

/// Between two questions.
const POLL: Duration = Duration::from_millis(100);
/// Between two questions to a control plane that cannot be reached.
const RETRY: Duration = Duration::from_millis(500);

pub(super) async fn settle(
    operator: &Operator,
    topic: &str,
    within: Duration,
    mut tell: impl FnMut(&str),
) -> Result<TopicView, OperatorError> {
    let end = Instant::now() + within;
    let mut first_seen: Option<(Stage, Stage)> = None;
    let mut told = String::new();
    loop {
        let (line, pause) = match operator.show(topic).await {
            Ok(view) => {
                let (from, first) = *first_seen.get_or_insert((view.stage, view.goal));
                if view.goal != first {
                    return Err(OperatorError::new(
                        "conflict",
                        format!(
                            "{topic}: somebody else has given another word meanwhile: it goes to {} now, not to {first}",
                            view.goal
                        ),
                    ));
                }
                if view.settled {
                    return Ok(view);
                }
                (state(&view, from), POLL)
            }
            Err(error) if ["unreachable", "unavailable"].contains(&error.code()) => (
                "the control plane cannot be reached; trying again".to_owned(),
                RETRY,
            ),
            Err(error) => return Err(error.about(topic)),
        };
        if line != told {
            tell(&line);
            told = line;
        }
        if Instant::now() + pause > end {
            return Err(OperatorError::new(
                "timeout",
                format!(
                    "{topic}: not settled within {:.0} s, and still on its way: {told}",
                    within.as_secs_f64()
                ),
            ));
        }
        sleep(pause).await;
    }
}

/// Where it is on its way from `from`, and what it waits for, in one line.
fn state(view: &TopicView, from: Stage) -> String {
    let steps = (from as u8).abs_diff(view.goal as u8);
    let left = (view.stage as u8).abs_diff(view.goal as u8);
    let way = match view.stage.toward(view.goal) {
        Some(next) if steps > 1 => format!(
            "step {} of {steps}: {} → {}",
            steps.saturating_sub(left) + 1,
            both_names(view.stage),
            both_names(next)
        ),
        Some(next) => format!("{} → {}", both_names(view.stage), both_names(next)),
        None => both_names(view.stage),
    };
    let blocked = view.gates.iter().filter(|gate| gate.blocks());
    // At the goal only the instances and the seal are still to come.
    let blocked = blocked.filter(|gate| left > 0 || gate.code.starts_with("instances_"));
    let mut waits: Vec<&str> = blocked.map(|gate| gate.message.as_str()).collect();
    if waits.is_empty() {
        let seal = view.seal.as_ref().filter(|seal| !seal.passed);
        waits.extend(seal.map(|seal| seal.message.as_str()));
    }
    let keys = view.keys.as_ref().filter(|keys| {
        keys.frozen.is_some() || keys.share_basis_points != keys.wanted_basis_points
    });
    if let Some(keys) = keys.filter(|_| view.trouble.is_none()) {
        return format!("{way}: {}", keys.message);
    }
    match (&view.trouble, waits.as_slice()) {
        (Some(trouble), _) => format!("{way}: {trouble}"),
        (None, []) => format!("{way}: on its way"),
        (None, waits) => format!("{way}: waits: {}", waits.join("; ")),
    }
}

fn both_names(stage: Stage) -> String {
    format!("{stage} {}", stage.chinese())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn view(stage: Stage, goal: Stage, gates: serde_json::Value) -> TopicView {
        let view = json!({
            "topic": "orders", "stage": stage, "goal": goal, "settled": false, "next": null, "ready": false, "weight_basis_points": 0,
            "revision": 1, "groups": [], "access": [null, null], "owed": [null, null], "sent": [0, 0], "handled": [0, 0],
            "gates": gates, "trouble": null,
        });
        serde_json::from_value(view).unwrap()
    }

    #[test]
    fn keys_on_their_way_are_told_before_the_gates_of_the_step() {
        let moving = |wanted: u32, trouble: Option<&str>| {
            let closed =
                json!([{"code": "target_lag", "passed": false, "message": "lag", "numbers": {}}]);
            let mut view = view(Stage::DualWrite, Stage::Draining, closed);
            let keys = json!({"share_basis_points": 0, "wanted_basis_points": wanted, "message": "freezing"});
            view.keys = serde_json::from_value(keys).unwrap();
            view.trouble = trouble.map(str::to_owned);
            state(&view, Stage::DualWrite)
        };
        assert!(moving(10_000, None).ends_with(": freezing"));
        assert!(moving(0, None).ends_with("waits: lag"));
        assert!(moving(10_000, Some("no broker")).ends_with("no broker"));
    }

    #[test]
    fn each_step_is_told_with_its_number_and_what_it_waits_for() {
        let gate = |code: &str, passed: bool, note: bool| json!({"code": code, "passed": passed, "note": note, "message": code, "numbers": {}});
        let gates = json!([
            gate("target_drained", false, false),
            gate("source_idle", false, true),
            gate("clusters_answer", true, false)
        ]);
        let back = view(Stage::DualRead, Stage::SourceOnly, gates.clone());
        let line = state(&back, Stage::TargetOnly);
        assert!(line.starts_with("step 4 of 4: dual_read"), "{line}");
        assert!(line.ends_with("waits: target_drained"), "{line}");
        let there = view(Stage::SourceOnly, Stage::SourceOnly, gates);
        assert!(state(&there, Stage::TargetOnly).ends_with("on its way"));
        assert!(state(&back, Stage::DualRead).starts_with("dual_read"));
    }
}
