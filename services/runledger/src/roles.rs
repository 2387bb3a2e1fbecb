//! The roles, each a process of its own in production.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use runledger_domain::time::{Clock, SystemClock};
use runledger_eventlog::kafka::Kafka;
use runledger_service::config::{self, Source};
use runledger_service::supervisor::Supervisor;
use runledger_service::telemetry;
use secrecy::ExposeSecret as _;
use serde::de::DeserializeOwned;

use crate::cli::Role;
use crate::{migrate, say};

/// How long a process may take to end: below the 30 s after which most platforms kill.
pub(crate) const DRAIN_TIMEOUT: Duration = Duration::from_secs(25);

/// The configuration in force; `None` when it was only to be shown.
pub(crate) fn load<T: DeserializeOwned + Debug>(
    role: &Role,
    defaults: &str,
) -> anyhow::Result<Option<T>> {
    let config: T = config::load(Source {
        defaults,
        file: role.config.clone(),
    })?;
    if role.check_config {
        say::line(format_args!("{config:#?}"))?;
        return Ok(None);
    }
    Ok(Some(config))
}

pub(crate) fn clock() -> Arc<dyn Clock> {
    Arc::new(SystemClock)
}

pub(crate) async fn ingest(role: &Role) -> anyhow::Result<()> {
    let Some(config) = load::<runledger_ingest::Config>(role, runledger_ingest::DEFAULTS)? else {
        return Ok(());
    };
    let _telemetry = telemetry::init(&config.telemetry, "ingest")?;
    let mut supervisor = Supervisor::new(DRAIN_TIMEOUT);
    let log = Kafka::connect(&config.kafka)?;
    let authenticator = runledger_ingest::authenticator(&config)?;
    let addresses =
        runledger_ingest::serve(&config, log, authenticator, clock(), &mut supervisor).await?;
    tracing::info!(grpc = %addresses.grpc, metrics = %addresses.metrics, "ingest serves");
    Ok(supervisor.run().await?)
}

pub(crate) async fn directory(role: &Role) -> anyhow::Result<()> {
    let Some(config) = load::<runledger_directory::Config>(role, runledger_directory::DEFAULTS)?
    else {
        return Ok(());
    };
    let _telemetry = telemetry::init(&config.telemetry, "directory")?;
    let mut supervisor = Supervisor::new(DRAIN_TIMEOUT);
    let log = Kafka::connect(&config.kafka)?;
    let addresses = runledger_directory::serve(&config, log, clock(), &mut supervisor).await?;
    tracing::info!(grpc = %addresses.grpc, metrics = %addresses.metrics, "directory serves");
    Ok(supervisor.run().await?)
}

/// The first operator's key goes to standard output alone, so that it can be piped to where it is kept.
pub(crate) async fn bootstrap(role: &Role) -> anyhow::Result<()> {
    let Some(config) = load::<runledger_directory::Config>(role, runledger_directory::DEFAULTS)?
    else {
        return Ok(());
    };
    let pool = runledger_postgres::connect(&config.database, "runledger bootstrap", "directory")?;
    let key = runledger_directory::bootstrap(&pool, &SystemClock).await?;
    say::aside("The first operator's key. It is shown this once:");
    say::line(key.expose_secret())?;
    Ok(())
}

pub(crate) async fn projector(role: &Role) -> anyhow::Result<()> {
    let Some(config) =
        load::<runledger_runs::ProjectorConfig>(role, runledger_runs::PROJECTOR_DEFAULTS)?
    else {
        return Ok(());
    };
    let _telemetry = telemetry::init(&config.telemetry, "runs-projector")?;
    let mut supervisor = Supervisor::new(DRAIN_TIMEOUT);
    let addresses = runledger_runs::serve_projector(&config, clock(), &mut supervisor).await?;
    tracing::info!(metrics = %addresses.metrics, "the runs projector works");
    Ok(supervisor.run().await?)
}

