//! Every setting by its key: one table makes the parser, the range checks and `CONFIGURATION.md`.

mod keys;
mod value;

use std::{path::Path, path::PathBuf};

pub use keys::{KEYS, Key};

pub use crate::secret::Secret;

use crate::{
    backend::{Subscription, security::Security},
    consumer::ConsumerOptions,
    control::SessionOptions,
    dedup::MemoryDedupOptions,
    error::{Error, ErrorKind, Result},
    producer::ProducerOptions,
};

/// The largest configuration file, in bytes.
pub const MAX_FILE_BYTES: u64 = 1024 * 1024;

/// All settings of a client. [`KEYS`] says what each one means.
#[non_exhaustive]
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Config {
    /// `instance.name`
    pub instance_name: Option<String>,
    /// `control.url`
    pub control_url: Option<String>,
    /// `control.token`
    pub control_token: Option<Secret>,
    /// `control.token_file`
    pub control_token_file: Option<PathBuf>,
    /// `control.start_timeout_ms`, `control.poll_wait_ms`, `control.backoff_*`, `lease.mode`
    pub session: SessionOptions,
    /// `plan.*`
    pub plan: PlanConfig,
    /// `source.address`
    pub source_address: Option<String>,
    /// `target.address`
    pub target_address: Option<String>,
    /// `source.*` besides the address
    pub source_security: Security,
    /// `target.*` besides the address
    pub target_security: Security,
    /// `producer.*` besides the group
    pub producer: ProducerOptions,
    /// `producer.transaction_group`
    pub transaction_group: Option<String>,
    /// `consumer.*`
    pub consumer: ConsumerConfig,
    /// `dedup.*`
    pub dedup: MemoryDedupOptions,
    /// `random.seed`
    pub random_seed: Option<u64>,
}

/// Read-only plans, and the plans on disk.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq)]
pub struct PlanConfig {
    /// `plan.file`
    pub file: Option<PathBuf>,
    /// `plan.url`
    pub url: Option<String>,
    /// `plan.every_ms`
    pub every: std::time::Duration,
    /// `plan.cache_dir`
    pub cache_dir: Option<PathBuf>,
}

impl Default for PlanConfig {
    fn default() -> Self {
        PlanConfig {
            file: None,
            url: None,
            every: std::time::Duration::from_secs(1),
            cache_dir: None,
        }
    }
}

/// What every consumer of a client starts with.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq)]
pub struct ConsumerConfig {
    /// How it receives.
    pub options: ConsumerOptions,
    /// `consumer.max_outstanding`; a subscription that says another number wins.
    pub max_outstanding: usize,
}

impl Default for ConsumerConfig {
    fn default() -> Self {
        ConsumerConfig {
            options: ConsumerOptions::default(),
            max_outstanding: Subscription::MAX_OUTSTANDING,
        }
    }
}

impl Config {
    /// Sets one key.
    ///
    /// # Errors
    /// `InvalidConfig` for an unknown key, or a value out of its range; what is or may be a secret is not shown.
    pub fn set(&mut self, key: &str, value: &str) -> Result<()> {
        let Some(row) = KEYS.iter().find(|row| row.name == key) else {
            let near = nearest(key);
            let shown = match looks_like_a_key(key, near) {
                true => format!(" {:?}", shortened(key)),
                false => ", not shown because it may be a secret".to_owned(),
            };
            let near = near.map_or(String::new(), |near| format!(": is it {near:?}?"));
            return Err(invalid(format!(
                "unknown key{shown}{near} (CONFIGURATION.md has them all)"
            )));
        };
        (row.set)(self, value.trim()).map_err(|why| {
            // An address may carry a secret where none belongs.
            let shown = match row.secret || value.contains(['@', '?']) {
                true => "***".into(),
                false => format!("{:?}", shortened(value)),
            };
            invalid(format!("{key} = {shown}: {why}; {}", row.range))
        })
    }

