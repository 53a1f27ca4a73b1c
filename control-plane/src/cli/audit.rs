//! `crossfade audit`.

use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use super::{fault::Fault, say};
use crate::{
    Operator,
    store::{AuditLine, MAX_AUDIT_PAGE},
};

/// The longest part of a value in a line, in characters; `--json` has all of it.
const SHORT: usize = 60;

#[derive(Clone, Debug, clap::Args)]
pub(super) struct Args {
    /// Only lines about this topic or instance.
    #[arg(value_name = "TOPIC")]
    subject: Option<String>,
    /// Most lines; with --json they are one list.
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    limit: u32,
}

pub(super) async fn run(args: Args, operator: &Operator, json: bool) -> Result<(), Fault> {
    let mut before = None;
    let mut found = Vec::new();
    let most = args.limit as usize;
    while found.len() < most {
        let page = operator.audit(before, MAX_AUDIT_PAGE).await?;
        let Some(oldest) = page.last() else { break };
        before = Some(oldest.number);
        let about = page
            .into_iter()
            .filter(|line| is_about(line, &args.subject));
        found.extend(about.take(most - found.len()));
    }
    say(text(&found, &args.subject, json));
    Ok(())
}

fn text(found: &[AuditLine], subject: &Option<String>, json: bool) -> String {
    if json {
        return json!(found).to_string();
    }
    if found.is_empty() {
        return match subject {
            Some(subject) => format!(
                "nothing about {subject} is in the audit log: `crossfade audit` shows all of it"
            ),
            None => "the audit log is empty: nothing was decided yet".to_owned(),
        };
    }
    found.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// Changes of access name their side: `orders on the source`.
fn is_about(line: &AuditLine, subject: &Option<String>) -> bool {
    let Some(wanted) = subject else { return true };
    let rest = line.entry.subject.strip_prefix(wanted.as_str());
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(" on the "))
}

fn line(line: &AuditLine) -> String {
    let entry = &line.entry;
    let at = SystemTime::UNIX_EPOCH + Duration::from_millis(line.at_ms);
    let age = SystemTime::now().duration_since(at).unwrap_or_default();
    let reason = match entry.reason.as_str() {
        "" => String::new(),
        reason => format!(" ({reason})"),
    };
    format!(
        "{} {} s ago, epoch {}: {} {} {}{}{reason}",
        line.number,
        age.as_secs(),
        line.epoch,
        entry.actor,
        entry.action,
        entry.subject,
        change(&entry.before, &entry.after)
    )
}

fn change(before: &Value, after: &Value) -> String {
    let short = |value: &Value| value.to_string().chars().take(SHORT).collect::<String>();
    match (before, after) {
        (Value::Null, Value::Null) => String::new(),
        (Value::Null, after) => format!(": {}", short(after)),
        (before, Value::Null) => format!(": {} →", short(before)),
        (before, after) => format!(": {} → {}", short(before), short(after)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::AuditEntry;

    #[test]
    fn nothing_found_is_said_and_is_a_list_in_json() {
        let subject = Some("orders".to_owned());
        assert_eq!(text(&[], &subject, true), "[]");
        assert!(text(&[], &subject, false).contains("nothing about orders"));
        assert!(text(&[], &None, false).contains("nothing was decided yet"));
    }

    #[test]
    fn several_lines_are_one_list_in_json_and_one_a_line_in_words() {
        let line = |number| AuditLine {
            number,
            at_ms: 0,
            epoch: 1,
            entry: AuditEntry::default(),
        };
        let found = [line(2), line(1)];
        let list: Vec<AuditLine> = serde_json::from_str(&text(&found, &None, true)).unwrap();
        assert_eq!(list, found);
        assert_eq!(text(&found, &None, false).lines().count(), 2);
    }

    #[test]
    fn lines_are_found_by_topic_also_where_they_name_its_side() {
        let about = |subject: &str| {
            let entry = AuditEntry {
                subject: subject.into(),
                ..AuditEntry::default()
            };
            let line = AuditLine {
                number: 1,
                at_ms: 0,
                epoch: 1,
                entry,
            };
            is_about(&line, &Some("orders".into()))
        };
        assert!(about("orders") && about("orders on the source"));
        assert!(!about("orders-2") && !about("other"));
    }
}
