//! `runledger retire`.

use anyhow::Context as _;
use chrono::TimeDelta;
use runledger_analytics::{Keep, Retirement, UPKEEP_DEFAULTS, UpkeepConfig};
use runledger_domain::scope::Scope;
use runledger_domain::time::{Clock as _, SystemClock};
use runledger_service::telemetry;

use crate::say::{self, count};
use crate::{cli, roles};

/// The command.
pub(crate) async fn run(args: &cli::Retire) -> anyhow::Result<()> {
    let Some(config) = roles::load::<UpkeepConfig>(&args.role, UPKEEP_DEFAULTS)? else {
        return Ok(());
    };
    let _telemetry = telemetry::init(&config.telemetry, "retire")?;
    let kept = |time: Option<std::time::Duration>| {
        let time = time.map(TimeDelta::from_std).transpose();
        time.context("a time to keep things that is longer than time itself")
    };
    let keep = Keep {
        minutes: kept(args.minutes)?,
        quarters: kept(args.quarters)?,
        days: kept(args.days)?,
    };
    let mode = args.of_mode;
    let scope = args.tenant.map(|tenant| Scope { tenant, mode });
    let retirement = Retirement::new(&config)?;
    let retired = retirement.retire(scope, keep, SystemClock.now()).await?;
    say::line(format_args!(
        "{} rollups of {} scopes deleted, all generations together.",
        count(retired.rollups),
        count(u64::try_from(retired.scopes)?)
    ))?;
    Ok(())
}