    /// Sets every `key = value` line of a text; empty lines and lines that begin with `#` do not count. `origin` is named in errors.
    ///
    /// # Errors
    /// `InvalidConfig` names the line; nothing is set then.
    pub fn set_lines(&mut self, text: &str, origin: &str) -> Result<()> {
        let mut next = self.clone();
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let at = |why: &str| invalid(format!("{origin}, line {}: {why}", number + 1));
            let (key, value) = line
                .split_once('=')
                .ok_or_else(|| at("not `key = value`"))?;
            next.set(key.trim(), value)
                .map_err(|error| at(error.message()))?;
        }
        *self = next;
        Ok(())
    }

    /// Reads a file of such lines. Blocks the thread.
    ///
    /// # Errors
    /// `InvalidConfig` when it cannot be read, has more than [`MAX_FILE_BYTES`], or a line is wrong.
    pub fn set_file(&mut self, path: &Path) -> Result<()> {
        use std::io::Read;
        let origin = path.display().to_string();
        let mut text = String::new();
        std::fs::File::open(path)
            .and_then(|file| file.take(MAX_FILE_BYTES + 1).read_to_string(&mut text))
            .map_err(|error| invalid(format!("{origin}: {error}")).with_source(error))?;
        if text.len() as u64 > MAX_FILE_BYTES {
            return Err(invalid(format!(
                "{origin} has more than {MAX_FILE_BYTES} bytes"
            )));
        }
        self.set_lines(&text, &origin)
    }
}

/// The text of `CONFIGURATION.md`.
#[must_use]
pub fn reference() -> String {
    let defaults = Config::default();
    let mut text = String::from(
        "<!-- Made from src/config/keys.rs; a test holds it: CROSSFADE_WRITE_CONFIGURATION=1 cargo test -p crossfade configuration -->\n\
         # Configuration\n\n\
         Keys for `Client::builder().set(key, value)`, for a file of `key = value` lines (`config_file`), and for C and Go. \
         What is set later wins; objects given in code (backends, a plan source, a deduplication store) win over keys.\n\n\
         | key | value | default | what it does |\n|---|---|---|---|\n",
    );
    for row in KEYS {
        let default = (row.default)(&defaults).map_or("none".into(), |value| format!("`{value}`"));
        text.push_str(&format!(
            "| `{}` | {} | {default} | {} |\n",
            row.name, row.range, row.doc
        ));
    }
    text
}

/// Whether an unknown key may be shown: in a line that was written in another way, or is not finished, it may be the value.
fn looks_like_a_key(key: &str, near: Option<&str>) -> bool {
    let section = |name: &str| name.split_once('.').map(|(section, _)| section.to_owned());
    let of_keys = |byte: u8| byte.is_ascii_lowercase() || matches!(byte, b'.' | b'_');
    let known = section(key);
    key.bytes().all(of_keys)
        && (near.is_some() || known.is_some() && KEYS.iter().any(|row| section(row.name) == known))
}

/// The known key that differs in the fewest places, if that is few.
fn nearest(key: &str) -> Option<&'static str> {
    let key = shortened(key);
    let distance = |name: &str| {
        let name: Vec<char> = name.chars().collect();
        let mut row: Vec<usize> = (0..=name.len()).collect();
        for (i, a) in key.chars().enumerate() {
            let mut diagonal = row[0];
            row[0] = i + 1;
            for (j, b) in name.iter().enumerate() {
                let replaced = diagonal + usize::from(a != *b);
                diagonal = row[j + 1];
                row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
            }
        }
        row[name.len()]
    };
    let near = KEYS
        .iter()
        .map(|row| (distance(row.name), row.name))
        .min()?;
    (near.0 <= 4).then_some(near.1)
}

/// Hostile input must not fill the log.
fn shortened(text: &str) -> String {
    text.chars().take(80).collect()
}

