use std::sync::{Arc, Mutex};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

use super::*;
use crate::{
    control::{
        PlanSource,
        wire::{MAX_DOCUMENT_BYTES, SyncRequest, SyncResponse, VERSION},
    },
    side::Revision,
};

/// Gives every request the next of these bytes (the last one again and again), closes, and notes what was asked.
struct Server {
    address: String,
    asked: Arc<Mutex<Vec<String>>>,
    _task: JoinSet<()>,
}

async fn server(answers: Vec<Vec<u8>>) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let asked = Arc::new(Mutex::new(Vec::new()));
    let mut task = JoinSet::new();
    let seen = Arc::clone(&asked);
    task.spawn(async move {
        for round in 0.. {
            let (mut stream, _) = listener.accept().await.unwrap();
            let request = read_request(&mut stream).await;
            seen.lock().unwrap().push(request);
            let answer = &answers[round.min(answers.len() - 1)];
            // A client that has had enough closes before all is written.
            let _ = stream.write_all(answer).await;
        }
    });
    Server {
        address,
        asked,
        _task: task,
    }
}

async fn read_request(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&bytes).to_lowercase();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head
                .lines()
                .find_map(|l| l.strip_prefix("content-length: "));
            if body.len() >= length.map_or(0, |length| length.parse().unwrap()) {
                return text;
            }
        }
        assert!(stream.read_buf(&mut bytes).await.unwrap() > 0);
    }
}

fn http(status: &str, headers: &str, body: &str) -> Vec<u8> {
    format!(
        "HTTP/1.1 {status}\r\nconnection: close\r\n{headers}content-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

fn request(known: u64) -> SyncRequest {
    SyncRequest {
        version: VERSION,
        instance: "orders-7".into(),
        known_revision: Revision(known),
        ..SyncRequest::default()
    }
}

async fn sync(server: &Server) -> Result<SyncResponse> {
    let token = Token::Text("s3cret".into());
    let source = HttpPlans::new(&server.address, token).unwrap();
    source.sync(&request(0)).await
}

const PLANS: &str = r#"{"version":1,"epoch":2,"revision":7,"lease_ms":30000,"plans":[
    {"topic":"orders","stage":"dual_read","weight_basis_points":0,"revision":7,"previous_revision":0}],"news":true}"#;

#[tokio::test]
async fn sync_posts_the_request_with_the_token_and_reads_the_answer() {
    let server = server(vec![http("200 OK", "", PLANS)]).await;
    let response = sync(&server).await.unwrap();
    assert_eq!((response.epoch, response.lease_ms), (2, 30_000));
    assert_eq!(response.plans.plans[0].revision, Revision(7));
    let asked = server.asked.lock().unwrap()[0].clone();
    assert!(asked.starts_with("post /v1/sync http/1.1"));
    assert!(asked.contains("authorization: bearer s3cret"));
    assert!(asked.contains("\"instance\":\"orders-7\""));
}

