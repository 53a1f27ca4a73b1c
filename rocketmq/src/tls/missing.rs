//! A build without TLS.

use super::TlsOptions;
use crate::error::{Error, ErrorKind, Result};

/// Never made.
#[derive(Clone, Debug)]
pub(crate) enum Tls {}

impl Tls {
    pub(crate) fn new(_options: &TlsOptions) -> Result<Tls> {
        Err(Error::new(
            ErrorKind::Unsupported,
            "this build has no TLS: build it with the cargo feature `tls`",
        ))
    }
}
