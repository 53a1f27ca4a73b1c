//! `crossfade topic ...`.

use std::time::Duration;

use crossfade::stage::{Routing, Stage};
use serde_json::json;
use tokio::time::Instant;

use super::{
    fault::{Fault, misused, tell},
    progress, say,
    serve::{Stop, stop_signal},
    show, words,
};
use crate::{
    Operator,
    api::{Answered, Move, Way},
    coordinator::{AskedOverride, Policy, TopicView},
};

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Manage a topic, beginning at source_only 初始状态. It must exist on both clusters.
    ///
    /// A topic that had moved and was removed goes on from target_only 切流完成. Else its target is sealed at once: until dual_read 开启双读 nobody can
    /// send to the topic there, nor read it. 目标端主题会立即被封闭。
    /// Its weight for dual_write is 50 % until `topic weight` sets another one, which may be done at any stage.
    #[command(
        after_help = "Examples:\n  crossfade topic add orders --group billing,shipping\n  crossfade topic add payments --group ledger --ordered"
    )]
    Add {
        /// The topics, under the same name on both clusters.
        #[arg(required = true, value_name = "TOPIC")]
        topics: Vec<String>,
        /// The consumer groups that move with the topic, all of them.
        #[arg(long, required = true, value_delimiter = ',', value_name = "GROUP")]
        group: Vec<String>,
        /// Keep messages with the same ordering key in order while the topic moves: its keys change sides a share at a time, each behind a barrier. For good.
        /// 按排序键保序迁移。
        #[arg(long)]
        ordered: bool,
        /// Seal the target although somebody sends, consumes or is owed messages there; the reason is kept in the audit log.
        #[arg(long, value_name = "REASON")]
        target_in_use: Option<String>,
    },
    /// All topics, one a line.
    List,
    /// One topic in detail.
    Show {
        #[command(flatten)]
        which: Which,
    },
    /// Every gate of the next step, after a fresh look at the brokers. Exit 0 only when the step may be taken.
    #[command(
        after_help = "Examples:\n  crossfade topic check orders\n  crossfade topic check orders --to source_only     # what a step back would wait for\n  crossfade topic check --all --json"
    )]
    Check {
        #[command(flatten)]
        which: Which,
        /// The gates of the step toward this stage instead of the next one.
        #[arg(long, value_parser = words::stage, value_name = "STAGE")]
        to: Option<Stage>,
    },
    /// The clients that the brokers list for the topic: who is no registered instance comes first.
    Clients {
        /// The topic.
        topic: String,
    },
    /// Go forward: one stage, or as far as --to. Refused while a gate of the next step is closed, unless --wait or --override is given.
    #[command(
        after_help = "Examples:\n  crossfade topic advance orders --wait\n  crossfade topic advance --all --to target_only --wait\n  crossfade topic advance orders --override 'broadcast_groups=its owner reloads the cache'"
    )]
    Advance {
        #[command(flatten)]
        which: Which,
        #[command(flatten)]
        walk: Walk,
    },
    /// Go back: one stage, or as far as --to, from wherever the topic is. Each single step has its gates, as forward.
    #[command(after_help = "Example:\n  crossfade topic rollback orders --to source_only --wait")]
    Rollback {
        #[command(flatten)]
        which: Which,
        #[command(flatten)]
        walk: Walk,
    },
    /// Only wait, until the topic is settled at the goal that it has.
    #[command(after_help = "Example:\n  crossfade topic wait orders --timeout 600")]
    Wait {
        #[command(flatten)]
        which: Which,
        /// How long to wait before giving up; the topic goes on by itself.
        #[arg(long, value_name = "SECONDS", default_value_t = 3_600)]
        timeout: u64,
    },
    /// Stay at the stage that is published.
    Cancel {
        #[command(flatten)]
        which: Which,
    },
    /// Set the target's share of writes in dual_write 双读双写: 30%, 0.5%, 3000bp.
    ///
    /// Of an ordered topic: the share of its keys. Those between the old share and the new one change sides behind a barrier; `show` says where that is.
    #[command(
        after_help = "Examples:\n  crossfade topic weight orders 30% --wait\n  crossfade topic weight --all 100%"
    )]
    Weight {
        /// The topics, then the weight.
        #[arg(required = true, value_name = "TOPIC... WEIGHT")]
        words: Vec<String>,
        /// Every managed topic.
        #[arg(long)]
        all: bool,
        #[command(flatten)]
        waiting: Waiting,
    },
    /// Manage a topic no more. It must rest at one of the two ends, settled, and no instance may have a role in it.
    ///
    /// From source_only 初始状态 its target is opened again as it was before the topic was added; the topic is let go once every broker has confirmed
    /// that, and `show` says `leaving` until then. The command waits for it up to 10 s; after that the removal goes on by itself, and `cancel` keeps the topic.
    /// From target_only 切流完成 it is let go at once, and its source stays sealed: whoever still writes there is refused by the brokers. Messages,
    /// groups and offsets stay on both sides.
    #[command(
        after_help = "Examples:\n  crossfade topic remove orders\n  crossfade topic show orders       # leaving: what it still waits for\n  crossfade topic cancel orders     # keeps it after all"
    )]
    Remove {
        #[command(flatten)]
        which: Which,
    },
}

