//! Checking topics and moving them, one or several: each has its own answer.

use std::{sync::Arc, time::Duration};

use axum::{
    Json,
    extract::{Path, Query, State, rejection::QueryRejection},
};
use crossfade::{control::wire, stage::Stage};
use serde::{Deserialize, Serialize};

use super::{
    App,
    allowed::{Operator, Reader},
    body::Document,
    problem::Problem,
};
use crate::coordinator::{
    Actor, AskedOverride, ClientView, Code, Command, Policy, Refusal, Terms, TopicView,
};

/// How long a fresh look at the brokers is waited for, before the answer says that there was none.
const FRESH: Duration = Duration::from_secs(15);
/// Most topics in one request.
const MAX_TOPICS: usize = 10_000;
/// Most overrides in one request.
const MAX_OVERRIDES: usize = 64;

/// `POST /v1/topics/{topic}/advance` and `/rollback`.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Move {
    /// Where to; one step when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<Stage>,
    /// Store the goal although gates of the next step are closed, and take each step once its gates are open. Without it, closed gates refuse
    /// the request.
    #[serde(default)]
    pub wait: bool,
    /// Gates of the next step to go on without, each with a reason for the audit log.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub overrides: Vec<AskedOverride>,
}

/// `POST /v1/advance` and `/v1/rollback`.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct MoveSeveral {
    /// The topics.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) topics: Vec<Arc<str>>,
    /// Every managed topic.
    #[serde(default)]
    pub(crate) all: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) to: Option<Stage>,
    #[serde(default)]
    pub(crate) wait: bool,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) overrides: Vec<AskedOverride>,
}

/// One topic's part of the answer for several.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Answered {
    /// The topic.
    pub topic: Arc<str>,
    /// How it stands, where it was done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub view: Option<TopicView>,
    /// Why not, where it was not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<wire::Problem>,
}

/// Which way.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Way {
    /// Toward `TargetOnly`.
    Advance,
    /// Toward `SourceOnly`.
    Rollback,
}

impl Way {
    /// As in the API's paths.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Way::Advance => "advance",
            Way::Rollback => "rollback",
        }
    }

    fn command(self, topic: Arc<str>, to: Option<Stage>, terms: Terms) -> Command {
        match self {
            Way::Advance => Command::Advance { topic, to, terms },
            Way::Rollback => Command::Rollback { topic, to, terms },
        }
    }
}

/// `?topics=a,b&to=STAGE`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Which {
    topics: Option<String>,
    to: Option<Stage>,
}

/// `?to=STAGE`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Toward {
    to: Option<Stage>,
}

/// A line of the catalogue of gates.
#[derive(Debug, Serialize)]
pub(super) struct CatalogueLine {
    code: &'static str,
    chinese: &'static str,
    about: &'static str,
    /// `override`, `never`, `note`.
    policy: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    why_never: Option<&'static str>,
}

pub(super) async fn check(
    _: Reader,
    State(app): State<App>,
    Path(topic): Path<Arc<str>>,
    toward: Result<Query<Toward>, QueryRejection>,
) -> Result<Json<TopicView>, Problem> {
    let Query(Toward { to }) = toward.map_err(|bad| Problem::invalid(bad.body_text()))?;
    let since = app
        .handle
        .look_again(vec![Arc::clone(&topic)], FRESH)
        .await?;
    checked(&app, &topic, to, since).await.map(Json)
}

pub(super) async fn checks(
    _: Reader,
    State(app): State<App>,
    which: Result<Query<Which>, QueryRejection>,
) -> Result<Json<Vec<Answered>>, Problem> {
    let Query(which) = which.map_err(|bad| Problem::invalid(bad.body_text()))?;
    let topics = match &which.topics {
        Some(names) => names
            .split(',')
            .map(|name| Arc::from(name.trim()))
            .collect(),
        None => names(&app).await?,
    };
    let topics = bounded(topics)?;
    let since = app.handle.look_again(topics.clone(), FRESH).await?;
    let mut answers = Vec::new();
    for topic in topics {
        let view = checked(&app, &topic, which.to, since).await;
        answers.push(Answered::of(topic, view));
    }
    Ok(Json(answers))
}

