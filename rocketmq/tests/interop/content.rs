//! What every message of these tests carries, whoever sends it.

use std::collections::BTreeMap;

/// A property whose value has what separates things in JSON, and characters of two to four bytes.
pub(crate) const TEXT: (&str, &str) = ("text", "a \"=\\ b 中文 😀 ü");
/// A property whose name is not ASCII.
pub(crate) const NAME: (&str, &str) = ("ключ", "1");

/// How many messages with an ordering key there are; they take the four keys in turn.
pub(crate) const ORDERED: usize = 24;
pub(crate) const KEYS: usize = 4;
/// The one that their reader fails to handle the first time.
pub(crate) const STUMBLE: usize = 9;

/// A message's own name, as in the property `id`.
pub(crate) fn id(kind: &str, which: impl std::fmt::Display) -> String {
    format!("{kind}-{which}")
}

pub(crate) fn body(id: &str) -> Vec<u8> {
    match id.starts_with("large-") {
        true => format!("{id} {}", "lorem ipsum 中文 ".repeat(1000)),
        false => format!("{id} Grüße 中文 😀"),
    }
    .into_bytes()
}

/// Half of the normal ones have a tag that is not ASCII; the unwanted one has a tag that nobody subscribes to.
pub(crate) fn tag(id: &str) -> &'static str {
    match id {
        "normal-1" | "normal-3" => "绿",
        "unwanted-0" => "blue",
        _ => "red",
    }
}

/// What both readers subscribe to.
pub(crate) const SUBSCRIBED: &str = "red || 绿";

pub(crate) fn keys(id: &str) -> String {
    format!("{id} key-two")
}

/// A sender's own properties. What is wrong with `properties`, if anything: a message's, whatever clients and brokers have added.
pub(crate) fn check(id: &str, properties: &BTreeMap<String, String>) {
    let keys = keys(id);
    for (name, value) in [TEXT, NAME, ("id", id), ("KEYS", &keys), ("TAGS", tag(id))] {
        let found = properties.get(name).map(String::as_str);
        assert_eq!(found, Some(value), "{name} of {id}: {properties:?}");
    }
}

/// The number of an ordered message, and its key.
pub(crate) fn ordering(properties: &BTreeMap<String, String>) -> (usize, String) {
    let number = properties["number"].parse().unwrap();
    let key = properties["ordering"].clone();
    assert_eq!(key, id("key", number % KEYS));
    (number, key)
}

/// Every ordered message came, each key's in order; the one that `fails` the first time came twice in a row. Of each delivery its number and attempt.
pub(crate) fn check_order(what: &str, handled: &[(usize, u32)], fails: Option<usize>) {
    for key in 0..KEYS {
        let of_key = handled.iter().filter(|(number, _)| number % KEYS == key);
        let of_key: Vec<_> = of_key.copied().collect();
        let mut expected = Vec::new();
        for number in (key..ORDERED).step_by(KEYS) {
            expected.push((number, 1));
            if Some(number) == fails {
                expected.push((number, 2));
            }
        }
        assert_eq!(of_key, expected, "{what}, key {key}: (number, attempt)");
    }
}
