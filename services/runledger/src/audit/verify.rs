//! `runledger audit verify`: a part of the log against the entries that it makes.

use runledger_audit::{FAMILIES, Findings, UPKEEP_DEFAULTS, UpkeepConfig};
use runledger_projection::rebuild::Range;
use runledger_service::telemetry;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::cli::AuditVerify;
use crate::roles;
use crate::say::{self, count};
use crate::upkeep::Differs;

pub(crate) async fn verify(args: &AuditVerify) -> anyhow::Result<()> {
    let Some(config) = roles::load::<UpkeepConfig>(&args.role, UPKEEP_DEFAULTS)? else {
        return Ok(());
    };
    if let Some(family) = args.family.filter(|family| !FAMILIES.contains(family)) {
        anyhow::bail!("the audit does not read the family {family}")
    }
    if args.to_offset.is_some_and(|to| to <= args.from_offset) {
        anyhow::bail!("--to-offset has to lie behind --from-offset")
    }
    let _telemetry = telemetry::init(&config.telemetry, "upkeep")?;
    let range = Range {
        family: args.family,
        partition: args.partition,
        from: args.from_offset,
        to: args.to_offset,
    };
    let verifier = runledger_audit::verifier(&config, roles::clock(), CancellationToken::new())?;
    let findings = verifier.verify(range).await?;
    if args.json {
        say::line(as_json(&findings))?;
    } else {
        print(&findings)?;
    }
    match findings.difference {
        None => Ok(()),
        Some(_) => Err(Differs.into()),
    }
}

fn print(findings: &Findings) -> anyhow::Result<()> {
    for span in &findings.spans {
        say::line(format_args!(
            "{} from offset {} to before {}, recomputed from {}",
            span.partition, span.from, span.to, span.start
        ))?;
    }
    let checked = &findings.checked;
    if let Some(found) = &findings.difference {
        say::line(format_args!(
            "DIFFERS: {}/{} at offset {}: {}",
            found.family, found.partition, found.offset, found.what
        ))?;
        return Ok(());
    }
    if checked.parked > 0 || checked.skipped > 0 {
        say::line(format_args!(
            "LEFT OUT: {} records are parked and {} skipped; they are in the log, and make no entries.",
            count(checked.parked),
            count(checked.skipped)
        ))?;
    }
    say::line(format_args!(
        "All is as the log says: {} records, {} decisions in force, {} void, {} entries, {} checkpoints.",
        count(checked.records),
        count(checked.in_force),
        count(checked.void),
        count(checked.entries),
        count(checked.checkpoints)
    ))?;
    Ok(())
}

fn as_json(findings: &Findings) -> Value {
    let checked = &findings.checked;
    json!({
        "whole": findings.difference.is_none(),
        "records": checked.records,
        "decisions_in_force": checked.in_force,
        "decisions_void": checked.void,
        "entries": checked.entries,
        "checkpoints": checked.checkpoints,
        "parked": checked.parked,
        "skipped": checked.skipped,
        "ranges": findings.spans.iter().map(|span| json!({
            "family": span.partition.family.as_str(),
            "partition": span.partition.number,
            "recomputed_from": span.start,
            "from": span.from,
            "to": span.to,
        })).collect::<Vec<_>>(),
        "difference": findings.difference.as_ref().map(|found| json!({
            "family": found.family,
            "partition": found.partition,
            "offset": found.offset,
            "what": found.what,
        })),
    })
}
