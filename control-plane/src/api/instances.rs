//! Instances and the audit log.

use axum::{
    Json,
    extract::{Path, Query, State, rejection::QueryRejection},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};

use super::{
    App,
    allowed::{Operator, Reader},
    body::Document,
    problem::Problem,
};
use crate::{
    coordinator::{Command, InstanceView},
    store::{AuditLine, MAX_AUDIT_PAGE},
};

/// Audit lines on a page, when the request does not say.
const AUDIT_PAGE: u32 = 100;
/// The longest reason, in bytes.
const MAX_REASON_BYTES: usize = 1_000;

/// `POST /v1/instances/{instance}/confirm-gone`.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ConfirmGone {
    /// How the operator knows. Kept in the audit log.
    pub(crate) reason: String,
}

/// The word on an instance was taken although there are signs that it still runs.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct StillListed {
    /// Where the last looks found its client ids, and how long ago, in words.
    pub(crate) still_listed: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Page {
    before: Option<u64>,
    limit: Option<u32>,
}

pub(super) async fn list(
    _: Reader,
    State(app): State<App>,
) -> Result<Json<Vec<InstanceView>>, Problem> {
    let instances = app
        .handle
        .read(|coordinator, now| coordinator.instances(now));
    Ok(Json(instances.await?))
}

pub(super) async fn confirm_gone(
    Operator(actor): Operator,
    State(app): State<App>,
    Path(instance): Path<String>,
    Document(ConfirmGone { reason }): Document<ConfirmGone>,
) -> Result<Response, Problem> {
    let reason = reason.trim().to_owned();
    if reason.is_empty() || reason.len() > MAX_REASON_BYTES {
        return Err(Problem::invalid(format!(
            "`reason` must be 1 to {MAX_REASON_BYTES} bytes: how do you know that it is gone?"
        )));
    }
    let name = instance.clone();
    let listed = app
        .handle
        .read(move |coordinator, now| coordinator.still_listed(&name, now));
    let still_listed = listed.await?;
    app.handle
        .command(actor, Command::ConfirmGone { instance, reason })
        .await?;
    if still_listed.is_empty() {
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    Ok(Json(StillListed { still_listed }).into_response())
}

pub(super) async fn audit(
    _: Reader,
    State(app): State<App>,
    page: Result<Query<Page>, QueryRejection>,
) -> Result<Json<Vec<AuditLine>>, Problem> {
    let Query(page) = page.map_err(|rejection| Problem::invalid(rejection.body_text()))?;
    let limit = page.limit.unwrap_or(AUDIT_PAGE);
    if limit == 0 || limit > MAX_AUDIT_PAGE {
        return Err(Problem::invalid(format!(
            "`limit` is {limit}; 1 to {MAX_AUDIT_PAGE}"
        )));
    }
    let lines = app.store.audit(page.before, limit).await;
    lines
        .map(Json)
        .map_err(|error| Problem::unavailable(error.to_string()))
}
