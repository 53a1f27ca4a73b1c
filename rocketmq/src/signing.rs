//! Signed requests: apache/rocketmq `AclClientRPCHook.java` and `AclUtils.java`; brokers of 4.9 and 5.x check the same signature.

use std::{
    fmt,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha1::Sha1;
use tokio::time::{Instant, timeout_at};

use crate::{
    codes,
    connection::Connection,
    credentials::{Credentials, CredentialsSource},
    error::Result,
    frame::{Command, FieldSink as _, Request},
};

/// Base64 of the 20 bytes of a SHA-1.
const SIGNATURE_BYTES: usize = 28;
/// Refusals come in crowds; the credentials are read again for the first.
const READ_EVERY: Duration = Duration::from_secs(1);

/// Signs what is sent, and reads the credentials again when a broker refuses them.
pub(crate) struct Signing {
    source: Arc<dyn CredentialsSource>,
    signers: Arc<RwLock<Signers>>,
    /// When the credentials were last read again; held while reading.
    read: Arc<tokio::sync::Mutex<Option<Instant>>>,
}

/// Brokers learn of new credentials one after the other: those that have not yet take the ones before.
#[derive(Clone)]
struct Signers {
    newest: Arc<Signer>,
    before: Option<Arc<Signer>>,
}

impl Signing {
    /// # Errors
    /// As the source.
    pub(crate) fn new(source: Arc<dyn CredentialsSource>) -> Result<Signing> {
        let signer = Signer::new(source.read()?);
        Ok(Signing {
            source,
            signers: Arc::new(RwLock::new(Signers {
                newest: Arc::new(signer),
                before: None,
            })),
            read: Arc::default(),
        })
    }

    fn signers(&self) -> Signers {
        let signers = self.signers.read();
        signers.unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn sign(&self, request: &mut Request) {
        self.signers().newest.sign(request);
    }

    /// [`Connection::invoke`], signed; once more if the credentials were refused and there are others: new ones, or else those before the newest. All of it
    /// within `wait`.
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
        let deadline = Instant::now() + wait;
        let signer = self.signers().newest;
        let unsigned = self.source.may_change().then(|| request.clone());
        signer.sign(&mut request);
        let refusal = connection.invoke(request, wait).await?;
        let Some(mut again) = unsigned else {
            return Ok(refusal);
        };
        if !refuses_credentials(&refusal) {
            return Ok(refusal);
        }
        // Late is as good as unchanged: the refusal is definite, a request that goes out without a wait is not.
        let renewed = timeout_at(deadline, self.renew(&signer)).await;
        let other = match renewed {
            Ok(()) => self.signers().other_than(&signer),
            Err(_) => None,
        };
        let left = deadline.saturating_duration_since(Instant::now());
        let Some(other) = other.filter(|_| !left.is_zero()) else {
            return Ok(refusal);
        };
        other.sign(&mut again);
        let answer = connection.invoke(again, left).await?;
        // Of two refusals, what was said of the newest credentials.
        let newest = Arc::ptr_eq(&self.signers().newest, &other);
        Ok(match refuses_credentials(&answer) && !newest {
            true => refusal,
            false => answer,
        })
    }

    /// Reads the credentials again, unless there are others than `refused` already or that was just done.
    ///
    /// # Cancellation
    /// What was begun is finished in the background, and serves those who come later.
    async fn renew(&self, refused: &Arc<Signer>) {
        let mut read = Arc::clone(&self.read).lock_owned().await;
        if !Arc::ptr_eq(&self.signers().newest, refused)
            || read.is_some_and(|at| at.elapsed() < READ_EVERY)
        {
            return;
        }
        let (source, signers) = (Arc::clone(&self.source), Arc::clone(&self.signers));
        let reading = tokio::task::spawn_blocking(move || {
            let outcome = source.read();
            *read = Some(Instant::now());
            match outcome {
                Ok(credentials) => {
                    let mut signers = signers.write().unwrap_or_else(PoisonError::into_inner);
                    if signers.newest.credentials != credentials {
                        tracing::info!(
                            "the credentials were refused and have changed: new ones are used"
                        );
                        let newest = Arc::new(Signer::new(credentials));
                        signers.before = Some(std::mem::replace(&mut signers.newest, newest));
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "the credentials were refused and cannot be read again");
                }
            }
        });
        if let Err(error) = reading.await {
            tracing::warn!(%error, "the credentials were refused and were not read again");
        }
    }
}

impl Signers {
    /// The newest, or the ones before if it was the newest that was refused.
    fn other_than(self, refused: &Arc<Signer>) -> Option<Arc<Signer>> {
        match Arc::ptr_eq(&self.newest, refused) {
            true => self.before,
            false => Some(self.newest),
        }
    }
}

fn refuses_credentials(answer: &Command) -> bool {
    let remark = answer.remark.as_deref().unwrap_or_default();
    codes::denial(answer.code, remark) == Some(codes::Denial::Credentials)
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
        request.put_text("AccessKey", self.credentials.access_key());
        if let Some(token) = self.credentials.security_token() {
            request.put_text("SecurityToken", token);
        }
        let mut mac = self.mac.clone();
        request.visit_signed(|bytes| mac.update(bytes));
        let mut text = [0; SIGNATURE_BYTES];
        let written = STANDARD.encode_slice(mac.finalize().into_bytes(), &mut text);
        let text = written.ok().and_then(|length| text.get(..length));
        // Base64 is ASCII, and has room here.
        let text = text.and_then(|text| std::str::from_utf8(text).ok());
        request.put_text("Signature", text.unwrap_or_default());
    }
}

#[cfg(test)]
mod tests;