pub(crate) async fn api(role: &Role) -> anyhow::Result<()> {
    let Some(config) = load::<runledger_runs::ApiConfig>(role, runledger_runs::API_DEFAULTS)?
    else {
        return Ok(());
    };
    let _telemetry = telemetry::init(&config.telemetry, "runs-api")?;
    let mut supervisor = Supervisor::new(DRAIN_TIMEOUT);
    let addresses = runledger_runs::serve_api(&config, &mut supervisor).await?;
    tracing::info!(grpc = %addresses.grpc, metrics = %addresses.metrics, "the runs api serves");
    Ok(supervisor.run().await?)
}

pub(crate) async fn approvals_decider(role: &Role) -> anyhow::Result<()> {
    let Some(config) =
        load::<runledger_approvals::DeciderConfig>(role, runledger_approvals::DECIDER_DEFAULTS)?
    else {
        return Ok(());
    };
    let _telemetry = telemetry::init(&config.telemetry, "approvals-decider")?;
    let mut supervisor = Supervisor::new(DRAIN_TIMEOUT);
    let addresses = runledger_approvals::serve_decider(&config, clock(), &mut supervisor).await?;
    tracing::info!(metrics = %addresses.metrics, "the approvals decider works");
    Ok(supervisor.run().await?)
}

pub(crate) async fn approvals_api(role: &Role) -> anyhow::Result<()> {
    let Some(config) =
        load::<runledger_approvals::ApiConfig>(role, runledger_approvals::API_DEFAULTS)?
    else {
        return Ok(());
    };
    let _telemetry = telemetry::init(&config.telemetry, "approvals-api")?;
    let mut supervisor = Supervisor::new(DRAIN_TIMEOUT);
    let addresses = runledger_approvals::serve_api(&config, clock(), &mut supervisor).await?;
    tracing::info!(grpc = %addresses.grpc, metrics = %addresses.metrics, "the approvals api serves");
    Ok(supervisor.run().await?)
}

pub(crate) async fn audit_projector(role: &Role) -> anyhow::Result<()> {
    let Some(config) =
        load::<runledger_audit::ProjectorConfig>(role, runledger_audit::PROJECTOR_DEFAULTS)?
    else {
        return Ok(());
    };
    let _telemetry = telemetry::init(&config.telemetry, "audit-projector")?;
    let mut supervisor = Supervisor::new(DRAIN_TIMEOUT);
    let addresses = runledger_audit::serve_projector(&config, clock(), &mut supervisor).await?;
    tracing::info!(metrics = %addresses.metrics, "the audit projector works");
    Ok(supervisor.run().await?)
}

pub(crate) async fn audit_api(role: &Role) -> anyhow::Result<()> {
    let Some(config) = load::<runledger_audit::ApiConfig>(role, runledger_audit::API_DEFAULTS)?
    else {
        return Ok(());
    };
    let _telemetry = telemetry::init(&config.telemetry, "audit-api")?;
    let mut supervisor = Supervisor::new(DRAIN_TIMEOUT);
    let addresses = runledger_audit::serve_api(&config, &mut supervisor).await?;
    tracing::info!(grpc = %addresses.grpc, metrics = %addresses.metrics, "the audit api serves");
    Ok(supervisor.run().await?)
}

pub(crate) async fn analytics_projector(role: &Role) -> anyhow::Result<()> {
    let Some(config) = load::<runledger_analytics::ProjectorConfig>(
        role,
        runledger_analytics::PROJECTOR_DEFAULTS,
    )?
    else {
        return Ok(());
    };
    let _telemetry = telemetry::init(&config.telemetry, "analytics-projector")?;
    let mut supervisor = Supervisor::new(DRAIN_TIMEOUT);
    let addresses = runledger_analytics::serve_projector(&config, clock(), &mut supervisor).await?;
    tracing::info!(metrics = %addresses.metrics, "the analytics projector works");
    Ok(supervisor.run().await?)
}

pub(crate) async fn analytics_api(role: &Role) -> anyhow::Result<()> {
    let Some(config) =
        load::<runledger_analytics::ApiConfig>(role, runledger_analytics::API_DEFAULTS)?
    else {
        return Ok(());
    };
    let _telemetry = telemetry::init(&config.telemetry, "analytics-api")?;
    let mut supervisor = Supervisor::new(DRAIN_TIMEOUT);
    let addresses = runledger_analytics::serve_api(&config, &mut supervisor).await?;
    tracing::info!(grpc = %addresses.grpc, metrics = %addresses.metrics, "the analytics api serves");
    Ok(supervisor.run().await?)
}

