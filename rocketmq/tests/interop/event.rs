//! What an official client's program prints: one JSON object a line.

use std::{collections::BTreeMap, fmt::Debug, path::PathBuf};

use serde::Deserialize;
use tokio::{
    sync::watch,
    time::{Instant, timeout_at},
};

/// Something happened to a message.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Event {
    pub(crate) cluster: String,
    /// `sent`, `handled` or `checked`.
    pub(crate) event: String,
    /// Of a `handled`: `concurrent` or `ordered`.
    #[serde(default)]
    pub(crate) reader: String,
    pub(crate) topic: String,
    pub(crate) message_id: String,
    #[serde(default)]
    pub(crate) attempt: u32,
    #[serde(default)]
    pub(crate) queue: u32,
    #[serde(default)]
    pub(crate) offset: u64,
    pub(crate) body_bytes: usize,
    pub(crate) body_crc32: u32,
    pub(crate) at_ms: i64,
    pub(crate) properties: BTreeMap<String, String>,
}

impl Event {
    /// A line of the program's; none for the lines that the client prints.
    pub(crate) fn parse(line: &str) -> Option<Event> {
        if !line.starts_with('{') {
            return None;
        }
        Some(serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
    }

    pub(crate) fn property(&self, name: &str) -> &str {
        self.properties.get(name).map_or("", String::as_str)
    }

    /// The test's own name of the message.
    pub(crate) fn id(&self) -> &str {
        self.property("id")
    }
}

/// All events of one cluster so far, in order.
#[derive(Clone, Debug)]
pub(crate) struct Events {
    pub(crate) cluster: String,
    pub(crate) all: watch::Receiver<Vec<Event>>,
    /// Nothing is waited for after it.
    pub(crate) deadline: Instant,
    /// The file to which the program writes what goes wrong.
    pub(crate) errors: PathBuf,
}

impl Events {
    pub(crate) fn now(&self, of: &str) -> Vec<Event> {
        let all = self.all.borrow();
        let wanted = |event: &&Event| event.cluster == self.cluster && event.event == of;
        all.iter().filter(wanted).cloned().collect()
    }

    /// The events of one kind, once `missing` names nothing any more.
    pub(crate) async fn until<M: Debug>(
        &self,
        of: &str,
        missing: impl Fn(&[Event]) -> Vec<M>,
    ) -> Vec<Event> {
        let mut all = self.all.clone();
        loop {
            all.borrow_and_update();
            let now = self.now(of);
            let missing = missing(&now);
            if missing.is_empty() {
                return now;
            }
            let place = format!("{of} on {}, with {missing:?} missing", self.cluster);
            match timeout_at(self.deadline, all.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => panic!("the program has ended; {place}: {}", self.said()),
                Err(_) => panic!("not in time; {place}: {}", self.said()),
            }
        }
    }

    fn said(&self) -> String {
        std::fs::read_to_string(&self.errors).unwrap_or_default()
    }
}
