//! What an address leaves open.

use std::{sync::Arc, time::Duration};

use crossfade_rocketmq::{
    ClientOptions, Credentials, CredentialsSource, Error as ClientError, ErrorKind as ClientKind,
    Result as ClientResult, TlsOptions, Trust,
};

use crate::{
    backend::{
        address::RocketmqAddress,
        security::{Security, SignIn, TlsMode},
    },
    error::{Error, ErrorKind, Result},
    secret::Secret,
};

/// A broker drops a send that waited 200 ms in its queue (`waitTimeMillsInSendQueue`), and gives a store up to 5 s (`syncFlushTimeout`).
pub(super) const AMBIGUITY_BOUND: Duration = Duration::from_secs(5);

/// The first of the brokers' delay levels.
pub(super) const SHORTEST_REDELIVERY: Duration = Duration::from_secs(1);

/// The producer group under which the brokers list producers.
pub(super) const PRODUCER_GROUP: &str = "crossfade";

/// What the client needs to know. Blocks the thread: files are read.
///
/// # Errors
/// `InvalidConfig` for credentials that cannot be used.
pub(super) fn options(
    address: &RocketmqAddress,
    client_id: &str,
    security: &Security,
) -> Result<ClientOptions> {
    security.warn_of_readable_files();
    let mut options = ClientOptions::new(address.name_servers.clone(), client_id);
    options.tls = tls(security.read()?);
    let Some(user) = sign_in(address, security)? else {
        return Ok(options);
    };
    options.credentials = Some(if security.reads_files() {
        Arc::new(Files(security.clone()))
    } else {
        credentials(user)
            .map_err(|error| Error::new(ErrorKind::InvalidConfig, "credentials", error.message()))?
            .into()
    });
    Ok(options)
}

fn tls(security: Security) -> Option<TlsOptions> {
    let trust = match (security.tls, security.tls_ca_file) {
        (TlsMode::Off, _) => return None,
        (TlsMode::Insecure, _) => Trust::Anybody,
        (TlsMode::On, Some(path)) => Trust::File(path),
        (TlsMode::On, None) => Trust::System,
    };
    Some(TlsOptions {
        trust,
        identity: security.tls_cert_file.zip(security.tls_key_file),
        server_name: security.tls_server_name,
    })
}

/// From the configuration, or from what the address names.
fn sign_in(address: &RocketmqAddress, security: &Security) -> Result<Option<SignIn>> {
    let invalid = |why: String| Error::new(ErrorKind::InvalidConfig, "credentials", why);
    let configured = security.sign_in()?;
    let (Some(access_key), Some(variable)) = (&address.access_key, &address.secret_key_env) else {
        return Ok(configured);
    };
    if configured.is_some() {
        return Err(invalid(
            "given twice: by the address, and by keys or a file; take one of them".into(),
        ));
    }
    let secret_key = std::env::var(variable).map_err(|_| {
        invalid(format!(
            "the environment variable {variable}, named by the address, holds no secret key"
        ))
    })?;
    Ok(Some(SignIn {
        access_key: Secret::new(access_key),
        secret_key: Secret::new(secret_key),
        security_token: None,
    }))
}

fn credentials(user: SignIn) -> ClientResult<Credentials> {
    let credentials = Credentials::new(user.access_key.expose(), user.secret_key.expose())?;
    match user.security_token {
        Some(token) => credentials.with_security_token(token.expose()),
        None => Ok(credentials),
    }
}

/// Reads the files each time.
#[derive(Debug)]
struct Files(Security);

impl CredentialsSource for Files {
    fn read(&self) -> ClientResult<Credentials> {
        let invalid = |why: &str| ClientError::new(ClientKind::InvalidInput, why);
        match self.0.sign_in() {
            Ok(Some(user)) => credentials(user),
            Ok(None) => Err(invalid(
                "the file of credentials names no access_key any more",
            )),
            Err(error) => Err(invalid(error.message())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::address::Address;

    fn address(text: &str) -> RocketmqAddress {
        match text.parse().unwrap() {
            Address::Rocketmq(address) => address,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn address_may_name_the_variable_with_the_secret_but_not_beside_other_credentials() {
        // Every process has this one.
        let address = address("rocketmq://ns:1?access_key=reader&secret_key_env=PATH");
        let alone = options(&address, "c", &Security::default()).unwrap();
        assert!(alone.credentials.is_some() && alone.tls.is_none());
        let mut security = Security::default();
        security.set("access_key", "reader").unwrap();
        security.set("secret_key", "key").unwrap();
        let error = options(&address, "c", &security).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidConfig);
    }

    #[test]
    fn modes_of_tls_say_whom_to_trust() {
        let trust = |values: &[(&str, &str)]| {
            let mut security = Security::default();
            for (name, value) in values {
                security.set(name, value).unwrap();
            }
            tls(security).map(|tls| tls.trust)
        };
        assert_eq!(trust(&[]), None);
        assert_eq!(trust(&[("tls", "on")]), Some(Trust::System));
        let file = Trust::File("ca.pem".into());
        assert_eq!(
            trust(&[("tls", "on"), ("tls_ca_file", "ca.pem")]),
            Some(file)
        );
        let insecure = trust(&[("tls", "insecure"), ("tls_ca_file", "ca.pem")]);
        assert_eq!(insecure, Some(Trust::Anybody));
    }
}
