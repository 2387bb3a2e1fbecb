//! What a user would take instead, measured by drivers of its own that print what [`Sample`] reads.

use std::path::PathBuf;
use std::process::Stdio;

use anyhow::Context as _;
use tokio::process::Command;

use super::row::Sample;

/// The drivers; `None`: nobody to compare with.
pub(super) struct Peers(Option<PathBuf>);

impl Peers {
    pub(super) fn new(driver: Option<PathBuf>) -> Self {
        Self(driver)
    }

    /// What a peer did in one round, a line for each side that its driver measures.
    pub(super) async fn measure(&self, arguments: &[&str]) -> anyhow::Result<Vec<Sample>> {
        let Some(driver) = &self.0 else {
            return Ok(Vec::new());
        };
        let what = arguments.join(" ");
        let output = Command::new(driver)
            .args(arguments)
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .output()
            .await
            .with_context(|| format!("{} {what}", driver.display()))?;
        let said = String::from_utf8_lossy(&output.stderr);
        anyhow::ensure!(output.status.success(), "{what}: {said}");
        let lines = String::from_utf8_lossy(&output.stdout);
        let samples = lines.lines().map(serde_json::from_str);
        let samples: Result<Vec<Sample>, _> = samples.collect();
        samples.with_context(|| format!("{what} said: {lines}"))
    }
}