#[derive(Debug, clap::Args)]
pub(super) struct Which {
    /// The topics.
    #[arg(
        value_name = "TOPIC",
        required_unless_present = "all",
        conflicts_with = "all"
    )]
    topics: Vec<String>,
    /// Every managed topic.
    #[arg(long)]
    all: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct Walk {
    /// The stage to end at: source_only, dual_read, dual_write, draining, target_only.
    #[arg(long, value_parser = words::stage, value_name = "STAGE")]
    to: Option<Stage>,
    /// Go on without a gate of the next step, with a reason for the audit log. Some gates cannot be overridden.
    #[arg(long = "override", value_parser = asked_override, value_name = "GATE=REASON")]
    overrides: Vec<AskedOverride>,
    #[command(flatten)]
    waiting: Waiting,
}

#[derive(Clone, Copy, Debug, clap::Args)]
pub(super) struct Waiting {
    /// Wait for closed gates, and until the stage is settled: applied by every instance, both clusters as the stage says, and proved.
    #[arg(long)]
    wait: bool,
    /// How long to wait before giving up; the topic goes on by itself.
    #[arg(long, value_name = "SECONDS", default_value_t = 3_600)]
    timeout: u64,
}

pub(super) async fn run(command: Command, operator: &Operator, json: bool) -> Result<(), Fault> {
    match command {
        Command::Add {
            topics,
            group,
            ordered,
            target_in_use,
        } => {
            let routing = match ordered {
                true => Routing::Ordered,
                false => Routing::Unordered,
            };
            let groups: Vec<&str> = group.iter().map(String::as_str).collect();
            each(&topics, json, async |topic| {
                let reason = target_in_use.as_deref();
                operator.add_with(topic, &groups, routing, reason).await
            })
            .await
        }
        Command::List => {
            let topics = operator.topics().await?;
            say(if json {
                json!(topics).to_string()
            } else {
                show::topics(&topics)
            });
            Ok(())
        }
        Command::Show { which } => {
            for topic in which.names(operator).await? {
                let view = operator.show(&topic).await?;
                say(if json {
                    json!(view).to_string()
                } else {
                    show::topic(&view)
                });
            }
            Ok(())
        }
        Command::Check { which, to } => check(operator.check(which.named(), to).await?, json),
        Command::Clients { topic } => {
            let clients = operator.clients(&topic).await?;
            say(if json {
                json!(clients).to_string()
            } else {
                show::clients(&clients)
            });
            Ok(())
        }
        Command::Advance { which, walk } => go(Way::Advance, &which, walk, operator, json).await,
        Command::Rollback { which, walk } => go(Way::Rollback, &which, walk, operator, json).await,
        Command::Wait { which, timeout } => {
            let waiting = Waiting {
                wait: true,
                timeout,
            };
            let batch = Batch {
                begun: which.names(operator).await?,
                failed: None,
            };
            until_stopped(batch, json, async |batch| {
                settle(batch, waiting, operator, json).await;
            })
            .await
        }
        Command::Cancel { which } => {
            let topics = which.names(operator).await?;
            each(&topics, json, async |topic| operator.cancel(topic).await).await
        }
        Command::Weight {
            mut words,
            all,
            waiting,
        } => {
            let text = words.pop().unwrap_or_default();
            let weight = words::weight(&text).map_err(misused)?;
            if words.is_empty() && !all {
                return Err(misused("name the topics before the weight, or give --all"));
            }
            let topics = Which { topics: words, all }.names(operator).await?;
            let set = async |topic: &str| operator.weight(topic, weight).await;
            apply(&topics, waiting, operator, json, set).await
        }
        Command::Remove { which } => {
            let topics = which.names(operator).await?;
            until_stopped(Batch::default(), json, async |batch| {
                for topic in topics {
                    match operator.remove(&topic).await {
                        Ok(()) if json => say(json!({"topic": topic, "removed": true})),
                        Ok(()) => say(format_args!(
                            "{topic}: removed; it is no longer managed. From source_only the target is opened again as it was; from target_only the source stays sealed"
                        )),
                        Err(fault) => keep(&mut batch.failed, fault.about(&topic), json),
                    }
                }
            })
            .await
        }
    }
}

