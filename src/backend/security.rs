//! Who signs in at a cluster, and whether over TLS.

use std::{
    fmt, fs, io,
    io::Read as _,
    path::{Path, PathBuf},
    str::FromStr,
};

use crate::{
    error::{Error, ErrorKind, Result},
    secret::Secret,
};

/// The largest file of credentials, in bytes.
const MAX_FILE_BYTES: u64 = 64 << 10;
const OPERATION: &str = "credentials";
const UNKNOWN: &str = "unknown key";

/// Who signs in at a cluster, and whether over TLS. `Debug` shows nothing that is secret. The keys `source.*` and `target.*` of the configuration set it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Security {
    /// `credentials_file`: lines `key = value` with the keys of this list, without `source.` or `target.`; what it says wins, and its `secret_key` or
    /// `secret_key_file` takes the place of either. Read again when the cluster refuses the credentials.
    pub credentials_file: Option<PathBuf>,
    /// `access_key`: the user.
    pub access_key: Option<Secret>,
    /// `secret_key`
    pub secret_key: Option<Secret>,
    /// `secret_key_file`: a file with the secret key alone. Read again when the cluster refuses the credentials.
    pub secret_key_file: Option<PathBuf>,
    /// `security_token`: of a temporary identity (STS).
    pub security_token: Option<Secret>,
    /// `tls`
    pub tls: TlsMode,
    /// `tls_ca_file`: authorities to trust (PEM), instead of the system's.
    pub tls_ca_file: Option<PathBuf>,
    /// `tls_cert_file`: a client certificate with its chain (PEM); with `tls_key_file`.
    pub tls_cert_file: Option<PathBuf>,
    /// `tls_key_file`: the private key of `tls_cert_file` (PEM).
    pub tls_key_file: Option<PathBuf>,
    /// `tls_server_name`: the name in the cluster's certificates, instead of each address's host.
    pub tls_server_name: Option<String>,
}

/// Whether connections go over TLS.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum TlsMode {
    /// They do not.
    #[default]
    Off,
    /// They do, and the cluster's certificates are checked.
    On,
    /// They do, and certificates are not looked at: whoever sits between can read and change everything.
    Insecure,
}

impl FromStr for TlsMode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "off" => Ok(TlsMode::Off),
            "on" => Ok(TlsMode::On),
            "insecure" => Ok(TlsMode::Insecure),
            _ => Err("not a TLS mode".into()),
        }
    }
}

impl fmt::Display for TlsMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            TlsMode::Off => "off",
            TlsMode::On => "on",
            TlsMode::Insecure => "insecure",
        })
    }
}

/// A user and what its requests are signed with.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SignIn {
    /// The user.
    pub access_key: Secret,
    /// What is signed with.
    pub secret_key: Secret,
    /// Of a temporary identity.
    pub security_token: Option<Secret>,
}

impl Security {
    /// Names a file of credentials and nothing else.
    #[must_use]
    pub fn from_file(path: impl Into<PathBuf>) -> Self {
        Security {
            credentials_file: Some(path.into()),
            ..Security::default()
        }
    }

