//! Everything there is: clusters, control plane, instances, and what is checked about them.

use std::{cell::Cell, collections::BTreeMap, rc::Rc, sync::Arc, time::Duration};

use crossfade::{
    Access, Message, Side,
    backend::{
        Backend, BackendAdmin, TopicSettings, fault::FaultControl, memory::MemoryCluster,
        memory::MemoryConfig,
    },
    dedup::MemoryDedup,
    stage::{Stage, Weight},
};
use crossfade_control_plane::{
    Cluster,
    coordinator::{Command, Refusal, Terms, Timing, TopicView},
    embedded::Embedded,
};
use crossfade_history::{Header, Role, StreamId, What};
use rand::{RngExt, rngs::StdRng};
use tokio::time::sleep;

use crate::{
    GROUPS, TOPIC,
    brokers::{Brokers, Fates},
    fault::Fault,
    instance::{Ground, Instance, Job, Mood},
    link::{Address, LinkFaults},
    record::Record,
    store::Disk,
};

const QUEUES: u32 = 4;

pub(crate) struct World {
    pub(crate) ground: Ground,
    pub(crate) record: Record,
    pub(crate) disk: Disk,
    pub(crate) fates: [Fates; 2],
    pub(crate) instances: Vec<Instance>,
    pub(crate) control_plane: Option<Embedded>,
    pub(crate) faults: BTreeMap<Fault, u64>,
    pub(crate) violations: Vec<String>,
    pub(crate) goal: Stage,
    settings: Option<[TopicSettings; 2]>,
    unmanaged: (StreamId, u32),
}

pub(crate) fn timing() -> Timing {
    Timing {
        lease: Duration::from_secs(3),
        margin: Duration::from_millis(500),
        inspect_moving: Duration::from_millis(200),
        inspect_resting: Duration::from_secs(1),
        change_bound: Duration::from_secs(3),
        relist: Duration::from_secs(1),
        forget: Duration::from_secs(120),
    }
}

impl World {
    /// Both clusters with the topic, the control plane, the fleet; the topic is managed and settled in `source_only`.
    pub(crate) async fn new(seed: u64, random: &mut StdRng, keep_trace: bool) -> World {
        let mut config = MemoryConfig::default();
        config.retry_delays = [100, 300, 1_000].map(Duration::from_millis).to_vec();
        let clusters = [
            MemoryCluster::new(config.clone()),
            MemoryCluster::new(config),
        ];
        for cluster in &clusters {
            let admin = cluster.backend("setup").admin();
            let made = async {
                admin.create_topic(TOPIC, QUEUES).await?;
                for group in GROUPS {
                    admin.create_group(group).await?;
                }
                crossfade::Result::Ok(())
            };
            made.await.unwrap_or_else(|error: crossfade::Error| {
                unreachable!("an embedded cluster: {error}")
            });
        }
        let record = Record::new(keep_trace);
        let unmanaged = record.stream(Header {
            instance: "unmanaged".to_owned(),
            incarnation: "1".to_owned(),
            role: Role::Producer,
            topic: TOPIC.to_owned(),
            clock: String::new(),
            started_at_us: 0,
            started_unix_ms: 0,
        });
        let ground = Ground {
            clusters,
            faults: [FaultControl::new(seed ^ 1), FaultControl::new(seed ^ 2)],
            address: Address::default(),
            dedup: Arc::new(MemoryDedup::default()),
            record: record.clone(),
            mood: Rc::new(Mood {
                sending: Cell::new(false),
                ..Mood::default()
            }),
        };
        let fleet = [
            ("producer-a", Job::Produce, "continue"),
            ("producer-b", Job::Produce, "stop"),
            ("billing-a", Job::Consume(GROUPS[0]), "continue"),
            ("billing-b", Job::Consume(GROUPS[0]), "stop"),
            ("search-a", Job::Consume(GROUPS[1]), "continue"),
        ];
        let instances = fleet.map(|(name, job, mode)| Instance::new(name, job, mode));
        let mut world = World {
            ground,
            record,
            disk: Disk::default(),
            fates: Default::default(),
            instances: instances.into(),
            control_plane: None,
            faults: BTreeMap::new(),
            violations: Vec::new(),
            goal: Stage::SourceOnly,
            settings: None,
            unmanaged: (unmanaged, 0),
        };
        world.settings = Some([
            world.own_settings(Side::Source).await,
            world.own_settings(Side::Target).await,
        ]);
        world.start_control_plane().await;
        if let Some(caller) = world.ground.address.get()
            && let Err(refusal) = caller.add(TOPIC, &GROUPS).await
        {
            world
                .violations
                .push(format!("the topic cannot be added: {}", refusal.message));
        }
        let ground = world.ground.clone();
        for instance in &mut world.instances {
            instance.start(&ground, random.random());
        }
        world
            .settle(Stage::SourceOnly, Duration::from_secs(60))
            .await;
        world.ground.mood.sending.set(true);
        world
    }

