//! A control plane over two embedded clusters, and an instance that is driven by hand with the SDK's own wire types.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use crossfade::{
    Access, Side,
    backend::{Backend, memory::MemoryCluster},
    control::wire::{
        ConsumerState, LeaseMode, Problem, Role, SideState, SyncRequest, SyncResponse, VERSION,
    },
    stage::TopicPlan,
};
use crossfade_control_plane::{Operator, ServeOptions, Server, coordinator::Timing};
use reqwest::{Response, StatusCode};
use tokio::task::JoinHandle;

pub(crate) const TOPIC: &str = "orders";
pub(crate) const GROUP: &str = "billing";
pub(crate) const QUEUES: u32 = 4;
/// Longer than anything here takes; only a failing test waits for so long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
pub(crate) const LEASE: Duration = Duration::from_secs(2);

static NAMES: AtomicU32 = AtomicU32::new(0);

/// Two clusters of this test's own, both with the topic and the group.
pub(crate) struct Clusters {
    pub(crate) addresses: [String; 2],
    pub(crate) backends: [Arc<dyn Backend>; 2],
}

impl Clusters {
    pub(crate) async fn new() -> Self {
        let test = NAMES.fetch_add(1, Ordering::Relaxed);
        let names = ["source", "target"].map(|side| format!("api-{test}-{side}"));
        let backends = names
            .clone()
            .map(|name| MemoryCluster::named(&name).backend("test"));
        for backend in &backends {
            let admin = backend.admin();
            admin.create_topic(TOPIC, QUEUES).await.unwrap();
            admin.create_group(GROUP).await.unwrap();
        }
        Clusters {
            addresses: names.map(|name| format!("memory://{name}")),
            backends,
        }
    }

    pub(crate) fn options(&self) -> ServeOptions {
        ServeOptions {
            timing: Timing {
                lease: LEASE,
                margin: Duration::from_millis(100),
                inspect_moving: Duration::from_millis(20),
                inspect_resting: Duration::from_millis(100),
                ..Timing::default()
            },
            ..ServeOptions::in_memory(&self.addresses[0], &self.addresses[1])
        }
    }

    pub(crate) async fn serve(&self) -> Server {
        Server::start(self.options()).await.unwrap()
    }

    pub(crate) async fn access(&self, side: Side) -> Access {
        let admin = self.backends[side.index()].admin();
        admin.topic(TOPIC).await.unwrap().unwrap().access
    }
}

/// An instance by hand. It acks what it is given, as soon as it is given.
#[derive(Clone, Debug)]
pub(crate) struct Hand {
    http: reqwest::Client,
    url: String,
    pub(crate) request: SyncRequest,
    pub(crate) plans: BTreeMap<Arc<str>, TopicPlan>,
}

impl Hand {
    pub(crate) fn new(url: &str, name: &str) -> Self {
        let incarnation = format!("{:032x}", NAMES.fetch_add(1, Ordering::Relaxed));
        Hand {
            http: reqwest::Client::new(),
            url: url.into(),
            request: SyncRequest {
                version: VERSION,
                instance: name.into(),
                incarnation,
                lease_mode: LeaseMode::Continue,
                roles: vec![Role {
                    topic: TOPIC.into(),
                    produces: true,
                    consumes: vec![ConsumerState {
                        group: GROUP.into(),
                        sides: Side::BOTH
                            .map(|side| SideState {
                                side,
                                queues: QUEUES,
                                queue_ids: (0..QUEUES)
                                    .map(|queue| format!("memory:{queue}"))
                                    .collect(),
                                unreadable: Vec::new(),
                            })
                            .into(),
                    }],
                }],
                ..SyncRequest::default()
            },
            plans: BTreeMap::new(),
        }
    }

    pub(crate) async fn sync(
        &mut self,
        wait: Duration,
    ) -> Result<SyncResponse, (StatusCode, Problem)> {
        self.request.wait_ms = wait.as_millis().try_into().unwrap();
        let body = serde_json::to_vec(&self.request).unwrap();
        let sent = self
            .http
            .post(format!("{}/v1/sync", self.url))
            .body(body)
            .send()
            .await;
        let answer = sent.map_err(|_| (StatusCode::SERVICE_UNAVAILABLE, Problem::default()))?;
        if answer.status() != StatusCode::OK {
            return Err(problem(answer).await);
        }
        let response: SyncResponse =
            serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap();
        self.request.known_revision = response.plans.revision;
        for plan in &response.plans.plans {
            self.request
                .acks
                .insert(Arc::clone(&plan.topic), plan.revision);
            self.plans.insert(Arc::clone(&plan.topic), plan.clone());
        }
        Ok(response)
    }

    /// Registered, then kept in contact until it is aborted. A control plane that is down is tried again.
    pub(crate) async fn run(mut self) -> Running {
        self.sync(Duration::ZERO).await.unwrap();
        Running(tokio::spawn(async move {
            loop {
                if self.sync(Duration::from_millis(500)).await.is_err() {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
        }))
    }
}

/// An instance in contact; dropped, it is lost.
pub(crate) struct Running(JoinHandle<()>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.abort();
    }
}

pub(crate) async fn problem(answer: Response) -> (StatusCode, Problem) {
    let status = answer.status();
    (
        status,
        serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap(),
    )
}

/// Waits until a gate of the topic's next step is not passed, and answers its message.
pub(crate) async fn blocked_by(operator: &Operator, code: &str) -> String {
    let waiting = async {
        loop {
            let view = operator.show(TOPIC).await.unwrap();
            if let Some(gate) = view
                .gates
                .iter()
                .find(|gate| gate.code == code && !gate.passed)
            {
                return gate.message.clone();
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting)
        .await
        .unwrap_or_else(|_| panic!("{code} never blocks"))
}
