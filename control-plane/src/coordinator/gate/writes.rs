//! Gates about what is written: by whom, and where.

use crossfade::Side;
use serde_json::json;

use super::{
    super::accounting::{Found, Verdict},
    Code, Gate, Scene,
};

/// The source grows by no more than what the registered producers report.
pub(super) fn unmanaged(scene: &Scene<'_>) -> Gate {
    let known = scene.members.client_ids();
    let source = scene.facts.side(Side::Source);
    let strangers: Vec<_> = source
        .producers
        .iter()
        .flatten()
        .filter(|client| !known.contains(client.client_id.as_str()))
        .collect();
    let suspects = if strangers.is_empty() {
        "the brokers list no producer other than the registered ones, so look for writers that send without heartbeats".to_owned()
    } else {
        let named = strangers
            .iter()
            .map(|client| format!("{} at {}", client.client_id, client.address));
        format!(
            "connected to the source and not registered (brokers do not tell for which topics): {}",
            super::clients::shortened(named)
        )
    };
    let verdict = scene.writes.verdict(Side::Source);
    let found = |found: &Found| {
        format!(
            "in {:.1} s the source grew by {} messages, the registered producers report {}",
            found.window.as_secs_f64(),
            found.grown,
            found.reported
        )
    };
    let (passed, message) = match verdict {
        Verdict::Unmeasured(why) => (false, format!("not measured yet: {why}")),
        Verdict::Explained(numbers) => (true, found(numbers)),
        Verdict::Unexplained(numbers) => (
            false,
            format!(
                "{}: {} are from somebody else; {suspects}. Start those applications with the SDK, or stop them",
                found(numbers),
                numbers.unexplained()
            ),
        ),
    };
    let gate = Gate::new(
        Code::UnmanagedProducers,
        passed,
        message,
        json!({"measured": verdict.numbers(), "producers": strangers}),
    )
    .closed_by((!passed).then_some(("source", 0)));
    measured(scene, gate)
}

/// Nothing new on a side between the last two looks.
pub(super) fn quiet(scene: &Scene<'_>, side: Side) -> Gate {
    let growth = scene.writes.growth(side);
    let (passed, message) = match growth {
        None => (
            false,
            format!("not measured yet: it takes two looks at the {side}"),
        ),
        Some(growth) if growth.grown == 0 => (
            true,
            format!(
                "nothing new on the {side} in the last {:.1} s",
                growth.window.as_secs_f64()
            ),
        ),
        Some(growth) => (
            false,
            format!(
                "{} new messages on the {side} in the last {:.1} s, where nobody is to write any more: the last sends of the registered producers, if the stage has just changed; when it goes on, stop whoever writes there",
                growth.grown,
                growth.window.as_secs_f64()
            ),
        ),
    };
    let code = Code::on(side, Code::SourceQuiet, Code::TargetQuiet);
    let gate = Gate::new(code, passed, message, json!({"growth": growth}))
        .closed_by((!passed).then_some((side.as_str(), 0)));
    measured(scene, gate)
}

/// Tells when nothing at all is written to a side that is written to.
pub(super) fn idle(scene: &Scene<'_>, side: Side) -> Gate {
    let growth = scene.writes.growth(side);
    let busy = growth.is_some_and(|growth| growth.grown > 0);
    Gate::new(
        Code::on(side, Code::SourceIdle, Code::TargetIdle),
        busy,
        match growth {
            None => format!("not measured yet: it takes two looks at the {side}"),
            Some(growth) => format!(
                "{} new messages on the {side} in the last {:.1} s",
                growth.grown,
                growth.window.as_secs_f64()
            ),
        },
        json!({"growth": growth}),
    )
}

/// No producer has failed to write to the target lately.
pub(super) fn errors(scene: &Scene<'_>) -> Gate {
    let failed = scene.writes.errors(Side::Target);
    Gate::new(
        Code::TargetWriteErrors,
        failed.is_empty(),
        if failed.is_empty() {
            "no producer reports a failed send to the target lately".to_owned()
        } else {
            let named = failed
                .iter()
                .map(|(name, count)| format!("{name}: {count}"));
            format!(
                "sends to the target failed lately: {}. See the producers' logs; the gate opens once none has failed for a while",
                super::clients::shortened(named)
            )
        },
        json!({"errors": failed}),
    )
    .closed_by(failed.keys().map(|name| (name, 0)))
}

/// Without accounting nobody knows, and the gate only says so.
fn measured(scene: &Scene<'_>, mut gate: Gate) -> Gate {
    if !scene.limits.accounting {
        gate.note = true;
        gate.passed = false;
        gate.message = "writes are not accounted for in this control plane".into();
    }
    gate
}
