//! What `runledger dead-letters` says of itself.

use clap::{Args, Subcommand};
use runledger_domain::log::Partition;
use runledger_domain::scope::Mode;
use uuid::Uuid;

use super::people::mode;
use super::{Role, Server};

#[derive(Clone, Debug, Args)]
pub(crate) struct DeadLetters {
    #[command(subcommand)]
    pub(crate) command: DeadLettersCommand,
}

/// Of whom; nothing given: of everybody.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Of whom")]
pub(crate) struct WhichStreams {
    /// Of this tenant
    #[arg(long, value_name = "UUID")]
    pub(crate) tenant: Option<Uuid>,
    /// Of this world: live or sandbox
    #[arg(long, value_name = "MODE", value_parser = mode)]
    pub(crate) mode: Option<Mode>,
}

#[derive(Clone, Debug, Subcommand)]
pub(crate) enum DeadLettersCommand {
    /// List the parked streams, the longest parked first
    ///
    /// Reads the projector's database, as `runledger runs projector` is configured.
    List(DeadList),
    /// Show the parked records of a stream, in order, and why the first cannot be applied
    Show(DeadShow),
    /// Apply the parked records of a stream, once the cause is mended
    ///
    /// In their order, up to the first that is refused again; that attempt is counted. Needs the
    /// projector's database and Kafka. Harmless while the projector runs, and when it is repeated;
    /// the command fails while anything that it was to redrive stays parked.
    Redrive(DeadRedrive),
    /// Leave a parked record out for ever, and let its stream go on
    ///
    /// Appends a fact to the stream, through ingest: with the key of an admin of the tenant, or of an
    /// operator (--operator). Cannot be taken back: every rebuild obeys it too. The record stays in
    /// the log and in the timeline, only its effect is left out.
    Skip(Box<DeadSkip>),
}

#[derive(Clone, Debug, Args)]
pub(crate) struct DeadList {
    /// At most so many
    #[arg(long, value_name = "COUNT", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) limit: u32,
    /// One JSON object a line, for programs
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) which: WhichStreams,
    #[command(flatten)]
    pub(crate) role: Role,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct DeadShow {
    /// Name of the stream as `list` shows it, for example run/r-1
    pub(crate) stream: String,
    /// At most so many
    #[arg(long, value_name = "COUNT", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) limit: u32,
    /// One JSON object a line, for programs
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) which: WhichStreams,
    #[command(flatten)]
    pub(crate) role: Role,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct DeadRedrive {
    /// Name of the stream as `list` shows it, for example run/r-1
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    pub(crate) stream: Option<String>,
    /// Every parked stream (of --tenant and --mode)
    #[arg(long)]
    pub(crate) all: bool,
    /// Change nothing, and say what would happen
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// One JSON object a line, for programs
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) which: WhichStreams,
    #[command(flatten)]
    pub(crate) role: Role,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct DeadSkip {
    /// The record as `list` shows it: family/partition/offset, for example run/3/4711
    #[arg(value_parser = place)]
    pub(crate) position: Place,
    /// Why, for those who read it later
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: String,
    /// Name of the projection
    #[arg(long, value_name = "NAME", default_value = "runledger.runs")]
    pub(crate) projection: String,
    /// Use the operator's key of the credentials file
    #[arg(long)]
    pub(crate) operator: bool,
    /// One JSON object a line, for programs
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) server: Server,
}

/// A place in the log, as people write it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) partition: Partition,
    pub(crate) offset: u64,
}

fn place(text: &str) -> Result<Place, String> {
    let parse = || {
        let mut parts = text.split('/');
        let place = Place {
            partition: Partition {
                family: parts.next()?.parse().ok()?,
                number: parts.next()?.parse().ok()?,
            },
            offset: parts.next()?.parse().ok()?,
        };
        parts.next().is_none().then_some(place)
    };
    parse().ok_or_else(|| "write family/partition/offset, for example run/3/4711".to_owned())
}
