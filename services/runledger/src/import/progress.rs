//! How far it is: a bar on a terminal, now and then a line elsewhere.

use std::io::{self, IsTerminal as _};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use crate::say;

pub(crate) struct Progress {
    bar: Option<ProgressBar>,
    total: u64,
    done: u64,
    /// Quarters that were spoken of.
    said: u64,
}

impl Progress {
    pub(crate) fn new(total: u64) -> Self {
        let bar = io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new(total);
            // A template that is wrong costs the beauty of the bar, nothing else.
            if let Ok(style) = ProgressStyle::with_template(
                "{bar:32} {human_pos} of {human_len} facts  {per_sec}  {elapsed}",
            ) {
                bar.set_style(style);
            }
            bar.enable_steady_tick(Duration::from_millis(200));
            bar
        });
        Self {
            bar,
            total,
            done: 0,
            said: 0,
        }
    }

    pub(crate) fn add(&mut self, facts: u64) {
        self.done += facts;
        if let Some(bar) = &self.bar {
            bar.inc(facts);
            return;
        }
        let quarter = self
            .done
            .saturating_mul(4)
            .checked_div(self.total)
            .unwrap_or(4);
        if quarter > self.said {
            self.said = quarter;
            say::aside(format_args!(
                "{} of {} facts",
                say::count(self.done),
                say::count(self.total)
            ));
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish();
        }
    }
}
