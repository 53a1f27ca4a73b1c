//! A client of the control plane for those who decide: what the `crossfade` program itself uses.

mod http;
mod wait;

use std::{fmt, sync::Arc, time::Duration};

use crossfade::{
    control::wire::Problem,
    stage::{Routing, Stage, Weight},
};
use serde_json::{Value, json};

use self::http::Http;
use crate::{
    api::{AddTopic, Answered, ConfirmGone, Move, MoveSeveral, SetWeight, StillListed, Way},
    coordinator::{ClientView, InstanceView, TopicView},
    store::AuditLine,
};

/// Speaks to one control plane. Clones share its connections. Every call takes at most 30 seconds.
#[derive(Clone, Debug)]
pub struct Operator {
    http: Http,
}

/// Why something was not done.
#[derive(Clone, Debug)]
pub struct OperatorError(Problem);

impl Operator {
    /// A client of the control plane at `url`; nothing is sent yet.
    ///
    /// # Errors
    /// `invalid_request` when the address or the token cannot be used.
    pub fn new(url: &str, token: Option<&str>) -> Result<Self, OperatorError> {
        Http::new(url, token).map(|http| Operator { http })
    }

    /// Manages a topic from now on, with all its groups.
    ///
    /// # Errors
    /// `conflict` when it is managed already, in use on the target or the brokers' own, or both clusters are one; `not_found` when it is not on both; `unreachable`.
    ///
    /// # Cancellation
    /// It may have been added.
    pub async fn add(&self, topic: &str, groups: &[&str]) -> Result<TopicView, OperatorError> {
        self.add_although(topic, groups, None).await
    }

    /// As [`Self::add`]; a reason lets its target be sealed although somebody uses it there.
    ///
    /// # Errors
    /// As [`Self::add`].
    ///
    /// # Cancellation
    /// It may have been added.
    pub async fn add_although(
        &self,
        topic: &str,
        groups: &[&str],
        target_in_use: Option<&str>,
    ) -> Result<TopicView, OperatorError> {
        self.add_with(topic, groups, Routing::Unordered, target_in_use)
            .await
    }

    /// As [`Self::add_although`], with a routing: whether messages with the same ordering key stay in order while the topic moves.
    ///
    /// # Errors
    /// As [`Self::add_although`]; `conflict` too when a cluster cannot be read in order and that is asked for.
    ///
    /// # Cancellation
    /// As [`Self::add`].
    pub async fn add_with(
        &self,
        topic: &str,
        groups: &[&str],
        routing: Routing,
        target_in_use: Option<&str>,
    ) -> Result<TopicView, OperatorError> {
        let body = AddTopic {
            topic: topic.into(),
            groups: groups.iter().map(|group| Arc::from(*group)).collect(),
            weight_basis_points: None,
            ordered: routing == Routing::Ordered,
            target_in_use: target_in_use.map(str::to_owned),
        };
        self.http.post(&["topics"], &body).await
    }

    /// All topics.
    ///
    /// # Errors
    /// `unreachable`, `unauthorized`.
    ///
    /// # Cancellation
    /// Leaves nothing behind.
    pub async fn topics(&self) -> Result<Vec<TopicView>, OperatorError> {
        self.http.get(&["topics"], &[]).await
    }

    /// One topic.
    ///
    /// # Errors
    /// `not_found`; as [`Self::topics`].
    ///
    /// # Cancellation
    /// Leaves nothing behind.
    pub async fn show(&self, topic: &str) -> Result<TopicView, OperatorError> {
        self.http.get(&["topics", topic], &[]).await
    }

    /// Goes one stage forward, or as far as `to`, each step once its gates are open. Returns once the goal is stored; [`Self::settled`] waits
    /// for the end. [`Self::walk`] does not wait for closed gates.
    ///
    /// # Errors
    /// `not_found`, `conflict` when `to` is not ahead; as [`Self::topics`].
    ///
    /// # Cancellation
    /// The goal may have been set.
    pub async fn advance(
        &self,
        topic: &str,
        to: Option<Stage>,
    ) -> Result<TopicView, OperatorError> {
        self.walk(Way::Advance, topic, &waiting(to)).await
    }

