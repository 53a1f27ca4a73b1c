//! A producer that stands still with sends under way while its topic goes to the other end, and then wakes.
//!
//! It wakes with the plan of the first stage and sends by it, to a side that is sealed and that nobody reads. What becomes of these sends is what
//! the seal is for.

use std::{sync::Arc, time::Duration};

use crossfade::stage::Stage;
use serde::Serialize;
use tokio::{
    task::{JoinHandle, spawn_blocking},
    time::{Instant, sleep, timeout},
};

use crate::{
    clusters::Clusters,
    failure::{Result, failed},
    fates::{Fates, sendings},
    fleet::History,
    outcome::Outcome,
    progress,
    run::finish,
    scene::{Scene, Setting},
    schedule::{Job, Who},
    timeline::now_us,
    verdict::Verdict,
};

/// Another producer goes on sending.
const VICTIM: Who = Who {
    job: Job::Producer,
    index: 1,
};
/// Sends that succeed before anything happens.
const BEGINNING: u64 = 2_000;
/// How often it is stopped until sends are under way.
const TRIES: usize = 200;
/// So many sends under way are hoped for.
const MANY: usize = 5;
/// How long the walk may take once nothing blocks it.
const WALK: Duration = Duration::from_secs(240);
/// How long the woken producer is watched.
const AFTERMATH: Duration = Duration::from_secs(20);

/// What was seen.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Whether nothing was lost and everything was accounted for.
    pub passed: bool,
    /// What was not.
    pub faults: Vec<String>,
    /// Of the run.
    pub seed: u64,
    /// How long the producer stood still.
    pub frozen_seconds: f64,
    /// From the operator's word to the settled `TargetOnly`.
    pub walk_seconds: f64,
    /// `brokers`: they no longer listed its clients. `operator`: it was confirmed gone.
    pub unblocked_by: &'static str,
    /// What the topic waited for while it was blocked.
    pub waited_for: Vec<String>,
    /// The revision of `TargetOnly`.
    pub revision: u64,
    /// Sends that were under way when it was stopped; times count from the waking.
    pub under_way: Fates,
    /// Sends that it began after it woke.
    pub after_waking: Fates,
    /// The checker's word on the whole run, all instances.
    pub verdict: Verdict,
}

/// The course of the freeze.
struct Course {
    life: History,
    stopped_us: u64,
    woken_us: u64,
    walk: Duration,
    unblocked_by: &'static str,
    waited_for: Vec<String>,
    revision: u64,
}

/// Runs it. `evidence`: how long the brokers may take to forget the producer before an operator confirms it gone.
///
/// # Errors
/// What kept it from its end.
///
/// # Cancellation
/// All processes but the brokers end.
pub async fn run(setting: &Setting, evidence: Duration, clusters: Clusters) -> Result<Report> {
    let setting = Setting {
        producers: setting.producers.max(2),
        ..setting.clone()
    };
    let (scene, mut watchers) = Scene::build(&setting, clusters).await?;
    let course = tokio::select! {
        course = play(&scene, evidence) => course?,
        why = watchers.ended() => return Err(why),
    };
    progress("draining");
    let audit = finish(&scene, watchers).await?;
    let histories = audit.histories.clone();
    let life = course.life.clone();
    let sendings = spawn_blocking(move || sendings(&life, &histories));
    let sendings = sendings
        .await
        .map_err(|error| failed(error.to_string()))??;
    let (stopped, woken) = (course.stopped_us, course.woken_us);
    let under_way = sendings.values().filter(|sending| {
        sending.called_us < stopped && sending.end.as_ref().is_none_or(|(end, _)| *end >= stopped)
    });
    let under_way = Fates::of(under_way, woken);
    let after = sendings
        .values()
        .filter(|sending| sending.called_us >= woken);
    let after_waking = Fates::of(after, woken);
    let verdict = Verdict::judge(audit, scene.timeline.entries()).await?;
    let mut faults = verdict.faults();
    if under_way.sends == 0 || after_waking.sends == 0 {
        faults.push("the producer had no send under way, or sent nothing after it woke".into());
    }
    if after_waking.acked[0] > 0 {
        let acked = after_waking.acked[0];
        faults.push(format!(
            "{acked} sends were acked by the source after target_only"
        ));
    }
    Ok(Report {
        passed: faults.is_empty(),
        faults,
        seed: setting.seed,
        frozen_seconds: Duration::from_micros(woken - stopped).as_secs_f64(),
        walk_seconds: course.walk.as_secs_f64(),
        unblocked_by: course.unblocked_by,
        waited_for: course.waited_for,
        revision: course.revision,
        under_way,
        after_waking,
        verdict,
    })
}

