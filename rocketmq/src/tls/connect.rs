//! The handshake, by rustls with ring.

use std::{fmt, path::Path, sync::Arc, time::Duration};

use tokio::net::TcpStream;
use tokio_rustls::{
    TlsConnector,
    rustls::{
        ClientConfig, DigitallySignedStruct, Error as TlsError, RootCertStore, SignatureScheme,
        client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature},
        pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject as _},
    },
};

use super::{TlsOptions, Trust};
use crate::error::{Error, ErrorKind, Result};

/// As long as Netty, and so Java's client, waits for a handshake (`SslHandler`'s default): a broker that has just been started needs seconds for its first ones.
const HANDSHAKE: Duration = Duration::from_secs(10);

pub(crate) type TlsStream = tokio_rustls::client::TlsStream<TcpStream>;

/// Makes TLS connections.
#[derive(Clone)]
pub(crate) struct Tls {
    connector: TlsConnector,
    server_name: Option<ServerName<'static>>,
}

impl Tls {
    /// Reads the files. Blocks the thread.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] names the file, or the name, that cannot be used.
    pub(crate) fn new(options: &TlsOptions) -> Result<Tls> {
        let provider = Arc::new(ring::default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| invalid("TLS cannot be used", error))?;
        let builder = match &options.trust {
            Trust::System => builder.with_root_certificates(system_roots()?),
            Trust::File(path) => builder.with_root_certificates(roots_in(path)?),
            Trust::Anybody => {
                tracing::warn!(
                    "TLS without a look at certificates: whoever sits between can read and change everything"
                );
                builder
                    .dangerous()
                    .with_custom_certificate_verifier(Arc::new(Anybody(provider)))
            }
        };
        let config = match &options.identity {
            None => builder.with_no_client_auth(),
            Some((chain, key)) => {
                let chain_of = certificates(chain)?;
                let key_of = PrivateKeyDer::from_pem_file(key)
                    .map_err(|error| unreadable("private key", key, error))?;
                builder
                    .with_client_auth_cert(chain_of, key_of)
                    .map_err(|error| unreadable("client certificate", chain, error))?
            }
        };
        let server_name = options
            .server_name
            .as_deref()
            .map(server_name)
            .transpose()?;
        Ok(Tls {
            connector: TlsConnector::from(Arc::new(config)),
            server_name,
        })
    }

    /// The handshake with the peer at `address`.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`], [`ErrorKind::Timeout`], [`ErrorKind::InvalidInput`] for a host that no certificate can name.
    pub(crate) async fn handshake(&self, address: &str, stream: TcpStream) -> Result<TlsStream> {
        let name = match &self.server_name {
            Some(name) => name.clone(),
            None => server_name(host(address))?,
        };
        let shown = name.to_str().into_owned();
        let shaken = tokio::time::timeout(HANDSHAKE, self.connector.connect(name, stream));
        let shaken = shaken.await.map_err(|_| {
            let text = format!(
                "no TLS connection to {shown}: the peer has not answered within {} ms: does it speak TLS?",
                HANDSHAKE.as_millis()
            );
            Error::new(ErrorKind::Timeout, text)
        })?;
        shaken.map_err(|source| {
            let hint = match source.get_ref().and_then(|inner| inner.downcast_ref()) {
                Some(TlsError::InvalidCertificate(_)) => {
                    ": the peer's certificate is not trusted; check the CA file and the server name"
                }
                Some(TlsError::AlertReceived(_)) => "",
                _ => ": does the peer speak TLS?",
            };
            Error::new(
                ErrorKind::Unavailable,
                format!("no TLS connection to {shown}: {source}{hint}"),
            )
            .with_source(source)
        })
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls")
            .field("server_name", &self.server_name)
            .finish_non_exhaustive()
    }
}

/// `host:port` without the port, and without the brackets of an IPv6 address.
fn host(address: &str) -> &str {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    let inside = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    inside.unwrap_or(host)
}

fn server_name(name: &str) -> Result<ServerName<'static>> {
    ServerName::try_from(name.to_owned()).map_err(|error| {
        invalid(
            &format!("{name:?} is neither a host name nor an IP address"),
            error,
        )
    })
}

fn system_roots() -> Result<RootCertStore> {
    let found = rustls_native_certs::load_native_certs();
    for error in &found.errors {
        tracing::warn!(%error, "some of the system's certificates cannot be read");
    }
    let mut roots = RootCertStore::empty();
    // Systems keep some that are too old to be used.
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        return Err(Error::new(
            ErrorKind::InvalidInput,
            "the system trusts no certificates: name a CA file",
        ));
    }
    Ok(roots)
}

fn roots_in(path: &Path) -> Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        roots
            .add(certificate)
            .map_err(|error| unreadable("CA certificate", path, error))?;
    }
    Ok(roots)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let certificates = read.map_err(|error| unreadable("certificate", path, error))?;
    if certificates.is_empty() {
        return Err(Error::new(
            ErrorKind::InvalidInput,
            format!("{} has no certificate (PEM)", path.display()),
        ));
    }
    Ok(certificates)
}

fn unreadable(
    what: &str,
    path: &Path,
    error: impl std::error::Error + Send + Sync + 'static,
) -> Error {
    invalid(&format!("{what} {}", path.display()), error)
}

fn invalid(what: &str, error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::new(ErrorKind::InvalidInput, format!("{what}: {error}")).with_source(error)
}

/// Takes every certificate, as [`Trust::Anybody`] says.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_of_an_address_is_what_a_certificate_names() {
        for (address, name) in [
            ("broker-1.example.org:10911", "broker-1.example.org"),
            ("10.0.0.1:9876", "10.0.0.1"),
            ("[::1]:9876", "::1"),
        ] {
            assert_eq!(server_name(host(address)).unwrap().to_str(), name);
        }
    }

    #[test]
    fn files_that_cannot_be_used_are_invalid_input_and_named() {
        let folder = std::env::temp_dir();
        let empty = folder.join(format!("crossfade-empty-{}.pem", std::process::id()));
        std::fs::write(&empty, "").unwrap();
        let missing = folder.join("crossfade-no-such-file.pem");
        for path in [&empty, &missing] {
            let trust = TlsOptions {
                trust: Trust::File(path.clone()),
                ..TlsOptions::default()
            };
            let identity = TlsOptions {
                trust: Trust::Anybody,
                identity: Some((path.clone(), path.clone())),
                ..TlsOptions::default()
            };
            for options in [trust, identity] {
                let error = Tls::new(&options).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::InvalidInput);
                assert!(
                    error.message().contains(&*path.to_string_lossy()),
                    "{error}"
                );
            }
        }
        std::fs::remove_file(empty).unwrap();
        let unnamed = TlsOptions {
            trust: Trust::Anybody,
            server_name: Some("a b".into()),
            ..TlsOptions::default()
        };
        assert_eq!(
            Tls::new(&unnamed).unwrap_err().kind(),
            ErrorKind::InvalidInput
        );
    }
}
