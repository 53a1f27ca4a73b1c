//! The JSON that fastjson writes for the brokers: a map key may be a string, a bare number, or a whole object.
//!
//! Such keys become strings: a number its digits, an object its compact JSON text (parse that again to read it).

use serde::de::DeserializeOwned;
use serde_json::{Map, Number, Value};

use crate::error::{Error, ErrorKind, Result};

/// Deeper nesting is refused. The deepest body known has six levels.
const MAX_DEPTH: usize = 64;

/// A text of six bytes (`{0:0},`) takes a hundred times as much memory once it is read. The largest body known is far below this.
const MAX_COST: usize = 4 << 20;
/// What a list or a map costs besides its members; a value costs 1.
const CONTAINER_COST: usize = 16;

/// Reads a body. Its size is bounded by the frame it came in; what it takes in memory by a limit on how many values there are.
///
/// # Errors
/// [`ErrorKind::Protocol`] naming the byte where it stops to make sense.
pub fn parse(text: &[u8]) -> Result<Value> {
    let mut parser = Parser {
        text,
        at: 0,
        cost: 0,
    };
    let value = parser.value(0)?;
    parser.blanks();
    if parser.at != text.len() {
        return Err(parser.error("more after the end"));
    }
    Ok(value)
}

/// Reads a body into a type.
///
/// # Errors
/// As [`parse`], and when the value does not fit the type.
pub fn from_slice<T: DeserializeOwned>(text: &[u8]) -> Result<T> {
    serde_json::from_value(parse(text)?).map_err(|source| {
        Error::new(
            ErrorKind::Protocol,
            format!("a response's body has another shape than expected: {source}"),
        )
        .with_source(source)
    })
}

struct Parser<'a> {
    text: &'a [u8],
    at: usize,
    /// Of all values so far.
    cost: usize,
}

