//! Ground for one measurement: a database, topics and servers of its own, gone afterwards.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use anyhow::Context as _;
use runledger_domain::log::Family;
use runledger_proto::directory::v1::{Limits, SetLimitsRequest};
use runledger_service::ids;
use runledger_service::supervisor::Supervisor;
use secrecy::{ExposeSecret as _, SecretString};
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, PgPool};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::bare;
use crate::credentials::{Credentials, Endpoints};
use crate::house::{self, Configs};
use crate::remote::{For, Refusal, Remote};
use crate::roles::DRAIN_TIMEOUT;
use crate::{migrate, seed};

/// As much as a tenant can be allowed: the machine is to be the limit.
const LIMITS: Limits = Limits {
    records_per_second: 10_000_000,
    bytes_per_second: 10_000_000_000,
    commands_per_second: 1_000_000,
};

pub(super) struct Ground {
    pub(super) configs: Configs,
    pub(super) remote: Remote,
    name: String,
    admin: SecretString,
    servers: Running,
}

/// Tasks under a supervisor, watched beside the measurement.
pub(super) struct Running {
    stopper: CancellationToken,
    end: JoinSet<anyhow::Result<()>>,
}

impl Running {
    pub(super) fn watch(supervisor: Supervisor) -> Self {
        let stopper = supervisor.stopper();
        let mut end = JoinSet::new();
        end.spawn(async move { Ok(supervisor.run().await?) });
        Self { stopper, end }
    }

    pub(super) async fn stop(mut self) -> anyhow::Result<()> {
        self.stopper.cancel();
        while let Some(ended) = self.end.join_next().await {
            ended??;
        }
        Ok(())
    }
}

impl Ground {
    /// Makes the database and the topics, starts every role but the projector, and lets the tenant do all it can.
    pub(super) async fn prepare(admin: &SecretString) -> anyhow::Result<Self> {
        let name = format!("figures_{}", ids::fresh().simple());
        execute(
            admin,
            format!("CREATE DATABASE {name} OWNER runledger_migrator"),
        )
        .await
        .context(
            "making a database of its own; --admin-postgres names a superuser of the dev stack",
        )?;
        let furnished = Self::furnish(admin, &name).await;
        if furnished.is_err() {
            drop_database(admin, &name).await?;
        }
        furnished
    }

    async fn furnish(admin: &SecretString, name: &str) -> anyhow::Result<Self> {
        let configs = configs(name)?;
        migrate::migrate(&configs.shared).await?;
        let mut supervisor = Supervisor::new(DRAIN_TIMEOUT);
        let (ingest, directory, api) = configs.start_servers(&mut supervisor).await?;
        let servers = Running::watch(supervisor);
        let endpoints = Endpoints {
            ingest: house::url(ingest.grpc),
            directory: house::url(directory.grpc),
            runs: house::url(api.grpc),
        };
        for url in [&endpoints.directory, &endpoints.ingest, &endpoints.runs] {
            house::ready(url).await?;
        }
        let credentials = Credentials {
            endpoints,
            ..Credentials::default()
        };
        let credentials = seed::seed(&configs.directory.database, credentials, None).await?;
        let remote = Remote::with(credentials, PathBuf::new());
        allow_all(&remote).await?;
        Ok(Self {
            configs,
            remote,
            name: name.to_owned(),
            admin: admin.clone(),
            servers,
        })
    }

    /// A pool of the projector's role, or of the owner of the tables.
    pub(super) fn pool(&self, config: &runledger_postgres::Config) -> anyhow::Result<PgPool> {
        Ok(runledger_postgres::connect(
            config,
            "runledger figures",
            "runs",
        )?)
    }

    pub(super) fn bare_topic(&self) -> String {
        format!("{}.bare", self.name)
    }

    /// Stops the servers and deletes what was made.
    pub(super) async fn leave(self) -> anyhow::Result<()> {
        self.servers.stop().await?;
        let mut topics: Vec<String> = Family::ALL
            .iter()
            .map(|family| format!("{}.{family}.v1", self.name))
            .collect();
        topics.push(format!("{}.bare", self.name));
        bare::delete_topics(&self.configs.shared.kafka, &topics).await?;
        drop_database(&self.admin, &self.name).await
    }
}

/// The configuration of a house apart: own database, own topics, own group, any ports.
fn configs(name: &str) -> anyhow::Result<Configs> {
    let mut configs = Configs::load()?;
    let any = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
    for server in [
        &mut configs.ingest.server,
        &mut configs.directory.server,
        &mut configs.api.server,
    ] {
        server.listen = any;
    }
    for metrics in [
        &mut configs.ingest.metrics,
        &mut configs.directory.metrics,
        &mut configs.api.metrics,
        &mut configs.projector.metrics,
    ] {
        metrics.listen = any;
    }
    for kafka in [
        &mut configs.shared.kafka,
        &mut configs.ingest.kafka,
        &mut configs.projector.kafka,
        &mut configs.api.kafka,
    ] {
        name.clone_into(&mut kafka.prefix);
    }
    for database in [
        &mut configs.shared.database,
        &mut configs.ingest.keys,
        &mut configs.directory.database,
        &mut configs.directory.keys,
        &mut configs.projector.database,
        &mut configs.api.database,
        &mut configs.api.keys,
    ] {
        name.clone_into(&mut database.database);
    }
    name.clone_into(&mut configs.projector.projection.name);
    Ok(configs)
}

async fn allow_all(remote: &Remote) -> anyhow::Result<()> {
    let mut directory = remote.directory(For::Operating).await?;
    for tenant in crate::admin::all_tenants(&mut directory).await? {
        let request = SetLimitsRequest {
            tenant_id: tenant.tenant_id,
            limits: Some(LIMITS),
        };
        directory.set_limits(request).await.map_err(Refusal::from)?;
    }
    Ok(())
}

async fn drop_database(admin: &SecretString, name: &str) -> anyhow::Result<()> {
    execute(admin, format!("DROP DATABASE {name} WITH (FORCE)")).await
}

async fn execute(admin: &SecretString, statement: String) -> anyhow::Result<()> {
    let options: PgConnectOptions = admin.expose_secret().parse()?;
    let mut connection = PgConnection::connect_with(&options.database("postgres")).await?;
    sqlx::query(AssertSqlSafe(statement))
        .execute(&mut connection)
        .await?;
    connection.close().await?;
    Ok(())
}

pub(super) async fn postgres_version(admin: &SecretString) -> anyhow::Result<String> {
    let options: PgConnectOptions = admin.expose_secret().parse()?;
    let mut connection = PgConnection::connect_with(&options.database("postgres")).await?;
    let version: String = sqlx::query_scalar("SHOW server_version")
        .fetch_one(&mut connection)
        .await?;
    connection.close().await?;
    // Without the distribution's own words behind it.
    Ok(version.split(' ').next().unwrap_or_default().to_owned())
}
