//! What goes on, on stderr: a line that moves if it is a terminal, else a line every few seconds.

use indicatif::{ProgressBar, ProgressStyle};
use std::{
    cell::{Cell, RefCell},
    io::{self, IsTerminal, Write},
    time::Duration,
};

const TERMINAL_INTERVAL: Duration = Duration::from_millis(250);
const LOG_INTERVAL: Duration = Duration::from_secs(5);

/// Shows what goes on.
pub(super) struct Progress {
    bar: Option<ProgressBar>,
    name: RefCell<String>,
    /// Only what lasts is worth a line in a log.
    shown_at: Cell<Duration>,
}

impl Default for Progress {
    fn default() -> Self {
        let bar = io::stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template("{spinner} {prefix}: {wide_msg}");
            ProgressBar::new_spinner().with_style(style.expect("the template is valid"))
        });
        Self { bar, name: RefCell::default(), shown_at: Cell::default() }
    }
}

impl Progress {
    /// How often something should be shown.
    pub(super) fn interval(&self) -> Duration {
        if self.bar.is_some() { TERMINAL_INTERVAL } else { LOG_INTERVAL }
    }

    /// Something begins.
    pub(super) fn begin(&self, name: &str) {
        self.shown_at.set(Duration::ZERO);
        name.clone_into(&mut self.name.borrow_mut());
        if let Some(bar) = &self.bar {
            bar.set_prefix(name.to_owned());
        }
    }

    /// How far it is. More often than [`Self::interval`] does no harm.
    pub(super) fn show(&self, elapsed: Duration, answered: u64, failed: u64) {
        self.show_text(elapsed, || format!("{} s, {answered} answered, {failed} failed", elapsed.as_secs()));
    }

    /// How long it has been going on, where nothing else is known.
    pub(super) fn show_time(&self, elapsed: Duration) {
        self.show_text(elapsed, || format!("{} s", elapsed.as_secs()));
    }

    /// How far it is, in words of its own.
    pub(super) fn show_text(&self, elapsed: Duration, text: impl FnOnce() -> String) {
        if elapsed.saturating_sub(self.shown_at.get()) < self.interval() / 2 {
            return;
        }
        self.shown_at.set(elapsed);
        let text = text();
        match &self.bar {
            Some(bar) => {
                bar.set_message(text);
                bar.tick();
            }
            None => self.say(&format!("{}: {text}", self.name.borrow())),
        }
    }

    /// It is over.
    pub(super) fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    /// A line that stays.
    pub(super) fn say(&self, text: &str) {
        let write = || {
            // Nobody reads: then nobody misses it.
            let _closed = writeln!(io::stderr().lock(), "{text}");
        };
        match &self.bar {
            Some(bar) => bar.suspend(write),
            None => write(),
        }
    }
}