pub(super) async fn advance(
    Operator(actor): Operator,
    State(app): State<App>,
    Path(topic): Path<Arc<str>>,
    Document(body): Document<Move>,
) -> Result<Json<TopicView>, Problem> {
    one(&app, actor, Way::Advance, topic, body).await
}

pub(super) async fn rollback(
    Operator(actor): Operator,
    State(app): State<App>,
    Path(topic): Path<Arc<str>>,
    Document(body): Document<Move>,
) -> Result<Json<TopicView>, Problem> {
    one(&app, actor, Way::Rollback, topic, body).await
}

pub(super) async fn advance_several(
    Operator(actor): Operator,
    State(app): State<App>,
    Document(body): Document<MoveSeveral>,
) -> Result<Json<Vec<Answered>>, Problem> {
    several(&app, &actor, Way::Advance, body).await
}

pub(super) async fn rollback_several(
    Operator(actor): Operator,
    State(app): State<App>,
    Document(body): Document<MoveSeveral>,
) -> Result<Json<Vec<Answered>>, Problem> {
    several(&app, &actor, Way::Rollback, body).await
}

pub(super) async fn clients(
    _: Reader,
    State(app): State<App>,
    Path(topic): Path<Arc<str>>,
) -> Result<Json<Vec<ClientView>>, Problem> {
    app.handle
        .look_again(vec![Arc::clone(&topic)], FRESH)
        .await?;
    let name = Arc::clone(&topic);
    let found = app
        .handle
        .read(move |coordinator, now| coordinator.clients(&name, now));
    let found = found.await?;
    found
        .map(Json)
        .ok_or_else(|| Refusal::unknown(&topic).into())
}

pub(super) async fn catalogue(_: Reader) -> Json<Vec<CatalogueLine>> {
    let line = |code: Code| {
        let entry = code.entry();
        let (policy, why_never) = match entry.policy {
            Policy::Override => ("override", None),
            Policy::Never(why) => ("never", Some(why)),
            Policy::Note => ("note", None),
        };
        CatalogueLine {
            code: entry.text,
            chinese: entry.chinese,
            about: entry.about,
            policy,
            why_never,
        }
    };
    Json(Code::ALL.into_iter().map(line).collect())
}

async fn one(
    app: &App,
    actor: Actor,
    way: Way,
    topic: Arc<str>,
    body: Move,
) -> Result<Json<TopicView>, Problem> {
    let looked_at = vec![Arc::clone(&topic)];
    let terms = terms(app, looked_at, body.wait, body.overrides).await?;
    moved(app, actor, way, topic, body.to, terms)
        .await
        .map(Json)
}

async fn several(
    app: &App,
    actor: &Actor,
    way: Way,
    body: MoveSeveral,
) -> Result<Json<Vec<Answered>>, Problem> {
    if body.all != body.topics.is_empty() {
        return Err(Problem::invalid(
            "name the topics, or set `all` to true: one of the two",
        ));
    }
    let topics = match body.all {
        true => names(app).await?,
        false => body.topics,
    };
    let topics = bounded(topics)?;
    let terms = terms(app, topics.clone(), body.wait, body.overrides).await?;
    let mut answers = Vec::new();
    for topic in topics {
        let view = moved(
            app,
            actor.clone(),
            way,
            Arc::clone(&topic),
            body.to,
            terms.clone(),
        );
        answers.push(Answered::of(topic, view.await));
    }
    Ok(Json(answers))
}

/// A move that waits for its gates needs no look now: every step has its own. One that is refused or overrides something must not judge by an
/// old one.
async fn terms(
    app: &App,
    topics: Vec<Arc<str>>,
    wait: bool,
    overrides: Vec<AskedOverride>,
) -> Result<Terms, Problem> {
    if overrides.len() > MAX_OVERRIDES {
        return Err(Problem::invalid(format!(
            "`overrides` has {} entries; at most {MAX_OVERRIDES}",
            overrides.len()
        )));
    }
    let since = if wait && overrides.is_empty() {
        Duration::ZERO
    } else {
        app.handle.look_again(topics, FRESH).await?
    };
    Ok(Terms {
        wait,
        overrides,
        since,
    })
}

