//! Names and ids as small numbers.

use std::collections::HashMap;

use super::index;

/// Numbers texts in the order in which they are first seen.
#[derive(Debug, Default)]
pub(super) struct Names {
    texts: Vec<Box<str>>,
    places: HashMap<Box<str>, u32>,
}

impl Names {
    pub(super) fn of(&mut self, text: &str) -> u32 {
        if let Some(place) = self.places.get(text) {
            return *place;
        }
        let place = index(self.texts.len());
        self.texts.push(text.into());
        self.places.insert(text.into(), place);
        place
    }

    pub(super) fn text(&self, place: u32) -> &str {
        &self.texts[place as usize]
    }
}

/// Numbers ids. Of one like `orders-7-1a2b-42` only the number is kept; what precedes it is the same for all messages of a process.
#[derive(Debug, Default)]
pub(super) struct Ids {
    prefixes: Names,
    known: Vec<(u32, u64)>,
    places: HashMap<(u32, u64), u32>,
    /// The prefix that was seen last, and its place: most ids follow one of the same process.
    last: Option<(Box<str>, u32)>,
}

/// In place of the number of an id that has none.
const WHOLE: u64 = u64::MAX;

impl Ids {
    pub(super) fn of(&mut self, id: &str) -> u32 {
        let (prefix, number) = split(id);
        let prefix = match &self.last {
            Some((last, place)) if **last == *prefix => *place,
            _ => {
                let place = self.prefixes.of(prefix);
                self.last = Some((prefix.into(), place));
                place
            }
        };
        let next = index(self.known.len());
        let place = *self.places.entry((prefix, number)).or_insert(next);
        if place == next {
            self.known.push((prefix, number));
        }
        place
    }

    pub(super) fn text(&self, place: u32) -> String {
        let (prefix, number) = self.known[place as usize];
        let prefix = self.prefixes.text(prefix);
        match number {
            WHOLE => prefix.to_owned(),
            number => format!("{prefix}{number}"),
        }
    }
}

/// The number at the end, if the text can be made again from both parts.
fn split(id: &str) -> (&str, u64) {
    let prefix = id.trim_end_matches(|c: char| c.is_ascii_digit());
    let digits = &id[prefix.len()..];
    match digits.parse() {
        Ok(number) if number != WHOLE && (digits.len() == 1 || !digits.starts_with('0')) => {
            (prefix, number)
        }
        _ => (id, WHOLE),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn different_ids_have_different_numbers_and_read_as_they_were() {
        let texts = [
            "p-1-7",
            "p-1-8",
            "p-1-07",
            "p-1-",
            "7",
            "07",
            "",
            "p-1-70",
            "p-11-7",
            "18446744073709551615",
            "99999999999999999999",
            "\u{664}7",
        ];
        let mut ids = Ids::default();
        for (place, text) in texts.iter().enumerate() {
            assert_eq!(ids.of(text) as usize, place);
        }
        for (place, text) in texts.iter().enumerate() {
            assert_eq!(ids.of(text) as usize, place);
            assert_eq!(ids.text(place as u32), *text);
        }
    }
}
