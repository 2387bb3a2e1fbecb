//! Ground for one measurement: a database, topics and servers of its own, gone afterwards.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::Context as _;
use runledger_domain::log::Family;
use runledger_domain::scope::{Mode, PrincipalKind, Role};
use runledger_proto::directory::v1::{Limits, SetLimitsRequest};
use runledger_service::ids;
use secrecy::{ExposeSecret as _, SecretString};
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, PgPool};
use tempfile::TempDir;

use super::bare;
use super::process::{Process, free_address};
use crate::credentials::{Credentials, Endpoints};
use crate::house::{self, Configs};
use crate::remote::{For, Refusal, Remote};
use crate::{admin, migrate, seed};

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
    /// By what they were told to be: `ingest`, `runs api`.
    servers: BTreeMap<String, Process>,
    /// What the processes log.
    folder: TempDir,
}

impl Ground {
    /// Makes the database and the topics, starts every role but the projector, each in its process, and lets the tenant do all it can.
    pub(super) async fn prepare(admin: &SecretString) -> anyhow::Result<Self> {
        Self::prepare_with(admin, None).await
    }

    /// The same with another number of partitions for each topic than the configured one.
    pub(super) async fn prepare_with(
        admin: &SecretString,
        partitions: Option<u32>,
    ) -> anyhow::Result<Self> {
        let name = format!("figures_{}", ids::fresh().simple());
        execute(
            admin,
            format!("CREATE DATABASE {name} OWNER runledger_migrator"),
        )
        .await
        .context(
            "making a database of its own; --admin-postgres names a superuser of the dev stack",
        )?;
        let furnished = Box::pin(Self::furnish(admin, &name, partitions)).await;
        if furnished.is_err() {
            drop_database(admin, &name).await?;
        }
        furnished
    }

    async fn furnish(
        admin: &SecretString,
        name: &str,
        partitions: Option<u32>,
    ) -> anyhow::Result<Self> {
        let mut configs = configs(name)?;
        if let Some(partitions) = partitions {
            configs.shared.kafka.partitions = partitions;
        }
        migrate::migrate(&configs.shared).await?;
        let mut folder = TempDir::with_prefix("runledger-figures-")?;
        folder.disable_cleanup(true);
        let mut servers = BTreeMap::new();
        let mut urls = Vec::new();
        for arguments in [&["directory"][..], &["ingest"], &["runs", "api"]] {
            let address = free_address().await?;
            let mut server = role(name, arguments, Some(address), &folder)?;
            let listens = server.listens(address).await;
            listens.with_context(|| logs(&folder))?;
            servers.insert(arguments.join(" "), server);
            urls.push(house::url(address));
            house::ready(&house::url(address)).await?;
        }
        let [directory, ingest, runs] = urls.try_into().unwrap_or_default();
        let credentials = Credentials {
            endpoints: Endpoints {
                ingest,
                directory,
                runs,
                ..Endpoints::default()
            },
            ..Credentials::default()
        };
        let credentials = seed::seed(&configs.directory.database, credentials, None).await?;
        credentials.write(&folder.path().join("credentials.toml"))?;
        let remote = Remote::with(credentials, PathBuf::new());
        allow_all(&remote).await?;
        Ok(Self {
            configs,
            remote,
            name: name.to_owned(),
            admin: admin.clone(),
            servers,
            folder,
        })
    }

    /// Starts the roles that govern calls: the api goes with the ground, the decider is the caller's.
    pub(super) async fn govern(&mut self) -> anyhow::Result<Process> {
        let decider = role(&self.name, &["approvals", "decider"], None, &self.folder)?;
        self.remote.endpoints.approvals = self.serve(&["approvals", "api"]).await?;
        Ok(decider)
    }

    /// Starts the roles of billing: the api goes with the ground, the decider is the caller's.
    pub(super) async fn bill(&mut self) -> anyhow::Result<Process> {
        self.remote.endpoints.billing = self.serve(&["billing", "api"]).await?;
        self.billing_decider()
    }

    /// Starts the roles that count: the api goes with the ground, the projector is the caller's.
    pub(super) async fn analytics(&mut self) -> anyhow::Result<Process> {
        self.remote.endpoints.analytics = self.serve(&["analytics", "api"]).await?;
        role(&self.name, &["analytics", "projector"], None, &self.folder)
    }