async fn play(scene: &Arc<Scene>, evidence: Duration) -> Result<Course> {
    let within = Duration::from_secs(120);
    scene
        .until(within, |counts| counts.acked() >= BEGINNING)
        .await?;
    let mut histories = scene.fleet.histories().await.into_iter();
    let life = histories.rfind(|history| history.who == VICTIM);
    let life = life.ok_or_else(|| failed(format!("{VICTIM} has no history")))?;
    let stopped_us = stop_with_sends_under_way(scene, &life).await?;
    let asked = Instant::now();
    let mut walk = walk(scene, evidence);
    let mut waited_for = Vec::new();
    let mut unblocked_by = "brokers";
    let end = asked + evidence;
    let mut early = None;
    while Instant::now() < end && early.is_none() {
        let view = scene.operator.show().await?;
        for gate in view.gates.iter().filter(|gate| !gate.passed) {
            let line = format!("{}: {}", view.stage, gate.code);
            if !waited_for.contains(&line) {
                progress(format_args!("  {line}: {}", gate.message));
                waited_for.push(line);
            }
        }
        // Whatever comes after the first step needs its ack, or the proof that it is gone.
        if view.stage > Stage::DualRead {
            break;
        }
        early = timeout(Duration::from_millis(500), &mut walk).await.ok();
    }
    if early.is_none() && scene.operator.show().await?.stage <= Stage::DualRead {
        unblocked_by = "operator";
        progress(format_args!("  confirming {VICTIM} gone"));
        let reason = "frozen for this run on purpose";
        scene
            .operator
            .confirm_gone(&VICTIM.to_string(), reason)
            .await?;
    }
    let revision = match early {
        Some(ended) => ended,
        None => walk.await,
    };
    let revision = revision.map_err(|error| failed(error.to_string()))??;
    let walk = asked.elapsed();
    progress(format_args!(
        "  at target_only after {:.1} s, unblocked by the {unblocked_by}; waking {VICTIM}",
        walk.as_secs_f64()
    ));
    let woken_us = now_us();
    scene.fleet.go_on(VICTIM).await?;
    sleep(AFTERMATH).await;
    Ok(Course {
        life,
        stopped_us,
        woken_us,
        walk,
        unblocked_by,
        waited_for,
        revision,
    })
}

fn walk(scene: &Arc<Scene>, evidence: Duration) -> JoinHandle<Result<u64>> {
    let operator = scene.operator.clone();
    tokio::spawn(async move {
        let tell = |line: &str| progress(format_args!("  {line}"));
        operator
            .walk(Stage::SourceOnly, Stage::TargetOnly, evidence + WALK, tell)
            .await
    })
}

/// Answers when it was stopped.
async fn stop_with_sends_under_way(scene: &Scene, life: &History) -> Result<u64> {
    for tries in 0..TRIES {
        // Many at first, then as many as there are.
        let wanted = MANY.saturating_sub(tries / 20).max(1);
        scene.fleet.stop(VICTIM).await?;
        let stopped_us = now_us();
        let read = life.clone();
        let sendings = spawn_blocking(move || sendings(&read, &[]));
        let sendings = sendings
            .await
            .map_err(|error| failed(error.to_string()))??;
        let under_way = sendings.values().filter(|sending| sending.end.is_none());
        let under_way = under_way.count();
        if under_way >= wanted {
            progress(format_args!(
                "{VICTIM} stands still with {under_way} sends under way"
            ));
            return Ok(stopped_us);
        }
        scene.fleet.go_on(VICTIM).await?;
        sleep(Duration::from_millis(37)).await;
    }
    Err(failed(format!(
        "{VICTIM} was stopped {TRIES} times and never had a send under way"
    )))
}

impl Outcome for Report {
    fn json(&self) -> String {
        serde_json::to_string_pretty(self)
            .unwrap_or_else(|error| format!("{{\"error\":\"{error}\"}}"))
    }

    fn text(&self) -> String {
        let Report {
            frozen_seconds,
            walk_seconds,
            unblocked_by,
            ..
        } = self;
        format!(
            "frozen for {frozen_seconds:.1} s; target_only after {walk_seconds:.1} s, unblocked by the {unblocked_by}\n\
             sends under way: {:?}\nsends after waking: {:?}\nacked_lost {}",
            self.under_way, self.after_waking, self.verdict.checked.acked_lost
        )
    }

    fn faults(&self) -> Vec<String> {
        self.faults.clone()
    }
}
