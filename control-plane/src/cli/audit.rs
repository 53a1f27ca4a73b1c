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
    /// Most lines.
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    limit: u32,
}

pub(super) async fn run(args: Args, operator: &Operator, json: bool) -> Result<(), Fault> {
    let mut before = None;
    let mut left = args.limit;
    while left > 0 {
        let page = operator.audit(before, MAX_AUDIT_PAGE).await?;
        let Some(oldest) = page.last() else { break };
        before = Some(oldest.number);
        for found in page.iter().filter(|found| is_about(found, &args.subject)) {
            if left == 0 {
                break;
            }
            left -= 1;
            say(if json {
                json!(found).to_string()
            } else {
                line(found)
            });
        }
    }
    Ok(())
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