impl Which {
    /// Those that are named; `None` for all.
    fn named(&self) -> Option<&[String]> {
        (!self.all).then_some(&self.topics)
    }

    async fn names(&self, operator: &Operator) -> Result<Vec<String>, Fault> {
        if !self.all {
            return Ok(self.topics.clone());
        }
        let topics = operator.topics().await?;
        if topics.is_empty() {
            return Err(none_managed());
        }
        Ok(topics.iter().map(|view| view.topic.to_string()).collect())
    }
}

/// Gives the word for every topic first, then waits for all of them.
async fn apply(
    topics: &[String],
    waiting: Waiting,
    operator: &Operator,
    json: bool,
    begin: impl AsyncFn(&str) -> Result<TopicView, Fault>,
) -> Result<(), Fault> {
    if !waiting.wait {
        return each(topics, json, begin).await;
    }
    until_stopped(Batch::default(), json, async |batch| {
        for topic in topics {
            match begin(topic).await {
                Ok(_) => batch.begun.push(topic.clone()),
                Err(fault) => keep(&mut batch.failed, fault.about(topic), json),
            }
        }
        settle(batch, waiting, operator, json).await;
    })
    .await
}

/// One word for all topics: those that are refused are told, and keep none of the others.
async fn go(
    way: Way,
    which: &Which,
    walk: Walk,
    operator: &Operator,
    json: bool,
) -> Result<(), Fault> {
    let how = Move {
        to: walk.to,
        wait: walk.waiting.wait,
        overrides: walk.overrides,
    };
    let answers = operator.walk_several(way, which.named(), &how).await?;
    if answers.is_empty() {
        return Err(none_managed());
    }
    let mut batch = Batch::default();
    for Answered {
        topic,
        view,
        problem,
    } in answers
    {
        if let Some(problem) = problem {
            keep(&mut batch.failed, Fault::from(problem).about(&topic), json);
            continue;
        }
        let Some(view) = view else { continue };
        for asked in &how.overrides {
            if view.overrides.iter().all(|one| one.gate != asked.gate) {
                progress(format_args!(
                    "{topic}: {} is not closed, so nothing was overridden",
                    asked.gate
                ));
            }
        }
        if how.wait {
            batch.begun.push(topic.to_string());
        } else if json {
            say(json!(view));
        } else {
            say(show::line(&view));
        }
    }
    until_stopped(batch, json, async |batch| {
        settle(batch, walk.waiting, operator, json).await;
    })
    .await
}

/// How far a word for several topics has come.
#[derive(Debug, Default)]
struct Batch {
    /// Topics that are still waited for.
    begun: Vec<String>,
    /// The last failure; those before it have been told.
    failed: Option<Fault>,
}

/// Works until all is done, or until SIGINT or SIGTERM: what has failed is told then too, and that the topics go on.
async fn until_stopped(
    mut batch: Batch,
    json: bool,
    work: impl AsyncFnOnce(&mut Batch),
) -> Result<(), Fault> {
    let stop = stop_signal()
        .map_err(|error| super::fault::failed(format!("signals cannot be waited for: {error}")))?;
    let stopped = tokio::select! {
        () = work(&mut batch) => None,
        stop = stop => Some(stop),
    };
    let code = match stopped {
        None => return batch.failed.map_or(Ok(()), Err),
        Some(Stop::Interrupt) => "interrupted",
        Some(Stop::Terminate) => "terminated",
    };
    if let Some(before) = &batch.failed {
        tell(before, json);
    }
    let message = match batch.begun.join(" ") {
        none if none.is_empty() => {
            "stopped; what was not answered yet may have been done all the same".to_owned()
        }
        begun => format!(
            "no longer waiting; {begun} goes on toward its goal. `crossfade topic cancel {begun}` keeps it at the stage that is published, `crossfade topic wait {begun}` waits again"
        ),
    };
    Err(Fault::new(code, message))
}

