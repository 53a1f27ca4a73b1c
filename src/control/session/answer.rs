//! What an answer changes: pure rules, but for the plan table that they write.

use std::collections::HashSet;

use crate::{
    control::{
        PlanTable, document,
        wire::{PlanDocument, Refused, SyncRequest, SyncResponse, VERSION},
    },
    error::{Error, ErrorKind, Result},
    side::Revision,
    stage::Adoption,
};

/// Most refused plans that are reported; more say nothing new.
const MAX_REFUSED: usize = 256;

/// How far the session has read.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// The highest epoch that has answered.
    pub(super) epoch: u64,
    /// The cursor of the poll.
    pub(super) known: Revision,
    /// The highest revision that has been seen, on disk too: nothing below it is in force any more.
    pub(super) newest: Revision,
    /// Not yet reported, or reported without an answer.
    pub(super) refused: Vec<Refused>,
}

impl Progress {
    /// Takes an answer over into the table. True when something has changed.
    ///
    /// # Errors
    /// `InvalidPlan`: nothing was taken.
    pub(super) fn take(
        &mut self,
        table: &PlanTable,
        request: &SyncRequest,
        response: &SyncResponse,
        origin: &str,
    ) -> Result<bool> {
        let plans = &response.plans;
        document::check_version(plans.version, origin)?;
        let refuse = |why: String| Err(Error::new(ErrorKind::InvalidPlan, "sync", why));
        if response.epoch < self.epoch {
            return refuse(format!(
                "{origin} answers with epoch {}, but epoch {} has answered before: an older control plane is still running, or its store was replaced",
                response.epoch, self.epoch
            ));
        }
        if plans.revision < self.newest {
            return refuse(format!(
                "{origin} is at revision {}, but was at {} before: its store was lost, or is an older copy",
                plans.revision, self.newest
            ));
        }
        // What was reported with this request has arrived.
        self.refused
            .retain(|refused| !request.refused.contains(refused));
        let mut changed = response.epoch > self.epoch || plans.revision > self.known;
        let unread = plans.malformed.iter().map(|row| &row.topic);
        let unread = unread.filter(|topic| !topic.is_empty());
        table.reserve(plans.plans.iter().map(|plan| &plan.topic).chain(unread));
        for plan in &plans.plans {
            match table.cell(&plan.topic).publish(plan.clone()) {
                Ok(adoption) => changed |= adoption == Adoption::Adopt,
                Err(error) => self.refuse(
                    table,
                    Refused {
                        topic: plan.topic.clone(),
                        revision: plan.revision,
                        reason: error.message().to_owned(),
                    },
                ),
            }
        }
        for row in &plans.malformed {
            self.refuse(table, row.clone());
        }
        // An answer to revision 0 has every plan that there is. A row that is no plan is there, too; one that names no topic may be anybody's.
        let rows = plans.plans.iter().map(|plan| &*plan.topic);
        let present: HashSet<&str> = rows
            .chain(plans.malformed.iter().map(|row| &*row.topic))
            .collect();
        let all = request.known_revision.0 == 0 && !present.contains("");
        for cell in table.cells() {
            let gone =
                plans.removed.contains(cell.topic()) || (all && !present.contains(&**cell.topic()));
            if gone && cell.withdraw() {
                // To others it is news and no more.
                match cell.role() {
                    Some(_) => {
                        tracing::warn!(topic = %cell.topic(), "the topic is no longer managed");
                    }
                    None => {
                        tracing::debug!(topic = %cell.topic(), "the topic is no longer managed")
                    }
                }
                changed = true;
            }
        }
        self.epoch = response.epoch;
        self.known = plans.revision;
        self.newest = plans.revision;
        Ok(changed)
    }

    fn refuse(&mut self, table: &PlanTable, refused: Refused) {
        if !refused.topic.is_empty() {
            table.cell(&refused.topic).refuse(&refused.reason);
        }
        tracing::warn!(
            topic = %refused.topic, revision = refused.revision.0, reason = refused.reason,
            "a plan was refused; the one in force stays"
        );
        if self.refused.len() < MAX_REFUSED && !self.refused.contains(&refused) {
            self.refused.push(refused);
        }
    }

    /// All plans in force.
    pub(super) fn document(&self, table: &PlanTable) -> PlanDocument {
        let mut plans: Vec<_> = table
            .cells()
            .iter()
            .filter_map(|cell| Some(cell.load()?.plan().clone()))
            .collect();
        plans.sort_by(|a, b| a.topic.cmp(&b.topic));
        PlanDocument {
            version: VERSION,
            revision: self.known,
            plans,
            ..PlanDocument::default()
        }
    }
}
