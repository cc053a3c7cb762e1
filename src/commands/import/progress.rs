//! How far a long command is: a bar on a terminal, a line now and then elsewhere.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use tokio::time::Instant;

use crate::commands::output::remark;

/// Between two lines when there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(5);

pub struct Progress {
    bar: Option<ProgressBar>,
    what: String,
    total: Option<u64>,
    unit: Unit,
    said_at: Instant,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    Bytes,
    Events,
}

impl Progress {
    /// `total` is `None` when nobody can know it, as of standard input.
    pub fn start(what: &str, unit: Unit, total: Option<u64>) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = total.map_or_else(ProgressBar::no_length, ProgressBar::new);
            let amounts = match unit {
                Unit::Bytes => "{bytes}/{total_bytes}",
                Unit::Events => "{human_pos}/{human_len}",
            };
            let template = format!("{{prefix}} {{bar:32}} {amounts} {{msg}} {{eta}}");
            let style = ProgressStyle::with_template(&template).expect("the template names known fields");
            bar.set_style(style);
            bar.set_prefix(what.to_owned());
            bar
        });
        Self { bar, what: what.to_owned(), total, unit, said_at: Instant::now() }
    }

    pub fn at(&mut self, position: u64, message: &str) {
        if let Some(bar) = &self.bar {
            bar.set_position(position);
            bar.set_message(message.to_owned());
            return;
        }
        if self.said_at.elapsed() >= LINE_EVERY {
            self.said_at = Instant::now();
            let done = match self.total {
                Some(total) if total > 0 => format!("{} %", 100 * position.min(total) / total),
                _ if self.unit == Unit::Bytes => format!("{} MB", position / 1_000_000),
                _ => position.to_string(),
            };
            remark(format_args!("{}: {done}, {message}", self.what));
        }
    }

    pub fn done(self) {
        if let Some(bar) = self.bar {
            bar.finish_and_clear();
        }
    }
}
