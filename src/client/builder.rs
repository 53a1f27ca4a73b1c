//! From settings to a running client.

use std::{
    path::Path,
    sync::{Arc, Mutex, atomic::AtomicBool, atomic::AtomicU64},
};

use tokio::sync::OnceCell;

use super::{
    Client, Handles, Shared,
    sides::{One, Sides},
};
use crate::{
    backend::{Backend, registry::OpenOptions},
    clock::{Clock, SystemClock},
    config::Config,
    control::{
        Contact, FilePlans, Identity, LastKnown, PlanFile, PlanSource, PlanStore, PlanTable,
        Session, SessionParts,
    },
    dedup::{DedupStore, MemoryDedup},
    error::{Error, ErrorKind, Result},
    metrics::Registry,
    side::Side,
};

/// Collects what a client is made of.
#[must_use]
#[derive(Debug, Default)]
pub struct ClientBuilder {
    config: Config,
    /// The first error of a method that returns none.
    error: Option<Error>,
    backends: [Option<Arc<dyn Backend>>; 2],
    plans: Option<Arc<dyn PlanSource>>,
    dedup: Option<Arc<dyn DedupStore>>,
    clock: Option<Arc<dyn Clock>>,
    plan_store: Option<Arc<dyn PlanStore>>,
    incarnation: Option<u128>,
}

impl ClientBuilder {
    /// Key `instance.name`. Default: host name and process id.
    pub fn instance(self, name: impl AsRef<str>) -> Self {
        self.set_later("instance.name", name.as_ref())
    }

    /// Key `control.url`: the control plane.
    pub fn control(self, url: impl AsRef<str>) -> Self {
        self.set_later("control.url", url.as_ref())
    }

    /// Sets any key of CONFIGURATION.md.
    ///
    /// # Errors
    /// `InvalidConfig` names the key, the value and its range.
    pub fn set(mut self, key: &str, value: &str) -> Result<Self> {
        self.config.set(key, value)?;
        Ok(self)
    }

    /// Replaces all settings by these.
    pub fn config(mut self, config: Config) -> Self {
        self.config = config;
        self
    }

    /// Reads `key = value` lines from a file; `#` begins a comment line. Blocks the thread.
    ///
    /// # Errors
    /// `InvalidConfig` names the file and the line.
    pub fn config_file(mut self, path: impl AsRef<Path>) -> Result<Self> {
        self.config.set_file(path.as_ref())?;
        Ok(self)
    }

    /// The source cluster. Wins over `source.address` and the plans' addresses.
    pub fn source(mut self, backend: Arc<dyn Backend>) -> Self {
        self.backends[Side::Source.index()] = Some(backend);
        self
    }

    /// The target cluster. Wins over `target.address` and the plans' addresses.
    pub fn target(mut self, backend: Arc<dyn Backend>) -> Self {
        self.backends[Side::Target.index()] = Some(backend);
        self
    }

    /// Where plans come from. Wins over `control.url`, `plan.url` and `plan.file`.
    pub fn plans(mut self, source: Arc<dyn PlanSource>) -> Self {
        self.plans = Some(source);
        self
    }

    /// Where keys are claimed. Default: in this client's memory, for it alone, with the keys `dedup.*`.
    pub fn dedup(mut self, store: Arc<dyn DedupStore>) -> Self {
        self.dedup = Some(store);
        self
    }

    /// What leases are counted on. Default: [`SystemClock`].
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = Some(clock);
        self
    }

    /// Where the last good plans outlive the process. Wins over `plan.cache_dir`.
    pub fn plan_store(mut self, store: Arc<dyn PlanStore>) -> Self {
        self.plan_store = Some(store);
        self
    }

    /// The id of this process life, for runs that are repeated exactly. No two lives may have the same one. Default: drawn at random.
    pub fn incarnation(mut self, id: u128) -> Self {
        self.incarnation = Some(id);
        self
    }

    fn set_later(mut self, key: &str, value: &str) -> Self {
        if let Err(error) = self.config.set(key, value) {
            self.error.get_or_insert(error);
        }
        self
    }

    /// Registers with the control plane and loads the plans: from it, or, when it cannot be reached, the last good ones from `plan.cache_dir`.
    ///
    /// # Errors
    /// `InvalidConfig`, `Unsupported`; what the control plane said, or `Timeout`, when there are no plans on disk either.
    ///
    /// # Cancellation
    /// This instance may be registered; nothing runs.
    pub async fn start(self) -> Result<Client> {
        if let Some(error) = self.error {
            return Err(error);
        }
        let config = self.config;
        check(&config)?;
        let (source, origin) = match self.plans {
            Some(source) => (source, "the plan source given in code".to_owned()),
            None => plan_source(&config)?,
        };
        let instance = config.instance_name.clone().unwrap_or_else(default_name);
        let incarnation = self.incarnation.unwrap_or_else(rand::random);
        let incarnation = format!("{incarnation:032x}");
        let plan_store = match (self.plan_store, &config.plan.cache_dir) {
            (Some(store), _) => Some(store),
            (None, Some(folder)) => {
                let file = PlanFile::new(folder, &instance, &incarnation)?;
                Some(Arc::new(file) as Arc<dyn PlanStore>)
            }
            (None, None) => None,
        };
        let last_known = plan_store.map(|store| LastKnown::new(store, &instance));
        let addresses = [config.source_address.clone(), config.target_address.clone()];
        let securities = [
            config.source_security.clone(),
            config.target_security.clone(),
        ];
        let mut one = Side::BOTH.map(|side| One {
            address: addresses[side.index()].clone(),
            security: securities[side.index()].clone(),
            client_id: format!("{instance}@{}@{side}", &incarnation[..8]),
            backend: OnceCell::new(),
        });
        for (one, backend) in one.iter_mut().zip(self.backends) {
            if let Some(backend) = backend {
                one.client_id = backend.client_id().to_owned();
                one.backend = OnceCell::new_with(Some(backend));
            }
        }
        let clock = self.clock.unwrap_or_else(|| Arc::new(SystemClock));
        let table = Arc::new(PlanTable::default());
        let contact = Arc::new(Contact::new(Arc::clone(&clock)));
        let metrics = Arc::new(Registry::default());
        let reported = Arc::clone(&metrics);
        let seed = config.random_seed.unwrap_or_else(rand::random);
        let session = Session::start(SessionParts {
            source,
            origin,
            table: Arc::clone(&table),
            contact: Arc::clone(&contact),
            clock,
            identity: Identity {
                instance: instance.clone(),
                incarnation: incarnation.clone(),
                client_ids: one.iter().map(|one| one.client_id.clone()).collect(),
            },
            counters: Box::new(move || reported.counters()),
            options: config.session,
            last_known,
            seed,
        });
        let session = Arc::new(session.await?);
        let dedup = self
            .dedup
            .unwrap_or_else(|| Arc::new(MemoryDedup::new(config.dedup)));
        let options = OpenOptions {
            max_body_bytes: config.producer.max_body_bytes,
            transaction_group: config.transaction_group.clone(),
            ..OpenOptions::default()
        };
        Ok(Client {
            shared: Arc::new(Shared {
                instance,
                incarnation,
                config,
                table,
                contact,
                metrics,
                dedup,
                sides: Arc::new(Sides::new(Arc::clone(&session), one, options)),
                session,
                seed,
                made: AtomicU64::new(0),
                closed: AtomicBool::new(false),
                handles: Mutex::new(Handles::default()),
            }),
        })
    }
}

