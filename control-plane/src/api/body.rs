//! Reading a request's body: bounded in size and time before it is parsed.

use std::{error::Error as _, time::Duration};

use axum::{
    body::{Body, Bytes, HttpBody as _, to_bytes},
    extract::{FromRequest, Request},
    http::StatusCode,
};
use crossfade::control::wire;
use http_body_util::LengthLimitError;
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use super::problem::Problem;

/// The largest body of an operator's request, in bytes. An instance may report as much as [`wire::MAX_DOCUMENT_BYTES`].
pub(super) const MAX_COMMAND_BYTES: usize = 1024 * 1024;
/// How long a body may take to arrive.
const ARRIVAL: Duration = Duration::from_secs(10);

/// A JSON body of at most `LIMIT` bytes. An empty body is an empty object.
#[derive(Debug)]
pub(super) struct Document<T, const LIMIT: usize = MAX_COMMAND_BYTES>(pub(super) T);

/// What an instance reports.
pub(super) type Report<T> = Document<T, { wire::MAX_DOCUMENT_BYTES }>;

impl<S: Send + Sync, T: DeserializeOwned, const LIMIT: usize> FromRequest<S>
    for Document<T, LIMIT>
{
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        let bytes = read(request.into_body(), LIMIT).await?;
        let text: &[u8] = if bytes.is_empty() { b"{}" } else { &bytes };
        match serde_json::from_slice(text) {
            Ok(document) => Ok(Document(document)),
            Err(error) => Err(Problem::invalid(format!(
                "the body is not what is expected here: {error}"
            ))),
        }
    }
}

async fn read(body: Body, limit: usize) -> Result<Bytes, Problem> {
    let too_large = || {
        Problem::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "invalid_request",
            format!("the body is larger than {limit} bytes"),
        )
    };
    let announced = body.size_hint().lower();
    if announced > u64::try_from(limit).unwrap_or(u64::MAX) {
        return Err(too_large());
    }
    match timeout(ARRIVAL, to_bytes(body, limit)).await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(error))
            if error
                .source()
                .is_some_and(|source| source.is::<LengthLimitError>()) =>
        {
            Err(too_large())
        }
        Ok(Err(error)) => Err(Problem::invalid(format!(
            "the body could not be read: {error}"
        ))),
        Err(_) => Err(Problem::new(
            StatusCode::REQUEST_TIMEOUT,
            "invalid_request",
            format!("the body did not arrive within {ARRIVAL:?}"),
        )),
    }
}
