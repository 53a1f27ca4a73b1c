//! One line of a history: a JSON object.

use std::{borrow::Cow, fmt};

use serde::{Deserialize, Serialize};

use crate::event::{DedupScope, Event, Header, Role, Side, What};

/// The version of the format that this crate writes, and the only one it reads.
pub const VERSION: u32 = 1;

/// A line that was understood.
#[derive(Debug)]
pub(crate) enum Parsed<'a> {
    Header(Header),
    Event(Event<'a>),
}

/// A line that cannot be used.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum LineError {
    /// The beginning of a JSON object.
    Torn,
    /// No JSON object of this format: something else wrote it, or it is damaged.
    Foreign,
    /// A header of a version that this crate does not read.
    Version(u32),
}

impl fmt::Display for LineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LineError::Torn => f.write_str("a part of a line"),
            LineError::Foreign => f.write_str("not a line of a history"),
            LineError::Version(version) => write!(
                f,
                "a history of version {version}; this program reads version {VERSION}"
            ),
        }
    }
}

impl std::error::Error for LineError {}

/// All fields of both kinds of line: one pass over the text, no copy of what needs no unescaping.
#[derive(Debug, Default, Deserialize, Serialize)]
struct Raw<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    v: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    at_us: Option<u64>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    event: Option<Cow<'a, str>>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    id: Option<Cow<'a, str>>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    key: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    side: Option<Side>,
    #[serde(skip_serializing_if = "Option::is_none")]
    revision: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    attempt: Option<u32>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    error: Option<Cow<'a, str>>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    instance: Option<Cow<'a, str>>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    incarnation: Option<Cow<'a, str>>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    kind: Option<Cow<'a, str>>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    topic: Option<Cow<'a, str>>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    group: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dedup: Option<DedupScope>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    clock: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    started_at_us: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    started_unix_ms: Option<u64>,
}

pub(crate) fn header(header: &Header) -> Vec<u8> {
    let mut raw = Raw {
        v: Some(VERSION),
        instance: Some(Cow::Borrowed(&header.instance)),
        incarnation: Some(Cow::Borrowed(&header.incarnation)),
        kind: Some(Cow::Borrowed("producer")),
        topic: Some(Cow::Borrowed(&header.topic)),
        clock: (!header.clock.is_empty()).then_some(Cow::Borrowed(&*header.clock)),
        started_at_us: Some(header.started_at_us),
        started_unix_ms: Some(header.started_unix_ms),
        ..Raw::default()
    };
    if let Role::Consumer { group, dedup } = &header.role {
        raw.kind = Some(Cow::Borrowed("consumer"));
        raw.group = Some(Cow::Borrowed(group));
        raw.dedup = Some(*dedup);
    }
    line(&raw)
}

pub(crate) fn event(event: &Event<'_>) -> Vec<u8> {
    let mut raw = Raw {
        at_us: Some(event.at_us),
        ..Raw::default()
    };
    match &event.what {
        What::Call { key, .. } => raw.key = key.as_deref().map(Cow::Borrowed),
        What::Acked { side, revision, .. } => {
            (raw.side, raw.revision) = (Some(*side), Some(*revision));
        }
        What::Ambiguous { error, .. } | What::Failed { error, .. } => {
            raw.error = Some(Cow::Borrowed(error));
        }
        What::Enter { side, attempt, .. } => {
            (raw.side, raw.attempt) = (Some(*side), Some(*attempt));
        }
        What::Done { .. } | What::Settled { .. } | What::HandlerFailed { .. } | What::End => {}
    }
    raw.event = Some(Cow::Borrowed(event.what.name()));
    raw.id = event.what.id().map(Cow::Borrowed);
    line(&raw)
}

fn line(raw: &Raw<'_>) -> Vec<u8> {
    let mut line = serde_json::to_vec(raw).expect("plain fields always serialize");
    line.push(b'\n');
    line
}

pub(crate) fn parse(line: &[u8]) -> Result<Parsed<'_>, LineError> {
    let raw: Raw<'_> = serde_json::from_slice(line).map_err(|error| {
        if error.is_eof() {
            LineError::Torn
        } else {
            LineError::Foreign
        }
    })?;
    let parsed = match (raw.v, raw.at_us) {
        (Some(VERSION), None) => raw.header().map(Parsed::Header),
        (Some(other), None) if raw.instance.is_some() => return Err(LineError::Version(other)),
        (None, Some(at_us)) => raw.event(at_us).map(Parsed::Event),
        _ => None,
    };
    parsed.ok_or(LineError::Foreign)
}