/// What no single key can tell.
fn check(config: &Config) -> Result<()> {
    let session = &config.session;
    if session.backoff_min > session.backoff_max {
        return Err(invalid(
            "control.backoff_min_ms is above control.backoff_max_ms",
        ));
    }
    if config.control_token.is_some() && config.control_token_file.is_some() {
        return Err(invalid(
            "control.token and control.token_file are both set: keep one",
        ));
    }
    if config.plan.cache_dir.is_some() && config.instance_name.is_none() {
        return Err(invalid(
            "plan.cache_dir needs instance.name: without a stable name the file is never found again",
        ));
    }
    Ok(())
}

fn plan_source(config: &Config) -> Result<(Arc<dyn PlanSource>, String)> {
    match (&config.control_url, &config.plan.url, &config.plan.file) {
        (Some(url), None, None) => Ok((control_plane(config, url)?, url.clone())),
        (None, Some(url), None) => Ok((plan_url(config, url)?, url.clone())),
        (None, None, Some(path)) => Ok((
            Arc::new(FilePlans::new(path, config.plan.every)),
            path.display().to_string(),
        )),
        (None, None, None) => Err(invalid(
            "nothing says where plans come from: set control.url (or plan.url, plan.file, or a plan source in code)",
        )),
        _ => Err(invalid(
            "control.url, plan.url and plan.file exclude each other: keep one",
        )),
    }
}

#[cfg(feature = "http")]
fn token(config: &Config) -> crate::control::Token {
    use crate::control::Token;
    match (&config.control_token, &config.control_token_file) {
        (Some(token), _) => Token::Text(token.expose().to_owned()),
        (None, Some(path)) => Token::File(path.clone()),
        (None, None) => Token::None,
    }
}

#[cfg(feature = "http")]
fn control_plane(config: &Config, url: &str) -> Result<Arc<dyn PlanSource>> {
    let source = crate::control::HttpPlans::new(url, token(config))?;
    Ok(Arc::new(source))
}

#[cfg(feature = "http")]
fn plan_url(config: &Config, url: &str) -> Result<Arc<dyn PlanSource>> {
    let source = crate::control::UrlPlans::new(url, token(config), config.plan.every)?;
    Ok(Arc::new(source))
}

#[cfg(not(feature = "http"))]
fn control_plane(_: &Config, _: &str) -> Result<Arc<dyn PlanSource>> {
    Err(no_http())
}

#[cfg(not(feature = "http"))]
fn plan_url(_: &Config, _: &str) -> Result<Arc<dyn PlanSource>> {
    Err(no_http())
}

#[cfg(not(feature = "http"))]
fn no_http() -> Error {
    Error::new(
        ErrorKind::Unsupported,
        "start",
        "this build speaks no HTTP; build it with the cargo feature `http`",
    )
}

/// Host name and process id, in the letters that an instance name may have.
fn default_name() -> String {
    #[cfg(target_os = "linux")]
    let host = rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned();
    #[cfg(not(target_os = "linux"))]
    let host = std::env::var("HOSTNAME").unwrap_or_default();
    let good = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '.' | '_' | '-');
    let host: String = host
        .trim_start_matches(|first: char| !first.is_ascii_alphanumeric())
        .chars()
        .map(|letter| if good(letter) { letter } else { '-' })
        .take(80)
        .collect();
    let host = if host.is_empty() { "host" } else { &host };
    format!("{host}-{}", std::process::id())
}

fn invalid(message: &str) -> Error {
    Error::new(ErrorKind::InvalidConfig, "start", message)
}
