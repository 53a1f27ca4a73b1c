//! Moving a topic: refused while gates are closed, unless they are waited for or gone without by name.

use std::{sync::Arc, time::Duration};

use crossfade::stage::Stage;
use serde_json::json;

use super::{
    Coordinator, audit,
    event::{AskedOverride, Refusal, Step, Terms},
    gate::{self, Code, Gate, Policy},
    row::Override,
};
use crate::record::AuditEntry;

/// The longest reason, in bytes.
const MAX_REASON_BYTES: usize = 1_000;

impl Coordinator {
    #[expect(clippy::too_many_arguments, reason = "one command, taken apart")]
    pub(super) fn walk(
        &mut self,
        who: &str,
        action: &str,
        topic: &Arc<str>,
        to: Stage,
        terms: &Terms,
        now: Duration,
        step: &mut Step,
    ) -> Result<(), Refusal> {
        for asked in &terms.overrides {
            may_override(asked)?;
        }
        let known = self
            .topics
            .get(topic)
            .ok_or_else(|| Refusal::unknown(topic))?;
        if known.record.goal == to && terms.overrides.is_empty() {
            // Reached, or on its way: the same word again.
            return Ok(());
        }
        let next = known.stage().toward(to);
        let mut row = known.record.clone();
        if row.goal != to {
            row.overrides.clear();
        }
        let judge = |row: &_| known.gates_to(next, row, &self.members, terms.since, now);
        let given = give(who, &judge(&row), &terms.overrides);
        row.overrides
            .retain(|old| given.iter().all(|(new, _)| new.gate != old.gate));
        row.overrides
            .extend(given.iter().map(|(new, _)| new.clone()));
        let gates = judge(&row);
        let unseen = !terms.overrides.is_empty() && !is_seen(&gates);
        if next.is_some() && !gate::passed(&gates) && (!terms.wait || unseen) {
            return Err(refused(topic, known.stage(), next, gates));
        }
        let overrides = row.overrides;
        self.set_goal(who, action, topic, to, now, step)?;
        for (given, closed) in given {
            let entry = audit(
                who,
                "override",
                topic,
                json!(closed),
                json!({"gate": given.gate, "accepted": given.accepted}),
            );
            step.change.audit.push(AuditEntry {
                reason: given.reason,
                ..entry
            });
        }
        let known = self.known(topic)?;
        if known.record.overrides != overrides {
            known.record.overrides = overrides;
            let record = known.record.clone();
            self.store(&record, step);
        }
        Ok(())
    }
}

fn may_override(asked: &AskedOverride) -> Result<(), Refusal> {
    let invalid = |message: String| Err(Refusal::new("invalid_request", message));
    let gate = &asked.gate;
    let Some(code) = Code::from_name(gate) else {
        return invalid(format!(
            "no gate has the code {gate:?}; `crossfade topic check` shows those that are closed"
        ));
    };
    match code.entry().policy {
        Policy::Never(why) => {
            return invalid(format!("{gate} cannot be overridden: {why}"));
        }
        Policy::Note => {
            return invalid(format!(
                "{gate} only tells: it never keeps a step from being taken"
            ));
        }
        Policy::Override => {}
    }
    let reason = asked.reason.trim();
    if reason.is_empty() || reason.len() > MAX_REASON_BYTES {
        return invalid(format!(
            "the override of {gate} needs a reason of 1 to {MAX_REASON_BYTES} bytes; it is kept in the audit log"
        ));
    }
    Ok(())
}

/// An override for every asked gate that is closed, with what it accepts. One that is open needs none.
fn give(who: &str, gates: &[Gate], asked: &[AskedOverride]) -> Vec<(Override, Gate)> {
    let closed = |code: &str| {
        gates
            .iter()
            .find(|gate| gate.code == code && !gate.passed && !gate.note)
    };
    asked
        .iter()
        .filter_map(|asked| {
            let gate = closed(&asked.gate)?;
            let given = Override {
                gate: asked.gate.clone(),
                reason: asked.reason.trim().to_owned(),
                by: who.to_owned(),
                accepted: gate.closed_by.clone(),
            };
            Some((given, gate.clone()))
        })
        .collect()
}

/// A look was there to decide on.
fn is_seen(gates: &[Gate]) -> bool {
    let answer = gates
        .iter()
        .find(|gate| gate.code == Code::ClustersAnswer.as_str());
    answer.is_none_or(|gate| gate.passed)
}

fn refused(topic: &str, stage: Stage, next: Option<Stage>, gates: Vec<Gate>) -> Refusal {
    let closed: Vec<&str> = gates
        .iter()
        .filter(|gate| gate.blocks())
        .map(|gate| gate.code.as_str())
        .collect();
    let next = next.map_or(stage, |next| next);
    let message = format!(
        "topic {topic} stays in {stage}: {} gates of the step to {next} are closed ({}). Wait for them with --wait, or go on without one that allows it with --override GATE=REASON",
        closed.len(),
        closed.join(", ")
    );
    Refusal {
        gates,
        ..Refusal::new("blocked", message)
    }
}
