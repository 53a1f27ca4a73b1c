//! What a person sees while the demo runs: one bar on standard error, or a line for each stage when that is no terminal.

use std::{fmt, time::Duration};

use crossfade::stage::Stage;
use indicatif::{ProgressBar, ProgressState, ProgressStyle};

use crate::cli::progress;

#[derive(Debug)]
pub(super) struct Progress {
    bar: ProgressBar,
}

impl Progress {
    pub(super) fn new(messages: u64) -> Self {
        let bar = ProgressBar::new(messages);
        let style = ProgressStyle::with_template(
            "{elapsed_precise} {bar:32} {pos}/{len} handled ({rate}) {msg}",
        );
        // The template is a constant that the tests render.
        let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
        let rate = |state: &ProgressState, text: &mut dyn fmt::Write| {
            // A bar that cannot be drawn is no error of ours.
            let _ = write!(text, "{:.0}/s", state.per_sec());
        };
        bar.set_style(style.with_key("rate", rate));
        bar.enable_steady_tick(Duration::from_millis(200));
        Progress { bar }
    }

    /// Another stage is asked for.
    pub(super) fn leg(&self, stage: Stage, sent: u64) {
        let name = format!("{stage} {}", stage.chinese());
        if self.bar.is_hidden() {
            progress(format_args!("{sent} sent; next: {name}"));
        }
        self.bar.set_message(format!(
            "to {name}; a trickle of messages until all have applied it"
        ));
        tracing::info!(%stage, sent, "asked for");
    }

    /// The stage is settled.
    pub(super) fn settled(&self, stage: Stage) {
        self.bar.set_message(format!("{stage} {}", stage.chinese()));
    }

    pub(super) fn handled(&self, handled: u64) {
        self.bar.set_position(handled);
    }

    /// A line above the bar, or by itself.
    pub(super) fn say(&self, line: &str) {
        if self.bar.is_hidden() {
            progress(line);
        }
        self.bar.println(line);
    }

    pub(super) fn done(&self) {
        self.bar.finish_and_clear();
    }
}
