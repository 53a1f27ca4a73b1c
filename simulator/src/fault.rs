//! Kinds of faults.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// What can go wrong.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum Fault {
    /// An instance dies and is started again under its name.
    Crash,
    /// An instance dies for good; a new one with another name takes its place. The brokers list it no more.
    Gone,
    /// An instance stops for ever and stays listed: it blocks by name until an operator says that it is gone.
    Unplugged,
    /// An instance freezes and is started again under its name; the frozen one wakes later, or never.
    Replaced,
    /// An instance stops in the middle, and wakes with what it had in hand.
    Freeze,
    /// One more consumer joins a group for a while, and leaves in good order.
    Rebalance,
    /// An instance and the control plane do not reach each other.
    CutOff,
    /// Requests of an instance do not arrive.
    RequestsCut,
    /// Requests of an instance arrive, answers do not.
    AnswersCut,
    /// Answers of the control plane are lost, late, or requests arrive twice.
    BadLink,
    /// An instance does not reach one of the clusters.
    BrokerCut,
    /// Sends of an instance are stored in one of the clusters, and it hears of none.
    BrokerAnswersCut,
    /// The control plane does not reach one of the clusters.
    ControlPlaneCut,
    /// The control plane dies and is started again.
    ControlPlaneCrash,
    /// A write of the control plane is refused, or made without an answer.
    TornWrite,
    /// A cluster answers nothing for a while.
    Stall,
    /// Everything takes long at a cluster.
    SlowCluster,
    /// Sends are refused, lost, without answer, stored twice, stored late.
    BadSends,
    /// A change of access is made without an answer, not made, or made late.
    AccessInFlight,
    /// Handlers fail.
    HandlersFail,
    /// Messages whose handlers always fail: their group's retries bring them to the dead-letter topic.
    DeadLetters,
    /// Messages are delayed.
    DelayedMessages,
    /// Somebody writes who does not use the library.
    UnmanagedWriter,
    /// The clock of an instance goes up to a tenth too fast or too slow, or jumps as after a suspend.
    ClockSkew,
    /// An operator changes the goal at a bad moment.
    ChangeOfMind,
    /// An instance restarts while nobody answers it, with its last plans on disk.
    DiskKept,
    /// As [`Self::DiskKept`], and the disk is empty.
    DiskLost,
    /// As [`Self::DiskKept`], and the disk holds older plans.
    DiskOutdated,
    /// As [`Self::DiskKept`], and what the disk holds is cut off or changed.
    DiskTorn,
}

impl Fault {
    /// All kinds.
    pub const ALL: [Fault; 29] = [
        Fault::Crash,
        Fault::Gone,
        Fault::Unplugged,
        Fault::Replaced,
        Fault::Freeze,
        Fault::Rebalance,
        Fault::CutOff,
        Fault::RequestsCut,
        Fault::AnswersCut,
        Fault::BadLink,
        Fault::BrokerCut,
        Fault::BrokerAnswersCut,
        Fault::ControlPlaneCut,
        Fault::ControlPlaneCrash,
        Fault::TornWrite,
        Fault::Stall,
        Fault::SlowCluster,
        Fault::BadSends,
        Fault::AccessInFlight,
        Fault::HandlersFail,
        Fault::DeadLetters,
        Fault::DelayedMessages,
        Fault::UnmanagedWriter,
        Fault::ClockSkew,
        Fault::ChangeOfMind,
        Fault::DiskKept,
        Fault::DiskLost,
        Fault::DiskOutdated,
        Fault::DiskTorn,
    ];

    pub(crate) fn index(self) -> usize {
        self as usize
    }

    /// As in reports and on the command line: `answers_cut`.
    #[must_use]
    pub fn name(self) -> String {
        word(&self)
    }
}

impl FromStr for Fault {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut all = Fault::ALL.into_iter();
        all.find(|fault| fault.name() == text)
            .ok_or_else(|| format!("{text:?} is no kind of fault"))
    }
}

/// What a unit variant is called in JSON.
pub(crate) fn word(value: &impl Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(word)) => word,
        other => unreachable!("a word: {other:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_has_its_own_place_and_is_found_by_its_name() {
        for (index, fault) in Fault::ALL.into_iter().enumerate() {
            assert_eq!(fault.index(), index);
            assert_eq!(fault.name().parse(), Ok(fault));
        }
    }
}
