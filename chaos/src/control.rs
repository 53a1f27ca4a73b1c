//! The control plane as a process of its own, and the operator's commands: the `crossfade` program, as people use it.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use crossfade::{Side, stage::Stage};
use serde::Deserialize;
use tokio::{process::Command, time::sleep};

use crate::{
    clusters::Clusters,
    failure::{Failure, Result, failed},
    process::{Process, Program, output},
};

/// What it allows a lease beyond its end.
pub const MARGIN: Duration = Duration::from_secs(1);
/// Until it serves.
const START: Duration = Duration::from_secs(60);
/// One command that waits for nothing.
const COMMAND: Duration = Duration::from_secs(60);
/// What is in the way is told so often, and in so many letters.
const TELL: Duration = Duration::from_secs(5);
const TOLD: usize = 400;
/// Between two tries of a command.
const PAUSE: Duration = Duration::from_millis(500);

/// Where the control plane is and what it was started with.
#[derive(Debug)]
pub struct ControlPlane {
    program: Program,
    folder: PathBuf,
    addresses: [String; 2],
    lease: Duration,
    listen: String,
    process: Option<Process>,
}

/// What this program reads of a topic; the whole answer is kept for the report.
#[derive(Clone, Debug, Deserialize)]
pub struct Topic {
    /// The stage published.
    pub stage: Stage,
    /// Where it is to go.
    pub goal: Stage,
    /// The stage is the goal, applied by everybody and proved.
    pub settled: bool,
    /// Of the plan.
    pub revision: u64,
    /// What each side owes; `None`: not known.
    pub owed: [Option<u64>; 2],
    /// What the next step waits for.
    #[serde(default)]
    pub gates: Vec<Gate>,
}

/// One gate.
#[derive(Clone, Debug, Deserialize)]
pub struct Gate {
    /// Its stable word.
    pub code: String,
    /// Whether it is open.
    pub passed: bool,
    /// In words.
    pub message: String,
}

/// The operator's commands, for one topic of one control plane.
#[derive(Clone, Debug)]
pub struct Operator {
    program: Program,
    url: String,
    topic: String,
}

impl ControlPlane {
    /// Starts it on a port that the system chooses; [`Self::start`] uses the same one again.
    ///
    /// # Errors
    /// It does not come up: with the end of its log.
    ///
    /// # Cancellation
    /// It is killed.
    pub async fn first_start(
        program: &Program,
        folder: PathBuf,
        clusters: &Clusters,
        lease: Duration,
    ) -> Result<Self> {
        let mut control = ControlPlane {
            program: program.clone(),
            folder,
            addresses: Side::BOTH.map(|side| clusters.address(side).to_owned()),
            lease,
            listen: "127.0.0.1:0".to_owned(),
            process: None,
        };
        control.start().await?;
        Ok(control)
    }

    /// Starts it, on the address and the store of before.
    ///
    /// # Errors
    /// It does not come up: with the end of its log.
    ///
    /// # Cancellation
    /// It is killed.
    pub async fn start(&mut self) -> Result<()> {
        let mut command = self.program.command();
        let store = format!("sqlite://{}", self.folder.join("plans.db").display());
        command
            .args(["serve", "--listen", &self.listen, "--store", &store])
            .args([
                "--source",
                &self.addresses[0],
                "--target",
                &self.addresses[1],
            ])
            .args([
                "--lease",
                &self.lease.as_secs().to_string(),
                "--margin",
                &MARGIN.as_secs().to_string(),
            ]);
        let log = self.folder.join("control-plane.log");
        let mut process = Process::start("the control plane", command, &log, true)?;
        let line = process.line(START).await?;
        let address = line.strip_prefix("ready http://");
        let address = address.ok_or_else(|| {
            process.with_log(format!("the control plane said {line:?} in place of ready"))
        })?;
        address.trim_end_matches('/').clone_into(&mut self.listen);
        self.process = Some(process);
        Ok(())
    }

    /// SIGKILL.
    ///
    /// # Errors
    /// It has ended by itself: with the end of its log.
    ///
    /// # Cancellation
    /// It is killed all the same.
    pub async fn kill(&mut self) -> Result<()> {
        self.check()?;
        if let Some(mut process) = self.process.take() {
            process.kill().await?;
        }
        Ok(())
    }

    /// SIGSTOP: connections stay, nothing is answered, leases run out.
    ///
    /// # Errors
    /// It does not run.
    pub fn freeze(&mut self) -> Result<()> {
        self.running()?.stop()
    }

    /// SIGCONT.
    ///
    /// # Errors
    /// It does not run.
    pub fn go_on(&mut self) -> Result<()> {
        self.running()?.go_on()
    }

    fn running(&mut self) -> Result<&mut Process> {
        let process = self.process.as_mut();
        process.ok_or_else(|| failed("the control plane does not run"))
    }

    /// It must run, unless it was killed.
    ///
    /// # Errors
    /// It has ended by itself: with the end of its log.
    pub fn check(&mut self) -> Result<()> {
        if let Some(process) = &mut self.process
            && let Some(status) = process.ended()?
        {
            return Err(process.with_log(format!("the control plane ended by itself: {status}")));
        }
        Ok(())
    }

    /// Ends it in good order.
    ///
    /// # Errors
    /// It did not end in good order.
    ///
    /// # Cancellation
    /// It is killed.
    pub async fn stop(&mut self) -> Result<()> {
        match self.process.take() {
            Some(mut process) => {
                process.ask_to_end()?;
                process.end(START).await
            }
            None => Ok(()),
        }
    }

