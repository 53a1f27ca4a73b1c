//! Order by key: a message whose send was called after another's success is entered after that one was handled.

use super::{Checker, NEVER};

/// One message under one key in one group.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) subscription: u32,
    pub(super) key: u32,
    pub(super) record: u32,
    /// The first call.
    pub(super) call_us: u64,
    /// The first success; `NEVER` without one.
    pub(super) acked_us: u64,
    pub(super) enter_us: u64,
    /// `NEVER` when it was not handled: then it is lost, which is counted elsewhere.
    pub(super) done_us: u64,
}

impl Checker {
    /// In the order of the calls, each entry is held against the latest handling of all that was acked before its call: n log n.
    pub(super) fn judge_order(&mut self, mut places: Vec<Place>) {
        places.sort_unstable_by_key(|place| {
            (place.subscription, place.key, place.call_us, place.record)
        });
        for same in places.chunk_by(|a, b| (a.subscription, a.key) == (b.subscription, b.key)) {
            let mut acked: Vec<&Place> = same
                .iter()
                .filter(|place| place.acked_us != NEVER && place.done_us != NEVER)
                .collect();
            acked.sort_unstable_by_key(|place| (place.acked_us, place.record));
            let mut acked = acked.into_iter().peekable();
            let mut latest: Option<&Place> = None;
            for place in same {
                while let Some(before) = acked.next_if(|before| before.acked_us < place.call_us) {
                    if latest.is_none_or(|latest| before.done_us > latest.done_us) {
                        latest = Some(before);
                    }
                }
                if let Some(before) = latest
                    && before.done_us > place.enter_us
                {
                    self.count_inverted(before, place);
                }
            }
        }
    }

    fn count_inverted(&mut self, before: &Place, place: &Place) {
        self.report.inverted += 1;
        self.report.groups[place.subscription as usize].inverted += 1;
        let (topic, group) = self.subscriptions[place.subscription as usize];
        let what = format!(
            "topic {}, key {}, group {}: called at {} us and entered at {} us, while {} was acked at {} us and handled only at {} us",
            self.names.text(topic),
            self.names.text(place.key),
            self.names.text(group),
            place.call_us,
            place.enter_us,
            self.ids.text(before.record),
            before.acked_us,
            before.done_us,
        );
        let id = self.ids.text(place.record);
        self.example("inverted", id, || what);
    }
}