async fn moved(
    app: &App,
    actor: Actor,
    way: Way,
    topic: Arc<str>,
    to: Option<Stage>,
    terms: Terms,
) -> Result<TopicView, Problem> {
    let to = match to {
        Some(to) => Some(to),
        None => meant(&super::topics::view(app, Arc::clone(&topic)).await?, way)?,
    };
    let command = way.command(Arc::clone(&topic), to, terms);
    app.handle.command(actor, command).await?;
    super::topics::view(app, topic).await
}

/// What a word without a stage means while an earlier one is under way: the same. `None` for one step.
fn meant(view: &TopicView, way: Way) -> Result<Option<Stage>, Refusal> {
    let (stage, goal) = (view.stage, view.goal);
    match way {
        Way::Advance if goal > stage => Ok(Some(goal)),
        Way::Rollback if goal < stage => Ok(Some(goal)),
        // Published, and not yet applied by all. Nothing leads forward into the first stage.
        Way::Advance if goal == stage && stage != Stage::SourceOnly && !view.settled => {
            let topic = &view.topic;
            let Some(next) = stage.toward(Stage::TargetOnly) else {
                return Ok(Some(stage));
            };
            Err(Refusal::new(
                "conflict",
                format!(
                    "topic {topic} is in {stage} and not settled there yet: `crossfade topic wait {topic}` waits for it; to go further all the same, say where to (--to {next})"
                ),
            ))
        }
        Way::Advance | Way::Rollback => Ok(None),
    }
}

async fn checked(
    app: &App,
    topic: &Arc<str>,
    to: Option<Stage>,
    since: Duration,
) -> Result<TopicView, Problem> {
    let name = Arc::clone(topic);
    let view = app
        .handle
        .read(move |coordinator, now| coordinator.check(&name, to, since, now));
    view.await?
        .ok_or_else(|| Problem::from(Refusal::unknown(topic)))
}

async fn names(app: &App) -> Result<Vec<Arc<str>>, Problem> {
    let names = app
        .handle
        .read(|coordinator, _| coordinator.names().cloned().collect());
    Ok(names.await?)
}

fn bounded(topics: Vec<Arc<str>>) -> Result<Vec<Arc<str>>, Problem> {
    if topics.len() > MAX_TOPICS {
        return Err(Problem::invalid(format!(
            "{} topics; at most {MAX_TOPICS} in one request",
            topics.len()
        )));
    }
    Ok(topics)
}

impl Answered {
    fn of(topic: Arc<str>, outcome: Result<TopicView, Problem>) -> Self {
        match outcome {
            Ok(view) => Answered {
                topic,
                view: Some(view),
                problem: None,
            },
            Err(problem) => Answered {
                topic,
                view: None,
                problem: Some(problem.into_body()),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn word_without_a_stage_is_the_same_word_while_the_first_is_under_way() {
        let view = |stage: Stage, goal: Stage, settled: bool| -> TopicView {
            serde_json::from_value(json!({
                "topic": "orders", "stage": stage, "goal": goal, "settled": settled, "next": null, "ready": false,
                "weight_basis_points": 0, "revision": 1, "groups": [], "access": [null, null], "owed": [null, null],
                "sent": [0, 0], "handled": [0, 0], "gates": [], "trouble": null,
            }))
            .unwrap()
        };
        let (first, read, write) = (Stage::SourceOnly, Stage::DualRead, Stage::DualWrite);
        let advance = |view: TopicView| meant(&view, Way::Advance);
        assert_eq!(advance(view(read, write, false)), Ok(Some(write)));
        assert!(advance(view(read, read, false)).is_err());
        assert_eq!(advance(view(read, read, true)), Ok(None));
        // A topic that was just added waits for its first proof.
        assert_eq!(advance(view(first, first, false)), Ok(None));
        let rollback = |view: TopicView| meant(&view, Way::Rollback);
        assert_eq!(rollback(view(write, first, false)), Ok(Some(first)));
        // A way back is never refused because something has not settled.
        assert_eq!(rollback(view(write, write, false)), Ok(None));
    }
}
