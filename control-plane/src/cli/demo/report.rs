//! What the demo says at its end: one JSON object, or a table for people.

use std::{fmt::Write as _, time::Duration};

use comfy_table::{Cell, CellAlignment, Table, presets::UTF8_HORIZONTAL_ONLY};
use crossfade::stage::{Stage, Weight};
use serde::Serialize;

use super::{
    kind::Kind,
    ledger::{Figures, Totals},
};

/// The whole journey in figures.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Report {
    pub(super) source: String,
    pub(super) target: String,
    pub(super) kind: Kind,
    pub(super) seed: u64,
    pub(super) seconds: f64,
    pub(super) messages_sent: u64,
    pub(super) messages_handled: u64,
    pub(super) lost: u64,
    pub(super) duplicated: u64,
    /// Messages of an ordered topic that were handled before one of their key that was sent before them; see `ordering_keys`.
    pub(super) inverted: u64,
    pub(super) ordering_keys: u64,
    pub(super) never_sent: u64,
    pub(super) send_errors: u64,
    /// Transactions that were rolled back: their messages were never handled.
    pub(super) rolled_back: u64,
    /// Half messages that had no end on either side when all was over.
    pub(super) half_messages_left: u64,
    /// Messages whose handler was entered more than once: failed on purpose, or cut off by the kill.
    pub(super) entered_again: u64,
    pub(super) examples: Vec<u64>,
    /// What the first few sends failed with.
    pub(super) errors: Vec<String>,
    pub(super) instances_killed: u32,
    pub(super) instances_replaced: u32,
    pub(super) rollbacks: u32,
    pub(super) control_plane_restarts: u32,
    pub(super) stages: Vec<LegReport>,
}

/// One stretch of the journey under one stage.
#[derive(Clone, Debug, Serialize)]
pub(super) struct LegReport {
    pub(super) stage: Stage,
    pub(super) seconds: f64,
    /// From the operator's word to the settled stage.
    pub(super) change_seconds: f64,
    pub(super) weight_basis_points: Option<u16>,
    pub(super) sent_source: u64,
    pub(super) sent_target: u64,
    pub(super) handled_source: u64,
    pub(super) handled_target: u64,
    pub(super) send_p99_us: u128,
    pub(super) end_to_end_p50_us: u128,
    pub(super) end_to_end_p99_us: u128,
    pub(super) events: Vec<String>,
}

impl LegReport {
    pub(super) fn new(stage: Stage, weight: Option<Weight>) -> Self {
        LegReport {
            stage,
            seconds: 0.0,
            change_seconds: 0.0,
            weight_basis_points: weight.map(Weight::basis_points),
            sent_source: 0,
            sent_target: 0,
            handled_source: 0,
            handled_target: 0,
            send_p99_us: 0,
            end_to_end_p50_us: 0,
            end_to_end_p99_us: 0,
            events: Vec::new(),
        }
    }

    pub(super) fn count(&mut self, figures: Figures) {
        [self.sent_source, self.sent_target] = figures.sent;
        [self.handled_source, self.handled_target] = figures.handled;
        self.send_p99_us = figures.send_p99.as_micros();
        self.end_to_end_p50_us = figures.end_to_end_p50.as_micros();
        self.end_to_end_p99_us = figures.end_to_end_p99.as_micros();
    }

    /// What this leg should have carried and did not.
    fn gap(&self, kind: Kind) -> Option<String> {
        let (source, target) = (self.sent_source, self.sent_target);
        let (writes_source, writes_target) = match self.stage {
            Stage::SourceOnly | Stage::DualRead => (true, false),
            Stage::DualWrite => (true, true),
            Stage::Draining | Stage::TargetOnly => (false, true),
        };
        if (source > 0, target > 0) != (writes_source, writes_target) {
            return Some(format!(
                "{}: {source} writes to the source, {target} to the target",
                self.stage
            ));
        }
        if kind.keys() > 0 {
            // A share of the keys, not of the messages.
            return None;
        }
        let weight = f64::from(self.weight_basis_points?) / 10_000.0;
        let sent = (source + target) as f64;
        let draws = sent / kind.drawn_together() as f64;
        // Five standard deviations of as many independent draws: one false alarm in two million.
        let allowed = 5.0 * (weight * (1.0 - weight) / draws).sqrt();
        let share = target as f64 / sent;
        ((share - weight).abs() > allowed).then(|| {
            format!(
                "{}: share of the target {share:.3}, weight {weight:.3}",
                self.stage
            )
        })
    }
}

impl Report {
    pub(super) fn new([source, target]: [String; 2], kind: Kind, seed: u64) -> Self {
        Report {
            source,
            target,
            kind,
            seed,
            seconds: 0.0,
            messages_sent: 0,
            messages_handled: 0,
            lost: 0,
            duplicated: 0,
            inverted: 0,
            ordering_keys: kind.keys(),
            never_sent: 0,
            send_errors: 0,
            rolled_back: 0,
            half_messages_left: 0,
            entered_again: 0,
            examples: Vec::new(),
            errors: Vec::new(),
            instances_killed: 0,
            instances_replaced: 0,
            rollbacks: 0,
            control_plane_restarts: 0,
            stages: Vec::new(),
        }
    }

    /// On standard output.
    #[allow(clippy::print_stdout, reason = "what the program is for")]
    pub(super) fn print(&self, json: bool) -> Result<(), String> {
        if json {
            let text = serde_json::to_string_pretty(self).map_err(|error| error.to_string())?;
            println!("{text}");
        } else {
            println!("{}", self.table());
        }
        Ok(())
    }