    /// Sets one value by its name in the list above.
    ///
    /// # Errors
    /// Why the value, which is not repeated, cannot be used.
    pub fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        let text = || match value {
            "" => Err("is empty".to_owned()),
            _ if value.len() > 4096 => Err("is too long".into()),
            _ if value.chars().any(char::is_control) => Err("has a control character".into()),
            _ => Ok(value.to_owned()),
        };
        let path = || text().map(|path| Some(PathBuf::from(path)));
        let secret = || text().map(|text| Some(Secret::new(text)));
        match name {
            "credentials_file" => self.credentials_file = path()?,
            "access_key" => self.access_key = secret()?,
            "secret_key" => self.secret_key = secret()?,
            "secret_key_file" => self.secret_key_file = path()?,
            "security_token" => self.security_token = secret()?,
            "tls" => self.tls = value.parse()?,
            "tls_ca_file" => self.tls_ca_file = path()?,
            "tls_cert_file" => self.tls_cert_file = path()?,
            "tls_key_file" => self.tls_key_file = path()?,
            "tls_server_name" => self.tls_server_name = Some(text()?),
            _ => return Err(UNKNOWN.into()),
        }
        Ok(())
    }

    /// Whether a file is read, so that [`Self::sign_in`] may answer differently later.
    #[must_use]
    pub fn reads_files(&self) -> bool {
        self.credentials_file.is_some() || self.secret_key_file.is_some()
    }

    /// With what the file of credentials says. Blocks the thread.
    ///
    /// # Errors
    /// `InvalidConfig` names the file and the line, or the keys that do not go together.
    pub fn read(&self) -> Result<Security> {
        let mut read = self.clone();
        if let Some(path) = read.credentials_file.take() {
            let (mut key_there, mut key_file_there) = (false, false);
            let origin = path.display().to_string();
            let text = contents(&path)?;
            for (number, line) in text.lines().enumerate() {
                let line = line.trim();
                if line.is_empty() || line.starts_with('#') {
                    continue;
                }
                let at = |why: &str| invalid(format!("{origin}, line {}: {why}", number + 1));
                let (key, value) = line
                    .split_once('=')
                    .ok_or_else(|| at("not `key = value`"))?;
                let key = key.trim();
                if key == "credentials_file" {
                    return Err(at(
                        "credentials_file names this file; it cannot name another",
                    ));
                }
                read.set(key, value.trim()).map_err(|why| {
                    at(&match why == UNKNOWN {
                        // It may be a secret, or the beginning of one, that ends with a `=`.
                        true => "the word before the `=` is no key of such a file (CONFIGURATION.md has them, with the side in front)".to_owned(),
                        false => format!("{key}: {why}"),
                    })
                })?;
                key_there |= key == "secret_key";
                key_file_there |= key == "secret_key_file";
            }
            // One of the two in the file is instead of the other elsewhere; both in the file are one too many.
            if key_there && !key_file_there {
                read.secret_key_file = None;
            } else if key_file_there && !key_there {
                read.secret_key = None;
            }
        }
        if read.tls_cert_file.is_some() != read.tls_key_file.is_some() {
            return Err(invalid(
                "tls_cert_file and tls_key_file come together or not at all",
            ));
        }
        if read.tls == TlsMode::Off
            && (read.tls_ca_file.is_some()
                || read.tls_cert_file.is_some()
                || read.tls_server_name.is_some())
        {
            return Err(invalid(
                "files or a name for TLS are given, and tls is off: set tls = on",
            ));
        }
        Ok(read)
    }

    /// Who signs; `None` where requests are not signed. Blocks the thread: files are read.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn sign_in(&self) -> Result<Option<SignIn>> {
        let read = self.read()?;
        let secret_key = match (read.secret_key, read.secret_key_file) {
            (Some(_), Some(_)) => {
                return Err(invalid("secret_key and secret_key_file: give one of them"));
            }
            (Some(key), None) => Some(key),
            (None, Some(path)) => {
                let key = contents(&path)?.trim().to_owned();
                if key.is_empty() || key.chars().any(char::is_control) {
                    let path = path.display();
                    return Err(invalid(format!(
                        "{path} should hold one line, the secret key"
                    )));
                }
                Some(Secret::new(key))
            }
            (None, None) => None,
        };
        match (read.access_key, secret_key) {
            (Some(access_key), Some(secret_key)) => Ok(Some(SignIn {
                access_key,
                secret_key,
                security_token: read.security_token,
            })),
            (None, None) if read.security_token.is_none() => Ok(None),
            (None, _) => Err(invalid(
                "a secret key or a token is given, and no access_key",
            )),
            (Some(_), None) => Err(invalid(
                "access_key is given, and neither secret_key nor secret_key_file",
            )),
        }
    }

    /// Warns of files with secrets that everybody on this machine can read, those that the file of credentials names among them. Blocks the thread.
    pub fn warn_of_readable_files(&self) {
        for path in self.readable_files() {
            tracing::warn!(file = %path.display(), "everybody on this machine can read this file, which has secrets: chmod 600");
        }
    }

    #[cfg(unix)]
    fn readable_files(&self) -> Vec<PathBuf> {
        use std::os::unix::fs::PermissionsExt as _;
        // A file that cannot be used is told by whoever wants to use it.
        let read = self.read().unwrap_or_else(|_| self.clone());
        let files = [
            self.credentials_file.clone(),
            read.secret_key_file,
            read.tls_key_file,
        ];
        let everybody = |path: &PathBuf| {
            fs::metadata(path).is_ok_and(|file| file.permissions().mode() & 0o004 != 0)
        };
        files.into_iter().flatten().filter(everybody).collect()
    }

    #[cfg(not(unix))]
    fn readable_files(&self) -> Vec<PathBuf> {
        Vec::new()
    }
}

fn contents(path: &Path) -> Result<String> {
    let mut text = String::new();
    fs::File::open(path)
        .and_then(|file| file.take(MAX_FILE_BYTES + 1).read_to_string(&mut text))
        .and_then(|read| match read as u64 > MAX_FILE_BYTES {
            true => Err(io::Error::other("too large")),
            false => Ok(text),
        })
        .map_err(|error| invalid(format!("{}: {error}", path.display())).with_source(error))
}

