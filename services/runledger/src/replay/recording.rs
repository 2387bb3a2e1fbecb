//! `runledger record`: the facts of a scope from the log into a file.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use anyhow::{Context as _, bail, ensure};
use prost::Message as _;
use runledger_domain::log::{Family, Partition};
use runledger_domain::scope::Scope;
use runledger_eventlog::kafka::Kafka;
use runledger_eventlog::{Log, Stored};
use runledger_proto::common::v1::Mode;
use runledger_proto::encode;
use runledger_proto::log::v1::Record;
use runledger_proto::recording::v1::{Block, Header, RecordedFact, Span};
use runledger_recording::{Standing, VERSION, Writer};
use runledger_runs::{PROJECTOR_DEFAULTS, ProjectorConfig};

use super::progress::{Counts, Shown};
use super::source::Range;
use super::topics::Merged;
use super::{FAMILIES, proof, retell};
use crate::say::{self, count};
use crate::{cli, roles};

/// A block ends with so many facts or bytes.
const BLOCK_FACTS: usize = 4_000;
const BLOCK_BYTES: usize = 1 << 20;

/// The command.
pub(crate) async fn record(args: &cli::Record) -> anyhow::Result<()> {
    let Some(config) = roles::load::<ProjectorConfig>(&args.role, PROJECTOR_DEFAULTS)? else {
        return Ok(());
    };
    let log = Kafka::connect(&config.kafka)?;
    let range = Range {
        from: args.from,
        before: args.before,
    };
    let scope = Scope {
        tenant: args.tenant,
        mode: args.of_mode,
    };
    let path = args.file.as_path();
    let (writer, standing) = if args.resume && path.exists() {
        resume(log.as_ref(), path, scope, range).await?
    } else {
        begin(log.as_ref(), path, scope, range).await?
    };
    if standing.is_whole {
        say::line(format_args!("{} is whole already.", path.display()))?;
        return Ok(());
    }
    if standing.facts > 0 {
        say::aside(format_args!(
            "Going on behind {} facts.",
            count(standing.facts)
        ));
    }
    let recording = Recording::new(writer, standing, scope, range);
    let (facts, left_out) = recording.run(log.as_ref()).await?;
    let bytes = std::fs::metadata(path)?.len();
    say::line(format_args!(
        "{} facts of {scope} in {} ({} bytes).",
        count(facts),
        path.display(),
        count(bytes)
    ))?;
    for (type_name, left_out) in left_out {
        say::line(format_args!(
            "{} {type_name} left out: no fact that a service reports.",
            count(left_out)
        ))?;
    }
    Ok(())
}

async fn begin(
    log: &dyn Log,
    path: &Path,
    scope: Scope,
    range: Range,
) -> anyhow::Result<(Writer<File>, Standing)> {
    let header = header(log, scope, range).await?;
    // It holds what a tenant's agents did and said: nobody else may read it.
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path);
    let file = file.with_context(|| {
        format!(
            "cannot make {}; is it there already? --resume goes on with it",
            path.display()
        )
    })?;
    let standing = Standing {
        looked_to: header.spans.iter().map(|span| span.from_offset).collect(),
        facts: 0,
        left_out: BTreeMap::new(),
        is_whole: false,
        header,
    };
    Ok((Writer::create(file, &standing.header)?, standing))
}

async fn header(log: &dyn Log, scope: Scope, range: Range) -> anyhow::Result<Header> {
    let mut spans = Vec::new();
    for (partition, end) in proof::ends(log).await? {
        let incarnation = incarnation(log, partition).await?;
        spans.push(Span {
            family: partition.family.as_str().to_owned(),
            partition: partition.number,
            incarnation,
            from_offset: 1, // Behind the Genesis.
            to_offset: end,
        });
    }
    Ok(Header {
        version: VERSION,
        tenant_id: scope.tenant.as_uuid().as_bytes().to_vec(),
        mode: Mode::from(scope.mode).into(),
        spans,
        recorded_from: range.from.map(encode::timestamp),
        recorded_before: range.before.map(encode::timestamp),
    })
}

async fn incarnation(log: &dyn Log, partition: Partition) -> anyhow::Result<Vec<u8>> {
    let genesis = log.genesis(partition.family).await?;
    let genesis = genesis
        .iter()
        .find(|genesis| genesis.partition == partition.number);
    let genesis = genesis.context("a partition has no beginning")?;
    Ok(genesis.incarnation.as_uuid().as_bytes().to_vec())
}