    pub(super) fn count(&mut self, totals: Totals) {
        self.messages_sent = totals.acked;
        self.messages_handled = totals.handled;
        self.lost = totals.lost;
        self.inverted = totals.inverted;
        self.rolled_back = totals.rolled_back;
        self.duplicated = totals.duplicated;
        self.never_sent = totals.never_sent;
        self.send_errors = totals.send_errors;
        self.entered_again = totals.entered_again;
        self.examples = totals.examples;
        self.errors = totals.errors;
    }

    /// Why this run is no success; empty when it is one.
    pub(super) fn faults(&self) -> Vec<String> {
        let counts = [
            (self.lost, "lost"),
            (self.duplicated, "duplicated"),
            (self.inverted, "inverted"),
            (self.never_sent, "never sent"),
            (self.send_errors, "send errors"),
            (self.half_messages_left, "half messages left"),
        ];
        let counted = counts.iter().filter(|(count, _)| *count > 0);
        counted
            .map(
                |(count, what)| match (self.examples.as_slice(), self.errors.first()) {
                    ([], None) => format!("{count} {what}"),
                    ([], Some(error)) => format!("{count} {what} (for example: {error})"),
                    (examples, _) => format!("{count} {what} (for example {examples:?})"),
                },
            )
            .chain(self.stages.iter().filter_map(|leg| leg.gap(self.kind)))
            .collect()
    }

    /// For people.
    fn table(&self) -> String {
        let mut table = Table::new();
        table.load_style(UTF8_HORIZONTAL_ONLY).set_header([
            "stage 阶段",
            "s",
            "change",
            "sent",
            "handled",
            "send p99",
            "end to end",
        ]);
        for leg in &self.stages {
            let mut stage = format!("{} {}", leg.stage, leg.stage.chinese());
            if let Some(weight) = leg.weight_basis_points {
                let _ = write!(stage, " {}%", weight / 100);
            }
            let number = |text: String| Cell::new(text).set_alignment(CellAlignment::Right);
            table.add_row(vec![
                Cell::new(stage),
                number(format!("{:.1}", leg.seconds)),
                number(format!("{:.2}", leg.change_seconds)),
                number(format!("{} / {}", leg.sent_source, leg.sent_target)),
                number(format!("{} / {}", leg.handled_source, leg.handled_target)),
                number(latency(leg.send_p99_us)),
                number(format!(
                    "{} / {}",
                    latency(leg.end_to_end_p50_us),
                    latency(leg.end_to_end_p99_us)
                )),
            ]);
        }
        let events = self.stages.iter().filter(|leg| !leg.events.is_empty());
        let events: String = events
            .map(|leg| format!("{}: {}\n", leg.stage, leg.events.join(", ")))
            .collect();
        format!(
            "{table}\nsent and handled: source / target; change: seconds from the word to the settled stage; end to end: p50 / p99\n{events}{} sent, {} handled in {:.1} s; lost {}, duplicated {}, inverted {}, send errors {}\n\
             {} instance killed and replaced, {} rollback, {} restart of the control plane; {} handlers entered again after a failure or the kill",
            self.messages_sent,
            self.messages_handled,
            self.seconds,
            self.lost,
            self.duplicated,
            self.inverted,
            self.send_errors,
            self.instances_killed,
            self.rollbacks,
            self.control_plane_restarts,
            self.entered_again,
        )
    }
}

fn latency(micros: u128) -> String {
    let latency = Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX));
    if micros < 10_000 {
        format!("{micros} µs")
    } else {
        format!("{} ms", latency.as_millis())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leg(stage: Stage, weight: Option<u32>, source: u64, target: u64) -> LegReport {
        let weight = weight.map(|bp| Weight::from_basis_points(bp).unwrap());
        let figures = Figures {
            sent: [source, target],
            ..Figures::default()
        };
        let mut leg = LegReport::new(stage, weight);
        leg.count(figures);
        leg
    }

    #[test]
    fn table_fits_a_hundred_columns() {
        let mut report = Report::new(["memory://a".into(), "memory://b".into()], Kind::Normal, 1);
        let mut wide = leg(Stage::DualWrite, Some(3_000), 1_400_000, 600_000);
        wide.send_p99_us = 123_000;
        wide.end_to_end_p99_us = 1_234_000;
        report.stages.push(wide);
        let text = report.table();
        let rule = text.lines().next().unwrap_or_default().chars().count();
        assert!((50..=100).contains(&rule), "{text}");
    }

    #[test]
    fn leg_without_its_traffic_is_a_fault() {
        assert!(
            leg(Stage::SourceOnly, None, 10, 0)
                .gap(Kind::Normal)
                .is_none()
        );
        assert!(
            leg(Stage::SourceOnly, None, 0, 0)
                .gap(Kind::Normal)
                .is_some()
        );
        assert!(leg(Stage::Draining, None, 1, 9).gap(Kind::Normal).is_some());
        assert!(
            leg(Stage::DualWrite, Some(3_000), 700, 300)
                .gap(Kind::Normal)
                .is_none()
        );
        assert!(
            leg(Stage::DualWrite, Some(3_000), 1_000, 0)
                .gap(Kind::Normal)
                .is_some()
        );
        assert!(
            leg(Stage::DualWrite, Some(3_000), 500, 500)
                .gap(Kind::Normal)
                .is_some()
        );
    }
}
