//! Requests that cannot be served: each gets its status, a stable code, and changes nothing.

use std::time::Duration;

use crossfade::control::wire::{MAX_DOCUMENT_BYTES, PlanDocument, Problem};
use crossfade_control_plane::{ServeOptions, Server};
use reqwest::{Method, StatusCode, header};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use crate::support::*;

#[tokio::test]
async fn each_bad_request_gets_its_problem() {
    let clusters = Clusters::new().await;
    let server = clusters.serve().await;
    server.operator().add(TOPIC, &[GROUP]).await.unwrap();
    let http = reqwest::Client::new();
    let bad = (StatusCode::BAD_REQUEST, "invalid_request");
    let none = (StatusCode::NOT_FOUND, "not_found");
    let conflict = (StatusCode::CONFLICT, "conflict");
    let version = r#"{"version":2,"instance":"i","incarnation":"0"}"#;
    let nameless = r#"{"version":1,"instance":"","incarnation":"0"}"#;
    let table = [
        (Method::POST, "/v1/sync", "{", bad),
        (Method::POST, "/v1/sync", "", bad),
        (Method::POST, "/v1/sync", version, bad),
        (Method::POST, "/v1/sync", nameless, bad),
        (
            Method::POST,
            "/v1/topics",
            r#"{"topic":"orders","groups":["g"]}"#,
            conflict,
        ),
        (
            Method::POST,
            "/v1/topics",
            r#"{"topic":"orders","group":["g"]}"#,
            bad,
        ),
        (
            Method::POST,
            "/v1/topics",
            r#"{"topic":"x","groups":["g"],"weight_basis_points":10001}"#,
            bad,
        ),
        (Method::GET, "/v1/topics/none", "", none),
        (Method::POST, "/v1/topics/none/advance", "{}", none),
        (
            Method::POST,
            "/v1/topics/orders/advance",
            r#"{"to":"half_way"}"#,
            bad,
        ),
        (
            Method::POST,
            "/v1/topics/orders/weight",
            r#"{"weight_basis_points":10001}"#,
            bad,
        ),
        (
            Method::POST,
            "/v1/topics/orders/weight",
            r#"{"weight_basis_points":-1}"#,
            bad,
        ),
        (
            Method::POST,
            "/v1/topics/none/weight",
            r#"{"weight_basis_points":1}"#,
            none,
        ),
        (
            Method::POST,
            "/v1/instances/none/confirm-gone",
            r#"{"reason":" "}"#,
            bad,
        ),
        (Method::GET, "/v1/audit?limit=0", "", bad),
        (Method::GET, "/v1/audit?limit=x", "", bad),
        (Method::GET, "/v1/nothing", "", none),
        (
            Method::PUT,
            "/v1/topics",
            "",
            (StatusCode::METHOD_NOT_ALLOWED, "invalid_request"),
        ),
    ];
    for (method, path, body, (status, code)) in table {
        let sent = http
            .request(method.clone(), format!("{}{path}", server.url()))
            .body(body)
            .send();
        let (found, problem) = problem(sent.await.unwrap()).await;
        assert_eq!(
            (found, problem.code.as_str()),
            (status, code),
            "{method} {path} {body}"
        );
        assert!(!problem.message.is_empty());
    }
    assert_eq!(server.operator().topics().await.unwrap().len(), 1);
    assert!(server.operator().instances().await.unwrap().is_empty());
}

#[tokio::test]
async fn topic_that_is_not_on_both_clusters_is_not_added_and_each_side_is_named_that_lacks_it() {
    let clusters = Clusters::new().await;
    let server = clusters.serve().await;
    for (index, topic) in ["there", "here"].into_iter().enumerate() {
        let admin = clusters.backends[index].admin();
        admin.create_topic(topic, 1).await.unwrap();
    }
    for (topic, sides) in [
        ("there", [false, true]),
        ("here", [true, false]),
        ("nowhere", [true, true]),
    ] {
        let refused = server.operator().add(topic, &[GROUP]).await.unwrap_err();
        assert_eq!(refused.code(), "not_found");
        let named = ["source", "target"].map(|side| refused.to_string().contains(side));
        assert_eq!(named, sides, "{refused}");
    }
    assert!(server.operator().topics().await.unwrap().is_empty());
}

