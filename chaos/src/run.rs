//! The journey under fire: the topic walks, faults happen, everything is drained, ended and judged.

use std::{sync::Arc, time::Duration};

use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};

use crate::{
    clusters::Clusters,
    failure::{Result, failed},
    progress,
    report::{LegReport, Report},
    scene::{Scene, Setting, Watchers},
    schedule::{Incident, Job, Leg, Moment, Volume, schedule},
    verdict::{Audit, Verdict},
};

/// Without a send that succeeds for so long, a run has no future.
const STALL: Duration = Duration::from_secs(240);
/// How long an instance may take to leave in good order.
const GOODBYE: Duration = Duration::from_secs(90);
/// The control plane looks at a topic that rests every 10 s, and members commit now and then.
const LAST_LOOK: Duration = Duration::from_secs(60);
/// The shortest rest at a stage, whatever was sent on the way to it.
const SHORTEST_REST: Duration = Duration::from_secs(3);

/// What to run.
#[derive(Clone, Debug)]
pub struct Options {
    /// At least so many sends succeed.
    pub messages: u64,
    /// How much of what happens.
    pub volume: Volume,
    /// What it happens to.
    pub setting: Setting,
    /// How long one step between neighbouring stages may take.
    pub step: Duration,
}

/// Runs it all.
///
/// # Errors
/// What kept it from its end. What is wrong with a run that came to its end is in the report.
///
/// # Cancellation
/// All processes but the brokers end.
pub async fn run(options: &Options, clusters: Clusters) -> Result<Report> {
    let legs = schedule(options.setting.seed, &options.volume);
    let begun = Instant::now();
    let (scene, mut watchers) = Scene::build(&options.setting, clusters).await?;
    let reports = tokio::select! {
        reports = play(options, &legs, &scene) => reports?,
        why = watchers.ended() => return Err(why),
    };
    progress("draining");
    let audit = finish(&scene, watchers).await?;
    progress("checking the histories");
    let timeline = scene.timeline.entries();
    let verdict = Verdict::judge(audit, timeline.clone()).await?;
    let mut report = Report::new(options.setting.seed, verdict, timeline, reports);
    report.settle(options.messages, begun.elapsed());
    Ok(report)
}

/// Producers end, the rest is handled, consumers end, the control plane ends.
pub(crate) async fn finish(scene: &Scene, watchers: Watchers) -> Result<Audit> {
    let mut unclean_ends = scene.fleet.terminate(Job::Producer, GOODBYE).await;
    scene.drained().await;
    let owed = scene.operator.owed_at_last(LAST_LOOK).await?;
    unclean_ends.extend(scene.fleet.terminate(Job::Consumer, GOODBYE).await);
    drop(watchers);
    unclean_ends.extend(scene.stop_control().await.err());
    Ok(Audit {
        histories: scene.fleet.histories().await,
        owed,
        unasked_ends: scene.unasked_ends(),
        unclean_ends: unclean_ends.iter().map(ToString::to_string).collect(),
    })
}

async fn play(options: &Options, legs: &[Leg], scene: &Arc<Scene>) -> Result<Vec<LegReport>> {
    let mut faults = JoinSet::new();
    let mut reports = Vec::new();
    let mut at = legs[0].to;
    for (number, leg) in legs.iter().enumerate() {
        let before = scene.counts();
        let asked = Instant::now();
        progress(format_args!(
            "{at} to {}; {} acked, {} open",
            leg.to,
            before.acked(),
            before.open
        ));
        let begin = |incident: &Incident, after: Duration, faults: &mut JoinSet<Result<()>>| {
            let (scene, fault) = (Arc::clone(scene), incident.fault);
            faults.spawn(async move {
                sleep(after).await;
                progress(format_args!("  {fault}"));
                let done = scene.perform(&fault).await;
                done.map_err(|why| failed(format!("{fault}: {why}")))
            });
        };
        for incident in &leg.incidents {
            if let Moment::AfterWord(after) = incident.moment {
                begin(incident, after, &mut faults);
            }
        }
        if let Some(weight) = leg.weight_basis_points {
            scene.operator.weight(weight, options.step).await?;
        }
        let tell = |line: &str| progress(format_args!("  {line}"));
        let steps = (at as u32).abs_diff(leg.to as u32).max(1);
        let revision = scene
            .operator
            .walk(at, leg.to, options.step * steps, tell)
            .await?;
        let walk = asked.elapsed();
        let entered = scene.counts().acked();
        let left = (legs.len() - number) as u64;
        let share = options.messages.saturating_sub(entered) / left;
        progress(format_args!(
            "  at {} after {:.1} s, revision {revision}",
            leg.to,
            walk.as_secs_f64()
        ));
        for incident in &leg.incidents {
            if let Moment::AtShare(part) = incident.moment {
                reach(scene, entered + share * u64::from(part) / 1_000).await?;
                begin(incident, Duration::ZERO, &mut faults);
            }
        }
        reach(scene, entered + share).await?;
        sleep(SHORTEST_REST).await;
        // What has failed so far; what still goes on may go on into the next leg.
        while let Some(ended) = faults.try_join_next() {
            ended.map_err(|error| failed(error.to_string()))??;
        }
        let times = [walk, asked.elapsed()];
        reports.push(LegReport::new(
            at,
            leg,
            revision,
            times,
            [before, scene.counts()],
        ));
        at = leg.to;
    }
    while let Some(ended) = faults.join_next().await {
        ended.map_err(|error| failed(error.to_string()))??;
    }
    // After the last fault it must settle once more.
    let tell = |line: &str| progress(format_args!("  {line}"));
    scene.operator.walk(at, at, options.step, tell).await?;
    Ok(reports)
}

/// Waits until so many sends have succeeded, as long as any do.
async fn reach(scene: &Scene, acked: u64) -> Result<()> {
    let mut last = scene.counts().acked();
    while last < acked {
        let next = scene.until(STALL, |counts| {
            counts.acked() >= acked || counts.acked() > last + 1_000
        });
        last = next
            .await
            .map_err(|why| failed(format!("the producers stand still: {why}")))?
            .acked();
    }
    Ok(())
}
