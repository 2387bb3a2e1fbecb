//! The arguments of `retire`.

use std::time::Duration;

use clap::Args;
use runledger_domain::ids::TenantId;
use runledger_domain::scope::Mode;

use super::Role;
use super::people::{duration, mode};

#[derive(Clone, Debug, Args)]
pub(crate) struct Retire {
    /// How long rollups of minutes are kept, for example 30d [default: as long as they are now]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub(crate) minutes: Option<Duration>,
    /// How long rollups of quarters of an hour are kept, of which hours, and days of other zones than UTC, are summed up
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub(crate) quarters: Option<Duration>,
    /// How long rollups of days are kept
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub(crate) days: Option<Duration>,
    /// Of this tenant alone [default: of every scope that has rollups]
    #[arg(long, value_name = "UUID")]
    pub(crate) tenant: Option<TenantId>,
    /// Of which of its worlds: live or sandbox
    #[arg(long, value_name = "MODE", default_value = "live", value_parser = mode, requires = "tenant")]
    pub(crate) of_mode: Mode,
    #[command(flatten)]
    pub(crate) role: Role,
}
