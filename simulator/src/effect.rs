//! Which faults have touched something: a torn write that no write met was no fault.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use crate::fault::Fault;

/// Several kinds of faults. The default: none.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct FaultSet(u64);

impl FaultSet {
    /// Every kind.
    #[must_use]
    pub fn all() -> Self {
        Fault::ALL.into_iter().collect()
    }

    /// Each of them.
    pub fn iter(self) -> impl Iterator<Item = Fault> {
        let mut all = Fault::ALL.into_iter();
        std::iter::from_fn(move || all.find(|fault| self.0 >> fault.index() & 1 == 1))
    }

    pub(crate) fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub(crate) fn insert(&mut self, fault: Fault) {
        self.0 |= 1 << fault.index();
    }
}

impl From<Fault> for FaultSet {
    fn from(fault: Fault) -> Self {
        FaultSet(1 << fault.index())
    }
}

impl FromIterator<Fault> for FaultSet {
    fn from_iter<I: IntoIterator<Item = Fault>>(faults: I) -> Self {
        let mut set = FaultSet::default();
        for fault in faults {
            set.insert(fault);
        }
        set
    }
}

/// How often each fault was felt. Clones count together.
#[derive(Clone, Debug)]
pub(crate) struct Effects {
    counts: Arc<[AtomicU64; Fault::ALL.len()]>,
}

impl Default for Effects {
    fn default() -> Self {
        Effects {
            counts: Arc::new(std::array::from_fn(|_| AtomicU64::new(0))),
        }
    }
}

impl Effects {
    pub(crate) fn touch(&self, fault: Fault) {
        self.add(fault, 1);
    }

    pub(crate) fn touch_all(&self, faults: FaultSet) {
        for fault in faults.iter() {
            self.touch(fault);
        }
    }

    pub(crate) fn add(&self, fault: Fault, count: u64) {
        self.counts[fault.index()].fetch_add(count, Ordering::Relaxed);
    }

    pub(crate) fn counts(&self) -> BTreeMap<Fault, u64> {
        let counted = |fault: Fault| self.counts[fault.index()].load(Ordering::Relaxed);
        Fault::ALL
            .into_iter()
            .map(|fault| (fault, counted(fault)))
            .collect()
    }
}
