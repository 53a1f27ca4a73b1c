//! The instances: `crossfade load` processes, each with a name for the whole run and a history file for each of its lives.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tokio::{
    sync::{Mutex, MutexGuard},
    time::{Instant, sleep},
};

use crate::{
    failure::{Failure, Result, failed},
    process::{Process, Program},
    schedule::{Job, Who},
    timeline::{Happening, Timeline},
};

/// A process that ends by itself so often is not started again.
const MOST_UNASKED_ENDS: u32 = 20;

/// What every instance is started with.
#[derive(Clone, Debug)]
pub struct Work {
    /// The `crossfade` program.
    pub program: Program,
    /// For histories and logs.
    pub folder: PathBuf,
    /// The control plane.
    pub control: String,
    /// What they send and handle.
    pub topic: String,
    /// Consumers take them in turn.
    pub groups: Vec<String>,
    /// Messages a second of one producer.
    pub rate: u64,
    /// So many handlers in a hundred fail.
    pub fail_percent: u8,
    /// Of the run.
    pub seed: u64,
}

/// All instances of a run.
#[derive(Debug)]
pub struct Fleet {
    work: Work,
    members: Vec<Member>,
    timeline: Arc<Timeline>,
}

/// What one life of an instance has written.
#[derive(Clone, Debug)]
pub struct History {
    /// Whose.
    pub who: Who,
    /// From 1.
    pub life: u32,
    /// Where it is.
    pub path: PathBuf,
}

#[derive(Debug)]
struct Member {
    who: Who,
    /// Held during a fault, so that faults on one instance come one after the other.
    slot: Mutex<Slot>,
}

#[derive(Debug, Default)]
struct Slot {
    process: Option<Process>,
    lives: u32,
    unasked_ends: u32,
    /// It was asked to end.
    leaving: bool,
}

impl Fleet {
    /// Nothing runs yet.
    #[must_use]
    pub fn new(work: Work, producers: usize, consumers: usize, timeline: Arc<Timeline>) -> Self {
        let consumers = (0..consumers).map(|index| (Job::Consumer, index));
        let producers = (0..producers).map(|index| (Job::Producer, index));
        let members = consumers.chain(producers).map(|(job, index)| Member {
            who: Who { job, index },
            slot: Mutex::default(),
        });
        Fleet {
            work,
            members: members.collect(),
            timeline,
        }
    }

    /// Starts all that have the job.
    ///
    /// # Errors
    /// A process cannot be started.
    ///
    /// # Cancellation
    /// Some may run.
    pub async fn start(&self, job: Job) -> Result<()> {
        for member in self.with(job) {
            self.begin(member.who, &mut *member.slot.lock().await)?;
        }
        Ok(())
    }

    /// SIGKILL, and after `down` a new process under the same name.
    ///
    /// # Errors
    /// No such instance, or its process cannot be killed or started.
    ///
    /// # Cancellation
    /// It may be dead.
    pub async fn kill(&self, who: Who, down: Duration) -> Result<()> {
        let mut slot = self.slot(who).await?;
        if let Some(process) = &mut slot.process {
            process.kill().await?;
            self.timeline.note(Happening::Killed { who });
            slot.process = None;
        }
        sleep(down).await;
        self.begin(who, &mut slot)
    }

    /// SIGSTOP, and after `length` SIGCONT.
    ///
    /// # Errors
    /// No such instance, or it is gone.
    ///
    /// # Cancellation
    /// It may stand still.
    pub async fn freeze(&self, who: Who, length: Duration) -> Result<()> {
        let mut slot = self.slot(who).await?;
        let gone = || failed(format!("{who} does not run"));
        slot.process.as_mut().ok_or_else(gone)?.stop()?;
        self.timeline.note(Happening::Stopped { who });
        sleep(length).await;
        slot.process.as_mut().ok_or_else(gone)?.go_on()?;
        self.timeline.note(Happening::WentOn { who });
        Ok(())
    }

    /// SIGSTOP until [`Self::go_on`].
    ///
    /// # Errors
    /// As [`Self::freeze`].
    ///
    /// # Cancellation
    /// It may stand still.
    pub async fn stop(&self, who: Who) -> Result<()> {
        let mut slot = self.slot(who).await?;
        let process = slot.process.as_mut();
        process
            .ok_or_else(|| failed(format!("{who} does not run")))?
            .stop()?;
        self.timeline.note(Happening::Stopped { who });
        Ok(())
    }