    async fn own_settings(&self, side: Side) -> TopicSettings {
        let described = self.admin(side).topic(TOPIC).await;
        let described = described.ok().flatten();
        described.map_or_else(
            || unreachable!("the topic was made"),
            |topic| topic.settings,
        )
    }

    /// The cluster as it is, without faults.
    fn admin(&self, side: Side) -> Arc<dyn BackendAdmin> {
        self.ground.clusters[side.index()]
            .backend("checker")
            .admin()
    }

    pub(crate) async fn start_control_plane(&mut self) {
        let cluster = |side: Side| {
            let inner = self.ground.clusters[side.index()].backend("control-plane");
            let control = self.ground.faults[side.index()].clone();
            let faulty = Arc::new(crossfade::backend::fault::Fault::with_control(
                inner, control,
            ));
            Cluster::Backend(Arc::new(Brokers {
                inner: faulty as Arc<dyn Backend>,
                fates: self.fates[side.index()].clone(),
            }))
        };
        let clusters = [cluster(Side::Source), cluster(Side::Target)];
        match Embedded::start(self.disk.open(), clusters, timing()).await {
            Ok(embedded) => {
                self.record.note("control-plane", "starts");
                self.ground.address.set(Some(embedded.caller()));
                self.control_plane = Some(embedded);
            }
            Err(error) => self
                .violations
                .push(format!("the control plane does not start: {error}")),
        }
    }

    pub(crate) fn stop_control_plane(&mut self) {
        self.record.note("control-plane", "crashes");
        self.ground.address.set(None);
        self.control_plane = None;
    }

    pub(crate) fn set_link(&self, instance: usize, faults: LinkFaults) {
        if let Some(link) = &self.instances[instance].link {
            link.set(faults);
        }
    }

    /// A writer without the library; what the broker refuses was not sent.
    pub(crate) fn write_unmanaged(&mut self, side: Side) {
        let (stream, number) = &mut self.unmanaged;
        *number += 1;
        let id = format!("unmanaged-1-{number}");
        let message = Message::new(id.clone());
        self.record.add(
            *stream,
            "unmanaged",
            What::Call {
                id: id.as_str().into(),
                key: None,
            },
        );
        let lane = u64::from(*number);
        let stored = self.ground.clusters[side.index()].send_unmanaged(TOPIC, &message, lane);
        let what = match stored {
            Ok(_) => What::Acked {
                id: id.as_str().into(),
                side: match side {
                    Side::Source => crossfade_history::Side::Source,
                    Side::Target => crossfade_history::Side::Target,
                },
                revision: 0,
            },
            Err(error) => What::Failed {
                id: id.as_str().into(),
                error: format!("{:?}", error.kind()).into(),
            },
        };
        self.record.add(*stream, "unmanaged", what);
    }

    pub(crate) async fn view(&self) -> Option<TopicView> {
        let caller = self.ground.address.get()?;
        caller.topic(TOPIC).await.ok().flatten()
    }

    /// An operator's word for any other stage or weight.
    pub(crate) async fn order(&mut self, random: &mut StdRng) {
        match random.random_range(0..10) {
            0 => {
                // A refusal is noted in the trace.
                let _ = self
                    .command(Command::Cancel {
                        topic: TOPIC.into(),
                    })
                    .await;
                if let Some(view) = self.view().await {
                    self.goal = view.goal;
                }
            }
            1 | 2 => {
                let weight = Weight::from_basis_points(random.random_range(0..=10_000));
                if let Ok(weight) = weight {
                    let topic = TOPIC.into();
                    let _ = self.command(Command::SetWeight { topic, weight }).await;
                }
            }
            _ => {
                let to = Stage::ALL[random.random_range(0..5)];
                self.go(to).await;
            }
        }
    }

