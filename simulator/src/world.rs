//! Everything there is: clusters, control plane, instances, and what is checked about them.

use std::{collections::BTreeMap, rc::Rc, sync::Arc, time::Duration};

use crossfade::{
    Access, Message, Side,
    backend::{
        BackendAdmin, TopicSettings,
        fault::{Fault as Faulty, FaultControl, Layered},
        memory::{MemoryCluster, MemoryConfig},
    },
    dedup::MemoryDedup,
    stage::{Stage, Weight},
};
use crossfade_control_plane::{
    Cluster,
    coordinator::{Command, Refusal, Timing, TopicView},
    embedded::Embedded,
};
use crossfade_history::{Header, Role, StreamId, What};
use rand::{RngExt, rngs::StdRng};
use tokio::{task::JoinHandle, time::sleep};

use crate::{
    GROUPS, TOPIC,
    brokers::Fates,
    effect::Effects,
    fault::Fault,
    ghost::{Ghost, Missing},
    http,
    instance::{Ground, Instance, Job, Life, Mood},
    link::Address,
    mutation::{self, Mutation},
    operator::{Desk, toward},
    reader,
    record::{Record, Trace},
    store::Disk,
};

const QUEUES: u32 = 4;

pub(crate) struct World {
    pub(crate) ground: Ground,
    pub(crate) record: Record,
    pub(crate) effects: Effects,
    pub(crate) disk: Disk,
    pub(crate) fates: [Fates; 2],
    /// The control plane's own way to each cluster.
    pub(crate) ways: [FaultControl; 2],
    pub(crate) instances: Vec<Instance>,
    /// Processes whose names others have taken over, or that are stopped for good.
    pub(crate) ghosts: Vec<Ghost>,
    /// Names of instances that are gone for good and have not been found out yet.
    pub(crate) missing: Vec<Missing>,
    /// Instances that are here for a while.
    pub(crate) guests: Vec<Instance>,
    /// Whoever leaves in good order at the moment.
    pub(crate) leaving: Vec<JoinHandle<()>>,
    pub(crate) control_plane: Option<Embedded>,
    pub(crate) faults: BTreeMap<Fault, u64>,
    pub(crate) violations: Vec<String>,
    pub(crate) goal: Stage,
    pub(crate) names: u32,
    desk: Desk,
    /// Reads the plans without being an instance.
    reader: Option<reader::Reader>,
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
        reconnect: Duration::from_millis(500),
        forget: Duration::from_secs(120),
        freeze: Duration::from_secs(1),
        freeze_again: Duration::from_millis(200),
    }
}

