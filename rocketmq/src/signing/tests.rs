use bytes::Bytes;

use super::*;
use crate::{Client, ClientOptions, test_peer};

fn signature(request: &Request, credentials: Credentials) -> String {
    let mut request = request.clone();
    Signer::new(credentials).sign(&mut request);
    let (head, _) = request.encode(1, false);
    let head = String::from_utf8_lossy(&head[8..]).into_owned();
    let header: serde_json::Value = serde_json::from_str(&head).unwrap();
    header["extFields"]["Signature"]
        .as_str()
        .unwrap()
        .to_owned()
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
