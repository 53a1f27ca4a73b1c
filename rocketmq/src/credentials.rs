//! Who signs requests.

use std::{fmt, sync::Arc};

use crate::error::{Error, ErrorKind, Result};

/// A user and what its requests are signed with. `Debug` shows none of it.
#[derive(Clone, Eq, PartialEq)]
pub struct Credentials {
    access_key: String,
    secret_key: String,
    security_token: Option<String>,
}

impl Credentials {
    /// The user `access_key` (5.x: user name) with its `secret_key` (5.x: password).
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] when one is empty or has a control character; neither is repeated.
    pub fn new(access_key: impl Into<String>, secret_key: impl Into<String>) -> Result<Self> {
        Ok(Credentials {
            access_key: checked("access key", access_key.into())?,
            secret_key: checked("secret key", secret_key.into())?,
            security_token: None,
        })
    }

    /// Adds the token of a temporary identity (STS). It is sent along and signed; stock brokers do not look at it.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn with_security_token(mut self, token: impl Into<String>) -> Result<Self> {
        self.security_token = Some(checked("security token", token.into())?);
        Ok(self)
    }

    pub(crate) fn access_key(&self) -> &str {
        &self.access_key
    }

    pub(crate) fn secret_key(&self) -> &str {
        &self.secret_key
    }

    pub(crate) fn security_token(&self) -> Option<&str> {
        self.security_token.as_deref()
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials(***)")
    }
}

/// Where credentials come from.
pub trait CredentialsSource: fmt::Debug + Send + Sync {
    /// The credentials as they are now. May read files: it is called when the client is made, and on a thread for blocking work when a broker has refused
    /// the ones before.
    ///
    /// # Errors
    /// Says what cannot be read or used, without what is secret.
    fn read(&self) -> Result<Credentials>;

    /// Whether a later [`Self::read`] can answer differently. A request is then kept until its answer is there, to be signed again.
    fn may_change(&self) -> bool {
        true
    }
}

impl CredentialsSource for Credentials {
    fn read(&self) -> Result<Credentials> {
        Ok(self.clone())
    }

    fn may_change(&self) -> bool {
        false
    }
}

impl From<Credentials> for Arc<dyn CredentialsSource> {
    fn from(credentials: Credentials) -> Self {
        Arc::new(credentials)
    }
}

fn checked(what: &str, text: String) -> Result<String> {
    if text.is_empty() || text.chars().any(char::is_control) {
        return Err(Error::new(
            ErrorKind::InvalidInput,
            format!("the {what} is empty or has a control character"),
        ));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_credentials_is_shown() {
        let credentials = Credentials::new("hush-user", "hush-key")
            .and_then(|credentials| credentials.with_security_token("hush-token"))
            .unwrap();
        let shown = format!("{credentials:?}");
        assert!(!shown.contains("hush"), "{shown}");
        for (access, secret) in [("", "hush"), ("hush", ""), ("hush", "hu\nsh")] {
            let error = Credentials::new(access, secret).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            assert!(!format!("{error} {error:?}").contains("hush"));
        }
    }
}