    /// Goes one stage back, or as far as `to`.
    ///
    /// # Errors
    /// As [`Self::advance`].
    ///
    /// # Cancellation
    /// As [`Self::advance`].
    pub async fn rollback(
        &self,
        topic: &str,
        to: Option<Stage>,
    ) -> Result<TopicView, OperatorError> {
        self.walk(Way::Rollback, topic, &waiting(to)).await
    }

    /// Moves a topic. Returns once the goal is stored.
    ///
    /// # Errors
    /// `blocked` with every gate of the next step, while one is closed that is neither waited for nor overridden; `not_found`, `conflict`,
    /// `invalid_request` for an override that is not possible; as [`Self::topics`].
    ///
    /// # Cancellation
    /// The goal may have been set.
    pub async fn walk(
        &self,
        way: Way,
        topic: &str,
        how: &Move,
    ) -> Result<TopicView, OperatorError> {
        self.http.post(&["topics", topic, way.as_str()], how).await
    }

    /// Moves several topics, or all when `topics` is `None`. Each has its own answer.
    ///
    /// # Errors
    /// As [`Self::topics`].
    ///
    /// # Cancellation
    /// Some of the goals may have been set.
    pub async fn walk_several(
        &self,
        way: Way,
        topics: Option<&[String]>,
        how: &Move,
    ) -> Result<Vec<Answered>, OperatorError> {
        let names = topics.unwrap_or_default().iter();
        let body = MoveSeveral {
            topics: names.map(|name| Arc::from(name.as_str())).collect(),
            all: topics.is_none(),
            to: how.to,
            wait: how.wait,
            overrides: how.overrides.clone(),
        };
        self.http.post(&[way.as_str()], &body).await
    }

    /// Every gate of the next step, or of the step toward `to`, after a fresh look at the brokers; of all topics when `topics` is `None`.
    ///
    /// # Errors
    /// As [`Self::topics`].
    ///
    /// # Cancellation
    /// Leaves nothing behind.
    pub async fn check(
        &self,
        topics: Option<&[String]>,
        to: Option<Stage>,
    ) -> Result<Vec<Answered>, OperatorError> {
        let mut query = Vec::new();
        query.extend(topics.map(|topics| ("topics", topics.join(","))));
        query.extend(to.map(|to| ("to", to.to_string())));
        self.http.get(&["checks"], &query).await
    }

    /// The clients that the brokers list for a topic, the unmanaged first.
    ///
    /// # Errors
    /// `not_found`; as [`Self::topics`].
    ///
    /// # Cancellation
    /// Leaves nothing behind.
    pub async fn clients(&self, topic: &str) -> Result<Vec<ClientView>, OperatorError> {
        self.http.get(&["topics", topic, "clients"], &[]).await
    }

    /// Stays at the stage that is published.
    ///
    /// # Errors
    /// `not_found`; as [`Self::topics`].
    ///
    /// # Cancellation
    /// The goal may have been set.
    pub async fn cancel(&self, topic: &str) -> Result<TopicView, OperatorError> {
        self.http
            .post(&["topics", topic, "cancel"], &json!({}))
            .await
    }

    /// Sets the target's share of writes in `DualWrite`.
    ///
    /// # Errors
    /// `not_found`; as [`Self::topics`].
    ///
    /// # Cancellation
    /// The weight may have been set.
    pub async fn weight(&self, topic: &str, weight: Weight) -> Result<TopicView, OperatorError> {
        let body = SetWeight {
            weight_basis_points: weight.basis_points().into(),
        };
        self.http.post(&["topics", topic, "weight"], &body).await
    }

    /// Manages the topic no more.
    ///
    /// # Errors
    /// `not_found`, `conflict` when it is on its way; as [`Self::topics`].
    ///
    /// # Cancellation
    /// It may have been removed.
    pub async fn remove(&self, topic: &str) -> Result<(), OperatorError> {
        self.http.delete(&["topics", topic]).await
    }

