//! The gate about what the numbered delays mean on each side.

use std::collections::{BTreeMap, BTreeSet};

use crossfade::{Side, backend::DelayLevels};
use serde_json::json;

use super::{Code, Gate, Scene};

/// A message that is delayed, or given back, carries a number; how long it waits then is its broker's configuration.
pub(super) fn levels(scene: &Scene<'_>) -> Gate {
    let told = Side::BOTH.into_iter().flat_map(|side| {
        let brokers = &scene.facts.side(side).delays;
        brokers
            .iter()
            .map(move |(broker, levels)| (side, broker, levels))
    });
    let mut distinct: BTreeMap<&DelayLevels, BTreeSet<String>> = BTreeMap::new();
    for (side, broker, levels) in told {
        let place = format!("{broker} of the {side}");
        distinct.entry(levels).or_default().insert(place);
    }
    let alike = distinct.len() <= 1;
    let named = distinct.iter().map(|(levels, places)| {
        let places = super::clients::shortened(places.iter().cloned());
        format!("`{levels}` on {places}")
    });
    let named: Vec<String> = named.collect();
    let numbers = Side::BOTH.map(|side| json!(scene.facts.side(side).delays));
    let [source, target] = &numbers;
    Gate::new(
        Code::DelayLevels,
        alike,
        if !alike {
            format!(
                "the brokers do not take the numbered delays for the same times: {}. Delayed messages and retries would wait for another time on the target: give all brokers the same \
                 `messageDelayLevel` and start them anew, or say that nobody relies on the times",
                named.join("; ")
            )
        } else if named.is_empty() {
            "no broker has numbered delays: messages may wait for any time".to_owned()
        } else {
            format!("the numbered delays are {}", named.join(""))
        },
        json!({"source": source, "target": target}),
    )
    .closed_by(closing(scene, alike))
}

/// Every broker with its delays: another ladder on any of them closes the gate again.
fn closing(scene: &Scene<'_>, alike: bool) -> impl Iterator<Item = (String, u64)> {
    let sides = Side::BOTH.into_iter().filter(move |_| !alike);
    sides.flat_map(|side| {
        let brokers = &scene.facts.side(side).delays;
        brokers
            .iter()
            .map(move |(broker, levels)| (format!("{side} {broker}: {levels}"), 0))
    })
}