fn invalid(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidConfig, "configuration", message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_default_is_a_value_that_its_key_takes_and_gives_back() {
        let defaults = Config::default();
        for row in KEYS {
            let Some(value) = (row.default)(&defaults) else {
                continue;
            };
            let mut config = Config::default();
            config.set(row.name, &value).unwrap();
            assert_eq!((row.default)(&config), Some(value), "{}", row.name);
            assert_eq!(config, defaults, "{}", row.name);
        }
    }

    #[test]
    fn keys_set_what_they_name_and_no_two_set_the_same() {
        for row in KEYS {
            let mut changed = Config::default();
            let value = [
                "7",
                "500",
                "5000",
                "stop",
                "false",
                "http://h:1",
                "memory://x",
                "x",
                "on",
            ]
            .iter()
            .find(|value| {
                let mut config = Config::default();
                config.set(row.name, value).is_ok() && config != Config::default()
            });
            let value = value.unwrap_or_else(|| panic!("no test value for {}", row.name));
            changed.set(row.name, value).unwrap();
            for other in KEYS.iter().filter(|other| other.name != row.name) {
                assert_eq!(
                    (other.default)(&changed),
                    (other.default)(&Config::default()),
                    "{} changes {}",
                    row.name,
                    other.name
                );
            }
            assert_ne!((row.default)(&changed), (row.default)(&Config::default()));
        }
    }

    #[test]
    fn bad_keys_and_values_are_invalid_config() {
        for (key, value) in [
            ("", "1"),
            ("control.pol_wait_ms", "1"),
            ("control.poll_wait_ms", ""),
            ("control.poll_wait_ms", "-1"),
            ("control.poll_wait_ms", "1.5"),
            ("control.poll_wait_ms", "20s"),
            ("control.poll_wait_ms", "99999999999999999999"),
            ("control.poll_wait_ms", "600001"),
            ("lease.mode", "Stop"),
            ("producer.fail_over", "yes"),
            ("producer.attempts", "0"),
            ("consumer.max_outstanding", "0"),
            ("instance.name", "a b"),
            ("instance.name", "../x"),
            ("source.address", "kafka://a"),
            ("source.tls", "yes"),
            ("target.access_key", ""),
            ("control.url", ""),
            ("plan.file", ""),
        ] {
            let error = Config::default().set(key, value).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{key} = {value}");
        }
    }

    #[test]
    fn unknown_key_is_shown_only_if_it_looks_like_one() {
        for (line, shown) in [
            ("control.pol_wait_ms = hush", true),
            ("source.sekret = hush", true),
            ("hush = 1", false),
            ("hush=", false),
            ("Hush1/2+3==", false),
            ("source.secret_key: hush=", false),
            ("source.secret_key hush=", false),
            ("secret_key: hush", false),
            ("source.addres = rocketmq://a:1?secret_key=hush", true),
            ("source.address = rocketmq://a:1?secret_key=hush", true),
            ("source.address = rocketmq://user:hush@a:1", true),
        ] {
            let error = Config::default().set_lines(line, "f").unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{line}");
            let told = format!("{error} {error:?}").to_lowercase();
            assert!(!told.contains("hush"), "{line}: {error}");
            let key = line.split([' ', '=']).next().unwrap();
            assert_eq!(told.contains(key), shown, "{line}: {error}");
        }
    }

    #[test]
    fn unknown_key_names_the_nearest() {
        let error = Config::default()
            .set("control.pol_wait_ms", "1")
            .unwrap_err();
        assert!(error.message().contains("control.poll_wait_ms"));
    }

    #[test]
    fn lines_are_read_and_a_wrong_one_leaves_everything_as_it_was() {
        let mut config = Config::default();
        config
            .set_lines(
                "# mine\n\n instance.name = orders-7 \r\ncontrol.token=a=b\n",
                "f",
            )
            .unwrap();
        assert_eq!(config.instance_name.as_deref(), Some("orders-7"));
        assert_eq!(config.control_token, Some(Secret::new("a=b")));
        let before = config.clone();
        for text in ["lease.mode = stop\nnonsense", "lease.mode = stop\nx = 1"] {
            let error = config.set_lines(text, "my.conf").unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidConfig);
            assert!(error.message().contains("my.conf, line 2"));
            assert_eq!(config, before);
        }
    }

    #[test]
    fn secrets_are_not_shown() {
        let mut config = Config::default();
        config.set("control.token", "hush").unwrap();
        for name in ["access_key", "secret_key", "security_token"] {
            let key = format!("source.{name}");
            config.set(&key, "hush").unwrap();
            let error = config.set(&key, "hu\u{1}sh").unwrap_err();
            assert!(!format!("{error} {error:?}").contains("sh\""));
        }
        assert!(!format!("{config:?}").contains("hush"));
        let error = config.set("control.token", "hu\u{1}sh").unwrap_err();
        assert!(!format!("{error} {error:?}").contains("sh\""));
    }

    #[test]
    fn configuration_md_is_what_the_table_says() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("CONFIGURATION.md");
        if std::env::var_os("CROSSFADE_WRITE_CONFIGURATION").is_some() {
            std::fs::write(&path, reference()).unwrap();
        }
        assert_eq!(std::fs::read_to_string(path).unwrap(), reference());
    }
}