    /// Sets the goal; whether it was taken.
    pub(crate) async fn go(&mut self, to: Stage) -> bool {
        let Some(view) = self.view().await else {
            return false;
        };
        let topic = TOPIC.into();
        let taken = match to.cmp(&view.stage) {
            std::cmp::Ordering::Equal if view.goal == to => Ok(()),
            std::cmp::Ordering::Equal => self.command(Command::Cancel { topic }).await,
            std::cmp::Ordering::Greater => self.command(advance(to)).await,
            std::cmp::Ordering::Less => self.command(rollback(to)).await,
        };
        if taken.is_ok() {
            self.goal = to;
        }
        taken.is_ok()
    }

    async fn command(&self, command: Command) -> Result<(), Refusal> {
        let text = format!("{command:?}");
        let outcome = match self.ground.address.get() {
            Some(caller) => caller.command("operator", command).await,
            None => Err(Refusal {
                code: "unavailable",
                message: "the control plane is down".to_owned(),
                gates: Vec::new(),
            }),
        };
        let told = match &outcome {
            Ok(()) => "taken".to_owned(),
            Err(refusal) => format!("refused: {}", refusal.code),
        };
        self.record.note("operator", &format!("{text}: {told}"));
        outcome
    }

    /// Waits until the topic is settled in `stage`.
    pub(crate) async fn settle(&mut self, stage: Stage, bound: Duration) -> bool {
        let deadline = tokio::time::Instant::now() + bound;
        while tokio::time::Instant::now() < deadline {
            self.check().await;
            if let Some(view) = self.view().await
                && view.settled
                && view.stage == stage
            {
                return true;
            }
            sleep(Duration::from_millis(100)).await;
        }
        let view = self.view().await;
        let blocked = view.map(|view| {
            let closed = view.gates.iter().filter(|gate| !gate.passed);
            let closed: Vec<_> = closed.map(|gate| gate.message.clone()).collect();
            format!(
                "{} toward {}: {closed:?} {:?}",
                view.stage, view.goal, view.trouble
            )
        });
        self.violations.push(format!(
            "not settled in {stage} within {bound:?}: {blocked:?}"
        ));
        false
    }

    /// What must hold whenever somebody looks: a settled end stage has sealed the side that is not read, which owes nothing.
    pub(crate) async fn check(&mut self) {
        let Some(before) = self.view().await.filter(|view| view.settled) else {
            return;
        };
        let unread = match before.stage {
            Stage::SourceOnly => Side::Target,
            Stage::TargetOnly => Side::Source,
            _ => return,
        };
        let admin = self.admin(unread);
        let access = admin
            .topic(TOPIC)
            .await
            .ok()
            .flatten()
            .map(|topic| topic.access);
        let mut owed = 0;
        if let Some(settings) = &self.settings {
            for group in GROUPS {
                let backlog = admin.backlog(TOPIC, group, &settings[unread.index()]).await;
                owed += backlog.map_or(0, |backlog| backlog.total());
            }
        }
        if access != Some(Access::Sealed) || owed > 0 {
            let stage = before.stage;
            self.violations.push(format!(
                "{stage} is called settled, and the {unread} is {access:?} and owes {owed}"
            ));
        }
    }

    /// What both sides owe to both groups.
    pub(crate) async fn owed(&self) -> u64 {
        let mut owed = 0;
        for side in Side::BOTH {
            for group in GROUPS {
                if let Some(settings) = &self.settings {
                    let admin = self.admin(side);
                    let backlog = admin.backlog(TOPIC, group, &settings[side.index()]).await;
                    owed += backlog.map_or(1, |backlog| backlog.total());
                }
            }
        }
        owed
    }
}

fn advance(to: Stage) -> Command {
    Command::Advance {
        topic: TOPIC.into(),
        to: Some(to),
        terms: Terms::waiting(),
    }
}

fn rollback(to: Stage) -> Command {
    Command::Rollback {
        topic: TOPIC.into(),
        to: Some(to),
        terms: Terms::waiting(),
    }
}
