//! The facts about a machine without which its figures say nothing.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::time::Instant;

use anyhow::Context as _;
use secrecy::SecretString;
use serde::Serialize;

use super::row::median;
use crate::load::ground;

/// What is written and synced at once, as a small commit is, and how often.
const SYNCED_BYTES: usize = 8 << 10;
const SYNCS: usize = 100;

#[derive(Debug, Serialize)]
pub(super) struct Machine {
    cores: usize,
    memory_gib: u64,
    cpu: String,
    kernel: String,
    /// Median time of writing 8 KiB to the end of a file and syncing it.
    fsync_us: f64,
    build: &'static str,
    versions: BTreeMap<&'static str, String>,
}

impl Machine {
    pub(super) async fn look(admin: &SecretString) -> anyhow::Result<Self> {
        let (_, librdkafka) = rdkafka::util::get_rdkafka_version();
        let versions = [
            ("runledger", env!("CARGO_PKG_VERSION").to_owned()),
            ("librdkafka", librdkafka),
            ("postgres", ground::postgres_version(admin).await?),
        ];
        let kernel = read("/proc/sys/kernel/osrelease");
        Ok(Self {
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            memory_gib: field("/proc/meminfo", "MemTotal")
                .and_then(|size| size.strip_suffix(" kB")?.parse::<u64>().ok())
                .map_or(0, |kib| kib.div_ceil(1 << 20)),
            cpu: field("/proc/cpuinfo", "model name").unwrap_or_default(),
            kernel: kernel
                .trim()
                .split('-')
                .next()
                .unwrap_or_default()
                .to_owned(),
            fsync_us: fsync_us()?,
            build: if cfg!(debug_assertions) {
                "debug"
            } else {
                "release"
            },
            versions: versions.into(),
        })
    }
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// What stands behind `name:` in a file of such lines.
fn field(path: &str, name: &str) -> Option<String> {
    let text = read(path);
    let mut lines = text.lines().filter_map(|line| line.split_once(':'));
    let (_, value) = lines.find(|(key, _)| key.trim() == name)?;
    Some(value.trim().to_owned())
}

/// In the folder we are in: its disk is that of the dev stack.
fn fsync_us() -> anyhow::Result<f64> {
    let mut file = tempfile::tempfile_in(".").context("a file in this folder")?;
    let block = vec![7; SYNCED_BYTES];
    let mut took = Vec::with_capacity(SYNCS);
    for _ in 0..SYNCS {
        let begun = Instant::now();
        file.write_all(&block)?;
        file.sync_data()?;
        took.push(begun.elapsed().as_secs_f64() * 1e6);
    }
    Ok(median(took))
}
