//! What the fetching from one side says of its troubles, and how often.

use std::time::Duration;

use tokio::time::Instant;

use super::Shared;
use crate::{
    backend::{BackendConsumer, Subscription, Unreadable},
    error::{Error, ErrorKind},
    metrics::Event,
    side::Side,
};

/// How often it is said that keys are not claimed.
const UNCLAIMED_EVERY: Duration = Duration::from_secs(10);

pub(super) struct Reports<'a> {
    shared: &'a Shared,
    side: Side,
    /// When it was said last that keys are not claimed.
    told: Option<Instant>,
    /// Where queues stood at the last look.
    unreadable: Vec<Unreadable>,
}

impl<'a> Reports<'a> {
    pub(super) fn new(shared: &'a Shared, side: Side) -> Self {
        Reports {
            shared,
            side,
            told: None,
            unreadable: Vec::new(),
        }
    }

    /// Counts and names each message that cannot be read, once while its queue stands there.
    pub(super) fn look_for_unreadable(&mut self, backend: &dyn BackendConsumer) {
        let unreadable = backend.unreadable();
        for one in &unreadable {
            let known = |old: &Unreadable| (&old.queue, old.offset) == (&one.queue, one.offset);
            if self.unreadable.iter().any(known) {
                continue;
            }
            self.shared.metrics.event(Event::Unreadable, self.side);
            let Subscription { topic, group, .. } = &self.shared.subscription;
            tracing::error!(%topic, %group, side = %self.side, queue = one.queue, offset = one.offset, reason = one.reason, "a message cannot be read: its queue stands there until somebody acts");
        }
        self.unreadable = unreadable;
    }

    pub(super) fn fetch_failed(&self, error: &Error) {
        let topic = &self.shared.subscription.topic;
        tracing::warn!(%topic, side = %self.side, %error, "fetch failed");
    }

    /// A key was not claimed. Every message that waits is tried again and again: one line says it for all.
    pub(super) fn unclaimed(&mut self, error: &Error, waiting: usize) {
        if error.kind() == ErrorKind::Throttled {
            self.shared.metrics.event(Event::DedupFull, self.side);
        }
        let now = Instant::now();
        if self.told.is_none_or(|told| now >= told + UNCLAIMED_EVERY) {
            self.told = Some(now);
            let Subscription { topic, group, .. } = &self.shared.subscription;
            tracing::warn!(%topic, %group, side = %self.side, waiting, %error, "keys are not claimed: their messages wait");
        }
    }
}