    /// All instances that are known.
    ///
    /// # Errors
    /// As [`Self::topics`].
    ///
    /// # Cancellation
    /// Leaves nothing behind.
    pub async fn instances(&self) -> Result<Vec<InstanceView>, OperatorError> {
        self.http.get(&["instances"], &[]).await
    }

    /// Says that the lost processes under this name are gone for good. The answer has the signs that one still runs, in words: where the brokers were
    /// found to list it, and how long ago. There should be none.
    ///
    /// # Errors
    /// `not_found`, `conflict` while the instance is in contact; as [`Self::topics`].
    ///
    /// # Cancellation
    /// It may have been taken.
    pub async fn confirm_gone(
        &self,
        instance: &str,
        reason: &str,
    ) -> Result<Vec<String>, OperatorError> {
        let body = ConfirmGone {
            reason: reason.into(),
        };
        let path = ["instances", instance, "confirm-gone"];
        let answer = self.http.send(&path, &body).await?;
        if answer.is_empty() {
            return Ok(Vec::new());
        }
        let answer: Result<StillListed, _> = serde_json::from_slice(&answer);
        // Taken all the same; a newer control plane may say more than this program knows.
        Ok(answer.map_or_else(|_| Vec::new(), |answer| answer.still_listed))
    }

    /// Audit lines with a number below `before`, newest first, at most `limit` (1 to 1000).
    ///
    /// # Errors
    /// As [`Self::topics`].
    ///
    /// # Cancellation
    /// Leaves nothing behind.
    pub async fn audit(
        &self,
        before: Option<u64>,
        limit: u32,
    ) -> Result<Vec<AuditLine>, OperatorError> {
        let mut query = vec![("limit", limit.to_string())];
        query.extend(before.map(|before| ("before", before.to_string())));
        self.http.get(&["audit"], &query).await
    }

    /// Waits until the topic is settled at its goal.
    ///
    /// # Errors
    /// `timeout` names what it still waits for; `conflict` when somebody else gives another word meanwhile. A control plane that cannot be reached
    /// is tried again until `within` is over.
    ///
    /// # Cancellation
    /// The topic goes on by itself.
    pub async fn settled(&self, topic: &str, within: Duration) -> Result<TopicView, OperatorError> {
        self.settled_telling(topic, within, |_| ()).await
    }

    /// As [`Self::settled`]; `tell` is called with one line whenever what it waits for changes.
    ///
    /// # Errors
    /// As [`Self::settled`].
    ///
    /// # Cancellation
    /// As [`Self::settled`].
    pub async fn settled_telling(
        &self,
        topic: &str,
        within: Duration,
        tell: impl FnMut(&str),
    ) -> Result<TopicView, OperatorError> {
        wait::settle(self, topic, within, tell).await
    }
}

fn waiting(to: Option<Stage>) -> Move {
    Move {
        to,
        wait: true,
        overrides: Vec::new(),
    }
}

impl OperatorError {
    pub(crate) fn new(code: &str, message: impl Into<String>) -> Self {
        OperatorError(Problem {
            code: code.into(),
            message: message.into(),
            gates: Vec::new(),
        })
    }

    /// A stable word: those of [`Problem`], and `unreachable`, `timeout`, `failed`.
    #[must_use]
    pub fn code(&self) -> &str {
        &self.0.code
    }

    /// The gates that are not passed, where that is the reason.
    #[must_use]
    pub fn gates(&self) -> &[Value] {
        &self.0.gates
    }

    pub(crate) fn problem(&self) -> &Problem {
        &self.0
    }

    /// Names the topic or instance that it is about.
    pub(crate) fn about(mut self, subject: &str) -> Self {
        if !self.0.message.contains(subject) {
            self.0.message = format!("{subject}: {}", self.0.message);
        }
        self
    }
}

impl From<Problem> for OperatorError {
    fn from(problem: Problem) -> Self {
        OperatorError(problem)
    }
}

impl fmt::Display for OperatorError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl std::error::Error for OperatorError {}
