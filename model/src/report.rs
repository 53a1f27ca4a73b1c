//! What a run found, for people and for machines.

use std::{fmt::Write, time::Duration};

use serde_json::{Value, json};

use crate::{Done, Job};

/// What a run found.
pub(crate) struct Report<'a> {
    done: &'a [Done],
    took: Duration,
}

impl<'a> Report<'a> {
    pub(crate) fn new(done: &'a [Done], took: Duration) -> Self {
        Report { done, took }
    }

    /// Nothing broke, everything was seen, and each mutation was caught.
    pub(crate) fn holds(&self) -> bool {
        self.done.iter().all(Done::holds)
    }

    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        // Writing into a string cannot fail.
        let _ = self.write(&mut text);
        text
    }

    fn write(&self, text: &mut String) -> std::fmt::Result {
        for done in self.done {
            writeln!(text, "{}", done.line())?;
        }
        for done in self
            .done
            .iter()
            .filter(|done| !done.outcome.steps.is_empty())
        {
            let (property, _) = done
                .outcome
                .found
                .broken
                .as_ref()
                .map_or(("", 0), |(what, way)| (what, way.len()));
            match done.job {
                Job::Explore(..) => writeln!(text, "\n{property}")?,
                Job::Catch(entry) => {
                    writeln!(text, "\n{}: {}\n{property}", entry.name, entry.how)?;
                }
            }
            for (number, step) in (1..).zip(&done.outcome.steps) {
                writeln!(text, "{number:4}. {step}")?;
            }
        }
        let (explored, states) = self.explored();
        let (caught, mutations) = self.caught();
        writeln!(
            text,
            "\n{explored} explorations, {states} states, {} broken or incomplete; {caught} of {mutations} mutations caught; {:.1} s",
            self.failed(),
            self.took.as_secs_f64()
        )
    }

    pub(crate) fn json(&self) -> Value {
        let (explored, states) = self.explored();
        let (caught, mutations) = self.caught();
        let rows = |wanted: fn(&Job) -> bool| -> Vec<Value> {
            let rows = self.done.iter().filter(|done| wanted(&done.job));
            rows.map(row).collect()
        };
        json!({
            "explorations": explored,
            "states": states,
            "broken_or_incomplete": self.failed(),
            "mutations": mutations,
            "mutations_caught": caught,
            "seconds": self.took.as_secs_f64(),
            "explored": rows(|job| matches!(job, Job::Explore(..))),
            "caught": rows(|job| matches!(job, Job::Catch(_))),
        })
    }

    fn explored(&self) -> (usize, usize) {
        let all = self.done.iter();
        let all = all.filter(|done| matches!(done.job, Job::Explore(..)));
        all.fold((0, 0), |(count, states), done| {
            (count + 1, states + done.outcome.found.states)
        })
    }

    fn failed(&self) -> usize {
        let all = self.done.iter();
        all.filter(|done| matches!(done.job, Job::Explore(..)) && !done.holds())
            .count()
    }

    fn caught(&self) -> (usize, usize) {
        let all = || {
            self.done
                .iter()
                .filter(|done| matches!(done.job, Job::Catch(_)))
        };
        (all().filter(|done| done.holds()).count(), all().count())
    }
}

impl Done {
    /// One line for people.
    pub(crate) fn line(&self) -> String {
        let outcome = &self.outcome;
        let (fleet, from) = (outcome.fleet, outcome.from.as_str());
        let name = match self.job {
            Job::Explore(family, _) => family,
            Job::Catch(entry) => entry.name,
        };
        format!(
            "{name:43} {fleet:22} {from:11} {:>8} states {:>6} control planes {:>2} deep {:>6.1} s  {}",
            outcome.found.states,
            outcome.planes,
            outcome.found.depth,
            outcome.took.as_secs_f64(),
            self.verdict(),
        )
    }

    fn verdict(&self) -> String {
        let found = &self.outcome.found;
        match (&found.broken, self.job) {
            (Some((property, way)), Job::Catch(_)) => {
                format!("{}, {} steps", short(property), way.len())
            }
            (Some((property, way)), Job::Explore(..)) => {
                format!("BROKEN: {}, {} steps", short(property), way.len())
            }
            (None, Job::Catch(_)) => "NOT CAUGHT".into(),
            (None, Job::Explore(..)) if found.complete => "complete, nothing broken".into(),
            (None, Job::Explore(..)) => "given up, nothing broken so far".into(),
        }
    }

    fn holds(&self) -> bool {
        match self.job {
            Job::Explore(..) => self.outcome.found.complete && self.outcome.found.broken.is_none(),
            Job::Catch(_) => self.outcome.found.broken.is_some(),
        }
    }
}

fn row(done: &Done) -> Value {
    let outcome = &done.outcome;
    let name = match done.job {
        Job::Explore(family, _) => family,
        Job::Catch(entry) => entry.name,
    };
    json!({
        "name": name,
        "fleet": outcome.fleet,
        "from": outcome.from,
        "states": outcome.found.states,
        "control_planes": outcome.planes,
        "depth": outcome.found.depth,
        "complete": outcome.found.complete,
        "broken": outcome.found.broken.as_ref().map(|(property, _)| property),
        "steps": outcome.steps,
        "seconds": outcome.took.as_secs_f64(),
    })
}

/// The name of a property.
fn short(property: &str) -> &str {
    property.split(':').next().unwrap_or(property)
}