impl<'a> Raw<'a> {
    fn header(self) -> Option<Header> {
        let role = match &*self.kind? {
            "producer" => Role::Producer,
            "consumer" => Role::Consumer {
                group: self.group?.into_owned(),
                dedup: self.dedup.unwrap_or_default(),
            },
            _ => return None,
        };
        Some(Header {
            instance: self.instance?.into_owned(),
            incarnation: self.incarnation?.into_owned(),
            role,
            topic: self.topic?.into_owned(),
            clock: self.clock.map(Cow::into_owned).unwrap_or_default(),
            started_at_us: self.started_at_us?,
            started_unix_ms: self.started_unix_ms?,
        })
    }

    fn event(self, at_us: u64) -> Option<Event<'a>> {
        let what = match (&*self.event?, self.id) {
            ("call", Some(id)) => What::Call { id, key: self.key },
            ("acked", Some(id)) => What::Acked {
                id,
                side: self.side?,
                revision: self.revision?,
            },
            ("ambiguous", Some(id)) => What::Ambiguous {
                id,
                error: self.error.unwrap_or_default(),
            },
            ("failed", Some(id)) => What::Failed {
                id,
                error: self.error.unwrap_or_default(),
            },
            ("enter", Some(id)) => What::Enter {
                id,
                side: self.side?,
                attempt: self.attempt?,
            },
            ("done", Some(id)) => What::Done { id },
            ("settled", Some(id)) => What::Settled { id },
            ("handler_failed", Some(id)) => What::HandlerFailed { id },
            ("end", None) => What::End,
            _ => return None,
        };
        Some(Event { at_us, what })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn what() -> Vec<What<'static>> {
        let id = || Cow::Borrowed("p \"1\"-1-7");
        vec![
            What::Call {
                id: id(),
                key: None,
            },
            What::Call {
                id: id(),
                key: Some("k\u{e9}\n".into()),
            },
            What::Acked {
                id: id(),
                side: Side::Target,
                revision: u64::MAX,
            },
            What::Ambiguous {
                id: id(),
                error: "no answer".into(),
            },
            What::Failed {
                id: id(),
                error: "refused".into(),
            },
            What::Enter {
                id: id(),
                side: Side::Source,
                attempt: 2,
            },
            What::Done { id: id() },
            What::Settled { id: id() },
            What::HandlerFailed { id: id() },
            What::End,
        ]
    }

    #[test]
    fn every_event_is_one_line_and_reads_as_it_was() {
        for what in what() {
            let written = Event { at_us: 5, what };
            let line = event(&written);
            assert_eq!(line.iter().filter(|byte| **byte == b'\n').count(), 1);
            let Parsed::Event(read) = parse(&line).unwrap() else {
                panic!("{written:?}");
            };
            assert_eq!(read, written);
        }
    }

    #[test]
    fn header_reads_as_it_was() {
        for role in [
            Role::Producer,
            Role::Consumer {
                group: "g".into(),
                dedup: DedupScope::Process,
            },
        ] {
            let written = Header {
                instance: "p".into(),
                incarnation: "1".into(),
                role,
                topic: "t".into(),
                clock: String::new(),
                started_at_us: 4,
                started_unix_ms: 2,
            };
            let line = header(&written);
            assert!(matches!(parse(&line), Ok(Parsed::Header(read)) if read == written));
        }
    }

    #[test]
    fn unknown_field_is_ignored_and_unknown_version_is_named() {
        let line = br#"{"at_us":1,"event":"done","id":"a","more":[1,{"x":2}]}"#;
        assert!(matches!(parse(line), Ok(Parsed::Event(_))));
        let line = br#"{"v":2,"instance":"p"}"#;
        assert_eq!(parse(line).err(), Some(LineError::Version(2)));
        for line in ["", "{\"at_us\":1,\"ev"] {
            assert_eq!(
                parse(line.as_bytes()).err(),
                Some(LineError::Torn),
                "{line}"
            );
        }
        for line in [
            "hello",
            "{}",
            "[]",
            r#"{"at_us":1,"event":"flew","id":"a"}"#,
            r#"{"at_us":-1,"event":"end"}"#,
        ] {
            assert_eq!(
                parse(line.as_bytes()).err(),
                Some(LineError::Foreign),
                "{line}"
            );
        }
    }
}
