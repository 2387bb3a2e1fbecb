//! All roles in one process: what `runledger dev` serves and what demo and figures run on.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, bail};
use runledger_eventlog::kafka::Kafka;
use runledger_role::{ApiAddresses, WorkerAddresses};
use runledger_service::config::{self, Source};
use runledger_service::supervisor::Supervisor;
use runledger_service::{client, telemetry};
use serde::de::DeserializeOwned;
use tokio::time::Instant;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::credentials::Endpoints;
use crate::migrate;
use crate::roles::{DRAIN_TIMEOUT, clock};

/// How long the roles may take until they can do their work.
const READY_WITHIN: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// What each role is told.
#[derive(Clone, Debug)]
pub(crate) struct Configs {
    pub(crate) shared: migrate::Config,
    pub(crate) ingest: runledger_ingest::Config,
    pub(crate) directory: runledger_directory::Config,
    pub(crate) projector: runledger_runs::ProjectorConfig,
    pub(crate) api: runledger_runs::ApiConfig,
    pub(crate) decider: runledger_approvals::DeciderConfig,
    pub(crate) approvals: runledger_approvals::ApiConfig,
    pub(crate) audit_projector: runledger_audit::ProjectorConfig,
    pub(crate) audit: runledger_audit::ApiConfig,
    pub(crate) forwarder: runledger_billing::ForwarderConfig,
    pub(crate) billing_decider: runledger_billing::DeciderConfig,
    pub(crate) billing: runledger_billing::ApiConfig,
    pub(crate) analytics_projector: runledger_analytics::ProjectorConfig,
    pub(crate) analytics: runledger_analytics::ApiConfig,
}

/// Where the roles answer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Addresses {
    pub(crate) ingest: runledger_ingest::Addresses,
    pub(crate) directory: runledger_directory::Addresses,
    pub(crate) projector: WorkerAddresses,
    pub(crate) api: ApiAddresses,
    pub(crate) decider: WorkerAddresses,
    pub(crate) approvals: ApiAddresses,
    pub(crate) audit_projector: WorkerAddresses,
    pub(crate) audit: ApiAddresses,
    pub(crate) forwarder: WorkerAddresses,
    pub(crate) billing_decider: WorkerAddresses,
    pub(crate) billing: ApiAddresses,
    pub(crate) analytics_projector: WorkerAddresses,
    pub(crate) analytics: ApiAddresses,
}

fn load<T: DeserializeOwned>(defaults: &str) -> Result<T, config::Error> {
    config::load(Source {
        defaults,
        file: None,
    })
}

impl Configs {
    /// The defaults of every role, under the environment.
    pub(crate) fn load() -> Result<Self, config::Error> {
        Ok(Self {
            shared: load(migrate::DEV_DEFAULTS)?,
            ingest: load(runledger_ingest::DEFAULTS)?,
            directory: load(runledger_directory::DEFAULTS)?,
            projector: load(runledger_runs::PROJECTOR_DEFAULTS)?,
            api: load(runledger_runs::API_DEFAULTS)?,
            decider: load(runledger_approvals::DECIDER_DEFAULTS)?,
            approvals: load(runledger_approvals::API_DEFAULTS)?,
            audit_projector: load(runledger_audit::PROJECTOR_DEFAULTS)?,
            audit: load(runledger_audit::API_DEFAULTS)?,
            forwarder: load(runledger_billing::FORWARDER_DEFAULTS)?,
            billing_decider: load(runledger_billing::DECIDER_DEFAULTS)?,
            billing: load(runledger_billing::API_DEFAULTS)?,
            analytics_projector: load(runledger_analytics::PROJECTOR_DEFAULTS)?,
            analytics: load(runledger_analytics::API_DEFAULTS)?,
        })
    }

    /// Logs from here on: `filter` in the place of the configured one, when given.
    pub(crate) fn log(&self, filter: Option<&str>) -> Result<telemetry::Guard, telemetry::Error> {
        let mut config = self.shared.telemetry.clone();
        if let Some(filter) = filter {
            filter.clone_into(&mut config.filter);
        }
        telemetry::init(&config, "dev")
    }

    /// Every role but the projector; [`Configs::start_projector`] starts that.
    pub(crate) async fn start_servers(
        &self,
        supervisor: &mut Supervisor,
    ) -> anyhow::Result<(
        runledger_ingest::Addresses,
        runledger_directory::Addresses,
        ApiAddresses,
    )> {
        let log = Kafka::connect(&self.directory.kafka)?;
        let directory = runledger_directory::serve(&self.directory, log, clock(), supervisor)
            .await
            .map_err(hint)?;
        let authenticator = runledger_ingest::authenticator(&self.ingest)?;
        let log = Kafka::connect(&self.ingest.kafka)?;
        let ingest = runledger_ingest::serve(&self.ingest, log, authenticator, clock(), supervisor)
            .await
            .map_err(hint)?;
        let api = runledger_runs::serve_api(&self.api, supervisor)
            .await
            .map_err(hint)?;
        Ok((ingest, directory, api))
    }

    pub(crate) async fn start_approvals(
        &self,
        supervisor: &mut Supervisor,
    ) -> anyhow::Result<(WorkerAddresses, ApiAddresses)> {
        let decider = runledger_approvals::serve_decider(&self.decider, clock(), supervisor)
            .await
            .map_err(hint)?;
        let api = runledger_approvals::serve_api(&self.approvals, clock(), supervisor)
            .await
            .map_err(hint)?;
        Ok((decider, api))
    }

