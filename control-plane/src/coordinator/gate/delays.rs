//! The gate about what the numbered delays mean on each side.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use crossfade::{Side, backend::DelayLevels, stage::Stage};
use serde_json::json;

use super::{Code, Gate, Scene};
use crate::coordinator::{facts::SideFacts, row::TopicRecord};

type Levels<'a> = BTreeMap<&'a str, &'a DelayLevels>;

/// Whether a gate of the topic's next step asks what the numbered delays mean.
pub(in super::super) fn asked_for(row: &TopicRecord) -> bool {
    row.plan.stage == Stage::SourceOnly && !row.is_ordered()
}

/// A message that is delayed, or given back, carries a number; how long it waits then is its broker's configuration.
pub(super) fn levels(scene: &Scene<'_>) -> Gate {
    if scene.row.is_ordered() {
        return Gate::new(
            Code::DelayLevels,
            true,
            "nothing in an ordered topic waits by a number: it refuses delayed messages, and failed ones are tried again in place",
            json!({"source": {}, "target": {}}),
        );
    }
    let [source, target] = Side::BOTH.map(|side| of_topic(scene.facts.side(side)));
    let numbers = json!({"source": source, "target": target});
    let each = [(Side::Source, source), (Side::Target, target)];
    let mut distinct: BTreeMap<&DelayLevels, BTreeSet<String>> = BTreeMap::new();
    for (side, brokers) in &each {
        for (broker, levels) in brokers {
            let place = format!("{broker} of the {side}");
            distinct.entry(*levels).or_default().insert(place);
        }
    }
    let unknown = Side::BOTH.into_iter().filter_map(|side| {
        let why = scene.facts.side(side).delays_unknown.as_ref()?;
        Some((side, why))
    });
    let unknown: Vec<(Side, &Arc<String>)> = unknown.collect();
    let alike = distinct.len() <= 1;
    let mut closed = Vec::new();
    if !alike {
        closed.push(differing(&distinct));
    }
    if !unknown.is_empty() {
        closed.push(not_known(&unknown));
    }
    let passed = closed.is_empty();
    let message = match distinct.keys().next() {
        _ if !passed => closed.join(". "),
        Some(levels) => format!("the numbered delays, as configured, are `{levels}`"),
        None => "no broker has numbered delays: messages may wait for any time".to_owned(),
    };
    let sides = unknown.iter();
    let sides = sides.map(|(side, _)| (format!("{side}: not known"), 0));
    // Every broker with its delays: another ladder on any of them closes the gate again.
    let told = each.iter().filter(|_| !alike).flat_map(|(side, brokers)| {
        let brokers = brokers.iter();
        brokers.map(move |(broker, levels)| (format!("{side} {broker}: {levels}"), 0))
    });
    Gate::new(Code::DelayLevels, passed, message, numbers).closed_by(sides.chain(told))
}

fn not_known(unknown: &[(Side, &Arc<String>)]) -> String {
    let unknown = unknown.iter().map(|(side, why)| format!("{side}: {why}"));
    format!(
        "what the brokers are configured to take the numbered delays for is not known: {}. Delayed messages and retries may wait for another time on the target: put right what keeps \
         them from being read, or say that nobody relies on the times",
        unknown.collect::<Vec<_>>().join("; ")
    )
}

fn differing(distinct: &BTreeMap<&DelayLevels, BTreeSet<String>>) -> String {
    let named = distinct.iter().map(|(levels, places)| {
        let places = super::clients::shortened(places.iter().cloned());
        format!("`{levels}` on {places}")
    });
    format!(
        "the brokers are not configured to take the numbered delays for the same times: {}. Delayed messages and retries would wait for another time on the target: give all brokers \
         the same `messageDelayLevel` and start them anew, or say that nobody relies on the times",
        named.collect::<Vec<_>>().join("; ")
    )
}

/// Those of the brokers that have the topic; of all where it is not told which those are, or what one of them takes the delays for.
fn of_topic(facts: &SideFacts) -> Levels<'_> {
    // A sealed topic has no queues, but it has ends.
    let queues = facts.queues.iter().chain(facts.ends.keys());
    let having: BTreeSet<&str> = queues.map(|queue| &*queue.broker).collect();
    let all = facts.delays.iter();
    let all = all.map(|(broker, levels)| (broker.as_str(), levels));
    let own: Levels<'_> = all.clone().filter(|one| having.contains(one.0)).collect();
    match !own.is_empty() && own.len() == having.len() {
        true => own,
        false => all.collect(),
    }
}
