//! Everything that lives during a run, and what can be done to it.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex as SyncMutex, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{Mutex, watch},
    task::{JoinSet, spawn_blocking},
    time::{Instant, sleep, timeout},
};

use crate::{
    clusters::Clusters,
    control::{ControlPlane, Operator},
    failure::{Failure, Result, failed},
    fleet::{Fleet, Work},
    process::Program,
    progress,
    schedule::{Fault, Job},
    tally::{Counts, Tally},
    timeline::{Happening, Timeline},
};

/// Until all consumers are registered, and until the first message is handled.
const BEGINNING: Duration = Duration::from_secs(120);
/// How long the last messages may take to be handled, once nothing is sent any more.
const LAST_MESSAGES: Duration = Duration::from_secs(240);
/// Between two looks at the histories and the processes.
const LOOK: Duration = Duration::from_millis(250);

/// What a scene is made of.
#[derive(Clone, Debug)]
pub struct Setting {
    /// For histories, logs and the store.
    pub folder: PathBuf,
    /// The `crossfade` program.
    pub program: Program,
    /// Of the run.
    pub seed: u64,
    /// Producing instances.
    pub producers: usize,
    /// Consuming instances.
    pub consumers: usize,
    /// They are spread over so many groups.
    pub groups: usize,
    /// Messages a second, all producers together.
    pub rate: u64,
    /// So many handlers in a hundred fail.
    pub fail_percent: u8,
    /// Queues of the topic on each side.
    pub queues: u32,
    /// How long an instance counts as alive without a request.
    pub lease: Duration,
}

/// The processes of a run.
#[derive(Debug)]
pub struct Scene {
    /// Where it all happens.
    pub clusters: Clusters,
    /// The operator.
    pub operator: Operator,
    /// The instances.
    pub fleet: Fleet,
    /// What was done.
    pub timeline: Arc<Timeline>,
    control: Mutex<ControlPlane>,
    /// One broker at a time is down.
    broker: Mutex<()>,
    counts: watch::Receiver<Counts>,
    unasked_ends: SyncMutex<Vec<String>>,
}

/// The tasks that read the histories and look after the processes; they end when it is dropped.
#[derive(Debug)]
pub struct Watchers(JoinSet<Failure>);

impl Scene {
    /// Makes topic and groups, starts the control plane, the consumers, the producers; messages flow when it returns.
    ///
    /// # Errors
    /// What does not come up.
    ///
    /// # Cancellation
    /// All processes but the brokers end.
    pub async fn build(setting: &Setting, clusters: Clusters) -> Result<(Arc<Self>, Watchers)> {
        let topic = format!("chaos-{}-{}", setting.seed, std::process::id());
        let groups: Vec<String> = (1..=setting.groups)
            .map(|number| format!("{topic}-group-{number}"))
            .collect();
        clusters.create(&topic, setting.queues, &groups).await?;
        let folder = setting.folder.clone();
        let control =
            ControlPlane::first_start(&setting.program, folder.clone(), &clusters, setting.lease)
                .await?;
        let operator = control.operator(&topic);
        operator.add(&groups).await?;
        let timeline = Arc::new(Timeline::default());
        let work = Work {
            program: setting.program.clone(),
            folder: folder.clone(),
            control: control.url(),
            topic,
            groups: groups.clone(),
            rate: (setting.rate / setting.producers as u64).max(1),
            fail_percent: setting.fail_percent,
            seed: setting.seed,
        };
        let fleet = Fleet::new(
            work,
            setting.producers,
            setting.consumers,
            Arc::clone(&timeline),
        );
        let (counted, counts) = watch::channel(Counts::default());
        let scene = Arc::new(Scene {
            clusters,
            operator,
            fleet,
            timeline,
            control: Mutex::new(control),
            broker: Mutex::default(),
            counts,
            unasked_ends: SyncMutex::default(),
        });
        let mut watchers = Watchers(JoinSet::new());
        watchers
            .0
            .spawn(count(Tally::new(&folder, &groups), counted));
        watchers.0.spawn(Arc::clone(&scene).look_after());
        scene.fleet.start(Job::Consumer).await?;
        scene.registered(setting.consumers).await?;
        scene.fleet.start(Job::Producer).await?;
        let began = scene.until(BEGINNING, |counts| counts.done > 0).await;
        began.map_err(|why| failed(format!("no message was handled: {why}")))?;
        Ok((scene, watchers))
    }

