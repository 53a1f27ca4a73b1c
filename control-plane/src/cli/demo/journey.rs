//! The demo's script: all five stages forward, a rollback on the way, an instance killed and replaced, the control plane restarted.

use std::{fmt::Display, path::PathBuf, sync::Arc, time::Duration};

use crossfade::{
    Revision, Side,
    backend::{
        Backend, BackendAdmin, TopicSettings,
        registry::{self, OpenOptions},
    },
    dedup::{MemoryDedup, MemoryDedupOptions},
    stage::{Stage, Weight},
};
use tokio::time::Instant;

use super::{
    Args,
    fleet::{Fleet, Instance, Job},
    ledger::Ledger,
    pace::Pace,
    patience::{patiently, stubbornly},
    progress::Progress,
    report::{LegReport, Report},
};
use crate::cli::{credentials::CredentialFiles, serve::stop_signal};
use crate::{Operator, ServeOptions, Server, coordinator::Timing, watch::public};

/// Share of the writes that goes to the target in `DualWrite`.
const WEIGHT_BASIS_POINTS: u32 = 3_000;
/// The sends of the whole journey are spread over about so long.
const JOURNEY: Duration = Duration::from_secs(14);
/// How long one stage change may take.
const STAGE_CHANGE: Duration = Duration::from_secs(120);
/// How long the last messages may take to be handled: a broker keeps the queue locks of a member that is gone for 60 s.
const LAST_MESSAGES: Duration = Duration::from_secs(120);
/// How long an instance counts as alive here: a killed one blocks the next stage for no longer.
const LEASE: Duration = Duration::from_secs(3);
/// How long the brokers may take to notice that an instance has ended.
const GONE: Duration = Duration::from_secs(5);
const QUEUES: u32 = 4;

/// What happens in the middle of a leg.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Incident {
    None,
    KillAndReplace,
    RestartControlPlane,
}

/// Stage by stage; the second `DualRead` is the rollback.
const SCRIPT: [(Stage, Incident); 7] = [
    (Stage::SourceOnly, Incident::None),
    (Stage::DualRead, Incident::None),
    (Stage::DualWrite, Incident::KillAndReplace),
    (Stage::DualRead, Incident::None),
    (Stage::DualWrite, Incident::RestartControlPlane),
    (Stage::Draining, Incident::None),
    (Stage::TargetOnly, Incident::None),
];

const PRODUCERS: [&str; 2] = ["demo-producer-1", "demo-producer-2"];
const CONSUMERS: [&str; 3] = ["demo-consumer-1", "demo-consumer-2", "demo-consumer-3"];
const VICTIM: &str = "demo-consumer-2";

/// Runs the journey from beginning to end.
pub(super) async fn run(args: &Args, progress: &Progress) -> Result<Report, String> {
    let mut stage_set = StageSet::build(args, progress).await?;
    let stop = stop_signal().map_err(|error| format!("signals cannot be waited for: {error}"))?;
    let outcome = tokio::select! {
        outcome = stage_set.play(args, progress) => outcome,
        // Whatever runs ends as in a crash; the topic is taken away all the same.
        _ = stop => Err("interrupted; its topic and group are taken away from both clusters, and its store too".to_owned()),
    };
    stage_set.tear_down().await;
    outcome
}

/// Everything that the journey needs and leaves behind.
struct StageSet {
    topic: String,
    group: String,
    clusters: [Arc<dyn Backend>; 2],
    addresses: [String; 2],
    credentials: CredentialFiles,
    /// The topic's, by side.
    settings: Vec<TopicSettings>,
    store: PathBuf,
    server: Option<Server>,
    listen: String,
}

impl StageSet {
    async fn build(args: &Args, progress: &Progress) -> Result<StageSet, String> {
        let id = format!("{}-{:x}", std::process::id(), rand::random::<u32>());
        let (topic, group) = (
            format!("crossfade-demo-{id}"),
            format!("crossfade-demo-{id}-billing"),
        );
        let addresses = match (&args.source, &args.target) {
            (Some(source), Some(target)) => [source.clone(), target.clone()],
            _ => [
                format!("memory://demo-source-{id}"),
                format!("memory://demo-target-{id}"),
            ],
        };
        let client_id = format!("crossfade-demo-setup-{id}");
        let open = async |side: Side| {
            let address = &addresses[side.index()];
            let options = OpenOptions {
                security: args.credentials.security(side),
                ..OpenOptions::default()
            };
            let call = async || registry::open_with(address, &client_id, &options).await;
            let opened = patiently(&place(side, address), |line| progress.say(line), call).await;
            opened.map_err(|error| at(side, address, &error))
        };
        // One after the other: what is waited for is one place.
        let clusters = [open(Side::Source).await?, open(Side::Target).await?];
        let store = std::env::temp_dir().join(format!("crossfade-demo-{id}.db"));
        let mut stage_set = StageSet {
            topic,
            group,
            clusters,
            addresses,
            credentials: args.credentials.clone(),
            settings: Vec::new(),
            store,
            server: None,
            listen: "127.0.0.1:0".into(),
        };
        // What was made before something failed is taken away again.
        match stage_set.prepare(progress).await {
            Ok(()) => Ok(stage_set),
            Err(why) => {
                stage_set.tear_down().await;
                Err(why)
            }
        }
    }