impl World {
    /// Both clusters with the topic, the control plane, the fleet; the topic is managed and settled in `source_only`.
    pub(crate) async fn new(
        seed: u64,
        random: &mut StdRng,
        trace: Trace,
        over_http: bool,
        mutation: Option<Mutation>,
    ) -> World {
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
        let record = Record::new(trace);
        let unmanaged = record.stream(Header {
            instance: "unmanaged".to_owned(),
            incarnation: "1".to_owned(),
            role: Role::Producer,
            topic: TOPIC.to_owned(),
            clock: String::new(),
            started_at_us: 0,
            started_unix_ms: 0,
        });
        let effects = Effects::default();
        let address = Address::default();
        let http = over_http.then(http::Counts::default);
        let ground = Ground {
            clusters,
            faults: [FaultControl::new(seed ^ 1), FaultControl::new(seed ^ 2)],
            address: address.clone(),
            dedup: Arc::new(MemoryDedup::default()),
            record: record.clone(),
            mood: Rc::new(Mood::default()),
            effects: effects.clone(),
            mutation,
            http: http.clone(),
        };
        let fleet = [
            ("producer-a", Job::Produce, "continue"),
            ("producer-b", Job::Produce, "stop"),
            ("billing-a", Job::Consume(GROUPS[0]), "continue"),
            ("billing-b", Job::Consume(GROUPS[0]), "stop"),
            ("search-a", Job::Consume(GROUPS[1]), "continue"),
        ];
        let instances = fleet
            .map(|(name, job, mode)| Instance::new(name, job, mode, &effects, random.random()));
        let mut world = World {
            ground,
            record,
            disk: Disk::new(effects.clone()),
            fates: [Fates::new(effects.clone()), Fates::new(effects.clone())],
            ways: [FaultControl::new(seed ^ 3), FaultControl::new(seed ^ 4)],
            effects,
            instances: instances.into(),
            ghosts: Vec::new(),
            missing: Vec::new(),
            guests: Vec::new(),
            leaving: Vec::new(),
            control_plane: None,
            faults: BTreeMap::new(),
            violations: Vec::new(),
            goal: Stage::SourceOnly,
            names: 0,
            desk: Desk::new(address, http),
            reader: None,
            settings: None,
            unmanaged: (unmanaged, 0),
        };
        world.settings = Some([
            world.own_settings(Side::Source).await,
            world.own_settings(Side::Target).await,
        ]);
        world.start_control_plane().await;
        if let Err(refusal) = world.desk.add().await {
            world
                .violations
                .push(format!("the topic cannot be added: {}", refusal.message));
        }
        if let Some(counts) = &world.ground.http {
            let reader = reader::Reader::start(&world.ground, counts.clone(), random.random());
            world.reader = Some(reader);
        }
        let ground = world.ground.clone();
        for instance in &mut world.instances {
            instance.start(&ground, random.random(), None, false);
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
            let cluster = self.ground.clusters[side.index()].backend("control-plane");
            let cluster = mutation::backend(self.ground.mutation, side, cluster, 0);
            let shared = self.ground.faults[side.index()].clone();
            let cluster = Arc::new(Faulty::with_control(cluster, shared));
            let own = self.ways[side.index()].clone();
            let cluster = Arc::new(Faulty::with_control(cluster, own));
            let fates = self.fates[side.index()].clone();
            Cluster::Backend(Arc::new(Layered::over(cluster, fates)))
        };
        let clusters = [cluster(Side::Source), cluster(Side::Target)];
        match Embedded::start(self.disk.open(), clusters, timing()).await {
            Ok(embedded) => {
                self.record.note("control-plane", "starts");
                let endpoint = embedded.endpoint(http::tokens());
                self.ground.address.set(Some((embedded.caller(), endpoint)));
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

    /// A name that nobody has had.
    pub(crate) fn new_name(&mut self, job: Job) -> String {
        self.names += 1;
        let role = match job {
            Job::Produce => "producer",
            Job::Consume(group) => group,
        };
        format!("{role}-{}", self.names)
    }

    /// Lets a process leave in good order, while everything else goes on.
    pub(crate) fn let_leave(&mut self, life: Life, after: Duration) {
        self.leaving.push(tokio::task::spawn_local(async move {
            sleep(after).await;
            life.stop().await;
        }));
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
        // A refusal is what the seal is for.
        self.effects.touch(Fault::UnmanagedWriter);
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
        self.desk.view().await
    }

    /// An operator's word for any other stage or weight; whether it was taken.
    pub(crate) async fn order(&mut self, random: &mut StdRng) -> bool {
        match random.random_range(0..10) {
            0 => {
                // A refusal is noted in the trace.
                let cancel = Command::Cancel {
                    topic: TOPIC.into(),
                };
                let taken = self.command(cancel).await;
                if let Some(view) = self.view().await {
                    self.goal = view.goal;
                }
                taken.is_ok()
            }
            1 | 2 => {
                let weight = Weight::from_basis_points(random.random_range(0..=10_000));
                let Ok(weight) = weight else { return false };
                let topic = TOPIC.into();
                self.command(Command::SetWeight { topic, weight })
                    .await
                    .is_ok()
            }
            _ => {
                let to = Stage::ALL[random.random_range(0..5)];
                self.go(to).await
            }
        }
    }

    /// Sets the goal; whether it was taken.
    pub(crate) async fn go(&mut self, to: Stage) -> bool {
        let Some(view) = self.view().await else {
            return false;
        };
        let topic = TOPIC.into();
        let taken = match to == view.stage {
            true if view.goal == to => Ok(()),
            true => self.command(Command::Cancel { topic }).await,
            false => self.command(toward(view.stage, to)).await,
        };
        if taken.is_ok() {
            self.goal = to;
        }
        taken.is_ok()
    }

    async fn command(&self, command: Command) -> Result<(), Refusal> {
        let text = format!("{command:?}");
        let outcome = self.desk.command(command).await;
        let told = match &outcome {
            Ok(()) => "taken".to_owned(),
            Err(refusal) => format!("refused: {}", refusal.code),
        };
        self.record.note("operator", &format!("{text}: {told}"));
        outcome
    }

    /// Finds out about those that are gone for good; clears them away as an operator does who knows.
    async fn tend(&mut self, view: Option<&TopicView>) {
        self.leaving.retain(|leaving| !leaving.is_finished());
        if !self.missing.is_empty() {
            let instances = self.desk.instances().await;
            let effects = &self.effects;
            self.missing
                .retain(|missing| !missing.is_found(&instances, effects));
        }
        let blocked = view.map(|view| {
            let lost = view.gates.iter().filter(|gate| !gate.passed);
            let lost = lost.filter(|gate| gate.code == "instances_lost");
            lost.map(|gate| gate.message.clone()).collect::<String>()
        });
        let blocked = blocked.unwrap_or_default();
        for index in 0..self.ghosts.len() {
            let Some(name) = self.ghosts[index].to_confirm(&blocked) else {
                continue;
            };
            let command = Command::ConfirmGone {
                instance: name,
                reason: "its machine has no power".to_owned(),
            };
            if self.command(command).await.is_ok() {
                self.ghosts[index].confirm(&self.effects);
            }
        }
        // The brokers have noticed too.
        self.ghosts.retain(|ghost| !ghost.is_forgotten());
    }

    /// Waits until the topic is settled in `stage`.
    pub(crate) async fn settle(&mut self, stage: Stage, bound: Duration) -> bool {
        let deadline = tokio::time::Instant::now() + bound;
        while tokio::time::Instant::now() < deadline {
            if let Some(view) = self.look().await
                && view.settled
                && view.stage == stage
            {
                return true;
            }
            sleep(Duration::from_millis(200)).await;
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

    /// Looks after everything, as an operator does now and then.
    pub(crate) async fn look(&mut self) -> Option<TopicView> {
        let view = self.view().await;
        self.tend(view.as_ref()).await;
        if let Some(view) = view.as_ref().filter(|view| view.settled) {
            self.check(view).await;
        }
        if let Some(why) = self.reader.as_ref().and_then(reader::Reader::complaint) {
            self.violations.push(why);
        }
        view
    }

    /// What must hold whenever somebody looks: a settled end stage has sealed the side that is not read, which owes nothing.
    async fn check(&mut self, before: &TopicView) {
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