async fn resume(
    log: &dyn Log,
    path: &Path,
    scope: Scope,
    range: Range,
) -> anyhow::Result<(Writer<File>, Standing)> {
    let file = OpenOptions::new().read(true).write(true).open(path);
    let file = file.with_context(|| format!("cannot open {}", path.display()))?;
    let (writer, standing) = Writer::resume(file)?;
    let now = header(log, scope, range).await?;
    let then = &standing.header;
    let asked = (
        &now.tenant_id,
        now.mode,
        now.recorded_from,
        now.recorded_before,
    );
    ensure!(
        asked
            == (
                &then.tenant_id,
                then.mode,
                then.recorded_from,
                then.recorded_before
            ),
        "OTHER_RECORDING: {} is of another scope or range; --resume goes on with the same one",
        path.display()
    );
    let place = |span: &Span| {
        (
            span.family.clone(),
            span.partition,
            span.incarnation.clone(),
        )
    };
    if !then.spans.iter().map(place).eq(now.spans.iter().map(place)) {
        bail!(
            "LOG_MADE_ANEW: the log is not the one that {} is of",
            path.display()
        );
    }
    Ok((writer, standing))
}

/// A recording that goes on.
struct Recording {
    writer: Writer<File>,
    standing: Standing,
    scope: Scope,
    range: Range,
    block: Vec<RecordedFact>,
    bytes: usize,
}

impl Recording {
    fn new(writer: Writer<File>, standing: Standing, scope: Scope, range: Range) -> Self {
        Self {
            writer,
            standing,
            scope,
            range,
            block: Vec::new(),
            bytes: 0,
        }
    }

    /// Records all there is. Answers with how many facts it has now, and what was left out.
    async fn run(mut self, log: &dyn Log) -> anyhow::Result<(u64, BTreeMap<String, u64>)> {
        let spans = self.spans()?;
        let mut merged = Merged::new(log, spans);
        let total = merged.left();
        let counts = Arc::new(Counts::default());
        let _shown = Shown::new(Arc::clone(&counts), Some(total), "records");
        while let Some((span, stored)) = merged.next().await? {
            counts.done.store(total - merged.left(), Ordering::Relaxed);
            self.take(span, &stored)?;
            if self.block.len() >= BLOCK_FACTS || self.bytes >= BLOCK_BYTES {
                self.write(merged.taken_to())?;
            }
        }
        self.write(merged.taken_to())?;
        let left_out = std::mem::take(&mut self.standing.left_out);
        let file = self.writer.finish(left_out.clone())?;
        file.sync_all()?;
        Ok((self.standing.facts, left_out))
    }

    fn spans(&self) -> anyhow::Result<Vec<(Partition, u64, u64)>> {
        let mut spans = Vec::new();
        for (span, looked_to) in self
            .standing
            .header
            .spans
            .iter()
            .zip(&self.standing.looked_to)
        {
            let family: Family = span.family.parse().context("a family of the recording")?;
            ensure!(
                FAMILIES.contains(&family),
                "CORRUPTED: {family} holds no facts that services report"
            );
            let partition = Partition {
                family,
                number: span.partition,
            };
            spans.push((partition, *looked_to, span.to_offset));
        }
        Ok(spans)
    }

    fn take(&mut self, span: usize, stored: &Stored) -> anyhow::Result<()> {
        let recorded = stored.log_timestamp.unwrap_or_default();
        let Ok(headers) = &stored.headers else {
            return Ok(());
        };
        if headers.scope != Some(self.scope) || !self.range.has(recorded) {
            return Ok(());
        }
        let record = Record::decode(stored.value.clone())
            .with_context(|| format!("the record at {:?}", stored.position))?;
        if !retell::is_told(record.kind, &record.r#type) {
            *self.standing.left_out.entry(record.r#type).or_default() += 1;
            return Ok(());
        }
        self.bytes += stored.value.len();
        self.block.push(RecordedFact {
            span: u32::try_from(span)?,
            offset: stored.position.offset,
            record: stored.value.to_vec(),
        });
        Ok(())
    }

    fn write(&mut self, looked_to: Vec<u64>) -> anyhow::Result<()> {
        if looked_to == self.standing.looked_to {
            return Ok(());
        }
        self.standing.looked_to.clone_from(&looked_to);
        self.standing.facts += u64::try_from(self.block.len())?;
        let block = Block {
            facts: std::mem::take(&mut self.block),
            looked_to,
            left_out: self.standing.left_out.clone(),
        };
        self.bytes = 0;
        // Packs and writes a megabyte: the other tasks of this process go on elsewhere.
        tokio::task::block_in_place(|| self.writer.block(&block))?;
        Ok(())
    }
}
