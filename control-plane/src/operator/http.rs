//! Requests to the control plane.

use std::{error::Error as _, time::Duration};

use crossfade::control::wire::{MAX_DOCUMENT_BYTES, Problem};
use reqwest::{Client, Method, RequestBuilder, Url, header};
use serde::{Serialize, de::DeserializeOwned};

use super::OperatorError;

/// How long one request may take.
const REQUEST: Duration = Duration::from_secs(30);
/// How long connecting may take.
const CONNECT: Duration = Duration::from_secs(5);

/// Calls one control plane.
#[derive(Clone, Debug)]
pub(super) struct Http {
    client: Client,
    base: Url,
    token: Option<header::HeaderValue>,
}

impl Http {
    pub(super) fn new(url: &str, token: Option<&str>) -> Result<Self, OperatorError> {
        let unusable = |why: &dyn std::fmt::Display| {
            OperatorError::new(
                "invalid_request",
                format!("{url}: {why}; the address of a control plane is http://host:port"),
            )
        };
        let base = Url::parse(url).map_err(|error| unusable(&error))?;
        match base.scheme() {
            _ if base.cannot_be_a_base() => return Err(unusable(&"it names no host")),
            "http" => {}
            "https" if cfg!(feature = "https") => {}
            "https" => {
                let why = "`crossfade serve` itself speaks plain HTTP; to reach a proxy with TLS before it, build this program with the cargo feature `https`";
                return Err(unusable(&why));
            }
            _ => return Err(unusable(&"only http:// and https:// are spoken")),
        }
        let token = token
            .map(|token| {
                let mut value = header::HeaderValue::try_from(format!("Bearer {token}"))?;
                value.set_sensitive(true);
                Ok(value)
            })
            .transpose()
            .map_err(|_: header::InvalidHeaderValue| {
                OperatorError::new(
                    "invalid_request",
                    "the token has characters that no header may have",
                )
            })?;
        let client = Client::builder()
            .timeout(REQUEST)
            .connect_timeout(CONNECT)
            // As the SDK: the address names the control plane itself, and the token is for it alone.
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(|error| OperatorError::new("failed", format!("no HTTP client: {error}")))?;
        Ok(Http {
            client,
            base,
            token,
        })
    }

    pub(super) async fn get<T: DeserializeOwned>(
        &self,
        path: &[&str],
        query: &[(&str, String)],
    ) -> Result<T, OperatorError> {
        read(&self.call(Method::GET, path, query, None).await?)
    }

    pub(super) async fn post<T: DeserializeOwned>(
        &self,
        path: &[&str],
        body: &impl Serialize,
    ) -> Result<T, OperatorError> {
        read(&self.send(path, body).await?)
    }

    /// A call whose answer has no body.
    pub(super) async fn send(
        &self,
        path: &[&str],
        body: &impl Serialize,
    ) -> Result<Vec<u8>, OperatorError> {
        let body = serde_json::to_vec(body)
            .map_err(|error| OperatorError::new("failed", error.to_string()))?;
        self.call(Method::POST, path, &[], Some(body)).await
    }

    pub(super) async fn delete(&self, path: &[&str]) -> Result<(), OperatorError> {
        self.call(Method::DELETE, path, &[], None).await.map(drop)
    }

    async fn call(
        &self,
        method: Method,
        path: &[&str],
        query: &[(&str, String)],
        body: Option<Vec<u8>>,
    ) -> Result<Vec<u8>, OperatorError> {
        let mut response = self
            .request(method, path, query, body)
            .send()
            .await
            .map_err(|error| self.unreachable(&error))?;
        let status = response.status();
        let mut bytes = Vec::new();
        while let Some(chunk) = response
            .chunk()
            .await
            .map_err(|error| self.unreachable(&error))?
        {
            if bytes.len() + chunk.len() > MAX_DOCUMENT_BYTES {
                let what = format!(
                    "{}: the answer is larger than {MAX_DOCUMENT_BYTES} bytes",
                    self.base
                );
                return Err(OperatorError::new("failed", what));
            }
            bytes.extend_from_slice(&chunk);
        }
        if status.is_success() {
            return Ok(bytes);
        }
        match serde_json::from_slice::<Problem>(&bytes) {
            Ok(problem) => Err(OperatorError::from(problem)),
            Err(_) => Err(OperatorError::new(
                "failed",
                format!(
                    "{} answers {status} and is perhaps no control plane",
                    self.base
                ),
            )),
        }
    }

    fn request(
        &self,
        method: Method,
        path: &[&str],
        query: &[(&str, String)],
        body: Option<Vec<u8>>,
    ) -> RequestBuilder {
        let mut url = self.base.clone();
        // Cannot fail: `new` has refused addresses without a path.
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().push("v1").extend(path);
        }
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        let mut request = self.client.request(method, url);
        if let Some(token) = &self.token {
            request = request.header(header::AUTHORIZATION, token.clone());
        }
        if let Some(body) = body {
            let json = header::HeaderValue::from_static("application/json");
            request = request.header(header::CONTENT_TYPE, json).body(body);
        }
        request
    }

    fn unreachable(&self, error: &reqwest::Error) -> OperatorError {
        let mut why = error.to_string();
        let mut cause = error.source();
        while let Some(inner) = cause {
            why = inner.to_string();
            cause = inner.source();
        }
        let base = &self.base;
        let hint = match base.scheme() {
            "https" => {
                "`crossfade serve` itself speaks plain HTTP: is there a proxy with TLS before it, with a certificate that this machine trusts?"
            }
            _ => "Is `crossfade serve` running there?",
        };
        OperatorError::new(
            "unreachable",
            format!("the control plane at {base} cannot be reached: {why}. {hint}"),
        )
    }
}

fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, OperatorError> {
    serde_json::from_slice(bytes).map_err(|error| {
        OperatorError::new(
            "failed",
            format!("the control plane's answer makes no sense here: {error}; are both programs of one version?"),
        )
    })
}
