//! Both clusters, connected on first use.

use std::sync::Arc;

use tokio::sync::OnceCell;

use crate::{
    BoxFuture,
    backend::{
        Backend, Backends,
        registry::{self, OpenOptions},
        security::Security,
    },
    control::Session,
    error::{Error, ErrorKind, Result},
    side::Side,
};

/// Holds the session, so that producers and consumers keep it alive.
#[derive(Debug)]
pub(super) struct Sides {
    session: Arc<Session>,
    one: [One; 2],
    /// All that is the same for both; without their credentials.
    options: OpenOptions,
}

#[derive(Debug)]
pub(super) struct One {
    /// From code or configuration; wins over what comes with the plans.
    pub(super) address: Option<String>,
    pub(super) security: Security,
    pub(super) client_id: String,
    pub(super) backend: OnceCell<Arc<dyn Backend>>,
}

impl Sides {
    pub(super) fn new(session: Arc<Session>, one: [One; 2], options: OpenOptions) -> Self {
        Sides {
            session,
            one,
            options,
        }
    }

    /// Those that were connected.
    pub(super) fn connected(&self) -> impl Iterator<Item = &Arc<dyn Backend>> {
        self.one.iter().filter_map(|one| one.backend.get())
    }

    async fn connect(&self, side: Side) -> Result<Arc<dyn Backend>> {
        let one = &self.one[side.index()];
        let backend = one.backend.get_or_try_init(async || {
            let clusters = self.session.clusters();
            let from_plans = match side {
                Side::Source => clusters.source,
                Side::Target => clusters.target,
            };
            let address = one.address.clone().or(from_plans).ok_or_else(|| {
                Error::new(
                    ErrorKind::InvalidConfig,
                    "connect",
                    format!(
                        "no address of the {side}: neither {side}.address nor the plans name one"
                    ),
                )
            })?;
            tracing::info!(%side, client_id = one.client_id, "connecting");
            let options = OpenOptions {
                security: one.security.clone(),
                ..self.options.clone()
            };
            registry::open_with(&address, &one.client_id, &options).await
        });
        backend
            .await
            .cloned()
            .map_err(|error| error.with_side(side))
    }
}

impl Backends for Sides {
    fn backend(&self, side: Side) -> BoxFuture<'_, Result<Arc<dyn Backend>>> {
        Box::pin(self.connect(side))
    }
}
