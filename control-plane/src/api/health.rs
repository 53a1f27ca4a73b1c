//! For load balancers and supervisors.

use axum::extract::State;

use super::{App, problem::Problem};

/// The process answers.
pub(super) async fn healthz() -> &'static str {
    "ok\n"
}

/// Requests would be served: the coordinator answers and the store takes writes of this epoch.
pub(super) async fn readyz(State(app): State<App>) -> Result<&'static str, Problem> {
    app.handle.read(|_, _| ()).await?;
    let store = app.store.check().await;
    store.map_err(|error| Problem::unavailable(error.to_string()))?;
    Ok("ready\n")
}
