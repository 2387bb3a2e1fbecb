//! `runledger record` and `runledger replay`: the facts of a scope into a file, and told again elsewhere.
//!
//! Facts alone are told again, by the ingestion services and their rules. Commands and decisions are not: in another
//! place people, policies and prices decide anew.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use runledger_domain::log::Family;
use runledger_domain::scope::{Mode, Scope};
use runledger_domain::time::{Clock as _, SystemClock};
use runledger_eventlog::Log;
use runledger_eventlog::kafka::Kafka;
use runledger_proto::directory::v1::WhoAmIRequest;
use runledger_proto::{common::v1 as common, words};
use runledger_runs::{PROJECTOR_DEFAULTS, ProjectorConfig};
use serde_json::json;
use tokio::time::Instant;

use crate::remote::{For, Refusal, Remote};
use crate::say::{self, count};
use crate::{cli, roles};

mod pace;
mod progress;
mod proof;
mod recording;
mod retell;
mod source;
mod telling;
mod topics;

use pace::Pace;
use proof::{Expected, Sum};
pub(crate) use recording::record;
use retell::Ids;
use source::{Found, Range};
use telling::Telling;

/// Where facts lie that services report.
const FAMILIES: &[Family] = &[Family::Run, Family::Schedule, Family::Message];

/// What a replay came to.
struct Replayed {
    expected: Expected,
    left_out: BTreeMap<String, u64>,
    took: Duration,
    /// What lies in the log; `None`: nobody looked.
    arrived: Option<Sum>,
}

/// `runledger replay`.
pub(crate) async fn replay(args: &cli::Replay) -> anyhow::Result<()> {
    let Some(config) = roles::load::<ProjectorConfig>(&args.role, PROJECTOR_DEFAULTS)? else {
        return Ok(());
    };
    let remote = Remote::resolve(&args.server)?;
    let scope = destination(&remote, args).await?;
    let needs_log = args.file.is_none() || !args.unproven;
    let log: Option<Arc<dyn Log>> = if needs_log {
        Some(Kafka::connect(&config.kafka)?)
    } else {
        None
    };
    let range = Range {
        from: args.from,
        before: args.before,
    };
    let found = match &args.file {
        Some(file) => source::survey(file.clone(), range).await?,
        None => {
            let of = args.of.context("name a file, or the tenant --of whom")?;
            let of = Scope {
                tenant: of,
                mode: args.of_mode,
            };
            let log = log.as_deref().context("no connection to Kafka")?;
            source::look(log, of, range).await?
        }
    };
    check(&found, scope, args)?;
    let replayed = tell(args, &remote, scope, found, log).await?;
    report(&replayed, args.json)
}

/// Which scope the key writes into, when it may.
async fn destination(remote: &Remote, args: &cli::Replay) -> anyhow::Result<Scope> {
    let mut directory = remote.directory(For::Appending).await?;
    let caller = directory.who_am_i(WhoAmIRequest {}).await;
    let caller = caller.map_err(Refusal::from)?.into_inner();
    let mode = words::known::<common::Mode>(caller.mode);
    let tenant = caller.tenant.context(
        "SCOPE_REQUIRED: the key is an operator's, who has no scope; use one of the tenant that is to have the facts",
    )?;
    let scope = Scope {
        tenant: tenant.tenant_id.parse().context("the tenant's id")?,
        mode: mode.context("the key's world")?,
    };
    let is_said_twice = args.into_live && args.tenant == Some(scope.tenant);
    if scope.mode == Mode::Live && !is_said_twice {
        bail!(
            "LIVE_NOT_CONFIRMED: this key writes into the live world of {} ({}); use a key of its sandbox, or --sandbox. \
             If live is meant, say so twice: --into-live --tenant {}",
            tenant.name,
            tenant.tenant_id,
            tenant.tenant_id
        );
    }
    if let Some(meant) = args.tenant.filter(|meant| *meant != scope.tenant) {
        bail!(
            "OTHER_TENANT: the key is of tenant {}, not of {meant}",
            scope.tenant
        );
    }
    Ok(scope)
}

