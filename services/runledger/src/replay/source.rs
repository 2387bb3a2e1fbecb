//! Where facts come from: a recording, or the log itself. Read ahead by a bounded number, in the order of recording.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use prost::Message as _;
use runledger_domain::ids::TenantId;
use runledger_domain::log::Partition;
use runledger_domain::scope::Scope;
use runledger_domain::time::Timestamp;
use runledger_eventlog::Log;
use runledger_proto::common::v1::Mode;
use runledger_proto::log::v1::Record;
use runledger_proto::words;
use runledger_recording::Reader;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use uuid::Uuid;

use super::topics::Merged;
use super::{proof, retell};
use crate::runs::moment;

/// Facts that are handed over together, and how many such are read ahead.
const CHUNK: usize = 500;
const CHUNKS_AHEAD: usize = 16;

/// When facts were recorded that are wanted.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Range {
    pub(super) from: Option<Timestamp>,
    pub(super) before: Option<Timestamp>,
}

impl Range {
    pub(super) fn has(&self, recorded: Timestamp) -> bool {
        self.from.is_none_or(|from| from <= recorded)
            && self.before.is_none_or(|before| recorded < before)
    }
}

/// Facts with when they were recorded, or beside them what is none.
pub(super) enum Chunk {
    Facts(Vec<(Timestamp, Record)>),
    LeftOut(String),
}

/// Facts as they are read.
pub(super) struct Chunks {
    read: mpsc::Receiver<anyhow::Result<Chunk>>,
    reading: JoinSet<()>,
}

impl Chunks {
    /// The next ones; `None`: there are no more.
    pub(super) async fn next(&mut self) -> anyhow::Result<Option<Chunk>> {
        let next = self.read.recv().await.transpose()?;
        if next.is_none() {
            while let Some(ended) = self.reading.join_next().await {
                ended.context("reading ended before its end")?;
            }
        }
        Ok(next)
    }
}

/// What there is to be told.
pub(super) struct Found {
    pub(super) scope: Scope,
    /// How many facts, where that is known.
    pub(super) facts: Option<u64>,
    /// When the last of them was recorded, where that is known.
    pub(super) last: Option<Timestamp>,
    /// What the recording had no place for.
    pub(super) left_out: BTreeMap<String, u64>,
    range: Range,
    from: From,
}

enum From {
    File(PathBuf),
    Topics(Vec<(Partition, u64, u64)>),
}

/// Reads a recording from end to end: nothing of one that is not whole is told.
pub(super) async fn survey(path: PathBuf, range: Range) -> anyhow::Result<Found> {
    let surveyed = tokio::task::spawn_blocking(move || {
        let mut reader = open(&path)?;
        let header = reader.header();
        let tenant = Uuid::from_slice(&header.tenant_id).context("the recording's tenant")?;
        let mode = words::known::<Mode>(header.mode);
        let scope = Scope {
            tenant: TenantId::new(tenant),
            mode: mode.context("the recording's world")?,
        };
        let (mut facts, mut last) = (0, None::<Timestamp>);
        while let Some(block) = reader.block()? {
            for fact in block.facts {
                let (recorded, _) = parse(fact.record)?;
                if range.has(recorded) {
                    facts += 1;
                    last = last.max(Some(recorded));
                }
            }
        }
        let footer = reader.footer().cloned().unwrap_or_default();
        Ok(Found {
            scope,
            facts: Some(facts),
            last,
            left_out: footer.left_out,
            range,
            from: From::File(path),
        })
    });
    surveyed.await?
}

/// Everything of a scope that lies in the log now.
pub(super) async fn look(log: &dyn Log, scope: Scope, range: Range) -> anyhow::Result<Found> {
    let ends = proof::ends(log).await?;
    let spans = ends.into_iter().map(|(partition, end)| (partition, 1, end));
    Ok(Found {
        scope,
        facts: None,
        last: None,
        left_out: BTreeMap::new(),
        range,
        from: From::Topics(spans.collect()),
    })
}

impl Found {
    /// Its facts, in order.
    pub(super) fn into_facts(self, log: Option<Arc<dyn Log>>) -> Chunks {
        let (to, read) = mpsc::channel(CHUNKS_AHEAD);
        let mut reading = JoinSet::new();
        let (range, scope) = (self.range, self.scope);
        match self.from {
            From::File(path) => {
                reading.spawn_blocking(move || {
                    if let Err(error) = read_file(&path, range, &to) {
                        // Nobody is left to be told.
                        drop(to.blocking_send(Err(error)));
                    }
                });
            }
            From::Topics(spans) => {
                reading.spawn(async move {
                    let read = read_topics(log.as_deref(), scope, range, spans, &to).await;
                    if let Err(error) = read {
                        drop(to.send(Err(error)).await);
                    }
                });
            }
        }
        Chunks { read, reading }
    }
}

fn read_file(
    path: &Path,
    range: Range,
    to: &mpsc::Sender<anyhow::Result<Chunk>>,
) -> anyhow::Result<()> {
    let mut reader = open(path)?;
    while let Some(block) = reader.block()? {
        let mut facts = Vec::with_capacity(block.facts.len());
        for fact in block.facts {
            let (recorded, record) = parse(fact.record)?;
            if range.has(recorded) {
                facts.push((recorded, record));
            }
        }
        if to.blocking_send(Ok(Chunk::Facts(facts))).is_err() {
            return Ok(());
        }
    }
    Ok(())
}

async fn read_topics(
    log: Option<&dyn Log>,
    scope: Scope,
    range: Range,
    spans: Vec<(Partition, u64, u64)>,
    to: &mpsc::Sender<anyhow::Result<Chunk>>,
) -> anyhow::Result<()> {
    let mut merged = Merged::new(log.context("no connection to Kafka")?, spans);
    let mut facts = Vec::with_capacity(CHUNK);
    while let Some((_, stored)) = merged.next().await? {
        let Some(headers) = stored.headers.as_ref().ok() else {
            continue;
        };
        let recorded = stored.log_timestamp.unwrap_or_default();
        if headers.scope != Some(scope) || !range.has(recorded) {
            continue;
        }
        let record = Record::decode(stored.value.clone())?;
        let chunk = if retell::is_told(record.kind, &record.r#type) {
            facts.push((recorded, record));
            if facts.len() < CHUNK {
                continue;
            }
            Chunk::Facts(std::mem::take(&mut facts))
        } else {
            Chunk::LeftOut(record.r#type)
        };
        if to.send(Ok(chunk)).await.is_err() {
            return Ok(());
        }
    }
    drop(to.send(Ok(Chunk::Facts(facts))).await);
    Ok(())
}

fn open(path: &Path) -> anyhow::Result<Reader<BufReader<File>>> {
    let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    Ok(Reader::open(BufReader::with_capacity(1 << 20, file))?)
}

fn parse(record: Vec<u8>) -> anyhow::Result<(Timestamp, Record)> {
    let record = Record::decode(prost::bytes::Bytes::from(record))
        .context("CORRUPTED: a record of the recording cannot be understood")?;
    let recorded = moment(record.recorded_at.as_ref());
    Ok((
        recorded.context("CORRUPTED: a record without its time")?,
        record,
    ))
}