#[tokio::test]
async fn oversized_body_is_refused_before_it_is_sent() {
    let clusters = Clusters::new().await;
    let server = clusters.serve().await;
    for (path, bytes) in [
        ("/v1/sync", MAX_DOCUMENT_BYTES + 1),
        ("/v1/topics", 2 * 1024 * 1024),
    ] {
        let mut stream = TcpStream::connect(server.address()).await.unwrap();
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {bytes}\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut answer = String::new();
        timeout(PATIENCE, stream.read_to_string(&mut answer))
            .await
            .unwrap()
            .unwrap();
        assert!(answer.starts_with("HTTP/1.1 413 "), "{path}: {answer}");
        let body = answer.split("\r\n\r\n").nth(1).unwrap();
        let problem: Problem = serde_json::from_str(body).unwrap();
        assert_eq!(problem.code, "invalid_request");
    }
}

#[tokio::test]
async fn oversized_body_of_unknown_length_is_cut_off() {
    let clusters = Clusters::new().await;
    let server = clusters.serve().await;
    let mut stream = TcpStream::connect(server.address()).await.unwrap();
    let bytes = 1024 * 1024 + 1;
    let head = format!(
        "POST /v1/topics HTTP/1.1\r\nhost: x\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n{bytes:x}\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(&vec![b' '; bytes]).await.unwrap();
    stream.write_all(b"\r\n0\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    // The connection may be reset once the answer is out.
    let _ = timeout(PATIENCE, stream.read_to_end(&mut answer))
        .await
        .unwrap();
    let answer = String::from_utf8_lossy(&answer);
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
}

#[tokio::test]
async fn plans_are_not_sent_again_while_nothing_has_changed() {
    let clusters = Clusters::new().await;
    let server = clusters.serve().await;
    let http = reqwest::Client::new();
    let plan = format!("{}/v1/plan", server.url());
    let first = http.get(&plan).send().await.unwrap();
    let tag = first.headers()[header::ETAG].clone();
    let again = http
        .get(&plan)
        .header(header::IF_NONE_MATCH, &tag)
        .send()
        .await
        .unwrap();
    assert_eq!(again.status(), StatusCode::NOT_MODIFIED);
    assert_eq!(again.headers()[header::ETAG], tag);
    assert!(again.bytes().await.unwrap().is_empty());
    server.operator().add(TOPIC, &[GROUP]).await.unwrap();
    let changed = http
        .get(&plan)
        .header(header::IF_NONE_MATCH, &tag)
        .send()
        .await
        .unwrap();
    assert_eq!(changed.status(), StatusCode::OK);
    assert_ne!(changed.headers()[header::ETAG], tag);
    let document: PlanDocument = serde_json::from_slice(&changed.bytes().await.unwrap()).unwrap();
    assert_eq!(
        document.clusters.source.as_deref(),
        Some(&*clusters.addresses[0])
    );
    assert_eq!(&*document.plans[0].topic, TOPIC);
}

#[tokio::test]
async fn older_process_of_a_name_learns_that_it_is_superseded() {
    let clusters = Clusters::new().await;
    let server = clusters.serve().await;
    let mut old = Hand::new(server.url(), "orders-1");
    old.request.lease_mode = crossfade::control::wire::LeaseMode::Stop;
    old.sync(Duration::ZERO).await.unwrap();
    let mut new = Hand::new(server.url(), "orders-1");
    let superseded = async {
        // The lease of the old one must be over first; until then both are members.
        while !server
            .operator()
            .instances()
            .await
            .unwrap()
            .iter()
            .any(|instance| instance.superseded)
        {
            new.sync(Duration::ZERO).await.unwrap();
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(PATIENCE, superseded).await.unwrap();
    let (status, problem) = old.sync(Duration::ZERO).await.unwrap_err();
    assert_eq!(
        (status, problem.code.as_str()),
        (StatusCode::CONFLICT, "superseded")
    );
}

#[tokio::test]
async fn options_that_cannot_be_used_are_refused_at_the_start() {
    let clusters = Clusters::new().await;
    let good = clusters.options();
    let bad = [
        ServeOptions {
            listen: "7070".into(),
            ..good.clone()
        },
        ServeOptions {
            store: "postgres://x".into(),
            ..good.clone()
        },
        ServeOptions::in_memory("kafka://x", "memory://y"),
        ServeOptions::in_memory("", ""),
    ];
    for options in bad {
        assert!(Server::start(options).await.is_err());
    }
}
