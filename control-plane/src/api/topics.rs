//! What operators call for topics.

use std::{sync::Arc, time::Duration};

use axum::{
    Json,
    extract::{Path, State},
    http::StatusCode,
};
use crossfade::stage::{Routing, Weight};
use serde::{Deserialize, Serialize};

use super::{
    App,
    allowed::{Operator, Reader},
    body::Document,
    problem::Problem,
};
use crate::coordinator::{Command, Refusal, TopicView};

/// How long a removal waits for the target to be open again; it goes on by itself after that.
const REMOVAL: Duration = Duration::from_secs(10);

/// `POST /v1/topics`.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AddTopic {
    /// The topic, under the same name on both sides.
    pub(crate) topic: Arc<str>,
    /// The groups that move with it.
    pub(crate) groups: Vec<Arc<str>>,
    /// The target's share in `DualWrite`, 0 to 10 000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) weight_basis_points: Option<u32>,
    /// Whether messages with the same ordering key stay in order while the topic moves. For good.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) ordered: bool,
    /// Why the target may be sealed although somebody uses the topic there; kept in the audit log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) target_in_use: Option<String>,
}

/// `POST /v1/topics/{topic}/weight`.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SetWeight {
    /// The target's share in `DualWrite`, 0 to 10 000.
    pub(crate) weight_basis_points: u32,
}

pub(super) async fn list(
    _: Reader,
    State(app): State<App>,
) -> Result<Json<Vec<TopicView>>, Problem> {
    let topics = app.handle.read(|coordinator, now| coordinator.topics(now));
    Ok(Json(topics.await?))
}

pub(super) async fn show(
    _: Reader,
    State(app): State<App>,
    Path(topic): Path<Arc<str>>,
) -> Result<Json<TopicView>, Problem> {
    view(&app, topic).await.map(Json)
}

pub(super) async fn add(
    Operator(actor): Operator,
    State(app): State<App>,
    Document(body): Document<AddTopic>,
) -> Result<(StatusCode, Json<TopicView>), Problem> {
    let weight = body.weight_basis_points.map(weight).transpose()?;
    let routing = match body.ordered {
        true => Routing::Ordered,
        false => Routing::Unordered,
    };
    app.handle.can_move(routing).await?;
    let described = app.handle.describe(&body.topic).await?;
    let topic = Arc::clone(&body.topic);
    let accepted = body
        .target_in_use
        .filter(|reason| !reason.trim().is_empty());
    if accepted.is_none() {
        let found = app
            .handle
            .use_of_target(&topic, &body.groups, &described)
            .await?;
        if !found.is_empty() {
            return Err(Problem::from(Refusal::new(
                "conflict",
                format!(
                    "topic {topic} is in use on the target, which would be sealed now: {}. Stop that first; or, if its sends there may fail and its messages wait, say so \
                     (--target-in-use REASON)",
                    found.join("; ")
                ),
            )));
        }
    }
    let command = Command::Add {
        topic: body.topic,
        groups: body.groups,
        weight,
        routing,
        described,
        accepted,
    };
    app.handle.command(actor, command).await?;
    Ok((StatusCode::CREATED, Json(view(&app, topic).await?)))
}

pub(super) async fn remove(
    Operator(actor): Operator,
    State(app): State<App>,
    Path(topic): Path<Arc<str>>,
) -> Result<StatusCode, Problem> {
    let name = Arc::clone(&topic);
    app.handle.command(actor, Command::Remove { topic }).await?;
    app.handle.removed(name, REMOVAL).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn cancel(
    Operator(actor): Operator,
    State(app): State<App>,
    Path(topic): Path<Arc<str>>,
) -> Result<Json<TopicView>, Problem> {
    let name = Arc::clone(&topic);
    app.handle.command(actor, Command::Cancel { topic }).await?;
    view(&app, name).await.map(Json)
}

pub(super) async fn set_weight(
    Operator(actor): Operator,
    State(app): State<App>,
    Path(topic): Path<Arc<str>>,
    Document(body): Document<SetWeight>,
) -> Result<Json<TopicView>, Problem> {
    let name = Arc::clone(&topic);
    let weight = weight(body.weight_basis_points)?;
    app.handle
        .command(actor, Command::SetWeight { topic, weight })
        .await?;
    view(&app, name).await.map(Json)
}

pub(super) async fn view(app: &App, topic: Arc<str>) -> Result<TopicView, Problem> {
    let name = Arc::clone(&topic);
    let view = app
        .handle
        .read(move |coordinator, now| coordinator.topic(&topic, now));
    view.await?
        .ok_or_else(|| Problem::from(Refusal::unknown(&name)))
}

fn weight(basis_points: u32) -> Result<Weight, Problem> {
    Weight::from_basis_points(basis_points)
        .map_err(|error| Problem::invalid(format!("weight_basis_points: {}", error.message())))
}