    /// SIGCONT.
    ///
    /// # Errors
    /// As [`Self::freeze`].
    ///
    /// # Cancellation
    /// It may go on.
    pub async fn go_on(&self, who: Who) -> Result<()> {
        let mut slot = self.slot(who).await?;
        let process = slot.process.as_mut();
        process
            .ok_or_else(|| failed(format!("{who} does not run")))?
            .go_on()?;
        self.timeline.note(Happening::WentOn { who });
        Ok(())
    }

    /// Starts those again that have ended by themselves. Answers what they said.
    ///
    /// # Errors
    /// One of them ends again and again.
    ///
    /// # Cancellation
    /// Leaves nothing behind.
    pub async fn revive(&self) -> Result<Vec<String>> {
        let mut said = Vec::new();
        for member in &self.members {
            // During a fault it is somebody else's.
            let Ok(mut slot) = member.slot.try_lock() else {
                continue;
            };
            if slot.leaving {
                continue;
            }
            let Some(process) = &mut slot.process else {
                continue;
            };
            let Some(status) = process.ended()? else {
                continue;
            };
            let who = member.who;
            let line = process.with_log(format!("{who} ended by itself: {status}"));
            self.timeline.note(Happening::Ended { who });
            slot.unasked_ends += 1;
            if slot.unasked_ends > MOST_UNASKED_ENDS {
                return Err(failed(format!("{who} ends again and again: {line}")));
            }
            said.push(line.to_string());
            self.begin(who, &mut slot)?;
        }
        Ok(said)
    }

    /// SIGTERM to all that have the job, and waits for their ends. Answers what went wrong with whom.
    ///
    /// # Cancellation
    /// Some may run on.
    pub async fn terminate(&self, job: Job, within: Duration) -> Vec<Failure> {
        let end = Instant::now() + within;
        let mut wrong = Vec::new();
        // All are told before one is waited for: they leave their groups together.
        for member in self.with(job) {
            let mut slot = member.slot.lock().await;
            slot.leaving = true;
            if let Some(process) = &mut slot.process {
                wrong.extend(process.ask_to_end().err());
            }
        }
        for member in self.with(job) {
            if let Some(mut process) = member.slot.lock().await.process.take() {
                let left = end.saturating_duration_since(Instant::now());
                wrong.extend(process.end(left).await.err());
            }
        }
        wrong
    }

    /// The histories of all lives so far.
    ///
    /// # Cancellation
    /// Leaves nothing behind.
    pub async fn histories(&self) -> Vec<History> {
        let mut files = Vec::new();
        for member in &self.members {
            let lives = member.slot.lock().await.lives;
            files.extend((1..=lives).map(|life| History {
                who: member.who,
                life,
                path: self.history(member.who, life),
            }));
        }
        // A life that ended before it began has none.
        files.retain(|history| history.path.exists());
        files
    }

    /// The folder that histories appear in.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.work.folder
    }

    fn begin(&self, who: Who, slot: &mut Slot) -> Result<()> {
        slot.lives += 1;
        let work = &self.work;
        let mut command = work.program.command();
        command.arg("load");
        match who.job {
            Job::Producer => {
                command.args(["produce", "--rate", &work.rate.to_string()]);
            }
            Job::Consumer => {
                let group = &work.groups[who.index % work.groups.len()];
                let fails = work.fail_percent.to_string();
                command.args(["consume", "--group", group, "--fail-percent", &fails]);
            }
        }
        // Every life draws anew.
        let seed = work.seed.wrapping_add(u64::from(slot.lives) << 16);
        let seed = seed.wrapping_add(who.index as u64).to_string();
        command
            .args(["--seed", &seed])
            .args(["--topic", &work.topic, "--instance", &who.to_string()])
            .args(["--control", &work.control, "--history"])
            .arg(self.history(who, slot.lives));
        let log = work.folder.join(format!("{who}.log"));
        slot.process = Some(Process::start(&who.to_string(), command, &log, false)?);
        self.timeline.note(Happening::Started { who });
        Ok(())
    }

    fn history(&self, who: Who, life: u32) -> PathBuf {
        self.work.folder.join(format!("{who}.{life}.jsonl"))
    }

    fn with(&self, job: Job) -> impl Iterator<Item = &Member> {
        self.members
            .iter()
            .filter(move |member| member.who.job == job)
    }

    async fn slot(&self, who: Who) -> Result<MutexGuard<'_, Slot>> {
        let member = self.members.iter().find(|member| member.who == who);
        let member = member.ok_or_else(|| failed(format!("there is no {who}")))?;
        Ok(member.slot.lock().await)
    }
}