/// Waits for all that were begun.
async fn settle(batch: &mut Batch, waiting: Waiting, operator: &Operator, json: bool) {
    let end = Instant::now() + Duration::from_secs(waiting.timeout);
    while let Some(topic) = batch.begun.first() {
        let within = end.saturating_duration_since(Instant::now());
        let tell_line = |line: &str| progress(format_args!("{topic}: {line}"));
        match operator.settled_telling(topic, within, tell_line).await {
            Ok(view) if json => say(json!(view)),
            Ok(view) => say(show::line(&view)),
            Err(fault) => keep(&mut batch.failed, fault, json),
        }
        batch.begun.remove(0);
    }
}

async fn each(
    topics: &[String],
    json: bool,
    call: impl AsyncFn(&str) -> Result<TopicView, Fault>,
) -> Result<(), Fault> {
    until_stopped(Batch::default(), json, async |batch| {
        for topic in topics {
            match call(topic).await {
                Ok(view) if json => say(json!(view)),
                Ok(view) => say(show::line(&view)),
                Err(fault) => keep(&mut batch.failed, fault.about(topic), json),
            }
        }
    })
    .await
}

fn check(answers: Vec<Answered>, json: bool) -> Result<(), Fault> {
    if answers.is_empty() {
        return Err(none_managed());
    }
    let mut blocked = Vec::new();
    let mut failed = None;
    for answer in &answers {
        let Some(view) = &answer.view else {
            let problem = answer.problem.clone().unwrap_or_default();
            keep(&mut failed, Fault::from(problem).about(&answer.topic), json);
            continue;
        };
        if !view.ready {
            blocked.push(&*answer.topic);
        }
        say(if json {
            json!({
                "topic": view.topic, "stage": view.stage, "next": view.next, "ready": view.ready, "gates": view.gates,
                "seal": view.seal, "keys": view.keys, "looked_ms_ago": view.looked_ms_ago, "trouble": view.trouble,
            })
            .to_string()
        } else {
            show::gates(view)
        });
    }
    if !blocked.is_empty() {
        let message = format!("not ready for the next step: {}", blocked.join(", "));
        keep(&mut failed, Fault::new("blocked", message), json);
    }
    failed.map_or(Ok(()), Err)
}

fn none_managed() -> Fault {
    Fault::new(
        "not_found",
        "no topic is managed here; `crossfade topic add` adds one",
    )
}

/// `GATE=REASON`. Which gates there are and which of them may be overridden is known here too, so that a typing error needs no server.
fn asked_override(text: &str) -> Result<AskedOverride, String> {
    let (gate, reason) = text
        .split_once('=')
        .ok_or("write GATE=REASON, as in --override 'target_lag=the owner accepts it'")?;
    let code = crate::coordinator::Code::from_name(gate)
        .ok_or_else(|| format!("no gate has the code {gate:?}"))?;
    if let Policy::Never(why) = code.entry().policy {
        return Err(format!("{gate} cannot be overridden: {why}"));
    }
    if reason.trim().is_empty() {
        return Err(format!(
            "say why {gate} may be gone without; it is kept in the audit log"
        ));
    }
    Ok(AskedOverride {
        gate: gate.to_owned(),
        reason: reason.trim().to_owned(),
    })
}

/// The last failure ends the program; the ones before it are told at once.
fn keep(failed: &mut Option<Fault>, fault: Fault, json: bool) {
    if let Some(before) = failed.replace(fault) {
        tell(&before, json);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn override_needs_a_known_gate_that_allows_it_and_a_reason() {
        let asked = asked_override("target_lag=it is a test = yes").unwrap();
        assert_eq!(asked.gate, "target_lag");
        assert_eq!(asked.reason, "it is a test = yes");
        for text in [
            "target_lag",
            "target_lag= ",
            "nothing=why",
            "clusters_answer=why",
            "=why",
        ] {
            assert!(asked_override(text).is_err(), "{text}");
        }
    }
}