pub(crate) async fn billing_forwarder(role: &Role) -> anyhow::Result<()> {
    let Some(config) =
        load::<runledger_billing::ForwarderConfig>(role, runledger_billing::FORWARDER_DEFAULTS)?
    else {
        return Ok(());
    };
    let _telemetry = telemetry::init(&config.telemetry, "billing-forwarder")?;
    let mut supervisor = Supervisor::new(DRAIN_TIMEOUT);
    let addresses = runledger_billing::serve_forwarder(&config, clock(), &mut supervisor).await?;
    tracing::info!(metrics = %addresses.metrics, "the billing forwarder works");
    Ok(supervisor.run().await?)
}

pub(crate) async fn billing_decider(role: &Role) -> anyhow::Result<()> {
    let Some(config) =
        load::<runledger_billing::DeciderConfig>(role, runledger_billing::DECIDER_DEFAULTS)?
    else {
        return Ok(());
    };
    let _telemetry = telemetry::init(&config.telemetry, "billing-decider")?;
    let mut supervisor = Supervisor::new(DRAIN_TIMEOUT);
    let addresses = runledger_billing::serve_decider(&config, clock(), &mut supervisor).await?;
    tracing::info!(metrics = %addresses.metrics, "the billing decider works");
    Ok(supervisor.run().await?)
}

pub(crate) async fn billing_api(role: &Role) -> anyhow::Result<()> {
    let Some(config) = load::<runledger_billing::ApiConfig>(role, runledger_billing::API_DEFAULTS)?
    else {
        return Ok(());
    };
    let _telemetry = telemetry::init(&config.telemetry, "billing-api")?;
    let mut supervisor = Supervisor::new(DRAIN_TIMEOUT);
    let addresses = runledger_billing::serve_api(&config, clock(), &mut supervisor).await?;
    tracing::info!(grpc = %addresses.grpc, metrics = %addresses.metrics, "the billing api serves");
    Ok(supervisor.run().await?)
}

pub(crate) async fn migrate(role: &Role) -> anyhow::Result<()> {
    let Some(config) = load::<migrate::Config>(role, migrate::DEFAULTS)? else {
        return Ok(());
    };
    let _telemetry = telemetry::init(&config.telemetry, "migrate")?;
    migrate::migrate(&config).await.context("migrating")?;
    tracing::info!("database and topics are up to date");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_environment_serves_every_role() {
        let roles = [
            migrate::DEFAULTS,
            runledger_directory::DEFAULTS,
            runledger_ingest::DEFAULTS,
            runledger_runs::PROJECTOR_DEFAULTS,
            runledger_runs::API_DEFAULTS,
            runledger_runs::UPKEEP_DEFAULTS,
            runledger_approvals::DECIDER_DEFAULTS,
            runledger_approvals::API_DEFAULTS,
            runledger_approvals::UPKEEP_DEFAULTS,
            runledger_audit::PROJECTOR_DEFAULTS,
            runledger_audit::API_DEFAULTS,
            runledger_audit::UPKEEP_DEFAULTS,
            runledger_billing::FORWARDER_DEFAULTS,
            runledger_billing::FORWARDER_UPKEEP_DEFAULTS,
            runledger_billing::DECIDER_DEFAULTS,
            runledger_billing::API_DEFAULTS,
            runledger_billing::UPKEEP_DEFAULTS,
            runledger_analytics::PROJECTOR_DEFAULTS,
            runledger_analytics::API_DEFAULTS,
            runledger_analytics::UPKEEP_DEFAULTS,
        ];
        let tables = roles.map(|defaults| defaults.parse::<toml::Table>().unwrap());
        for section in tables.iter().flat_map(toml::Table::keys) {
            let variable = format!("RUNLEDGER_{}__ANY", section.to_uppercase());
            for defaults in roles {
                let source = Source {
                    defaults,
                    file: None,
                };
                let variables = [(variable.clone(), "1".to_owned())];
                config::load_with::<toml::Table>(source, variables).unwrap();
            }
        }
    }
}
