//! A control plane behind a proxy that speaks TLS, as the program reaches it.

use std::{net::SocketAddr, path::Path, sync::Arc};

use serde_json::Value;
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    process::Command,
    task::JoinSet,
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        crypto::ring,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    },
};

use crate::support::{crossfade, run, serving};

const CERTIFICATE: &str = "\
[req]
distinguished_name = name
x509_extensions = more
prompt = no
[name]
CN = localhost
[more]
subjectAltName = DNS:localhost
basicConstraints = critical, CA:FALSE
";

/// Makes `cert.pem` and `key.pem` in the folder; `false` without openssl, which is said.
#[allow(clippy::print_stdout, reason = "a skip is named where people look")]
async fn certificate(folder: &Path) -> bool {
    std::fs::write(folder.join("cert.conf"), CERTIFICATE).unwrap();
    let words =
        "req -x509 -config cert.conf -newkey rsa:2048 -nodes -days 2 -keyout key.pem -out cert.pem";
    let mut openssl = Command::new("openssl");
    openssl.args(words.split(' ')).current_dir(folder);
    match openssl.output().await {
        Ok(output) => {
            assert!(output.status.success(), "{output:?}");
            true
        }
        Err(error) => {
            let line = format!("the program over TLS: no openssl ({error})");
            let forbidden = std::env::var("CROSSFADE_TEST_NO_SKIP").is_ok_and(|value| value == "1");
            assert!(!forbidden, "{line}, and nothing may be skipped");
            println!("skipped: {line}");
            false
        }
    }
}

/// Ends TLS before the control plane, until it is dropped; answers its port.
async fn proxy(folder: &Path, control_plane: SocketAddr, tasks: &mut JoinSet<()>) -> u16 {
    let certificate = CertificateDer::from_pem_file(folder.join("cert.pem")).unwrap();
    let key = PrivateKeyDer::from_pem_file(folder.join("key.pem")).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tasks.spawn(async move {
        let mut connections = JoinSet::new();
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let acceptor = acceptor.clone();
            connections.spawn(async move {
                // Who does not trust the certificate goes away.
                let Ok(mut outside) = acceptor.accept(stream).await else {
                    return;
                };
                let mut inside = TcpStream::connect(control_plane).await.unwrap();
                let _ = copy_bidirectional(&mut outside, &mut inside).await;
            });
        }
    });
    port
}

#[tokio::test]
async fn control_plane_behind_tls_is_reached_by_operators_and_instances_that_trust_its_certificate()
{
    let folder = tempfile::tempdir().unwrap();
    if !certificate(folder.path()).await {
        return;
    }
    let server = serving("https").await;
    let mut tasks = JoinSet::new();
    let port = proxy(folder.path(), server.address(), &mut tasks).await;
    let control = format!("https://localhost:{port}");
    let trusted = folder.path().join("cert.pem");

    let mut list = crossfade(["topic", "list", "--json", "--control", &control]);
    let output = run(list.env("SSL_CERT_FILE", &trusted)).await;
    assert!(output.status.success(), "{output:?}");
    let topics: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(topics[0]["topic"], "orders");

    // The embedded clusters are not in its process: it joins, and ends without a message.
    let words = ["load", "consume", "--topic", "orders", "--group", "billing"];
    let mut load = crossfade(words);
    load.args(["--instance", "c1", "--until-idle", "1", "--history"]);
    load.arg(folder.path().join("c1.jsonl"));
    let load = load.args(["--control", &control]);
    let output = run(load.env("SSL_CERT_FILE", &trusted)).await;
    assert!(output.status.success(), "{output:?}");

    let empty = folder.path().join("none.pem");
    std::fs::write(&empty, "").unwrap();
    let mut list = crossfade(["topic", "list", "--control", &control]);
    let output = run(list.env("SSL_CERT_FILE", &empty)).await;
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success(), "{told}");
    assert!(
        told.contains("with a certificate that this machine trusts"),
        "{told}"
    );
    server.shutdown().await.unwrap();
}

#[tokio::test]
async fn tls_to_a_control_plane_without_it_says_that_it_needs_a_proxy() {
    let server = serving("plain").await;
    let control = format!("https://{}", server.address());
    let output = run(&mut crossfade(["topic", "list", "--control", &control])).await;
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success(), "{told}");
    assert!(
        told.contains("is there a proxy with TLS before it"),
        "{told}"
    );
    server.shutdown().await.unwrap();
}