    pub(crate) async fn start_audit(
        &self,
        supervisor: &mut Supervisor,
    ) -> anyhow::Result<(WorkerAddresses, ApiAddresses)> {
        let projector =
            runledger_audit::serve_projector(&self.audit_projector, clock(), supervisor)
                .await
                .map_err(hint)?;
        let api = runledger_audit::serve_api(&self.audit, supervisor)
            .await
            .map_err(hint)?;
        Ok((projector, api))
    }

    pub(crate) async fn start_billing(
        &self,
        supervisor: &mut Supervisor,
    ) -> anyhow::Result<(WorkerAddresses, WorkerAddresses, ApiAddresses)> {
        let forwarder = runledger_billing::serve_forwarder(&self.forwarder, clock(), supervisor)
            .await
            .map_err(hint)?;
        let decider = runledger_billing::serve_decider(&self.billing_decider, clock(), supervisor)
            .await
            .map_err(hint)?;
        let api = runledger_billing::serve_api(&self.billing, clock(), supervisor)
            .await
            .map_err(hint)?;
        Ok((forwarder, decider, api))
    }

    pub(crate) async fn start_analytics(
        &self,
        supervisor: &mut Supervisor,
    ) -> anyhow::Result<(WorkerAddresses, ApiAddresses)> {
        let projector =
            runledger_analytics::serve_projector(&self.analytics_projector, clock(), supervisor)
                .await
                .map_err(hint)?;
        let api = runledger_analytics::serve_api(&self.analytics, supervisor)
            .await
            .map_err(hint)?;
        Ok((projector, api))
    }

    pub(crate) async fn start_projector(
        &self,
        supervisor: &mut Supervisor,
    ) -> anyhow::Result<WorkerAddresses> {
        runledger_runs::serve_projector(&self.projector, clock(), supervisor)
            .await
            .map_err(hint)
    }
}

/// Says what an address in use most likely means.
fn hint(error: impl std::error::Error + Send + Sync + 'static) -> anyhow::Error {
    let error = anyhow::Error::new(error);
    let in_use = |cause: &io::Error| cause.kind() == io::ErrorKind::AddrInUse;
    if error
        .chain()
        .filter_map(|cause| cause.downcast_ref())
        .any(in_use)
    {
        return error.context("a port is taken; is another `runledger dev` running?");
    }
    error
}

/// Migrates, starts every role and waits until they can do their work.
pub(crate) async fn start(configs: &Configs) -> anyhow::Result<(Supervisor, Addresses)> {
    migrate::migrate(&configs.shared)
        .await
        .context("is the dev stack up? `make up` starts it, `make status` tells")?;
    let mut supervisor = Supervisor::new(DRAIN_TIMEOUT);
    let projector = configs.start_projector(&mut supervisor).await?;
    let (ingest, directory, api) = configs.start_servers(&mut supervisor).await?;
    let (decider, approvals) = Box::pin(configs.start_approvals(&mut supervisor)).await?;
    let (audit_projector, audit) = Box::pin(configs.start_audit(&mut supervisor)).await?;
    let (forwarder, billing_decider, billing) =
        Box::pin(configs.start_billing(&mut supervisor)).await?;
    let (analytics_projector, analytics) =
        Box::pin(configs.start_analytics(&mut supervisor)).await?;
    for address in [
        directory.grpc,
        ingest.grpc,
        api.grpc,
        approvals.grpc,
        audit.grpc,
        billing.grpc,
        analytics.grpc,
    ] {
        ready(&url(address)).await?;
    }
    Ok((
        supervisor,
        Addresses {
            ingest,
            directory,
            projector,
            api,
            decider,
            approvals,
            audit_projector,
            audit,
            forwarder,
            billing_decider,
            billing,
            analytics_projector,
            analytics,
        },
    ))
}

impl Addresses {
    pub(crate) fn endpoints(&self) -> Endpoints {
        Endpoints {
            ingest: url(self.ingest.grpc),
            directory: url(self.directory.grpc),
            runs: url(self.api.grpc),
            approvals: url(self.approvals.grpc),
            audit: url(self.audit.grpc),
            billing: url(self.billing.grpc),
            analytics: url(self.analytics.grpc),
        }
    }
}

pub(crate) fn url(address: SocketAddr) -> String {
    format!("http://{address}")
}

/// Whether a role answers and can do its work.
pub(crate) async fn serves(url: &str) -> bool {
    let asked = async {
        let connection = client::connect(&client::Options::new(url, None))
            .await
            .ok()?;
        HealthClient::new(connection)
            .check(HealthCheckRequest::default())
            .await
            .ok()
    };
    asked
        .await
        .is_some_and(|answer| answer.into_inner().status() == ServingStatus::Serving)
}

/// Waits until a role can do its work.
pub(crate) async fn ready(url: &str) -> anyhow::Result<()> {
    let deadline = Instant::now() + READY_WITHIN;
    while !serves(url).await {
        if Instant::now() > deadline {
            bail!("{url} is not ready after {READY_WITHIN:?}; the log above should say why");
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    Ok(())
}
