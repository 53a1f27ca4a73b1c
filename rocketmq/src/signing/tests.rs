use bytes::Bytes;

use super::*;
use crate::{
    Client, ClientOptions,
    error::{Error, ErrorKind},
    frame, test_peer,
};

fn signature(request: &Request, credentials: Credentials) -> String {
    let mut request = request.clone();
    Signer::new(credentials).sign(&mut request);
    let mut frame = request.frame(1, false);
    let command = frame::decode(&mut frame, frame::DEFAULT_MAX_FRAME_BYTES);
    let command = command.unwrap().unwrap();
    command.fields.get("Signature").unwrap().to_owned()
}

/// What `hmac` and `hashlib` of Python say for the same values.
#[test]
fn signature_covers_the_sorted_values_and_the_body() {
    let request = Request::new(1)
        .text("topic", "orders")
        .field("queueId", 3)
        .text("b", "ü")
        .body(Bytes::from_static(b"body"));
    let reader = || Credentials::new("reader01", "secret-key").unwrap();
    assert_eq!(
        signature(&request, reader()),
        "8qBpztmS8AJaAy1MmEbClByarpQ="
    );
    let reader = reader().with_security_token("token").unwrap();
    let empty = Request::new(1);
    assert_eq!(signature(&empty, reader), "qM/uN2iqrOCHHphYTktaRl5S6zI=");
}

#[test]
fn any_number_of_fields_is_signed_in_order() {
    const NAMES: [&str; 40] = [
        "n00", "n01", "n02", "n03", "n04", "n05", "n06", "n07", "n08", "n09", "n10", "n11", "n12",
        "n13", "n14", "n15", "n16", "n17", "n18", "n19", "n20", "n21", "n22", "n23", "n24", "n25",
        "n26", "n27", "n28", "n29", "n30", "n31", "n32", "n33", "n34", "n35", "n36", "n37", "n38",
        "n39",
    ];
    for count in [0, 1, 31, 32, 33, 40] {
        let mut request = Request::new(1);
        for name in NAMES[..count].iter().rev() {
            request = request.text(name, name);
        }
        let mut seen = Vec::new();
        request.visit_signed(|bytes| seen.extend_from_slice(bytes));
        assert_eq!(seen, NAMES[..count].concat().as_bytes());
    }
}

/// Has the next one ready each time it is asked.
#[derive(Debug)]
struct Rotating(std::sync::Mutex<Vec<Result<Credentials>>>);

impl CredentialsSource for Rotating {
    fn read(&self) -> Result<Credentials> {
        let next = self.0.lock().unwrap().pop();
        next.unwrap_or_else(|| Credentials::new("new", "key"))
    }
}

/// Knows one user, and checks no signature.
async fn peer(user: &'static str) -> Arc<str> {
    const CLUSTER: &str = r#"{"brokerAddrTable":{},"clusterAddrTable":{}}"#;
    test_peer::serve(move |command| {
        if command.fields.get("AccessKey") == Some(user) {
            return test_peer::success(command, CLUSTER);
        }
        let remark = "User:x is not found.";
        let code = codes::response::NO_PERMISSION;
        crate::frame::encode_response(code, command.opaque, remark).to_vec()
    })
    .await
}

async fn ask(user: &'static str, answers: Vec<Result<Credentials>>) -> Result<()> {
    let mut options = ClientOptions::new([&*peer(user).await], "c");
    options.credentials = Some(Arc::new(Rotating(
        answers.into_iter().rev().collect::<Vec<_>>().into(),
    )));
    let client = Client::new(options)?;
    client.cluster_info().await.map(drop)
}

#[tokio::test]
async fn refused_credentials_are_read_again_and_the_request_goes_out_once_more() {
    ask("new", vec![Credentials::new("old", "key")])
        .await
        .unwrap();
}

#[tokio::test]
async fn refused_credentials_that_are_still_the_same_or_unreadable_are_permission_denied() {
    let old = || Credentials::new("old", "key");
    let unreadable = || Err(Error::new(ErrorKind::InvalidInput, "no such file"));
    for answers in [vec![old(), old()], vec![old(), unreadable()]] {
        let error = ask("new", answers).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error}");
        assert_eq!(error.code(), Some(16));
    }
    let error = ask("new", vec![unreadable()]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
}

/// Whom the client asks by address; it needs no name server for that.
async fn asks_no_name_server(credentials: Arc<dyn CredentialsSource>) -> Client {
    let mut options = ClientOptions::new([&*test_peer::nobody().await], "c");
    options.credentials = Some(credentials);
    Client::new(options).unwrap()
}

#[tokio::test]
async fn brokers_that_do_not_know_new_credentials_yet_take_the_ones_before() {
    let old = vec![Credentials::new("old", "key")];
    let client = asks_no_name_server(Arc::new(Rotating(old.into()))).await;
    for user in ["new", "old", "new", "old"] {
        let broker = peer(user).await;
        let answer = client.call(&broker, "a test", Request::new(1)).await;
        answer.unwrap();
    }
    // What both are refused by is refused.
    let broker = peer("other").await;
    let answer = client.call(&broker, "a test", Request::new(1)).await;
    assert_eq!(answer.unwrap_err().code(), Some(16));
}

/// The first read is quick; each later one lasts until the sender is dropped.
#[derive(Debug)]
struct Slow {
    reads: std::sync::atomic::AtomicUsize,
    release: std::sync::Mutex<std::sync::mpsc::Receiver<()>>,
}

impl CredentialsSource for Slow {
    fn read(&self) -> Result<Credentials> {
        match self.reads.fetch_add(1, std::sync::atomic::Ordering::SeqCst) {
            0 => Credentials::new("old", "key"),
            _ => {
                // An error says that the sender is gone, which is what is waited for.
                let _ = self.release.lock().unwrap().recv();
                Credentials::new("new", "key")
            }
        }
    }
}

#[tokio::test]
async fn credentials_that_are_read_slowly_hold_no_request_past_its_timeout() {
    let (held, release) = std::sync::mpsc::channel();
    let slow = Arc::new(Slow {
        reads: Default::default(),
        release: release.into(),
    });
    let client = asks_no_name_server(slow.clone()).await;
    let broker = peer("new").await;
    let reads = || slow.reads.load(std::sync::atomic::Ordering::SeqCst);
    // The second one waits for the read that the first one has begun.
    for _ in 0..2 {
        let wait = Duration::from_millis(300);
        let asked = client.invoke(&broker, Request::new(1), wait);
        let asked = tokio::time::timeout(Duration::from_secs(30), asked).await;
        let answer = asked.expect("it ends although the credentials are still being read");
        assert_eq!(answer.unwrap().code, 16);
        assert_eq!(reads(), 2);
    }
    drop(held);
    let wait = Duration::from_secs(30);
    let answer = client.invoke(&broker, Request::new(1), wait).await;
    assert_eq!(answer.unwrap().code, 0);
    assert_eq!(reads(), 2);
}