    /// Does it, and undoes it after its time.
    ///
    /// # Errors
    /// It could not be done or undone.
    ///
    /// # Cancellation
    /// It may stay done.
    pub async fn perform(&self, fault: &Fault) -> Result<()> {
        match *fault {
            Fault::Kill { who, down } => self.fleet.kill(who, down).await,
            Fault::Freeze { who, length } => self.fleet.freeze(who, length).await,
            Fault::KillControl { down } => {
                let mut control = self.control.lock().await;
                control.kill().await?;
                self.timeline.note(Happening::ControlKilled);
                sleep(down).await;
                control.start().await?;
                self.timeline.note(Happening::ControlServes);
                Ok(())
            }
            Fault::FreezeControl { length } => {
                let mut control = self.control.lock().await;
                control.freeze()?;
                self.timeline.note(Happening::ControlStopped);
                sleep(length).await;
                control.go_on()?;
                self.timeline.note(Happening::ControlWentOn);
                Ok(())
            }
            Fault::KillBroker { side, down } => {
                let _one = self.broker.lock().await;
                self.clusters.kill_broker(side).await?;
                self.timeline.note(Happening::BrokerKilled { side });
                sleep(down).await;
                self.clusters.start_broker(side).await?;
                self.timeline.note(Happening::BrokerAnswers { side });
                Ok(())
            }
        }
    }

    /// What the histories say now.
    #[must_use]
    pub fn counts(&self) -> Counts {
        *self.counts.borrow()
    }

    /// Waits until the counts are so.
    ///
    /// # Errors
    /// They are not `within` the time: with the counts.
    ///
    /// # Cancellation
    /// Leaves nothing behind.
    pub async fn until(&self, within: Duration, so: impl FnMut(&Counts) -> bool) -> Result<Counts> {
        let mut counts = self.counts.clone();
        let met = timeout(within, counts.wait_for(so)).await;
        match met {
            Ok(Ok(counts)) => Ok(*counts),
            Ok(Err(_)) => Err(failed("the histories are no longer read")),
            Err(_) => Err(failed(format!(
                "not within {within:?}: {:?}",
                self.counts()
            ))),
        }
    }

    /// Waits until every group has handled every acked message. One that is not handled in time is the checker's to judge.
    ///
    /// # Cancellation
    /// Leaves nothing behind.
    pub async fn drained(&self) {
        // Twice: what was read first may have been written before the last send.
        sleep(LOOK * 2).await;
        if let Err(why) = self.until(LAST_MESSAGES, |counts| counts.open == 0).await {
            progress(format_args!("not drained: {why}"));
        }
    }

    /// Ends the control plane in good order.
    ///
    /// # Errors
    /// It did not end so.
    ///
    /// # Cancellation
    /// It is killed.
    pub async fn stop_control(&self) -> Result<()> {
        self.control.lock().await.stop().await
    }

    /// What instances said that ended by themselves.
    #[must_use]
    pub fn unasked_ends(&self) -> Vec<String> {
        let ends = self.unasked_ends.lock();
        ends.unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn registered(&self, instances: usize) -> Result<()> {
        let end = Instant::now() + BEGINNING;
        loop {
            let list = self.operator.instances().await?;
            if list.as_array().is_some_and(|list| list.len() >= instances) {
                return Ok(());
            }
            if Instant::now() > end {
                return Err(failed(format!(
                    "{instances} consumers were started and the control plane knows {list}; their logs are in {}",
                    self.fleet.folder().display()
                )));
            }
            sleep(LOOK).await;
        }
    }

    /// Starts instances again that ended by themselves; ends when that is no use, or when the control plane has ended by itself.
    async fn look_after(self: Arc<Self>) -> Failure {
        loop {
            sleep(LOOK).await;
            // During a fault it is somebody else's.
            if let Ok(mut control) = self.control.try_lock()
                && let Err(why) = control.check()
            {
                return why;
            }
            match self.fleet.revive().await {
                Ok(said) => {
                    for line in said {
                        progress(&line);
                        let ends = self.unasked_ends.lock();
                        ends.unwrap_or_else(PoisonError::into_inner).push(line);
                    }
                }
                Err(why) => return why,
            }
        }
    }
}

impl Watchers {
    /// Why one of them has ended. They do not end while all is well.
    ///
    /// # Cancellation
    /// Leaves nothing behind.
    pub async fn ended(&mut self) -> Failure {
        match self.0.join_next().await {
            Some(Ok(why)) => why,
            Some(Err(error)) => failed(error.to_string()),
            None => failed("nobody looks after the run"),
        }
    }
}

async fn count(mut tally: Tally, counted: watch::Sender<Counts>) -> Failure {
    loop {
        let read = spawn_blocking(move || {
            let read = tally.read();
            (tally, read)
        });
        match read.await {
            Ok((back, Ok(counts))) => {
                tally = back;
                counted.send_replace(counts);
            }
            Ok((_, Err(why))) => return why,
            Err(error) => return failed(error.to_string()),
        }
        sleep(LOOK).await;
    }
}
