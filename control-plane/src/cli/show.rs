//! Tables and lines for people.

use std::fmt::Write as _;

use comfy_table::{Cell, CellAlignment, Table, presets::UTF8_HORIZONTAL_ONLY};
use crossfade::{Side, stage::Stage};

use super::words::both_names;
use crate::coordinator::{
    ClientKind, ClientView, Code, InstanceView, KeysView, Override, Standing, TopicView,
};

/// One topic in one line.
pub(super) fn line(view: &TopicView) -> String {
    let weight = match view.stage {
        Stage::DualWrite => format!("weight {}", view.weight_basis_points),
        _ => format!("weight {} in dual_write", view.weight_basis_points),
    };
    let topic = &view.topic;
    let stage = both_names(view.stage);
    if view.stage != view.goal {
        return format!(
            "{topic}: {stage} → {}, {weight}, revision {}",
            both_names(view.goal),
            view.revision
        );
    }
    format!(
        "{topic}: {stage}, {}, {weight}, revision {}",
        rest(view, ["settled", "settling"]),
        view.revision
    )
}

/// How a topic that goes nowhere rests.
fn rest<'a>(view: &TopicView, [settled, settling]: [&'a str; 2]) -> &'a str {
    match view {
        view if view.leaving => "leaving",
        view if view.settled => settled,
        _ => settling,
    }
}

/// All topics.
pub(super) fn topics(views: &[TopicView]) -> String {
    let mut table = table(&[
        "topic",
        "stage 阶段",
        "goal 目标",
        "settled",
        "weight",
        "owed source",
        "owed target",
        "revision",
        "waits for",
    ]);
    for view in views {
        let blocked = view.gates.iter().filter(|gate| gate.blocks());
        let trouble = view.trouble.as_ref().map(|_| "TROUBLE (see show)");
        let waits: Vec<&str> = trouble
            .into_iter()
            .chain(blocked.map(|gate| gate.code.as_str()))
            .collect();
        table.add_row(vec![
            Cell::new(&view.topic),
            Cell::new(both_names(view.stage)),
            Cell::new(both_names(view.goal)),
            Cell::new(rest(view, ["yes", "no"])),
            right(view.weight_basis_points),
            right(owed(view, Side::Source)),
            right(owed(view, Side::Target)),
            right(view.revision),
            Cell::new(waits.join(", ")),
        ]);
    }
    with_count(table, views.len(), "topics")
}

/// One topic in detail.
pub(super) fn topic(view: &TopicView) -> String {
    let mut text = line(view);
    let groups: Vec<&str> = view.groups.iter().map(|group| &**group).collect();
    let _ = write!(text, "\ngroups: {}", groups.join(", "));
    if let Some(left) = &view.abandoned {
        let _ = write!(
            text,
            "\nabandoned on the {}: {} messages{}",
            left.side,
            left.messages(),
            reasons(&left.by)
        );
    }
    let mut sides = table(&["side", "access", "owed", "sent", "handled"]);
    for side in Side::BOTH {
        let access =
            view.access[side.index()].map_or("unknown".to_owned(), |access| access.to_string());
        sides.add_row(vec![
            Cell::new(side),
            Cell::new(access),
            right(owed(view, side)),
            right(view.sent[side.index()]),
            right(view.handled[side.index()]),
        ]);
    }
    let _ = write!(text, "\n{sides}\n{}", gates(view));
    text
}

/// Where the keys of an ordered topic are.
fn ordered(keys: &KeysView) -> String {
    format!(
        "ordered 保序: the target has {} of the keys, {} wanted: {}",
        keys.share_basis_points, keys.wanted_basis_points, keys.message
    )
}

/// What a topic that is being removed waits for: no step is taken any more.
fn leaving(view: &TopicView) -> String {
    let target = view.access[Side::Target.index()];
    let target = target.map_or("unknown".to_owned(), |access| access.to_string());
    format!(
        "{topic}: is being removed: waits until the brokers have confirmed that its target, {target} now, is open as it was. `crossfade topic cancel {topic}` keeps it",
        topic = view.topic
    )
}

/// What the next step waits for.
pub(super) fn gates(view: &TopicView) -> String {
    if view.leaving {
        return leaving(view);
    }
    let mut text = match view.next {
        Some(next) => format!(
            "{}: {} → {}: {}",
            view.topic,
            both_names(view.stage),
            both_names(next),
            if view.ready { "ready" } else { "not ready" }
        ),
        None => format!("{}: {} is the end", view.topic, both_names(view.stage)),
    };
    if let Some(trouble) = &view.trouble {
        let _ = write!(text, "\n  trouble: {trouble}");
    }
    if let Some(keys) = &view.keys {
        let _ = write!(text, "\n  {}", ordered(keys));
    }
    for gate in view.gates.iter().chain(&view.seal) {
        let mark = match gate {
            gate if gate.passed => "ok  ",
            gate if gate.note => "NOTE",
            gate if gate.overridden.is_some() => "OVER",
            _ => "WAIT",
        };
        let chinese = Code::from_name(&gate.code).map_or("", |code| code.entry().chinese);
        let _ = write!(text, "\n  {mark} {} {chinese}: {}", gate.code, gate.message);
        let _ = write!(text, "{}", reasons(gate.overridden.as_slice()));
    }
    text
}

