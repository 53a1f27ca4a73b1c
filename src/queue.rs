//! The names of queues.

use std::{fmt, sync::Arc};

use serde::{Deserialize, Serialize};

/// One queue of a topic.
#[derive(Clone, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
pub struct QueueId {
    /// The broker that has it.
    pub broker: Arc<str>,
    /// Its number on that broker.
    pub queue: u32,
}

impl fmt::Display for QueueId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.broker, self.queue)
    }
}
