//! The named values of a header that was received.

use std::fmt;

use bytes::Bytes;
use smallvec::SmallVec;

use crate::error::{Error, ErrorKind, Result};

/// As many as brokers answer to a send or a pull; more of them cost an allocation.
const FEW: usize = 8;

/// Named values of a header, in the order in which they came. `Debug` shows the names.
///
/// They stay where they were read: a held one keeps the bytes that the socket was read into.
#[derive(Clone, Default)]
pub struct Fields {
    header: Bytes,
    /// What the header does not hold as it is: numbers, and strings with escapes.
    apart: String,
    /// Names and values.
    places: SmallVec<[(Place, Place); FEW]>,
}

/// Where a text begins and ends: in the header, or above its length in what is kept apart. Headers are far shorter than 4 GiB.
#[derive(Clone, Copy, Default)]
struct Place {
    start: u32,
    end: u32,
}

impl fmt::Debug for Fields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.places.iter().map(|(name, _)| self.text(*name));
        f.debug_list().entries(names).finish()
    }
}

impl Fields {
    /// None yet, of `header`.
    pub(super) fn of(header: &Bytes) -> Fields {
        Fields {
            header: header.clone(),
            ..Fields::default()
        }
    }

    /// Adds one. Texts that do not lie in the header are copied.
    pub(super) fn push(&mut self, name: &str, value: &str) {
        let pair = (self.place(name), self.place(value));
        self.places.push(pair);
    }

    fn place(&mut self, text: &str) -> Place {
        let header = self.header.as_ptr_range();
        let lies_there = text.as_bytes().as_ptr_range();
        let start = if header.start <= lies_there.start && lies_there.end <= header.end {
            lies_there.start.addr() - header.start.addr()
        } else {
            let start = self.header.len() + self.apart.len();
            self.apart.push_str(text);
            start
        };
        Place {
            start: start as u32,
            end: (start + text.len()) as u32,
        }
    }

    fn text(&self, place: Place) -> &str {
        let (start, end) = (place.start as usize, place.end as usize);
        let text = match start.checked_sub(self.header.len()) {
            Some(apart) => self.apart.get(apart..end - self.header.len()),
            // It was text when it was added.
            None => std::str::from_utf8(&self.header[start..end]).ok(),
        };
        text.unwrap_or_default()
    }

    /// The memory that it holds on to.
    pub(crate) fn bytes(&self) -> usize {
        self.header.len() + self.apart.len()
    }

    /// The value of `name`.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        let mut places = self.places.iter();
        let found = places.find(|(key, _)| self.text(*key) == name);
        found.map(|(_, value)| self.text(*value))
    }

    /// A number.
    ///
    /// # Errors
    /// [`ErrorKind::Protocol`] when it is missing or no number.
    pub fn number<T: std::str::FromStr>(&self, name: &str) -> Result<T> {
        self.get(name)
            .and_then(|value| value.parse().ok())
            .ok_or_else(|| {
                Error::new(
                    ErrorKind::Protocol,
                    format!(
                        "the response's field `{name}` should be a number and is {:?}",
                        self.get(name)
                    ),
                )
            })
    }

    /// A place in a queue: a number that is not negative to Java.
    ///
    /// # Errors
    /// [`ErrorKind::Protocol`] when it is missing or no such number.
    pub fn offset(&self, name: &str) -> Result<u64> {
        let offset: u64 = self.number(name)?;
        if i64::try_from(offset).is_ok() {
            return Ok(offset);
        }
        let why = format!("the response's field `{name}` should be an offset and is {offset}");
        Err(Error::new(ErrorKind::Protocol, why))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_the_header_stay_there_and_others_are_kept_apart() {
        let header = Bytes::from_static(b"name=value");
        let mut fields = Fields::of(&header);
        fields.push("name", "value");
        let text = std::str::from_utf8(&header).unwrap();
        fields.push(&text[..4], &text[5..]);
        fields.push(&text[4..5], "another value");
        fields.push("empty", "");
        fields.push(&text[10..], "no name");
        assert_eq!(fields.apart, "namevalueanother valueemptyno name");
        assert_eq!(fields.get("name"), Some("value"));
        assert_eq!(fields.text(fields.places[1].1), "value");
        assert_eq!(fields.get("="), Some("another value"));
        assert_eq!(fields.get("empty"), Some(""));
        assert_eq!(fields.get(""), Some("no name"));
        assert_eq!(fields.get("nobody"), None);
    }

    #[test]
    fn names_are_shown_and_values_are_not() {
        let mut fields = Fields::default();
        fields.push("Signature", "hush");
        assert_eq!(format!("{fields:?}"), r#"["Signature"]"#);
    }
}
