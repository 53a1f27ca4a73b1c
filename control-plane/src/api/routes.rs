//! Every route. A test holds this table and the OpenAPI document against each other.

use axum::{
    Router,
    extract::Request,
    http::StatusCode,
    routing::{MethodRouter, delete, get, post},
};

use super::{App, health, instances, metrics, moves, openapi, problem::Problem, sync, topics};

/// Path, method, handler.
pub(super) fn table() -> Vec<(&'static str, &'static str, MethodRouter<App>)> {
    vec![
        ("/v1/sync", "post", post(sync::sync)),
        ("/v1/plan", "get", get(sync::plan)),
        ("/v1/topics", "get", get(topics::list)),
        ("/v1/topics", "post", post(topics::add)),
        ("/v1/topics/{topic}", "get", get(topics::show)),
        ("/v1/topics/{topic}", "delete", delete(topics::remove)),
        ("/v1/topics/{topic}/check", "get", get(moves::check)),
        ("/v1/topics/{topic}/clients", "get", get(moves::clients)),
        ("/v1/topics/{topic}/advance", "post", post(moves::advance)),
        ("/v1/topics/{topic}/rollback", "post", post(moves::rollback)),
        ("/v1/topics/{topic}/cancel", "post", post(topics::cancel)),
        (
            "/v1/topics/{topic}/weight",
            "post",
            post(topics::set_weight),
        ),
        ("/v1/checks", "get", get(moves::checks)),
        ("/v1/advance", "post", post(moves::advance_several)),
        ("/v1/rollback", "post", post(moves::rollback_several)),
        ("/v1/gates", "get", get(moves::catalogue)),
        ("/v1/instances", "get", get(instances::list)),
        (
            "/v1/instances/{instance}/confirm-gone",
            "post",
            post(instances::confirm_gone),
        ),
        ("/v1/audit", "get", get(instances::audit)),
        ("/v1/openapi.json", "get", get(openapi::document)),
        ("/healthz", "get", get(health::healthz)),
        ("/readyz", "get", get(health::readyz)),
        ("/metrics", "get", get(metrics::metrics)),
    ]
}

/// The whole API.
pub(crate) fn router(app: App) -> Router {
    let router = table()
        .into_iter()
        .fold(Router::new(), |router, (path, _, handler)| {
            router.route(path, handler)
        });
    router
        .fallback(unknown_path)
        .method_not_allowed_fallback(unknown_method)
        .with_state(app)
}

async fn unknown_path(request: Request) -> Problem {
    Problem::not_found(format!(
        "there is nothing at {}; GET /v1/openapi.json lists what there is",
        request.uri().path()
    ))
}

async fn unknown_method(request: Request) -> Problem {
    let (method, path) = (request.method(), request.uri().path());
    Problem::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "invalid_request",
        format!("{method} does nothing at {path}"),
    )
}
