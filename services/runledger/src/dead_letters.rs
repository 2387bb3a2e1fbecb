//! `runledger dead-letters`: records that the read model of runs could not apply.

use std::sync::Arc;

use anyhow::Context as _;
use chrono::{DateTime, Utc};
use runledger_domain::ids::TenantId;
use runledger_domain::log::Position;
use runledger_domain::time::{Clock as _, SystemClock};
use runledger_eventlog::Log;
use runledger_eventlog::kafka::Kafka;
use runledger_projection::dead_letters::{DeadLetter, DeadLetters, DeadStream, Filter, Redriven};
use runledger_proto::common::v1 as common;
use runledger_proto::log::v1::SkipRequest;
use runledger_runs::{PROJECTOR_DEFAULTS, ProjectorConfig, Runs};
use runledger_service::ids;
use serde_json::json;

use crate::cli::{
    DeadLettersCommand, DeadList, DeadRedrive, DeadShow, DeadSkip, Role, WhichStreams,
};
use crate::remote::{For, Refusal, Remote};
use crate::roles;
use crate::runs::view::span;
use crate::say::{self, Columns, Tone, cell, count, short, toned};

/// Most streams that one command redrives; more can be parked only where the cap was raised.
const STREAMS_MAX: usize = 100_000;
/// How much of a reason fits a table.
const REASON_CHARS: usize = 80;

/// The command.
pub(crate) async fn run(command: &DeadLettersCommand) -> anyhow::Result<()> {
    match command {
        DeadLettersCommand::List(args) => list(args).await,
        DeadLettersCommand::Show(args) => show(args).await,
        DeadLettersCommand::Redrive(args) => redrive(args).await,
        DeadLettersCommand::Skip(args) => skip(args).await,
    }
}

async fn list(args: &DeadList) -> anyhow::Result<()> {
    let Some(config) = load(&args.role)? else {
        return Ok(());
    };
    let letters = open(&config).await?;
    let streams = letters
        .streams(&filter(&args.which, None), args.limit as usize)
        .await?;
    if !args.json {
        return print_streams(&streams, SystemClock.now());
    }
    for stream in &streams {
        let mut line = object(&stream.head);
        line["records"] = json!(stream.records);
        say::line(line)?;
    }
    Ok(())
}

async fn show(args: &DeadShow) -> anyhow::Result<()> {
    let Some(config) = load(&args.role)? else {
        return Ok(());
    };
    let letters = open(&config).await?;
    for stream in found(&letters, &filter(&args.which, Some(&args.stream))).await? {
        let records = letters.records(&stream, args.limit as usize).await?;
        if args.json {
            for letter in &records {
                say::line(object(letter))?;
            }
        } else {
            print_records(&stream, &records)?;
        }
    }
    Ok(())
}

async fn redrive(args: &DeadRedrive) -> anyhow::Result<()> {
    let Some(config) = load(&args.role)? else {
        return Ok(());
    };
    let letters = open(&config).await?;
    let streams = found(&letters, &filter(&args.which, args.stream.as_deref())).await?;
    let log: Arc<dyn Log> = Kafka::connect(&config.kafka)?;
    let (mut runs, mut stopped) = (Runs::default(), 0_usize);
    for stream in &streams {
        let redriven = letters
            .redrive(log.as_ref(), &mut runs, &SystemClock, stream, args.dry_run)
            .await
            .with_context(|| format!("redriving {}", name(&stream.head)))?;
        stopped += usize::from(redriven.stopped.is_some());
        tell(stream, &redriven, args)?;
    }
    if streams.is_empty() && !args.json {
        say::line("Nothing is parked.")?;
    }
    if stopped > 0 && !args.dry_run {
        anyhow::bail!(
            "{stopped} of {} streams are still parked; mend the cause, or skip the record that is refused",
            streams.len()
        );
    }
    Ok(())
}

async fn skip(args: &DeadSkip) -> anyhow::Result<()> {
    let what = if args.operator {
        For::Operating
    } else {
        For::Administering
    };
    let mut service = Remote::resolve(&args.server)?.dead_letters(what).await?;
    let answer = service.skip(request(args)).await.map_err(Refusal::from)?;
    let answer = answer.into_inner();
    if args.json {
        say::line(json!({ "stream": answer.stream, "token": answer.token }))?;
    } else {
        say::line(format_args!(
            "{} goes on without that record, as soon as the projector has read so. To see it: --wait-for {}",
            answer.stream, answer.token
        ))?;
    }
    Ok(())
}

fn load(role: &Role) -> anyhow::Result<Option<ProjectorConfig>> {
    roles::load(role, PROJECTOR_DEFAULTS)
}

async fn open(config: &ProjectorConfig) -> anyhow::Result<DeadLetters> {
    let pool = runledger_postgres::connect(&config.database, "runledger dead-letters", "runs")?;
    let opened = DeadLetters::open(pool).await;
    opened.with_context(|| {
        format!(
            "Postgres at {}:{}",
            config.database.host, config.database.port
        )
    })
}

fn filter(which: &WhichStreams, stream: Option<&str>) -> Filter {
    Filter {
        tenant: which.tenant.map(TenantId::new),
        mode: which.mode,
        stream: stream.map(ToOwned::to_owned),
    }
}

