//! How far it is: how many, how fast, how far behind.

use std::io::{self, IsTerminal as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use tokio::task::JoinSet;
use tokio::time::{Instant, interval};

use crate::say::{self, count};

const TICK: Duration = Duration::from_millis(250);
/// How often a line says so where there is no terminal.
const SAY_EVERY: Duration = Duration::from_secs(10);

/// What is counted while it goes on.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) done: AtomicU64,
    /// Milliseconds between when the last one was due and when it was told.
    pub(super) behind: AtomicU64,
}

/// Shows counts until it is dropped.
pub(super) struct Shown {
    _showing: JoinSet<()>,
}

impl Shown {
    /// `total`: how many there will be, where that is known; `what` they are.
    pub(super) fn new(counts: Arc<Counts>, total: Option<u64>, what: &'static str) -> Self {
        let mut showing = JoinSet::new();
        showing.spawn(show(counts, total, what));
        Self { _showing: showing }
    }
}

async fn show(counts: Arc<Counts>, total: Option<u64>, what: &'static str) {
    let bar = io::stderr().is_terminal().then(|| {
        let bar = total.map_or_else(ProgressBar::new_spinner, ProgressBar::new);
        // A template that is wrong costs the beauty of the bar, nothing else.
        if let Ok(style) =
            ProgressStyle::with_template("{bar:32} {human_pos} of {human_len}  {per_sec}  {msg}")
        {
            bar.set_style(style);
        }
        bar
    });
    let (begun, mut said) = (Instant::now(), Instant::now());
    let mut ticks = interval(TICK);
    loop {
        ticks.tick().await;
        let done = counts.done.load(Ordering::Relaxed);
        let behind = Duration::from_millis(counts.behind.load(Ordering::Relaxed));
        let behind = format!("{:.1} s behind", behind.as_secs_f64());
        if let Some(bar) = &bar {
            bar.set_position(done);
            bar.set_message(behind);
        } else if said.elapsed() >= SAY_EVERY {
            said = Instant::now();
            let of = total
                .map(|total| format!(" of {}", count(total)))
                .unwrap_or_default();
            let rate = done
                .checked_div(begun.elapsed().as_secs().max(1))
                .unwrap_or_default();
            say::aside(format_args!(
                "{}{of} {what}, {} a second, {behind}",
                count(done),
                count(rate)
            ));
        }
    }
}
