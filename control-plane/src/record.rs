//! What the coordinator asks to be stored: rows and audit entries, one [`Change`] for one decision, written whole or not at all.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Which table a row is in.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A topic's plan, goal, settings and intents; the key is the topic.
    Topic,
    /// A member; the key is the incarnation.
    Instance,
    /// The control plane's own counters; the key is their name.
    Meta,
}

impl Kind {
    /// The name in the store.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Topic => "topic",
            Kind::Instance => "instance",
            Kind::Meta => "meta",
        }
    }

    /// The reverse of [`Self::as_str`].
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        [Kind::Topic, Kind::Instance, Kind::Meta]
            .into_iter()
            .find(|kind| kind.as_str() == name)
    }
}

/// One row.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// Its table.
    pub kind: Kind,
    /// Its name there.
    pub key: String,
    /// Its content; the coordinator's business.
    pub value: Value,
}

/// What one decision changes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Change {
    /// Rows written over.
    pub puts: Vec<Record>,
    /// Rows removed.
    pub deletes: Vec<(Kind, String)>,
    /// Lines added to the audit log.
    pub audit: Vec<AuditEntry>,
}

impl Change {
    /// Nothing to store.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.puts.is_empty() && self.deletes.is_empty() && self.audit.is_empty()
    }
}

/// One line of the audit log; the store adds number, time and epoch.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct AuditEntry {
    /// Who: `operator`, `sdk`, or `control-plane` for what it decided by itself.
    pub actor: String,
    /// What: `advance`, `publish`, `confirm_gone`, ...
    pub action: String,
    /// The topic or instance.
    pub subject: String,
    /// The value before, where there is one.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub before: Value,
    /// The value after, where there is one.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub after: Value,
    /// The reason that a person gave, or the control plane's own.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
}