fn check(found: &Found, into: Scope, args: &cli::Replay) -> anyhow::Result<()> {
    if found.scope == into && args.prefix.is_none() {
        bail!(
            "SAME_SCOPE: the facts are of the scope they would go to, where they count already; \
             give them new ids with --prefix, or use another key"
        );
    }
    if args.times == cli::Times::Shifted && args.speed.is_none() && found.last.is_none() {
        bail!(
            "SPEED_REQUIRED: times are shifted as facts are told; say how fast with --speed, or replay a file"
        );
    }
    Ok(())
}

async fn tell(
    args: &cli::Replay,
    remote: &Remote,
    into: Scope,
    found: Found,
    log: Option<Arc<dyn Log>>,
) -> anyhow::Result<Replayed> {
    let log_of_proof = log.as_deref().filter(|_| !args.unproven);
    let ends = match log_of_proof {
        Some(log) => proof::ends(log).await?,
        None => Vec::new(),
    };
    let ids = match &args.prefix {
        Some(prefix) => Ids::New {
            prefix: prefix.clone(),
        },
        None => Ids::Kept,
    };
    let telling = Telling {
        ids,
        pace: Pace::new(args.speed, args.times, found.last, SystemClock.now()),
        lanes: usize::from(args.lanes),
        facts: found.facts,
    };
    let begun = Instant::now();
    let left_out = found.left_out.clone();
    let facts = found.into_facts(log.clone());
    let (expected, seen_out) = telling.tell(remote, facts).await?;
    let took = begun.elapsed();
    let arrived = match log_of_proof {
        Some(log) => Some(proof::arrived(log, into, &ends, &expected).await?),
        None => None,
    };
    Ok(Replayed {
        expected,
        left_out: if left_out.is_empty() {
            seen_out
        } else {
            left_out
        },
        took,
        arrived,
    })
}

fn report(replayed: &Replayed, is_json: bool) -> anyhow::Result<()> {
    let told = &replayed.expected.sum;
    let hash = |sum: &Sum| -> String {
        sum.hash()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect()
    };
    let seconds = replayed.took.as_secs_f64();
    #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
    let rate = told.facts() as f64 / seconds.max(1e-9);
    if is_json {
        say::line(json!({
            "told": told.facts(), "copies": replayed.expected.copies, "left_out": replayed.left_out,
            "seconds": seconds, "rate": rate, "hash": hash(told),
            "arrived": replayed.arrived.as_ref().map(|sum| json!({ "facts": sum.facts(), "hash": hash(sum) })),
        }))?;
    } else {
        say::line(format_args!(
            "{} facts told in {seconds:.1} s, {rate:.0} a second.",
            count(told.facts())
        ))?;
        if replayed.expected.copies > 0 {
            say::line(format_args!(
                "{} copies left out: their first ones were told.",
                count(replayed.expected.copies)
            ))?;
        }
        for (type_name, left_out) in &replayed.left_out {
            say::line(format_args!(
                "{} {type_name} left out: no fact that a service reports.",
                count(*left_out)
            ))?;
        }
    }
    let Some(arrived) = &replayed.arrived else {
        if !is_json {
            say::line("Acknowledged, all of them; not read back (--unproven).")?;
        }
        return Ok(());
    };
    ensure!(
        arrived == told,
        "NOT_PROVEN: {} facts were told with hash {}, and {} lie in the log with hash {}; do it again, that is always safe",
        told.facts(),
        hash(told),
        arrived.facts(),
        hash(arrived)
    );
    if !is_json {
        say::line(format_args!(
            "Read back from the log: the same {} facts, each once, as told, in the order of their streams. Hash {}.",
            count(arrived.facts()),
            hash(arrived)
        ))?;
    }
    Ok(())
}
