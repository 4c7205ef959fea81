//! How far the copy is, on stderr: a bar if it is a terminal, else a line every few seconds.

use indicatif::{ProgressBar, ProgressStyle};
use std::{
    io::{self, IsTerminal, Write},
    time::Duration,
};
use tokio::time::Instant;

const LOG_INTERVAL: Duration = Duration::from_secs(5);

/// Shows what goes on.
pub(super) struct Progress {
    bar: Option<ProgressBar>,
    name: &'static str,
    total: u64,
    started_at: u64,
    began: Instant,
    shown: Instant,
}

impl Default for Progress {
    fn default() -> Self {
        let bar = io::stderr().is_terminal().then(ProgressBar::no_length);
        let now = Instant::now();
        Self { bar, name: "", total: 0, started_at: 0, began: now, shown: now }
    }
}

impl Progress {
    /// Something begins, over so many rows; over none if nobody knows.
    pub(super) fn begin(&mut self, name: &'static str, total: u64) {
        (self.name, self.total, self.started_at) = (name, total, 0);
        self.began = Instant::now();
        self.shown = self.began;
        if let Some(bar) = &self.bar {
            let template = if total == 0 {
                "{prefix} …"
            } else {
                "{prefix} {msg} [{wide_bar}] {human_pos} of {human_len} rows, {per_sec}, {eta} left"
            };
            bar.set_style(ProgressStyle::with_template(template).expect("the template is valid"));
            bar.set_prefix(name);
            bar.set_length(total);
            bar.reset();
            bar.tick();
        }
    }

    /// So many rows were done before.
    pub(super) fn start_at(&mut self, done: u64) {
        self.started_at = done;
        if let Some(bar) = &self.bar {
            bar.set_position(done);
            bar.reset_eta();
        }
    }

    /// How far it is.
    pub(super) fn show(&mut self, part: &'static str, done: u64) {
        if let Some(bar) = &self.bar {
            bar.set_message(part);
            bar.set_position(done);
            return;
        }
        let now = Instant::now();
        if now - self.shown < LOG_INTERVAL {
            return;
        }
        self.shown = now;
        let millis = u64::try_from((now - self.began).as_millis()).unwrap_or(u64::MAX).max(1);
        let rate = done.saturating_sub(self.started_at).saturating_mul(1_000) / millis;
        // Nobody reads: then nobody misses it.
        let _closed = writeln!(
            io::stderr().lock(),
            "{} {part}: {done} of {} rows, {rate} a second",
            self.name,
            self.total
        );
    }

    /// It is over.
    pub(super) fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