fn invalid(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidConfig, OPERATION, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), text).unwrap();
        file
    }

    #[test]
    fn file_of_credentials_is_read_each_time_and_wins() {
        let file = file("# mine\naccess_key = reader\n\nsecret_key=a=b\ntls = on\n");
        let mut security = Security::from_file(file.path());
        security.set("access_key", "other").unwrap();
        let first = security.sign_in().unwrap().unwrap();
        assert_eq!(first.access_key.expose(), "reader");
        assert_eq!(first.secret_key.expose(), "a=b");
        assert_eq!(security.read().unwrap().tls, TlsMode::On);
        fs::write(file.path(), "access_key = reader\nsecret_key = next").unwrap();
        let second = security.sign_in().unwrap().unwrap();
        assert_eq!(second.secret_key.expose(), "next");
        assert!(security.reads_files());
    }

    #[test]
    fn secret_key_may_stand_in_a_file_of_its_own() {
        let file = file("hush\n");
        let mut security = Security::default();
        assert_eq!(security.sign_in().unwrap(), None);
        security.set("access_key", "reader").unwrap();
        let path = file.path().to_str().unwrap();
        security.set("secret_key_file", path).unwrap();
        assert_eq!(
            security.sign_in().unwrap().unwrap().secret_key.expose(),
            "hush"
        );
    }

    #[test]
    fn secret_key_of_the_file_of_credentials_takes_the_place_of_one_elsewhere() {
        let key_file = file("apart\n");
        let key_file = key_file.path().to_str().unwrap();
        let both = format!("secret_key = inside\nsecret_key_file = {key_file}\n");
        for (inside, outside, key) in [
            (
                "secret_key = inside",
                ("secret_key_file", key_file),
                "inside",
            ),
            ("secret_key = inside", ("secret_key", "outside"), "inside"),
            (
                &format!("secret_key_file = {key_file}"),
                ("secret_key", "outside"),
                "apart",
            ),
            ("", ("secret_key", "outside"), "outside"),
            ("", ("secret_key_file", key_file), "apart"),
            (&*both, ("tls", "off"), ""),
        ] {
            let credentials = file(&format!("access_key = reader\n{inside}\n"));
            let mut security = Security::from_file(credentials.path());
            security.set(outside.0, outside.1).unwrap();
            match security.sign_in() {
                Ok(Some(user)) => assert_eq!(user.secret_key.expose(), key, "{inside}"),
                Ok(None) => panic!("nobody signs: {inside}"),
                Err(error) => assert!(
                    key.is_empty() && error.kind() == ErrorKind::InvalidConfig,
                    "{inside}: {error}"
                ),
            }
        }
    }

    #[cfg(unix)]
    #[test]
    fn files_that_a_file_of_credentials_names_are_warned_of_too() {
        use std::os::unix::fs::PermissionsExt as _;
        let allow = |file: &tempfile::NamedTempFile, mode| {
            fs::set_permissions(file.path(), fs::Permissions::from_mode(mode)).unwrap();
        };
        let (key, tls_key) = (file("hush"), file("hush"));
        let credentials = file(&format!(
            "access_key = reader\nsecret_key_file = {}\ntls = on\ntls_cert_file = cert.pem\ntls_key_file = {}\n",
            key.path().display(),
            tls_key.path().display()
        ));
        let security = Security::from_file(credentials.path());
        for file in [&credentials, &key, &tls_key] {
            allow(file, 0o600);
        }
        assert_eq!(security.readable_files(), [] as [PathBuf; 0]);
        for file in [&credentials, &key, &tls_key] {
            allow(file, 0o644);
            assert_eq!(security.readable_files(), [file.path().to_owned()]);
            allow(file, 0o640);
            assert_eq!(security.readable_files(), [] as [PathBuf; 0]);
        }
    }

    #[test]
    fn what_does_not_go_together_is_invalid_config_and_nothing_secret_is_shown() {
        let missing = "/no/such/file";
        for values in [
            &[("access_key", "hush")][..],
            &[("secret_key", "hush")],
            &[("security_token", "hush")],
            &[
                ("access_key", "hush"),
                ("secret_key", "hush"),
                ("secret_key_file", missing),
            ],
            &[("access_key", "hush"), ("secret_key_file", missing)],
            &[("credentials_file", missing)],
            &[("tls", "on"), ("tls_cert_file", missing)],
            &[("tls_ca_file", missing)],
        ] {
            let mut security = Security::default();
            for (name, value) in values {
                security.set(name, value).unwrap();
            }
            let error = security.sign_in().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{values:?}");
            assert!(!format!("{error} {error:?} {security:?}").contains("hush"));
        }
        for text in [
            "hush",
            "Hush = 1",
            "hush=",
            "hush = access_key",
            "secretkey: hush",
            "secretkey: hush==",
            "secret_key = ",
            "credentials_file = x",
            "tls = yes",
        ] {
            let file = file(text);
            let error = Security::from_file(file.path()).read().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{text}");
            assert!(error.message().contains("line 1"), "{error}");
            assert!(!error.message().to_lowercase().contains("hush"), "{error}");
        }
    }
}