    /// The topic and the group on both clusters, and the control plane.
    async fn prepare(&mut self, progress: &Progress) -> Result<(), String> {
        for side in Side::BOTH {
            let address = &self.addresses[side.index()];
            let admin = self.clusters[side.index()].admin();
            let call = async || {
                admin.create_topic(&self.topic, QUEUES).await?;
                admin.create_group(&self.group).await?;
                admin.topic(&self.topic).await
            };
            let what = format!("a topic on {}", place(side, address));
            let made = patiently(&what, |line| progress.say(line), call).await;
            let described = made.map_err(|error| at(side, address, &error))?;
            let described = described.ok_or_else(|| at(side, address, &"no topic was made"))?;
            self.settings.push(described.settings);
        }
        self.start_control_plane().await
    }

    /// Starts the control plane, the second time on the address of the first.
    async fn start_control_plane(&mut self) -> Result<(), String> {
        let timing = Timing {
            lease: LEASE,
            margin: Duration::from_secs(1),
            ..Timing::default()
        };
        let cluster = |side: Side| {
            let address = self.addresses[side.index()].clone();
            self.credentials.cluster(side, address)
        };
        let options = ServeOptions {
            listen: self.listen.clone(),
            store: format!("sqlite://{}", self.store.display()),
            timing,
            ..ServeOptions::new(cluster(Side::Source), cluster(Side::Target))
        };
        let server = Server::start(options).await?;
        self.listen = server.url().trim_start_matches("http://").to_owned();
        self.server = Some(server);
        Ok(())
    }

    fn operator(&self) -> Result<Operator, String> {
        self.server
            .as_ref()
            .map(Server::operator)
            .ok_or_else(|| "the control plane is down".to_owned())
    }