    /// Starts a server that goes with the ground; where it is.
    async fn serve(&mut self, arguments: &[&str]) -> anyhow::Result<String> {
        let address = free_address().await?;
        let mut server = role(&self.name, arguments, Some(address), &self.folder)?;
        let listens = server.listens(address).await;
        listens.with_context(|| logs(&self.folder))?;
        self.servers.insert(arguments.join(" "), server);
        house::ready(&house::url(address)).await?;
        Ok(house::url(address))
    }

    /// Ends a server as a kill -9 does.
    pub(super) async fn kill(&mut self, server: &str) -> anyhow::Result<()> {
        let server = self.servers.remove(server);
        server.context("there is no such server")?.end().await
    }

    pub(super) fn billing_decider(&self) -> anyhow::Result<Process> {
        role(&self.name, &["billing", "decider"], None, &self.folder)
    }

    pub(super) fn forwarder(&self) -> anyhow::Result<Process> {
        role(&self.name, &["billing", "forwarder"], None, &self.folder)
    }

    /// What pgbench says, in the same database.
    pub(super) async fn bank(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let options: PgConnectOptions = self.admin.expose_secret().parse()?;
        let output = tokio::process::Command::new("pgbench")
            .args([
                "-h",
                options.get_host(),
                "-p",
                &options.get_port().to_string(),
            ])
            .args(["-U", options.get_username()])
            .args(arguments)
            .arg(&self.name)
            .env("PGPASSWORD", password(&self.admin))
            .output()
            .await
            .context("pgbench is missing; it comes with Postgres")?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        anyhow::ensure!(
            output.status.success(),
            "pgbench: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(said)
    }

    /// The projector of the audit.
    pub(super) fn audit(&self) -> anyhow::Result<Process> {
        role(&self.name, &["audit", "projector"], None, &self.folder)
    }

    /// The projector, from where it was ended.
    pub(super) fn projector(&self) -> anyhow::Result<Process> {
        role(&self.name, &["runs", "projector"], None, &self.folder)
    }

    /// A command that builds or verifies the read model, to its end; what it said.
    pub(super) async fn upkeep(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let command = role(&self.name, arguments, None, &self.folder)?;
        let said = command.succeeds().await;
        said.with_context(|| arguments.join(" "))
    }

    /// The id of the one tenant.
    pub(super) async fn tenant(&self) -> anyhow::Result<String> {
        let mut directory = self.remote.directory(For::Operating).await?;
        let tenants = admin::all_tenants(&mut directory).await?;
        let tenant = tenants.into_iter().next().context("there is no tenant")?;
        Ok(tenant.tenant_id)
    }

    /// As so many tenants, each of which may do all it can.
    pub(super) async fn tenants(&self, count: u16) -> anyhow::Result<Vec<Remote>> {
        let mut directory = self.remote.directory(For::Operating).await?;
        let mut tenants = Vec::new();
        for number in 0..count {
            let tenant = admin::create_tenant(&mut directory, &format!("tenant-{number}")).await?;
            let (kind, role) = (PrincipalKind::Agent, Role::Agent);
            let agent =
                admin::principal_named(&mut directory, &tenant.tenant_id, "load", kind, role)
                    .await?;
            let (_, key) =
                admin::create_key(&mut directory, &agent, Mode::Live, "of a measurement").await?;
            tenants.push(self.remote.with_key(key.into()));
        }
        allow_all(&self.remote).await?;
        Ok(tenants)
    }

    /// A file among those that go with the ground; `credentials.toml` is there.
    pub(super) fn file(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    /// Clients whose appends go to a server that does nothing.
    pub(super) async fn nothing(&self) -> anyhow::Result<(Process, Remote)> {
        let address = free_address().await?;
        let arguments = ["load", "--serve-nothing", &address.to_string()];
        let mut server = Process::start("nothing", &arguments, &[], self.folder.path())?;
        server.listens(address).await?;
        let mut remote = self.remote.clone();
        remote.endpoints.ingest = house::url(address);
        Ok((server, remote))
    }

    /// A pool of the projector's role, or of the owner of the tables.
    pub(super) fn pool(&self, config: &runledger_postgres::Config) -> anyhow::Result<PgPool> {
        Ok(runledger_postgres::connect(
            config,
            "runledger figures",
            "runs",
        )?)
    }

    /// The same, of another schema.
    pub(super) fn pool_of(
        &self,
        config: &runledger_postgres::Config,
        schema: &str,
    ) -> anyhow::Result<PgPool> {
        Ok(runledger_postgres::connect(
            config,
            "runledger figures",
            schema,
        )?)
    }

    pub(super) fn bare_topic(&self) -> String {
        format!("{}.bare", self.name)
    }

    /// Ends the servers and deletes what was made; the logs of a measurement that failed are kept.
    pub(super) async fn leave<T>(mut self, measured: anyhow::Result<T>) -> anyhow::Result<T> {
        for server in self.servers.into_values() {
            server.end().await?;
        }
        let mut topics: Vec<String> = Family::ALL
            .iter()
            .map(|family| format!("{}.{family}.v1", self.name))
            .collect();
        topics.push(format!("{}.bare", self.name));
        bare::delete_topics(&self.configs.shared.kafka, &topics).await?;
        drop_database(&self.admin, &self.name).await?;
        self.folder.disable_cleanup(measured.is_err());
        measured.with_context(|| logs(&self.folder))
    }
}

/// The password in an address, which must not stand in the arguments of a process.
fn password(admin: &SecretString) -> &str {
    let (_, rest) = admin.expose_secret().split_once("://").unwrap_or_default();
    let (who, _) = rest.rsplit_once('@').unwrap_or_default();
    who.split_once(':').map_or("", |(_, password)| password)
}

fn logs(folder: &TempDir) -> String {
    format!("the logs are in {}", folder.path().display())
}

/// One role as configured by default, in the house apart.
fn role(
    house: &str,
    arguments: &[&str],
    address: Option<SocketAddr>,
    folder: &TempDir,
) -> anyhow::Result<Process> {
    let mut environment = vec![
        ("RUNLEDGER_METRICS__LISTEN", "127.0.0.1:0".to_owned()),
        ("RUNLEDGER_KAFKA__PREFIX", house.to_owned()),
        ("RUNLEDGER_DATABASE__DATABASE", house.to_owned()),
        ("RUNLEDGER_KEYS__DATABASE", house.to_owned()),
        ("RUNLEDGER_OWNER__DATABASE", house.to_owned()),
    ];
    match address {
        Some(address) => environment.push(("RUNLEDGER_SERVER__LISTEN", address.to_string())),
        // Every fold has a group of its own.
        None if arguments == ["approvals", "decider"] => {
            environment.push(("RUNLEDGER_BOOKS__NAME", format!("{house}.approvals")));
        }
        None if arguments == ["billing", "decider"] => {
            environment.push(("RUNLEDGER_LEDGER__NAME", format!("{house}.billing")));
        }
        None if arguments == ["billing", "forwarder"] => {
            environment.push(("RUNLEDGER_FORWARDING__NAME", format!("{house}.forwarder")));
        }
        None if arguments == ["audit", "projector"] => {
            environment.push(("RUNLEDGER_AUDIT__NAME", format!("{house}.audit")));
        }
        None => environment.push(("RUNLEDGER_PROJECTION__NAME", house.to_owned())),
    }
    let words = arguments.iter().take_while(|word| !word.contains('/'));
    let name = words.copied().collect::<Vec<_>>().join("-");
    Process::start(&name, arguments, &environment, folder.path())
}

/// The configuration of a house apart: own database, own topics.
fn configs(name: &str) -> anyhow::Result<Configs> {
    let mut configs = Configs::load()?;
    for kafka in [
        &mut configs.shared.kafka,
        &mut configs.ingest.kafka,
        &mut configs.projector.kafka,
    ] {
        name.clone_into(&mut kafka.prefix);
    }
    for database in [
        &mut configs.shared.database,
        &mut configs.directory.database,
        &mut configs.projector.database,
        &mut configs.billing_decider.database,
    ] {
        name.clone_into(&mut database.database);
    }
    Ok(configs)
}

async fn allow_all(remote: &Remote) -> anyhow::Result<()> {
    let mut directory = remote.directory(For::Operating).await?;
    for tenant in admin::all_tenants(&mut directory).await? {
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