/// By whose word.
fn reasons(overrides: &[Override]) -> String {
    let reasons = overrides.iter();
    let reasons = reasons.map(|one| format!(" (overridden by {}: {})", one.by, one.reason));
    reasons.collect()
}

/// Who is connected.
pub(super) fn clients(views: &[ClientView]) -> String {
    let mut table = table(&[
        "instance",
        "side",
        "listed as",
        "group",
        "client id",
        "address",
        "client",
        "last seen",
    ]);
    for view in views {
        let client = &view.client;
        table.add_row(vec![
            Cell::new(view.instance.as_deref().unwrap_or("UNMANAGED 未接入")),
            Cell::new(view.side),
            Cell::new(match view.kind {
                ClientKind::Consumer => "consumer",
                ClientKind::Producer => "producer",
            }),
            Cell::new(&client.group),
            Cell::new(&client.client_id),
            Cell::new(&client.address),
            Cell::new(format!("{} {}", client.language, client.version).trim()),
            right(client.last_seen_ms.map_or("?".to_owned(), |age| {
                format!("{:.1} s", age as f64 / 1_000.0)
            })),
        ]);
    }
    with_count(table, views.len(), "clients")
}

/// All instances.
pub(super) fn instances(views: &[InstanceView]) -> String {
    let mut table = table(&[
        "instance",
        "incarnation",
        "standing",
        "lease mode",
        "silent",
        "produces",
        "consumes",
    ]);
    for view in views {
        let standing = match view.standing {
            _ if view.superseded => "superseded",
            Standing::Live => "live",
            Standing::Lost => "LOST",
            Standing::Harmless => "gone",
        };
        let produces: Vec<&str> = view.produces.iter().map(|topic| &**topic).collect();
        let consumes: Vec<String> = view
            .consumes
            .iter()
            .flat_map(|(topic, groups)| {
                groups
                    .iter()
                    .map(move |group| format!("{topic} in {group}"))
            })
            .collect();
        table.add_row(vec![
            Cell::new(&view.instance),
            Cell::new(view.incarnation.chars().take(8).collect::<String>()),
            Cell::new(standing),
            Cell::new(format!("{:?}", view.lease_mode).to_lowercase()),
            right(format!("{:.1} s", view.silent_ms as f64 / 1_000.0)),
            Cell::new(produces.join(", ")),
            Cell::new(consumes.join(", ")),
        ]);
    }
    with_count(table, views.len(), "instances")
}

fn owed(view: &TopicView, side: Side) -> String {
    view.owed[side.index()].map_or("?".to_owned(), |owed| owed.to_string())
}

fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table
        .load_style(UTF8_HORIZONTAL_ONLY)
        .set_header(header.to_vec());
    table
}

fn right(text: impl ToString) -> Cell {
    Cell::new(text).set_alignment(CellAlignment::Right)
}

fn with_count(table: Table, count: usize, what: &str) -> String {
    if count == 0 {
        return format!("no {what}");
    }
    table.to_string()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn ordered_topic_says_where_its_keys_are() {
        let view: TopicView = serde_json::from_value(json!({
            "topic": "orders", "stage": "dual_write", "goal": "dual_write", "settled": false, "next": "draining", "ready": false,
            "weight_basis_points": 6_000, "revision": 7, "groups": ["billing"], "access": ["open", "open"], "owed": [0, 0],
            "sent": [0, 0], "handled": [0, 0], "gates": [], "trouble": null, "routing": "ordered",
            "keys": {"share_basis_points": 3_000, "wanted_basis_points": 6_000, "message": "freezing keys"},
        }))
        .unwrap();
        for text in [topic(&view), gates(&view)] {
            let line =
                "ordered 保序: the target has 30.00 % of the keys, 60.00 % wanted: freezing keys";
            assert_eq!(text.matches(line).count(), 1, "{text}");
        }
    }

    #[test]
    fn topic_that_is_being_removed_says_so_and_what_it_waits_for() {
        let view = |is_leaving: bool| -> TopicView {
            serde_json::from_value(json!({
                "topic": "orders", "stage": "source_only", "goal": "source_only", "settled": !is_leaving, "next": "dual_read", "ready": false,
                "weight_basis_points": 5_000, "revision": 7, "groups": ["billing"], "access": ["open", "sealed"], "owed": [0, 0],
                "sent": [0, 0], "handled": [0, 0], "gates": [], "trouble": null, "leaving": is_leaving,
            }))
            .unwrap()
        };
        let text = topic(&view(true));
        assert!(
            text.contains("leaving") && text.contains("target, sealed now"),
            "{text}"
        );
        assert!(
            text.contains("crossfade topic cancel orders") && !text.contains("dual_read"),
            "{text}"
        );
        assert!(topics(&[view(true)]).contains("leaving"));
        let text = topic(&view(false));
        assert!(
            !text.contains("leaving") && text.contains("dual_read"),
            "{text}"
        );
    }
}