impl Parser<'_> {
    fn error(&self, what: &str) -> Error {
        Error::new(
            ErrorKind::Protocol,
            format!(
                "a response's body is not readable: {what} at byte {}",
                self.at
            ),
        )
    }

    fn blanks(&mut self) {
        while self.peek().is_some_and(|byte| byte.is_ascii_whitespace()) {
            self.at += 1;
        }
    }

    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    /// Skips blanks and takes `byte` if it comes next.
    fn take(&mut self, byte: u8) -> bool {
        self.blanks();
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    fn value(&mut self, depth: usize) -> Result<Value> {
        if depth > MAX_DEPTH {
            return Err(self.error("nested too deep"));
        }
        self.blanks();
        let first = self.peek();
        self.cost += match first {
            Some(b'{' | b'[') => CONTAINER_COST,
            _ => 1,
        };
        if self.cost > MAX_COST {
            return Err(self.error("too many values"));
        }
        match first {
            Some(b'{') => self.object(depth).map(Value::Object),
            Some(b'[') => self.array(depth),
            Some(b'"' | b'\'') => self.string().map(Value::String),
            Some(b'-' | b'0'..=b'9') => self.number().map(Value::Number),
            Some(b't') => self.word("true", Value::Bool(true)),
            Some(b'f') => self.word("false", Value::Bool(false)),
            Some(b'n') => self.word("null", Value::Null),
            Some(_) => Err(self.error("no value")),
            None => Err(self.error("the end")),
        }
    }

    fn object(&mut self, depth: usize) -> Result<Map<String, Value>> {
        self.at += 1;
        let mut map = Map::new();
        if self.take(b'}') {
            return Ok(map);
        }
        loop {
            self.blanks();
            let key = match self.peek() {
                Some(b'"' | b'\'') => self.string()?,
                Some(b'-' | b'0'..=b'9') => self.number()?.to_string(),
                Some(b'{') => {
                    let key = self.value(depth + 1)?;
                    key.to_string()
                }
                _ => return Err(self.error("no key")),
            };
            if !self.take(b':') {
                return Err(self.error("no colon"));
            }
            let value = self.value(depth + 1)?;
            map.insert(key, value);
            if self.take(b'}') {
                return Ok(map);
            }
            if !self.take(b',') {
                return Err(self.error("no comma"));
            }
        }
    }

    fn array(&mut self, depth: usize) -> Result<Value> {
        self.at += 1;
        let mut items = Vec::new();
        if self.take(b']') {
            return Ok(Value::Array(items));
        }
        loop {
            items.push(self.value(depth + 1)?);
            if self.take(b']') {
                return Ok(Value::Array(items));
            }
            if !self.take(b',') {
                return Err(self.error("no comma"));
            }
        }
    }

    fn word(&mut self, word: &str, value: Value) -> Result<Value> {
        if self.text[self.at..].starts_with(word.as_bytes()) {
            self.at += word.len();
            return Ok(value);
        }
        Err(self.error("no value"))
    }

    fn number(&mut self) -> Result<Number> {
        let start = self.at;
        while let Some(b'-' | b'+' | b'.' | b'e' | b'E' | b'0'..=b'9') = self.peek() {
            self.at += 1;
        }
        serde_json::from_slice(&self.text[start..self.at]).map_err(|_| self.error("no number"))
    }

    fn string(&mut self) -> Result<String> {
        let quote = self.text[self.at];
        self.at += 1;
        let mut out = Vec::new();
        loop {
            let rest = &self.text[self.at..];
            let Some(length) = rest.iter().position(|&byte| byte == quote || byte == b'\\') else {
                return Err(self.error("a string without an end"));
            };
            out.extend_from_slice(&rest[..length]);
            self.at += length + 1;
            if rest[length] == quote {
                return String::from_utf8(out).map_err(|_| self.error("no UTF-8"));
            }
            self.escape(&mut out)?;
        }
    }

    fn escape(&mut self, out: &mut Vec<u8>) -> Result<()> {
        let byte = self.peek().ok_or_else(|| self.error("the end"))?;
        self.at += 1;
        let plain = match byte {
            b'n' => b'\n',
            b't' => b'\t',
            b'r' => b'\r',
            b'b' => 8,
            b'f' => 12,
            b'v' => 11,
            b'"' | b'\'' | b'\\' | b'/' => byte,
            b'u' => {
                let mut unit = u32::from(self.hex()?);
                if (0xd800..0xdc00).contains(&unit) && self.text[self.at..].starts_with(b"\\u") {
                    self.at += 2;
                    let low = u32::from(self.hex()?);
                    if !(0xdc00..0xe000).contains(&low) {
                        return Err(self.error("half a character"));
                    }
                    unit = 0x1_0000 + ((unit - 0xd800) << 10) + (low - 0xdc00);
                }
                let character =
                    char::from_u32(unit).ok_or_else(|| self.error("half a character"))?;
                out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
                return Ok(());
            }
            _ => return Err(self.error("an unknown escape")),
        };
        out.push(plain);
        Ok(())
    }

    fn hex(&mut self) -> Result<u16> {
        let digits = self
            .text
            .get(self.at..self.at + 4)
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u16::from_str_radix(digits, 16).ok())
            .ok_or_else(|| self.error("no four hex digits"))?;
        self.at += 4;
        Ok(digits)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn keys_may_be_numbers_and_objects() {
        let text = br#"{"offsetTable":{{"brokerName":"b","queueId":0,"topic":"t"}:{"maxOffset":7}},"t@g":{0:1,12:-3}}"#;
        let value = parse(text).unwrap();
        assert_eq!(value["t@g"], json!({"0": 1, "12": -3}));
        let (key, entry) = value["offsetTable"]
            .as_object()
            .unwrap()
            .iter()
            .next()
            .unwrap();
        assert_eq!(entry["maxOffset"], 7);
        let key: Value = serde_json::from_str(key).unwrap();
        assert_eq!(key, json!({"brokerName": "b", "queueId": 0, "topic": "t"}));
    }

    #[test]
    fn plain_json_is_read_as_serde_json_reads_it() {
        for text in [
            r#"{"a":[1,2.5,-3e2,true,false,null,"x\"\\\n\u4e2d\ud83d\ude00"],"b":{}}"#,
            "[]",
            " { \"a\" : [ ] } ",
            "18446744073709551615",
        ] {
            let expected: Value = serde_json::from_str(text).unwrap();
            assert_eq!(parse(text.as_bytes()).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn text_that_would_fill_the_memory_is_refused() {
        for container in ["{0:0},", "[],"] {
            let text = format!("[{}0]", container.repeat(MAX_COST / CONTAINER_COST));
            let error = parse(text.as_bytes()).unwrap_err();
            assert!(error.message().contains("too many values"), "{error}");
        }
    }

    #[test]
    fn text_of_a_large_cluster_is_read() {
        // 20 000 topics and groups with 16 queues each.
        let offsets = (0..16).map(|queue| format!("{queue}:123456789"));
        let offsets = offsets.collect::<Vec<_>>().join(",");
        let groups = (0..20_000).map(|n| format!("\"topic-{n}@group-{n}\":{{{offsets}}}"));
        let text = format!("{{{}}}", groups.collect::<Vec<_>>().join(","));
        let value = parse(text.as_bytes()).unwrap();
        assert_eq!(value.as_object().unwrap().len(), 20_000);
    }

    #[test]
    fn broken_text_is_a_protocol_error() {
        let deep = "[".repeat(100_000);
        let keys = "{".repeat(100_000);
        for text in [
            "",
            "{",
            "{\"a\"",
            "{\"a\":",
            "{\"a\":1",
            "{\"a\":1,}",
            "[1,]",
            "[1",
            "\"x",
            "\"\\u12\"",
            "\"\\ud800\"",
            "tru",
            "-",
            "1 2",
            "{a:1}",
            "{{}}",
            "\u{0}",
            &deep,
            &keys,
        ] {
            assert_eq!(
                parse(text.as_bytes()).expect_err(text).kind(),
                ErrorKind::Protocol
            );
        }
    }
}
