//! What a person sees while the demo runs: one bar on standard error, nothing when that is no terminal.

use std::time::Duration;

use crossfade::stage::Stage;
use indicatif::{ProgressBar, ProgressStyle};

#[derive(Debug)]
pub(super) struct Progress {
    bar: ProgressBar,
}

impl Progress {
    pub(super) fn new(messages: u64) -> Self {
        let bar = ProgressBar::new(messages);
        let style = ProgressStyle::with_template(
            "{elapsed_precise} {bar:32} {pos}/{len} handled ({per_sec}) {msg}",
        );
        // The template is a constant that the tests render.
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        bar.enable_steady_tick(Duration::from_millis(200));
        Progress { bar }
    }

    /// Another stage is asked for.
    pub(super) fn leg(&self, stage: Stage, sent: u64) {
        self.bar.set_message(format!("{stage} {}", stage.chinese()));
        tracing::info!(%stage, sent, "asked for");
    }

    pub(super) fn handled(&self, handled: u64) {
        self.bar.set_position(handled);
    }

    /// A line above the bar.
    pub(super) fn say(&self, line: &str) {
        self.bar.println(line);
    }

    pub(super) fn done(&self) {
        self.bar.finish_and_clear();
    }
}
