//! Signed requests: apache/rocketmq `AclClientRPCHook.java` and `AclUtils.java`; brokers of 4.9 and 5.x check the same signature.

use std::{
    fmt,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha1::Sha1;
use tokio::time::Instant;

use crate::{
    codes,
    connection::Connection,
    credentials::{Credentials, CredentialsSource},
    error::{Error, ErrorKind, Result},
    frame::{Command, Request},
};

/// Base64 of the 20 bytes of a SHA-1.
const SIGNATURE_BYTES: usize = 28;
/// Refusals come in crowds; the credentials are read again for the first.
const READ_EVERY: Duration = Duration::from_secs(1);

/// Signs what is sent, and reads the credentials again when a broker refuses them.
pub(crate) struct Signing {
    source: Arc<dyn CredentialsSource>,
    signer: RwLock<Arc<Signer>>,
    /// When the credentials were last read again; held while reading.
    read: tokio::sync::Mutex<Option<Instant>>,
}

impl Signing {
    /// # Errors
    /// As the source.
    pub(crate) fn new(source: Arc<dyn CredentialsSource>) -> Result<Signing> {
        let signer = Signer::new(source.read()?);
        Ok(Signing {
            source,
            signer: RwLock::new(Arc::new(signer)),
            read: tokio::sync::Mutex::default(),
        })
    }

    fn signer(&self) -> Arc<Signer> {
        Arc::clone(&self.signer.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn sign(&self, request: &mut Request) {
        self.signer().sign(request);
    }

    /// [`Connection::invoke`], signed; once more if the credentials were refused and there are new ones.
    ///
    /// # Errors
    /// As there.
    ///
    /// # Cancellation
    /// As there.
    pub(crate) async fn invoke(
        &self,
        connection: &Connection,
        mut request: Request,
        wait: Duration,
    ) -> Result<Command> {
        let begun = Instant::now();
        let signer = self.signer();
        let unsigned = self.source.may_change().then(|| request.clone());
        signer.sign(&mut request);
        let answer = connection.invoke(request, wait).await?;
        let Some(mut again) = unsigned else {
            return Ok(answer);
        };
        let remark = answer.remark.as_deref().unwrap_or_default();
        let refused = codes::denial(answer.code, remark) == Some(codes::Denial::Credentials);
        if !refused || !self.renewed(&signer).await {
            return Ok(answer);
        }
        self.sign(&mut again);
        let left = wait.saturating_sub(begun.elapsed());
        connection.invoke(again, left).await
    }

    /// Whether there are other credentials than `refused`.
    async fn renewed(&self, refused: &Arc<Signer>) -> bool {
        let mut read = self.read.lock().await;
        if !Arc::ptr_eq(&self.signer(), refused) {
            return true;
        }
        if read.is_some_and(|at| at.elapsed() < READ_EVERY) {
            return false;
        }
        let source = Arc::clone(&self.source);
        let outcome = tokio::task::spawn_blocking(move || source.read()).await;
        *read = Some(Instant::now());
        let outcome = outcome.unwrap_or_else(|error| {
            Err(Error::new(ErrorKind::Closed, "the credentials were not read").with_source(error))
        });
        match outcome {
            Ok(credentials) if credentials != refused.credentials => {
                tracing::info!("the credentials were refused and have changed: new ones are used");
                *self.signer.write().unwrap_or_else(PoisonError::into_inner) =
                    Arc::new(Signer::new(credentials));
                true
            }
            Ok(_) => false,
            Err(error) => {
                tracing::warn!(%error, "the credentials were refused and cannot be read again");
                false
            }
        }
    }
}

impl fmt::Debug for Signing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signing").finish_non_exhaustive()
    }
}

/// Credentials, ready to sign.
struct Signer {
    credentials: Credentials,
    /// Has taken in the secret key.
    mac: Hmac<Sha1>,
}

impl Signer {
    fn new(credentials: Credentials) -> Signer {
        let mac = Hmac::new_from_slice(credentials.secret_key().as_bytes());
        Signer {
            // HMAC takes keys of any length.
            mac: mac.expect("a key of any length"),
            credentials,
        }
    }

    /// Adds who signs, and the signature over the values of all fields in the order of their names, and the body.
    fn sign(&self, request: &mut Request) {
        request.push("AccessKey", self.credentials.access_key());
        if let Some(token) = self.credentials.security_token() {
            request.push("SecurityToken", token);
        }
        let mut mac = self.mac.clone();
        request.visit_signed(|bytes| mac.update(bytes));
        let mut text = [0; SIGNATURE_BYTES];
        let written = STANDARD.encode_slice(mac.finalize().into_bytes(), &mut text);
        let text = written.ok().and_then(|length| text.get(..length));
        // Base64 is ASCII, and has room here.
        let text = text.and_then(|text| std::str::from_utf8(text).ok());
        request.push("Signature", text.unwrap_or_default());
    }
}

#[cfg(test)]
mod tests;
