//! What applications call: `POST /v1/sync` and `GET /v1/plan`.

use std::time::Duration;

use axum::{
    Json,
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use crossfade::{
    Revision,
    control::wire::{self, PlanDocument, SyncRequest, SyncResponse},
};

use super::{
    App,
    allowed::{PlanReader, Sdk},
    body::{Document, Report},
    problem::Problem,
};
/// The most of each list in one report.
const MAX_ENTRIES: usize = 100_000;
/// The longest name.
const MAX_NAME_BYTES: usize = 255;

/// Registers, takes what is reported, answers with the plans that have changed; keeps the request open while there are none.
pub(super) async fn sync(
    _: Sdk,
    State(app): State<App>,
    Document(request): Report<SyncRequest>,
) -> Result<Json<SyncResponse>, Problem> {
    check(&request)?;
    let known = request.known_revision;
    let Some((response, wait)) = app.handle.register(request).await? else {
        return Err(Problem::new(
            StatusCode::CONFLICT,
            "superseded",
            "a newer process runs under this instance name; give every process a name of its own",
        ));
    };
    if wait.is_zero() {
        return Ok(Json(response));
    }
    let Ok(_open) = app.polls.try_acquire() else {
        return Err(Problem::unavailable("too many polls are open; ask again"));
    };
    let mut stopping = app.stopping.clone();
    let stopped = async {
        // The sender lives as long as the server.
        let _ = stopping.wait_for(|stopping| *stopping).await;
    };
    tokio::select! {
        biased;
        news = app.handle.news(known, wait) => return Ok(Json(news?)),
        () = stopped => {}
    }
    Ok(Json(app.handle.news(known, Duration::ZERO).await?))
}

/// The same plans, read-only.
pub(super) async fn plan(
    _: PlanReader,
    State(app): State<App>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let answer = app.handle.plans_after(Revision(0)).await?;
    let plans = answer.plans;
    let tag = format!("\"{}-{}\"", answer.epoch, plans.revision);
    let known = headers
        .get_all(header::IF_NONE_MATCH)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|known| matches!(known.trim(), "*") || known.trim().trim_start_matches("W/") == tag);
    let tag = [
        (header::ETAG, tag),
        (header::CACHE_CONTROL, "no-cache".into()),
    ];
    if known {
        return Ok((StatusCode::NOT_MODIFIED, tag).into_response());
    }
    Ok((tag, Json::<PlanDocument>(plans)).into_response())
}

fn check(request: &SyncRequest) -> Result<(), Problem> {
    if request.version != wire::VERSION {
        return Err(Problem::invalid(format!(
            "version {} of the format is not known here; this control plane speaks version {}",
            request.version,
            wire::VERSION
        )));
    }
    let names = [
        ("instance", &request.instance),
        ("incarnation", &request.incarnation),
    ];
    for (field, name) in names {
        let usable =
            !name.is_empty() && name.len() <= MAX_NAME_BYTES && !name.chars().any(char::is_control);
        if !usable {
            return Err(Problem::invalid(format!(
                "`{field}` must be 1 to {MAX_NAME_BYTES} bytes of text without control characters"
            )));
        }
    }
    let lists = [
        ("client_ids", request.client_ids.len()),
        ("roles", request.roles.len()),
        ("acks", request.acks.len()),
        ("counters", request.counters.len()),
        ("refused", request.refused.len()),
    ];
    for (field, length) in lists {
        if length > MAX_ENTRIES {
            return Err(Problem::invalid(format!(
                "`{field}` has {length} entries; at most {MAX_ENTRIES}"
            )));
        }
    }
    Ok(())
}
