//! Who may do what.

use crossfade_control_plane::{
    Operator, ServeOptions, Server,
    api::{Token, Tokens},
};
use reqwest::{Method, StatusCode};

use crate::support::*;

fn tokens() -> Tokens {
    Tokens {
        sdk: Some(Token::new("for-sdk").unwrap()),
        read_only: Some(Token::new("for-eyes").unwrap()),
        operator: Some(Token::new("for-hands").unwrap()),
    }
}

#[tokio::test]
async fn each_token_opens_what_it_is_for() {
    let clusters = Clusters::new().await;
    let server = Server::start(ServeOptions {
        tokens: tokens(),
        ..clusters.options()
    })
    .await
    .unwrap();
    let http = reqwest::Client::new();
    let sync = r#"{"version":1,"instance":"i","incarnation":"0"}"#;
    const OK: StatusCode = StatusCode::OK;
    const NO: StatusCode = StatusCode::FORBIDDEN;
    const GONE: StatusCode = StatusCode::NOT_FOUND;
    // Of sdk, read-only, operator.
    let table = [
        (Method::POST, "/v1/sync", sync, [OK, NO, OK]),
        (Method::GET, "/v1/plan", "", [OK, OK, OK]),
        (Method::GET, "/v1/topics", "", [NO, OK, OK]),
        (Method::GET, "/v1/instances", "", [NO, OK, OK]),
        (Method::GET, "/v1/audit", "", [NO, OK, OK]),
        (Method::GET, "/metrics", "", [NO, OK, OK]),
        (
            Method::POST,
            "/v1/topics/none/advance",
            "{}",
            [NO, NO, GONE],
        ),
        (Method::DELETE, "/v1/topics/none", "", [NO, NO, GONE]),
        (
            Method::POST,
            "/v1/instances/none/confirm-gone",
            r#"{"reason":"x"}"#,
            [NO, NO, GONE],
        ),
    ];
    for (method, path, body, expected) in table {
        let url = format!("{}{path}", server.url());
        for (token, expected) in ["for-sdk", "for-eyes", "for-hands"]
            .into_iter()
            .zip(expected)
        {
            let request = http
                .request(method.clone(), &url)
                .bearer_auth(token)
                .body(body);
            assert_eq!(
                request.send().await.unwrap().status(),
                expected,
                "{method} {path} {token}"
            );
        }
        for wrong in [None, Some("for-hand"), Some("for-hands2"), Some("")] {
            let mut request = http.request(method.clone(), &url).body(body);
            if let Some(token) = wrong {
                request = request.bearer_auth(token);
            }
            let (status, problem) = problem(request.send().await.unwrap()).await;
            assert_eq!(
                status,
                StatusCode::UNAUTHORIZED,
                "{method} {path} {wrong:?}"
            );
            assert_eq!(problem.code, "unauthorized");
        }
    }
    for open in ["/healthz", "/readyz", "/v1/openapi.json"] {
        assert_eq!(
            http.get(format!("{}{open}", server.url()))
                .send()
                .await
                .unwrap()
                .status(),
            OK,
            "{open}"
        );
    }
    let stranger = Operator::new(server.url(), Some("for-sdk")).unwrap();
    assert_eq!(stranger.topics().await.unwrap_err().code(), "forbidden");
    server.operator().topics().await.unwrap();
}

#[tokio::test]
async fn without_tokens_other_machines_are_not_listened_to() {
    let clusters = Clusters::new().await;
    let open = ServeOptions {
        listen: "0.0.0.0:0".into(),
        ..clusters.options()
    };
    assert!(
        Server::start(open.clone())
            .await
            .unwrap_err()
            .contains("token")
    );
    Server::start(ServeOptions {
        tokens: tokens(),
        ..open
    })
    .await
    .unwrap();
}
