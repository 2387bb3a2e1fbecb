//! The arguments of `record` and `replay`.

use std::path::PathBuf;

use chrono::{DateTime, Utc};
use clap::{Args, ValueEnum};
use runledger_domain::ids::TenantId;
use runledger_domain::scope::Mode;

use super::people::{mode, moment};
use super::{Role, Server};

#[derive(Clone, Debug, Args)]
pub(crate) struct Record {
    /// The file to make; nobody else may read it
    pub(crate) file: PathBuf,
    /// Whose facts: the tenant's id, as `runledger tenants list` shows it
    #[arg(long, value_name = "UUID")]
    pub(crate) tenant: TenantId,
    /// Of which of its worlds: live or sandbox
    #[arg(long, value_name = "MODE", default_value = "live", value_parser = mode)]
    pub(crate) of_mode: Mode,
    /// Recorded from this moment on [default: from the first]
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub(crate) from: Option<DateTime<Utc>>,
    /// Recorded before this moment [default: all there are now]
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub(crate) before: Option<DateTime<Utc>>,
    /// Go on with a recording that was cut short
    #[arg(long)]
    pub(crate) resume: bool,
    #[command(flatten)]
    pub(crate) role: Role,
}

/// What becomes of the times at which facts happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Times {
    /// As they were
    #[value(name = "keep")]
    Kept,
    /// As far behind the telling as they were behind the recording; flat out: the last happens now
    #[value(name = "shift")]
    Shifted,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct Replay {
    /// The recording; without one, facts are read from the log, and --of says whose
    pub(crate) file: Option<PathBuf>,
    /// From the log: of this tenant
    #[arg(long, value_name = "UUID", conflicts_with = "file")]
    pub(crate) of: Option<TenantId>,
    /// From the log: of which of its worlds, live or sandbox
    #[arg(long, value_name = "MODE", default_value = "live", value_parser = mode)]
    pub(crate) of_mode: Mode,
    /// Recorded from this moment on [default: from the first]
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub(crate) from: Option<DateTime<Utc>>,
    /// Recorded before this moment [default: all there are]
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub(crate) before: Option<DateTime<Utc>>,
    /// Recorded seconds a second, 1 as it was, 10 ten times as fast [default: flat out]
    #[arg(long, value_name = "FACTOR", value_parser = speed)]
    pub(crate) speed: Option<f64>,
    /// When facts are told to have happened
    #[arg(long, value_enum, default_value = "keep")]
    pub(crate) times: Times,
    /// New ids: this before those of runs, conversations and schedules, and new ones of records. The same prefix gives
    /// the same ids, so a replay can be done again [default: the ids they have]
    #[arg(long, value_name = "TEXT")]
    pub(crate) prefix: Option<String>,
    /// Requests at once; facts of one stream always go one after another
    #[arg(long, value_name = "COUNT", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(crate) lanes: u16,
    /// Into the live world that the key is of; only with --tenant
    #[arg(long, requires = "tenant")]
    pub(crate) into_live: bool,
    /// The tenant that the key must be of
    #[arg(long, value_name = "UUID")]
    pub(crate) tenant: Option<TenantId>,
    /// Do not read back from Kafka what arrived
    #[arg(long)]
    pub(crate) unproven: bool,
    /// One JSON object, for programs
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) server: Server,
    #[command(flatten)]
    pub(crate) role: Role,
}

fn speed(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(speed) if speed.is_finite() && (0.001..=1_000_000.0).contains(&speed) => Ok(speed),
        _ => Err("write a number from 0.001 to 1000000".to_owned()),
    }
}