/// What is meant, when anything is.
async fn found(letters: &DeadLetters, filter: &Filter) -> anyhow::Result<Vec<DeadStream>> {
    let streams = letters.streams(filter, STREAMS_MAX).await?;
    if let (true, Some(stream)) = (streams.is_empty(), &filter.stream) {
        anyhow::bail!(
            "no stream {stream} is parked; `runledger dead-letters list` shows those that are"
        );
    }
    Ok(streams)
}

fn tell(stream: &DeadStream, redriven: &Redriven, args: &DeadRedrive) -> anyhow::Result<()> {
    let head = &stream.head;
    if args.json {
        let stopped = redriven.stopped.as_ref();
        say::line(json!({
            "stream": head.stream,
            "tenant_id": head.scope.map(|scope| scope.tenant.to_string()),
            "mode": head.scope.map(|scope| scope.mode.as_str()),
            "dry_run": args.dry_run,
            "applied": redriven.applied,
            "stopped_at": stopped.map(|(at, _)| place(at)),
            "reason": stopped.map(|(_, reason)| reason),
        }))?;
        return Ok(());
    }
    let would = if args.dry_run {
        "would be applied"
    } else {
        "applied"
    };
    say::line(format_args!(
        "{}: {} of {} records {would}",
        name(head),
        count(redriven.applied),
        count(stream.records.max(redriven.applied)),
    ))?;
    if let Some((at, reason)) = &redriven.stopped {
        say::line(format_args!(
            "  refused: {}: {}",
            place(at),
            short(reason, 500)
        ))?;
    }
    Ok(())
}

fn request(args: &DeadSkip) -> SkipRequest {
    let place = args.position;
    SkipRequest {
        id: ids::fresh().to_string(),
        projection: args.projection.clone(),
        position: Some(common::Position {
            family: place.partition.family.to_string(),
            partition: place.partition.number,
            incarnation: String::new(),
            offset: place.offset,
        }),
        reason: args.reason.clone(),
    }
}

/// `family/partition/offset`.
fn place(at: &Position) -> String {
    format!("{}/{}", at.partition, at.offset)
}

/// The stream with its scope; keys that name no stream are shown as they are.
fn name(letter: &DeadLetter) -> String {
    let stream = short(&letter.stream, 200);
    letter
        .scope
        .map_or_else(|| stream.clone(), |scope| format!("{scope}/{stream}"))
}

fn print_streams(streams: &[DeadStream], now: DateTime<Utc>) -> anyhow::Result<()> {
    if streams.is_empty() {
        say::line("Nothing is parked.")?;
        return Ok(());
    }
    let mut table = Columns::new(&[
        "stream",
        "tenant",
        "mode",
        "stands at",
        ">records",
        ">parked for",
        ">tried",
        "why",
    ]);
    for stream in streams {
        let head = &stream.head;
        table.row([
            toned(short(&head.stream, 200), Tone::Bad),
            cell(
                head.scope
                    .map_or_else(String::new, |scope| scope.tenant.to_string()),
            ),
            cell(head.scope.map_or("", |scope| scope.mode.as_str())),
            cell(place(&head.position)),
            cell(count(stream.records)),
            cell(span(now - head.parked_at)),
            cell(count(u64::from(head.attempts))),
            cell(short(
                head.reason.as_deref().unwrap_or_default(),
                REASON_CHARS,
            )),
        ]);
    }
    table.print()?;
    Ok(())
}

fn print_records(stream: &DeadStream, records: &[DeadLetter]) -> anyhow::Result<()> {
    let head = &stream.head;
    say::heading(&name(head))?;
    say::line(format_args!(
        "{} records wait since {}",
        count(stream.records),
        head.parked_at.to_rfc3339()
    ))?;
    if let Some(tried_at) = head.tried_at {
        say::line(format_args!(
            "the first was tried again {} times, last {}",
            head.attempts,
            tried_at.to_rfc3339()
        ))?;
    }
    let mut table = Columns::new(&["position", "record", "type", "appended", "why"]);
    for letter in records {
        let why = letter.reason.as_deref();
        table.row([
            cell(place(&letter.position)),
            cell(letter.record.map_or_else(String::new, |id| id.to_string())),
            cell(short(&letter.type_name, 100)),
            cell(
                letter
                    .recorded_at
                    .map_or_else(String::new, |at| at.to_rfc3339()),
            ),
            match why {
                Some(why) => toned(short(why, 500), Tone::Bad),
                None => toned("waits", Tone::Faint),
            },
        ]);
    }
    table.print()?;
    Ok(())
}

fn object(letter: &DeadLetter) -> serde_json::Value {
    json!({
        "stream": letter.stream,
        "tenant_id": letter.scope.map(|scope| scope.tenant.to_string()),
        "mode": letter.scope.map(|scope| scope.mode.as_str()),
        "position": place(&letter.position),
        "incarnation": letter.position.incarnation.to_string(),
        "record_id": letter.record.map(|id| id.to_string()),
        "type": letter.type_name,
        "reason": letter.reason,
        "recorded_at": letter.recorded_at.map(|at| at.to_rfc3339()),
        "parked_at": letter.parked_at.to_rfc3339(),
        "attempts": letter.attempts,
        "tried_at": letter.tried_at.map(|at| at.to_rfc3339()),
    })
}
