//! What lies in an inbox.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::Arc,
};

use tokio::time::Instant;

use super::{load::Load, offset::ProcessQueue};
use crate::message::ReceivedMessage;

/// A message, the queue that its ack goes to, and how often the group has had it.
#[derive(Clone)]
pub(super) struct Held {
    pub(super) queue: Arc<ProcessQueue>,
    pub(super) message: Arc<ReceivedMessage>,
    pub(super) attempt: u32,
}

#[derive(Default)]
pub(super) struct Contents {
    pub(super) ready: VecDeque<Held>,
    /// Kept here because the broker did not take them back.
    pub(super) later: BTreeMap<(Instant, u64), Held>,
    pub(super) outstanding: HashMap<u64, Held>,
    own: Load,
    retries: Load,
}

impl Contents {
    pub(super) fn load(&mut self, queue: &ProcessQueue) -> &mut Load {
        match queue.is_retry() {
            true => &mut self.retries,
            false => &mut self.own,
        }
    }

    /// Takes out what `goes` away. `goes` is told whether it was handed out.
    pub(super) fn drop_held(&mut self, mut goes: impl FnMut(&Held, bool) -> bool) {
        let Contents {
            ready,
            later,
            outstanding,
            own,
            retries,
        } = self;
        let mut stays = |held: &Held, handed_out| {
            let goes = goes(held, handed_out);
            if goes {
                let load = match held.queue.is_retry() {
                    true => &mut *retries,
                    false => &mut *own,
                };
                load.remove(held);
            }
            !goes
        };
        ready.retain(|held| stays(held, false));
        later.retain(|_, held| stays(held, false));
        outstanding.retain(|_, held| stays(held, true));
    }
}
