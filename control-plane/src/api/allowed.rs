//! Who may call a handler: its first argument, so that a request without the right token is refused before its body is read.

use axum::{extract::FromRequestParts, http::request::Parts};

use super::{App, Role, problem::Problem};
use crate::coordinator::Actor;

/// An application, or an operator.
#[derive(Debug)]
pub(super) struct Sdk;

/// An application, or anybody who may look.
#[derive(Debug)]
pub(super) struct PlanReader;

/// Anybody who may look.
#[derive(Debug)]
pub(super) struct Reader;

/// Somebody who decides.
#[derive(Debug)]
pub(super) struct Operator(pub(super) Actor);

impl FromRequestParts<App> for Sdk {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        app.tokens.check(&parts.headers, &[Role::Sdk])?;
        Ok(Sdk)
    }
}

impl FromRequestParts<App> for PlanReader {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let allowed = [Role::Sdk, Role::ReadOnly];
        app.tokens.check(&parts.headers, &allowed)?;
        Ok(PlanReader)
    }
}

impl FromRequestParts<App> for Reader {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        app.tokens.check(&parts.headers, &[Role::ReadOnly])?;
        Ok(Reader)
    }
}

impl FromRequestParts<App> for Operator {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let role = app.tokens.check(&parts.headers, &[])?;
        Ok(Operator(Actor {
            name: String::new(),
            role: role.as_str().into(),
        }))
    }
}
