//! Who signs in at the clusters.

use std::path::PathBuf;

use crossfade::{Side, backend::security::Security};

use crate::Cluster;

/// A file of `key = value` lines for each cluster.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct CredentialFiles {
    /// Who signs in at the source, and whether over TLS: a file of lines such as access_key = .., secret_key = .., tls = on, tls_ca_file = ..; see
    /// CONFIGURATION.md. Read again when the cluster refuses the credentials.
    #[arg(long, value_name = "FILE", env = "CROSSFADE_SOURCE_CREDENTIALS")]
    source_credentials: Option<PathBuf>,
    /// The same for the target.
    #[arg(long, value_name = "FILE", env = "CROSSFADE_TARGET_CREDENTIALS")]
    target_credentials: Option<PathBuf>,
}

impl CredentialFiles {
    fn file(&self, side: Side) -> Option<&PathBuf> {
        match side {
            Side::Source => self.source_credentials.as_ref(),
            Side::Target => self.target_credentials.as_ref(),
        }
    }

    pub(crate) fn security(&self, side: Side) -> Security {
        self.file(side).map(Security::from_file).unwrap_or_default()
    }

    /// The cluster of a side.
    pub(crate) fn cluster(&self, side: Side, address: String) -> Cluster {
        Cluster::Address(address, Box::new(self.security(side)))
    }

    /// For an SDK client: keys and values.
    pub(crate) fn settings(&self) -> Vec<(String, String)> {
        let files = Side::BOTH.into_iter().filter_map(|side| {
            let file = self.file(side)?.display().to_string();
            Some((format!("{side}.credentials_file"), file))
        });
        files.collect()
    }
}
