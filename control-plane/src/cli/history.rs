//! `crossfade history ...`.

use std::{fmt::Write as _, fs::File, io::BufReader, path::PathBuf};

use comfy_table::{Cell, CellAlignment, Table, presets::UTF8_HORIZONTAL_ONLY};
use crossfade_history::{Checker, CheckerOptions, DedupScope, Repeats, Report};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use super::{
    fault::{Fault, misused},
    say,
};

/// Read at once.
const BUFFER_BYTES: usize = 1 << 18;

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// What became of each message, from the histories of all processes. Exit 0 only when no promise was broken.
    ///
    /// Give it the files of all producers and consumers of the run, in any order: what is missing looks lost, or never sent.
    #[command(
        after_help = "Examples:\n  crossfade history check p1.jsonl c1.jsonl c2.jsonl\n  crossfade history check --json *.jsonl | jq .acked_lost"
    )]
    Check {
        /// What `crossfade load` wrote with --history.
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
        /// How many examples of each kind.
        #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(0..=100_000))]
        examples: u32,
        /// Among whom a message is to be handled once, whatever the histories say: each process by itself, or all of its group.
        #[arg(long, value_name = "process|group", value_parser = scope)]
        once_per: Option<DedupScope>,
    },
}

fn scope(text: &str) -> Result<DedupScope, String> {
    match text {
        "process" => Ok(DedupScope::Process),
        "group" => Ok(DedupScope::Group),
        _ => Err("process or group".into()),
    }
}

pub(super) fn run(command: Command, json: bool) -> Result<(), Fault> {
    let Command::Check {
        files,
        examples,
        once_per,
    } = command;
    let mut options = CheckerOptions::default();
    options.examples = examples as usize;
    options.dedup = once_per;
    let report = check(&files, options)?;
    say(if json {
        let mut object = json!(report);
        object["passed"] = json!(report.passed());
        object.to_string()
    } else {
        text(&report)
    });
    if report.passed() {
        return Ok(());
    }
    let broken: Vec<String> = report
        .violations()
        .iter()
        .map(|(name, count)| format!("{name} {count}"))
        .collect();
    Err(Fault::new("violated", broken.join(", ")))
}

fn check(files: &[PathBuf], options: CheckerOptions) -> Result<Report, Fault> {
    let mut opened = Vec::new();
    let mut total = 0;
    for path in files {
        let file =
            File::open(path).map_err(|error| misused(format!("{}: {error}", path.display())))?;
        total += file.metadata().map_or(0, |metadata| metadata.len());
        opened.push((path, file));
    }
    // Nothing is drawn where standard error is no terminal.
    let bar = ProgressBar::new(total);
    let style =
        ProgressStyle::with_template("{elapsed_precise} {bar:32} {bytes}/{total_bytes} read");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    let mut checker = Checker::new(options);
    for (path, file) in opened {
        let before = bar.position();
        let input = BufReader::with_capacity(BUFFER_BYTES, file);
        let read = checker.read(input, |bytes| bar.set_position(before + bytes));
        read.map_err(|error| misused(format!("{}: {error}", path.display())))?;
    }
    bar.finish_and_clear();
    Ok(checker.finish())
}

/// For people.
fn text(report: &Report) -> String {
    let broken = report.violations();
    let mut counts = table(&["", "messages", ""]);
    let outcomes = [
        (
            "acked_handled",
            report.acked_handled,
            "success, and handled by every group",
        ),
        (
            "acked_lost",
            report.acked_lost,
            "success, and not handled by some group",
        ),
        (
            "ambiguous_handled",
            report.ambiguous_handled,
            "no answer, and stored",
        ),
        (
            "ambiguous_absent",
            report.ambiguous_absent,
            "no answer, and nowhere",
        ),
        ("failed_absent", report.failed_absent, "failed for certain"),
        (
            "failed_handled",
            report.failed_handled,
            "failed for certain, and stored",
        ),
        (
            "never_sent",
            report.never_sent,
            "handled, and sent by nobody",
        ),
    ];
    let reentries = [
        (
            "duplicated",
            report.duplicated,
            words(&report.duplicated_by),
        ),
        ("repeated", report.repeated, words(&report.repeated_by)),
        (
            "redelivered_after_crash",
            report.redelivered_after_crash,
            "in hand when a process ended".into(),
        ),
        ("retried", report.retried, "after the handler failed".into()),
        (
            "inverted",
            report.inverted,
            "before the message ahead of it".into(),
        ),
        (
            "ambiguous_partly",
            report.ambiguous_partly,
            "no answer, and stored for some groups".into(),
        ),
        (
            "unexpected",
            report.unexpected,
            "events that cannot be".into(),
        ),
        ("torn_lines", report.torn_lines, "cut off by a kill".into()),
        (
            "foreign_lines",
            report.foreign_lines,
            "not of a history".into(),
        ),
    ];
    let outcomes = outcomes.map(|(name, count, words)| (name, count, words.to_owned(), true));
    let reentries = reentries.map(|(name, count, words)| (name, count, words, false));
    for (name, count, words, always) in outcomes.into_iter().chain(reentries) {
        let wrong = broken.iter().any(|(broken, _)| *broken == name);
        if always || count > 0 || name == "duplicated" || name == "inverted" {
            let mark = if wrong { "WRONG " } else { "" };
            counts.add_row(vec![
                Cell::new(format!("{mark}{name}")),
                right(count),
                Cell::new(words),
            ]);
        }
    }
    let mut groups = table(&[
        "topic",
        "group",
        "handled",
        "acked_lost",
        "duplicated",
        "repeated",
        "redelivered",
        "retried",
        "inverted",
    ]);
    for group in &report.groups {
        let mut row = vec![Cell::new(&group.topic), Cell::new(&group.group)];
        row.extend(
            [
                group.handled,
                group.acked_lost,
                group.duplicated,
                group.repeated,
                group.redelivered_after_crash,
                group.retried,
                group.inverted,
            ]
            .map(right),
        );
        groups.add_row(row);
    }
    let mut text = format!(
        "{counts}\n{groups}\n{} messages, {} events, {} process lives, {} of them without a good end",
        report.messages, report.events, report.processes, report.unfinished_processes
    );
    if report.clocks > 1 {
        let _ = write!(
            text,
            "\n{} clocks: where times of different machines were compared, their wall clocks decided",
            report.clocks
        );
    }
    if report.foreign_lines > 0 {
        text.push_str("\nwhat the foreign lines hide is not known");
    }
    for (count, examples) in &report.examples {
        for example in examples {
            let _ = write!(text, "\n  {count} {}: {}", example.id, example.what);
        }
    }
    text
}

fn words(by: &Repeats) -> String {
    [
        (
            by.same_process_after_done,
            "handled before by the same process",
        ),
        (by.same_process_meanwhile, "in hand of the same process"),
        (
            by.other_process_after_done,
            "handled before by another process",
        ),
        (by.other_process_meanwhile, "in hand of another process"),
        (
            by.other_process_gone,
            "handled before by a process that is gone",
        ),
    ]
    .iter()
    .filter(|(count, _)| *count > 0)
    .map(|(count, words)| format!("{count} {words}"))
    .collect::<Vec<_>>()
    .join(", ")
}

fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table
        .load_style(UTF8_HORIZONTAL_ONLY)
        .set_header(header.to_vec());
    table
}

fn right(count: u64) -> Cell {
    Cell::new(count).set_alignment(CellAlignment::Right)
}