    async fn play(&mut self, args: &Args, progress: &Progress) -> Result<Report, String> {
        let operator = self.operator()?;
        let weight =
            Weight::from_basis_points(WEIGHT_BASIS_POINTS).map_err(|error| error.to_string())?;
        operator
            .add_with(&self.topic, &[&self.group], args.kind.routing(), None)
            .await
            .map_err(|error| error.to_string())?;
        operator
            .weight(&self.topic, weight)
            .await
            .map_err(|error| error.to_string())?;

        // Sends, not messages.
        let rate = args.messages / JOURNEY.as_secs() / args.kind.drawn_together() as u64;
        let fleet = Fleet {
            control: format!("http://{}", self.listen),
            topic: self.topic.clone(),
            group: self.group.clone(),
            seed: args.seed,
            settings: args.credentials.settings(),
            dedup: Arc::new(MemoryDedup::new(MemoryDedupOptions {
                max_keys: usize::try_from(args.messages)
                    .unwrap_or(usize::MAX)
                    .saturating_mul(2),
                ..MemoryDedupOptions::default()
            })),
            kind: args.kind,
            ledger: Arc::new(Ledger::new(args.messages, args.kind.keys())),
            pace: Arc::new(Pace::per_second(rate)),
        };
        let begun = Instant::now();
        let mut instances = Vec::new();
        for name in CONSUMERS {
            // The one that will be killed is known to be gone when its lease is over.
            let mode = if name == VICTIM { "stop" } else { "continue" };
            instances.push(fleet.start(name, Job::Consume, mode).await?);
        }
        for name in PRODUCERS {
            instances.push(fleet.start(name, Job::Produce, "continue").await?);
        }

        let mut report = Report::new(self.addresses.clone(), args.kind, args.seed);
        let mut legs: Vec<(Revision, LegReport)> = Vec::new();
        for (index, (stage, incident)) in SCRIPT.into_iter().enumerate() {
            let asked = Instant::now();
            let begun = fleet.ledger.begun();
            progress.leg(stage, begun);
            // A change that takes long leaves most of its stage's share to the stage.
            let share = (args.messages - begun) / (SCRIPT.len() - index) as u64;
            fleet.pace.set_limit(begun + share / 2);
            let revision = self.change_stage(index, stage).await?;
            fleet.pace.set_limit(u64::MAX);
            progress.settled(stage);
            let change = asked.elapsed();
            let mut leg = LegReport::new(stage, (stage == Stage::DualWrite).then_some(weight));
            leg.change_seconds = change.as_secs_f64();
            let entered = fleet.ledger.begun();
            let quota = entered + (args.messages - entered) / (SCRIPT.len() - index) as u64;
            fleet.pace.set_quota(quota);
            let until = |part: u64| entered + (quota - entered) * part / 100;
            watch(&fleet, progress, until(40)).await;
            match incident {
                Incident::None => {}
                Incident::KillAndReplace => {
                    progress.say("killing one consumer and starting another in its place");
                    replace(&fleet, &mut instances).await?;
                    report.instances_killed += 1;
                    report.instances_replaced += 1;
                    leg.events.push("instance killed and replaced".into());
                }
                Incident::RestartControlPlane => {
                    progress.say("crashing and restarting the control plane");
                    if let Some(server) = self.server.take() {
                        server.abort();
                    }
                    watch(&fleet, progress, until(70)).await;
                    // For as long as it is away, its port may be anybody's.
                    let call = async || self.start_control_plane().await;
                    let again = "the control plane to start again";
                    stubbornly(again, |line| progress.say(line), call).await?;
                    report.control_plane_restarts += 1;
                    leg.events.push("control plane restarted".into());
                }
            }
            watch(&fleet, progress, quota).await;
            if index > 0 && stage < SCRIPT[index - 1].0 {
                report.rollbacks += 1;
                leg.events.push("rollback".into());
            }
            leg.seconds = asked.elapsed().as_secs_f64();
            legs.push((revision, leg));
        }

        let deadline = Instant::now() + LAST_MESSAGES;
        while !fleet.ledger.all_handled() && Instant::now() < deadline {
            progress.handled(fleet.ledger.handled());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        report.half_messages_left = self.half_messages_left().await?;
        // Producers first: whatever they still have under way is read before the consumers leave.
        while let Some(instance) = instances.pop() {
            instance.stop().await?;
        }
        report.seconds = begun.elapsed().as_secs_f64();
        report.count(fleet.ledger.totals());
        let ends = legs
            .iter()
            .skip(1)
            .map(|(revision, _)| *revision)
            .chain([Revision(u64::MAX)])
            .collect::<Vec<_>>();
        for ((begin, mut leg), end) in legs.into_iter().zip(ends) {
            leg.count(fleet.ledger.figures(begin..end));
            report.stages.push(leg);
        }
        Ok(report)
    }

    /// Waits until no half message is without an end on either side; how many are left when that takes too long.
    async fn half_messages_left(&self) -> Result<u64, String> {
        let deadline = Instant::now() + LAST_MESSAGES;
        loop {
            let mut left = 0;
            for (side, settings) in Side::BOTH.into_iter().zip(&self.settings) {
                let address = &self.addresses[side.index()];
                let admin = self.clusters[side.index()].admin();
                let backlog = admin.backlog(&self.topic, &self.group, settings).await;
                let half = backlog.map_err(|error| at(side, address, &error))?.half;
                let unknown = || at(side, address, &"it cannot tell its half messages");
                left += half.ok_or_else(unknown)?;
            }
            if left == 0 || Instant::now() >= deadline {
                return Ok(left);
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }

    /// Asks for the stage and waits until it is settled; answers its first revision.
    async fn change_stage(&self, index: usize, stage: Stage) -> Result<Revision, String> {
        let operator = self.operator()?;
        if let Some((before, _)) = index.checked_sub(1).map(|before| SCRIPT[before]) {
            let asked = if stage > before {
                operator.advance(&self.topic, Some(stage)).await
            } else {
                operator.rollback(&self.topic, Some(stage)).await
            };
            asked.map_err(|error| format!("{before} to {stage}: {error}"))?;
        }
        let settled = operator.settled(&self.topic, STAGE_CHANGE).await;
        settled
            .map(|view| view.revision)
            .map_err(|error| format!("{stage}: {error}"))
    }

    async fn tear_down(mut self) {
        if let Some(server) = self.server.take()
            && let Err(error) = server.shutdown().await
        {
            tracing::warn!(%error, "the control plane did not stop in good order");
        }
        for cluster in &self.clusters {
            let admin = cluster.admin();
            left(&*admin, &self.group).await;
            if let Err(error) = admin.delete_topic(&self.topic).await {
                tracing::warn!(topic = self.topic, %error, "the demo's topic was not deleted");
            }
            if let Err(error) = admin.delete_group(&self.group).await {
                tracing::warn!(group = self.group, %error, "the demo's group was not deleted");
            }
            cluster.close().await;
        }
        for suffix in ["", "-wal", "-shm"] {
            let mut file = self.store.clone().into_os_string();
            file.push(suffix);
            // SQLite removes its side files itself when it closes in good order.
            let _ = std::fs::remove_file(file);
        }
    }
}

/// A side's cluster, without what may follow its address.
fn place(side: Side, address: &str) -> String {
    format!("the {side} at {}", public(address))
}

/// What went wrong at a side's cluster.
fn at(side: Side, address: &str, error: &dyn Display) -> String {
    format!("{side}: {}: {error}", public(address))
}

/// Waits until the cluster lists nobody in the group: brokers would make it again for a member's next heartbeat.
async fn left(admin: &dyn BackendAdmin, group: &str) {
    let deadline = Instant::now() + GONE;
    while Instant::now() < deadline {
        match admin.members(group).await {
            Ok(members) if !members.clients.is_empty() => {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            _ => return,
        }
    }
}

/// Waits until `begun` messages were begun.
async fn watch(fleet: &Fleet, progress: &Progress, begun: u64) {
    while fleet.ledger.begun() < begun {
        progress.handled(fleet.ledger.handled());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn replace(fleet: &Fleet, instances: &mut [Instance]) -> Result<(), String> {
    let victim = instances
        .iter_mut()
        .find(|instance| instance.name == VICTIM);
    let victim = victim.ok_or_else(|| format!("{VICTIM} does not run"))?;
    victim.kill();
    *victim = fleet.start(VICTIM, Job::Consume, "continue").await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::demo::kind::Kind;

    /// Embedded clusters, and live ones where the environment names them.
    #[allow(clippy::print_stderr, reason = "says what it skips")]
    fn places() -> Vec<[String; 2]> {
        let mut places = vec![["memory://left-source".into(), "memory://left-target".into()]];
        let named = ["CROSSFADE_TEST_SOURCE", "CROSSFADE_TEST_TARGET"].map(std::env::var);
        match named {
            [Ok(source), Ok(target)] => places.push([source, target]),
            _ => eprintln!("skipped: what a demo leaves on live brokers: no brokers"),
        }
        places
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn nothing_stays_of_a_demo_that_ends_in_the_middle() {
        for addresses in places() {
            // Embedded clusters live as long as somebody has them open.
            let mut clusters = Vec::new();
            for address in &addresses {
                clusters.push(registry::open(address, "witness").await.unwrap());
            }
            let args = Args {
                credentials: Default::default(),
                source: Some(addresses[0].clone()),
                target: Some(addresses[1].clone()),
                messages: 100_000,
                kind: Kind::Normal,
                seed: 1,
            };
            let progress = Progress::new(args.messages);
            let mut stage_set = StageSet::build(&args, &progress).await.unwrap();
            let (topic, group) = (stage_set.topic.clone(), stage_set.group.clone());
            let there = async || {
                let mut there = Vec::new();
                for cluster in &clusters {
                    let admin = cluster.admin();
                    for name in [&topic, &format!("%RETRY%{group}"), &format!("%DLQ%{group}")] {
                        if admin.topic(name).await.unwrap().is_some() {
                            there.push(name.clone());
                        }
                    }
                    if admin.group_exists(&group).await.unwrap() {
                        there.push(group.clone());
                    }
                }
                there
            };
            {
                let played = stage_set.play(&args, &progress);
                let handling = async {
                    loop {
                        let members = clusters[0].admin().members(&group).await.unwrap();
                        if members.clients.len() == CONSUMERS.len() {
                            break;
                        }
                        tokio::time::sleep(Duration::from_millis(20)).await;
                    }
                };
                tokio::select! {
                    played = played => panic!("ended before it was ended: {:?}", played.err()),
                    () = handling => {}
                }
            }
            assert!(there().await.contains(&group));
            stage_set.tear_down().await;
            assert_eq!(there().await, [""; 0], "{addresses:?}");
        }
    }
}