    /// `http://host:port`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.listen)
    }

    /// The commands for one topic.
    #[must_use]
    pub fn operator(&self, topic: &str) -> Operator {
        Operator {
            program: self.program.clone(),
            url: self.url(),
            topic: topic.to_owned(),
        }
    }
}

impl Operator {
    /// `topic add`.
    ///
    /// # Errors
    /// What the command says.
    ///
    /// # Cancellation
    /// It may have been added.
    pub async fn add(&self, groups: &[String]) -> Result<()> {
        let groups = groups.join(",");
        let words = ["topic", "add", &self.topic, "--group", &groups];
        self.call(&words, COMMAND).await.map(drop)
    }

    /// `topic weight`, tried again while the control plane is away.
    ///
    /// # Errors
    /// What the command said last, when `within` is over.
    ///
    /// # Cancellation
    /// The weight may have been set.
    pub async fn weight(&self, basis_points: u32, within: Duration) -> Result<()> {
        let end = Instant::now() + within;
        let share = format!("{basis_points}bp");
        loop {
            match self
                .call(&["topic", "weight", &self.topic, &share], COMMAND)
                .await
            {
                Ok(_) => return Ok(()),
                Err(error) if Instant::now() >= end => return Err(error),
                Err(_) => sleep(PAUSE).await,
            }
        }
    }

    /// `topic show`.
    ///
    /// # Errors
    /// What the command says.
    ///
    /// # Cancellation
    /// Leaves nothing behind.
    pub async fn show(&self) -> Result<Topic> {
        let text = self.call(&["topic", "show", &self.topic], COMMAND).await?;
        serde_json::from_str(&text)
            .map_err(|error| failed(format!("topic show {}: {error}: {text}", self.topic)))
    }

    /// `instance confirm-gone`.
    ///
    /// # Errors
    /// What the command says.
    ///
    /// # Cancellation
    /// It may have been taken.
    pub async fn confirm_gone(&self, instance: &str, reason: &str) -> Result<()> {
        let words = ["instance", "confirm-gone", instance, "--reason", reason];
        self.call(&words, COMMAND).await.map(drop)
    }

    /// `instance list`, as JSON.
    ///
    /// # Errors
    /// What the command says.
    ///
    /// # Cancellation
    /// Leaves nothing behind.
    pub async fn instances(&self) -> Result<serde_json::Value> {
        let text = self.call(&["instance", "list"], COMMAND).await?;
        serde_json::from_str(&text).map_err(|error| failed(format!("instance list: {error}")))
    }

    /// `topic advance` or `rollback --to STAGE --wait`, given again while the control plane is away, until the topic is settled there; no word at all
    /// where it goes nowhere. Answers the revision at which it is. `tell` hears what is in the way.
    ///
    /// # Errors
    /// Not settled `within` the time: with what it still waits for.
    ///
    /// # Cancellation
    /// The topic goes on by itself.
    pub async fn walk(
        &self,
        from: Stage,
        to: Stage,
        within: Duration,
        mut tell: impl FnMut(&str),
    ) -> Result<u64> {
        let end = Instant::now() + within;
        let word = if to > from { "advance" } else { "rollback" };
        let mut told = String::new();
        let mut told_at = Instant::now();
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let seconds = left.as_secs().max(1).to_string();
            let words = [
                "topic",
                word,
                &self.topic,
                "--to",
                to.as_str(),
                "--wait",
                "--timeout",
                &seconds,
            ];
            let said = if from == to {
                Ok(String::new())
            } else {
                self.call(&words, left + COMMAND).await
            };
            // Whatever the command says: what the control plane shows counts.
            let why = match (self.show().await, said) {
                (Ok(view), _) if view.settled && view.stage == to => return Ok(view.revision),
                (Ok(view), Ok(_)) => format!("at {}, goal {}, not settled", view.stage, view.goal),
                (Ok(_), Err(error)) | (Err(error), _) => error.to_string(),
            };
            if Instant::now() >= end {
                return Err(self.stuck(to, within, &why).await);
            }
            if why != told && told_at.elapsed() >= TELL {
                tell(&why.chars().take(TOLD).collect::<String>());
                told = why;
                told_at = Instant::now();
            }
            sleep(PAUSE).await;
        }
    }

    /// Waits until a look at the brokers finds that both sides owe nothing; answers the last look's word on it.
    ///
    /// # Errors
    /// What the command says.
    ///
    /// # Cancellation
    /// Leaves nothing behind.
    pub async fn owed_at_last(&self, within: Duration) -> Result<[Option<u64>; 2]> {
        let end = Instant::now() + within;
        loop {
            let owed = self.show().await?.owed;
            if owed == [Some(0); 2] || Instant::now() >= end {
                return Ok(owed);
            }
            sleep(PAUSE).await;
        }
    }

    async fn stuck(&self, to: Stage, within: Duration, why: &str) -> Failure {
        let waits = match self.show().await {
            Ok(view) => {
                let closed = view.gates.iter().filter(|gate| !gate.passed);
                let closed: Vec<String> = closed
                    .map(|gate| format!("{}: {}", gate.code, gate.message))
                    .collect();
                format!(
                    "it is at {} and waits for: {}",
                    view.stage,
                    closed.join("; ")
                )
            }
            Err(error) => error.to_string(),
        };
        failed(format!(
            "{}: not settled at {to} within {within:?}: {why}; {waits}",
            self.topic
        ))
    }

    async fn call(&self, words: &[&str], within: Duration) -> Result<String> {
        let mut command: Command = self.program.command();
        command
            .args(words)
            .args(["--control", &self.url, "--json"])
            .kill_on_drop(true);
        output(command, within).await
    }
}
