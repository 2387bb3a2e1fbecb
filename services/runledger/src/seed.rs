//! One tenant to begin with, made through the gRPC api like anybody's, and the keys that open it.

use std::path::Path;

use anyhow::{Context as _, bail};
use runledger_directory::BootstrapError;
use runledger_domain::scope::{Mode, PrincipalKind, Role};
use runledger_domain::time::SystemClock;
use runledger_proto::directory::v1::directory_service_client::DirectoryServiceClient;
use runledger_proto::directory::v1::{WhoAmIRequest, WhoAmIResponse};
use runledger_service::client;
use secrecy::SecretString;
use tonic::Code;

use crate::admin;
use crate::credentials::{Credentials, Endpoints};
use crate::remote::{Directory, Refusal};

/// Name of the tenant.
pub(crate) const TENANT: &str = "demo";

/// As [`seed`], beginning with what the file at `path` has, if there is one.
pub(crate) async fn seed_file(
    database: &runledger_postgres::Config,
    endpoints: Endpoints,
    path: &Path,
) -> anyhow::Result<Credentials> {
    let known = Credentials::read(path)?.unwrap_or_default();
    seed(database, Credentials { endpoints, ..known }, Some(path)).await
}

/// Makes sure that the tenant is there and every key opens; those that do are kept. The file at `path`, when one
/// is named, has them afterwards.
pub(crate) async fn seed(
    database: &runledger_postgres::Config,
    mut credentials: Credentials,
    path: Option<&Path>,
) -> anyhow::Result<Credentials> {
    let save = |credentials: &Credentials| path.map_or(Ok(()), |path| credentials.write(path));
    let url = credentials.endpoints.directory.clone();
    let operator = match opens(&url, credentials.keys.operator.as_ref()).await? {
        Some(_) => credentials.keys.operator.clone(),
        None => Some(bootstrap(database, path).await?),
    };
    credentials.keys.operator = operator;
    // At once: it is shown this once, and whatever fails from here on must not lose it.
    save(&credentials)?;

    let mut directory = connect(&url, credentials.keys.operator.as_ref()).await?;
    let tenants = admin::all_tenants(&mut directory).await?;
    let tenant = match tenants.into_iter().find(|tenant| tenant.name == TENANT) {
        Some(tenant) => tenant,
        None => admin::create_tenant(&mut directory, TENANT).await?,
    };
    let keys = &mut credentials.keys;
    for (slot, name, kind, role, mode) in [
        (
            &mut keys.admin,
            "demo-admin",
            PrincipalKind::User,
            Role::Admin,
            Mode::Live,
        ),
        (
            &mut keys.agent,
            "demo-agent",
            PrincipalKind::Agent,
            Role::Agent,
            Mode::Live,
        ),
        (
            &mut keys.viewer,
            "demo-viewer",
            PrincipalKind::User,
            Role::Viewer,
            Mode::Live,
        ),
        (
            &mut keys.reviewer,
            "demo-reviewer",
            PrincipalKind::User,
            Role::Reviewer,
            Mode::Live,
        ),
        (
            &mut keys.sandbox,
            "demo-agent",
            PrincipalKind::Agent,
            Role::Agent,
            Mode::Sandbox,
        ),
    ] {
        let known = opens(&url, slot.as_ref()).await?;
        if known
            .and_then(|known| known.tenant)
            .is_some_and(|of| of.tenant_id == tenant.tenant_id)
        {
            continue;
        }
        let principal =
            admin::principal_named(&mut directory, &tenant.tenant_id, name, kind, role).await?;
        let (_, secret) =
            admin::create_key(&mut directory, &principal, mode, "made by runledger dev").await?;
        *slot = Some(secret.into());
    }
    save(&credentials)?;
    Ok(credentials)
}

async fn bootstrap(
    database: &runledger_postgres::Config,
    path: Option<&Path>,
) -> anyhow::Result<SecretString> {
    let pool = runledger_postgres::connect(database, "runledger bootstrap", "directory")?;
    let made = runledger_directory::bootstrap(&pool, &SystemClock).await;
    pool.close().await;
    match made {
        Ok(key) => Ok(key),
        Err(BootstrapError::AlreadyBootstrapped) => bail!(
            "this database has its first operator, and {} lacks that key: put the key there as `operator` under \
             [keys], or begin anew with `deploy/dev/stack wipe dev`, which deletes the data of the dev stack",
            path.unwrap_or_else(|| Path::new("the credentials file"))
                .display()
        ),
        Err(error) => Err(error.into()),
    }
}

async fn connect(url: &str, key: Option<&SecretString>) -> anyhow::Result<Directory> {
    Ok(DirectoryServiceClient::new(
        client::connect(&client::Options::new(url, key.cloned())).await?,
    ))
}

/// Whom a key is; `None` when it opens nothing.
pub(crate) async fn opens(
    url: &str,
    key: Option<&SecretString>,
) -> anyhow::Result<Option<WhoAmIResponse>> {
    let Some(key) = key else { return Ok(None) };
    let asked = connect(url, Some(key))
        .await?
        .who_am_i(WhoAmIRequest {})
        .await;
    match asked {
        Ok(answer) => Ok(Some(answer.into_inner())),
        Err(refused) if refused.code() == Code::Unauthenticated => Ok(None),
        Err(refused) => Err(Refusal::from(refused)).context("asking the directory whose key it is"),
    }
}
