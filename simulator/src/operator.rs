//! Operators: what they ask of the control plane, by calls or over its HTTP API.

use std::{sync::Arc, time::Duration};

use crossfade::{
    Error,
    control::{HttpRequest, HttpTransport},
    stage::Stage,
};
use crossfade_control_plane::coordinator::{Command, InstanceView, Refusal, Terms, TopicView};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use crate::{
    GROUPS, TOPIC,
    effect::Effects,
    http::{ADDRESS, Counts, Http, OPERATOR_TOKEN},
    link::Address,
    wire::Wire,
};

/// How long an answer may take.
const WITHIN: Duration = Duration::from_secs(30);

/// Where operators sit: their own network works.
#[derive(Debug)]
pub(crate) struct Desk {
    address: Address,
    http: Option<Http>,
}

impl Desk {
    pub(crate) fn new(address: Address, http: Option<Counts>) -> Self {
        let wire = Wire::new(Effects::default(), 0);
        Desk {
            http: http.map(|counts| Http::new(address.clone(), wire, counts)),
            address,
        }
    }

    pub(crate) async fn add(&self) -> Result<(), Refusal> {
        if let Some(http) = &self.http {
            let body = json!({"topic": TOPIC, "groups": GROUPS});
            return ask::<Value>(http, "POST", "/v1/topics", Some(body))
                .await
                .map(drop);
        }
        self.caller()?.add(TOPIC, &GROUPS).await
    }

    pub(crate) async fn command(&self, command: Command) -> Result<(), Refusal> {
        let Some(http) = &self.http else {
            return self.caller()?.command("operator", command).await;
        };
        let (path, body) = match command {
            Command::Advance { to, terms, .. } => {
                ("advance", json!({"to": to, "wait": terms.wait}))
            }
            Command::Rollback { to, terms, .. } => {
                ("rollback", json!({"to": to, "wait": terms.wait}))
            }
            Command::Cancel { .. } => ("cancel", json!({})),
            Command::SetWeight { weight, .. } => ("weight", json!({"weight_basis_points": weight})),
            Command::ConfirmGone { instance, reason } => {
                let path = format!("/v1/instances/{instance}/confirm-gone");
                let body = json!({"reason": reason});
                return send(http, "POST", &path, Some(body)).await.map(drop);
            }
            other => unreachable!("no operator here asks for {other:?}"),
        };
        let path = format!("/v1/topics/{TOPIC}/{path}");
        ask::<Value>(http, "POST", &path, Some(body))
            .await
            .map(drop)
    }

    pub(crate) async fn view(&self) -> Option<TopicView> {
        match &self.http {
            Some(http) => {
                let path = format!("/v1/topics/{TOPIC}");
                ask(http, "GET", &path, None).await.ok()
            }
            None => self.caller().ok()?.topic(TOPIC).await.ok().flatten(),
        }
    }

    pub(crate) async fn instances(&self) -> Vec<InstanceView> {
        match &self.http {
            Some(http) => ask(http, "GET", "/v1/instances", None).await,
            None => match self.caller() {
                Ok(caller) => caller.instances().await,
                Err(refusal) => Err(refusal),
            },
        }
        .unwrap_or_default()
    }

    fn caller(&self) -> Result<crossfade_control_plane::embedded::Caller, Refusal> {
        let caller = self.address.caller();
        caller.ok_or_else(|| refusal("the control plane is down"))
    }
}

async fn ask<T: DeserializeOwned>(
    http: &Http,
    method: &str,
    path: &str,
    body: Option<Value>,
) -> Result<T, Refusal> {
    let answer = send(http, method, path, body).await?;
    serde_json::from_slice(&answer).map_err(|error| refusal(&format!("{path}: {error}")))
}

async fn send(
    http: &Http,
    method: &str,
    path: &str,
    body: Option<impl Serialize>,
) -> Result<Vec<u8>, Refusal> {
    let body = body.map(|body| serde_json::to_vec(&body).unwrap_or_default());
    let request = HttpRequest::new(method, format!("{ADDRESS}{path}"), body, WITHIN)
        .and_then(|request| request.with_bearer(OPERATOR_TOKEN));
    let answered = match request {
        Ok(request) => http.exchange(request).await,
        Err(error) => Err(error),
    };
    let response = answered.map_err(|error: Error| refusal(error.message()))?;
    match response.status.is_success() {
        true => Ok(response.body),
        false => Err(serde_json::from_slice::<Value>(&response.body)
            .map(|problem| Refusal {
                code: match problem["code"].as_str() {
                    Some("blocked") => "blocked",
                    Some("conflict") => "conflict",
                    Some("not_found") => "not_found",
                    Some("unavailable") => "unavailable",
                    _ => "invalid_request",
                },
                message: problem["message"].as_str().unwrap_or_default().to_owned(),
                gates: Vec::new(),
            })
            .unwrap_or_else(|_| refusal("no problem document"))),
    }
}

fn refusal(why: &str) -> Refusal {
    Refusal {
        code: "unavailable",
        message: why.to_owned(),
        gates: Vec::new(),
    }
}

/// The command that leads from one stage to another, over all that lie between.
pub(crate) fn toward(from: Stage, to: Stage) -> Command {
    let topic: Arc<str> = TOPIC.into();
    let terms = Terms::waiting();
    match to > from {
        true => Command::Advance {
            topic,
            to: Some(to),
            terms,
        },
        false => Command::Rollback {
            topic,
            to: Some(to),
            terms,
        },
    }
}
