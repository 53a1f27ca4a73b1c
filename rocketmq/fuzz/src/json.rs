//! Bodies in the JSON of fastjson, as brokers write them: a map key may be a string, a bare number or a whole object.

use rand::{RngExt as _, rngs::StdRng};
use serde_json::{Map, Value};

use crate::draw;

/// A text, and what it says: keys that are no strings become their text.
pub(crate) fn any(draws: &mut StdRng) -> (String, Value) {
    let mut text = String::new();
    let value = value(draws, &mut text, 4);
    (text, value)
}

fn value(draws: &mut StdRng, out: &mut String, depth: u32) -> Value {
    let kinds = if depth == 0 { 4 } else { 6 };
    let value = match draws.random_range(0..kinds) {
        0 => Value::Null,
        1 => Value::from(draws.random::<bool>()),
        2 => Value::from(draws.random::<i64>() >> draws.random_range(0..63)),
        3 => Value::from(draw::text(draws)),
        4 => return object(draws, out, depth),
        _ => {
            let mut items = Vec::new();
            out.push('[');
            for index in 0..draws.random_range(0..4) {
                separate(out, index);
                items.push(self::value(draws, out, depth - 1));
            }
            out.push(']');
            return Value::Array(items);
        }
    };
    out.push_str(&value.to_string());
    value
}

fn object(draws: &mut StdRng, out: &mut String, depth: u32) -> Value {
    let mut map = Map::new();
    out.push('{');
    for index in 0..draws.random_range(0..4) {
        separate(out, index);
        let key = key(draws, out);
        out.push(':');
        let member = value(draws, out, depth - 1);
        map.insert(key, member);
    }
    out.push('}');
    Value::Object(map)
}

fn key(draws: &mut StdRng, out: &mut String) -> String {
    match draws.random_range(0..4) {
        0 => {
            let number = draws.random::<i32>() >> draws.random_range(0..31);
            out.push_str(&number.to_string());
            number.to_string()
        }
        1 => {
            let text = format!(
                r#"{{"brokerName":"b","queueId":{},"topic":"t"}}"#,
                draws.random_range(0..8)
            );
            out.push_str(&text);
            text
        }
        _ => {
            let text = draw::text(draws);
            out.push_str(&Value::from(text.as_str()).to_string());
            text
        }
    }
}

fn separate(out: &mut String, index: i32) {
    if index > 0 {
        out.push(',');
    }
}