#[tokio::test]
async fn refusals_have_the_kind_that_their_status_or_problem_says() {
    let problem = |code: &str| format!(r#"{{"code":"{code}","message":"why"}}"#);
    for (status, body, kind) in [
        ("401 Unauthorized", "", ErrorKind::PermissionDenied),
        ("403 Forbidden", "<html>", ErrorKind::PermissionDenied),
        ("404 Not Found", "nothing here", ErrorKind::NotFound),
        (
            "409 Conflict",
            &problem("superseded"),
            ErrorKind::Superseded,
        ),
        ("409 Conflict", &problem("conflict"), ErrorKind::Unavailable),
        ("503 Service Unavailable", "", ErrorKind::Unavailable),
        (
            "400 Bad Request",
            &problem("invalid_request"),
            ErrorKind::Unexpected,
        ),
        ("302 Found", "", ErrorKind::Unexpected),
        ("200 OK", "<html>welcome</html>", ErrorKind::InvalidPlan),
        ("200 OK", "{}", ErrorKind::InvalidPlan),
        ("204 No Content", "", ErrorKind::InvalidPlan),
    ] {
        let server = server(vec![http(status, "", body)]).await;
        let error = sync(&server).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{status} {body}: {error}");
        assert!(!format!("{error} {error:?}").contains("s3cret"));
    }
}

#[tokio::test]
async fn what_is_no_whole_http_answer_is_unavailable() {
    for answer in [
        "",
        "+OK ready\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\n{\"version\":1",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\n{\"ver",
    ] {
        let server = server(vec![answer.as_bytes().to_vec()]).await;
        let error = sync(&server).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{answer:?}: {error}");
    }
}

#[tokio::test]
async fn nobody_there_is_unavailable() {
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", free.local_addr().unwrap());
    drop(free);
    let source = HttpPlans::new(&address, Token::None).unwrap();
    let error = source.sync(&request(0)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
}

#[tokio::test]
async fn oversized_answers_are_refused_announced_or_not() {
    let announced = format!(
        "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n",
        MAX_DOCUMENT_BYTES + 1
    );
    let mut endless = b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n".to_vec();
    endless.resize(MAX_DOCUMENT_BYTES + 100_000, b' ');
    for answer in [announced.into_bytes(), endless] {
        let server = server(vec![answer]).await;
        let error = sync(&server).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidPlan, "{error}");
    }
}

#[tokio::test]
async fn plan_url_is_asked_with_the_etag_and_answers_only_news() {
    let next = PLANS.replace("\"revision\":7", "\"revision\":8");
    let server = server(vec![
        http("200 OK", "etag: \"seven\"\r\n", PLANS),
        http("304 Not Modified", "", ""),
        // A server that forgets its ETag.
        http("200 OK", "", PLANS),
        http("200 OK", "", &next),
    ])
    .await;
    let address = format!("{}/plans.json?x=1", server.address);
    let source = UrlPlans::new(&address, Token::None, Duration::from_millis(1)).unwrap();
    let first = source.sync(&request(0)).await.unwrap();
    assert_eq!((first.plans.plans.len(), first.lease_ms), (1, 0));
    for _ in 0..2 {
        let same = source.sync(&request(7)).await.unwrap();
        assert!(same.plans.plans.is_empty());
    }
    let patient = SyncRequest {
        wait_ms: 60_000,
        ..request(7)
    };
    let news = source.sync(&patient).await.unwrap();
    assert_eq!(news.plans.plans[0].revision, Revision(8));
    let asked = server.asked.lock().unwrap().clone();
    assert!(asked[0].starts_with("get /plans.json?x=1"));
    assert!(!asked[0].contains("if-none-match"));
    assert!(asked[1].contains("if-none-match: \"seven\""));
}

#[tokio::test]
async fn token_file_is_read_for_each_request() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("token");
    let server = server(vec![http("200 OK", "", PLANS)]).await;
    let source = HttpPlans::new(&server.address, Token::File(path.clone())).unwrap();
    let error = source.sync(&request(0)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PermissionDenied);
    for token in ["one", "two"] {
        std::fs::write(&path, format!("{token}\n")).unwrap();
        source.sync(&request(0)).await.unwrap();
        let asked = server.asked.lock().unwrap().pop().unwrap();
        assert!(asked.contains(&format!("authorization: bearer {token}\r\n")));
    }
}

#[test]
fn addresses_that_cannot_be_used_are_refused_without_showing_a_password() {
    for address in [
        "",
        "127.0.0.1:7070",
        "ftp://host",
        "http://",
        "http://host:99999",
        "http://host/?x=1",
        "http://user:hush@host",
        "http://user:hush@host:99999",
    ] {
        let error = HttpPlans::new(address, Token::None).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{address}");
        assert!(!format!("{error:?}").contains("hush"));
    }
    #[cfg(not(feature = "https"))]
    assert_eq!(
        HttpPlans::new("https://host", Token::None)
            .unwrap_err()
            .kind(),
        ErrorKind::Unsupported
    );
}
