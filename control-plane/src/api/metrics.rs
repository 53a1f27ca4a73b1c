//! `GET /metrics`, in Prometheus' text format.

use std::fmt::Write as _;

use axum::{
    extract::State,
    http::header,
    response::{IntoResponse, Response},
};
use crossfade::Side;

use super::{App, allowed::Reader, problem::Problem};
use crate::coordinator::{InstanceView, Standing, TopicView};

pub(super) async fn metrics(_: Reader, State(app): State<App>) -> Result<Response, Problem> {
    let read = app.handle.read(|coordinator, now| {
        (
            coordinator.epoch(),
            coordinator.revision().0,
            coordinator.topics(now),
            coordinator.instances(now),
        )
    });
    let (epoch, revision, topics, instances) = read.await?;
    let mut text = Text::default();
    text.one(
        "crossfade_control_plane_epoch",
        "Which start of the control plane decides.",
        epoch,
    );
    text.one(
        "crossfade_control_plane_revision",
        "The newest revision.",
        revision,
    );
    of_topics(&mut text, &topics);
    of_instances(&mut text, &instances);
    let kind = [(
        header::CONTENT_TYPE,
        "text/plain; version=0.0.4; charset=utf-8",
    )];
    Ok((kind, text.0).into_response())
}

fn of_topics(text: &mut Text, topics: &[TopicView]) {
    text.head(
        "crossfade_topic_stage",
        "gauge",
        "The stage: 0 source_only to 4 target_only.",
    );
    for topic in topics {
        text.line(
            "crossfade_topic_stage",
            &[("topic", &topic.topic)],
            topic.stage as u64,
        );
    }
    text.head(
        "crossfade_topic_goal",
        "gauge",
        "The stage that an operator wants.",
    );
    for topic in topics {
        text.line(
            "crossfade_topic_goal",
            &[("topic", &topic.topic)],
            topic.goal as u64,
        );
    }
    text.head(
        "crossfade_topic_settled",
        "gauge",
        "1 when the stage is the goal, applied by all, and proved.",
    );
    for topic in topics {
        text.line(
            "crossfade_topic_settled",
            &[("topic", &topic.topic)],
            u64::from(topic.settled),
        );
    }
    text.head(
        "crossfade_topic_weight_ratio",
        "gauge",
        "The target's share of writes in dual_write, 0 to 1.",
    );
    for topic in topics {
        let weight = f64::from(topic.weight_basis_points.basis_points()) / 10_000.0;
        text.line(
            "crossfade_topic_weight_ratio",
            &[("topic", &topic.topic)],
            weight,
        );
    }
    text.head(
        "crossfade_topic_owed_messages",
        "gauge",
        "Messages that a side owed to all groups at the last look.",
    );
    for topic in topics {
        for side in Side::BOTH {
            if let Some(owed) = topic.owed[side.index()] {
                let labels = [("topic", &*topic.topic), ("side", side.as_str())];
                text.line("crossfade_topic_owed_messages", &labels, owed);
            }
        }
    }
    text.head(
        "crossfade_topic_trouble",
        "gauge",
        "1 while something keeps a topic's brokers from being looked at or changed, or its seal is broken.",
    );
    for topic in topics {
        text.line(
            "crossfade_topic_trouble",
            &[("topic", &topic.topic)],
            u64::from(topic.trouble.is_some()),
        );
    }
    text.head(
        "crossfade_topic_blocked_gates",
        "gauge",
        "Gates of the next step that are not passed.",
    );
    for topic in topics {
        let blocked = topic.gates.iter().filter(|gate| gate.blocks()).count();
        text.line(
            "crossfade_topic_blocked_gates",
            &[("topic", &topic.topic)],
            blocked,
        );
    }
}

fn of_instances(text: &mut Text, instances: &[InstanceView]) {
    text.head("crossfade_instances", "gauge", "Instances by standing.");
    for (name, standing) in [
        ("live", Standing::Live),
        ("lost", Standing::Lost),
        ("harmless", Standing::Harmless),
    ] {
        let count = instances
            .iter()
            .filter(|instance| instance.standing == standing)
            .count();
        text.line("crossfade_instances", &[("standing", name)], count);
    }
}

#[derive(Debug, Default)]
struct Text(String);

impl Text {
    fn one(&mut self, name: &str, help: &str, value: u64) {
        self.head(name, "gauge", help);
        self.line(name, &[], value);
    }

    // Writing to a string cannot fail.

    fn head(&mut self, name: &str, kind: &str, help: &str) {
        let _ = write!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
    }

    fn line(&mut self, name: &str, labels: &[(&str, &str)], value: impl std::fmt::Display) {
        self.0.push_str(name);
        for (number, (label, text)) in labels.iter().enumerate() {
            let open = if number == 0 { '{' } else { ',' };
            let text = text
                .replace('\\', "\\\\")
                .replace('"', "\\\"")
                .replace('\n', "\\n");
            let _ = write!(self.0, "{open}{label}=\"{text}\"");
        }
        if !labels.is_empty() {
            self.0.push('}');
        }
        let _ = writeln!(self.0, " {value}");
    }
}
