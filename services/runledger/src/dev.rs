//! `runledger dev`: the whole house in one process.

use std::env;
use std::path::Path;

use anyhow::Context as _;
use secrecy::{ExposeSecret as _, SecretString};

use crate::credentials::Credentials;
use crate::house::{self, Addresses, Configs};
use crate::{say, seed};

/// The command.
pub(crate) async fn run() -> anyhow::Result<()> {
    let configs = Configs::load()?;
    let _telemetry = configs.log(None)?;
    let (supervisor, addresses) = house::start(&configs).await?;
    let path = Credentials::place(&env::current_dir().context("cannot tell the current folder")?);
    let credentials =
        seed::seed_file(&configs.directory.database, addresses.endpoints(), &path).await?;
    show(&addresses, &credentials, &path)?;
    say::line("\nCtrl-C ends it. In another terminal: runledger demo, or runledger runs list")?;
    Ok(supervisor.run().await?)
}

fn roles(addresses: &Addresses) -> say::Columns {
    let mut table = say::Columns::new(&["role", "gRPC", "metrics and health"]);
    let http = |address| format!("http://{address}/metrics");
    for (role, grpc, metrics) in [
        (
            "ingest",
            Some(addresses.ingest.grpc),
            addresses.ingest.metrics,
        ),
        (
            "directory",
            Some(addresses.directory.grpc),
            addresses.directory.metrics,
        ),
        ("runs api", Some(addresses.api.grpc), addresses.api.metrics),
        ("runs projector", None, addresses.projector.metrics),
        (
            "approvals api",
            Some(addresses.approvals.grpc),
            addresses.approvals.metrics,
        ),
        ("approvals decider", None, addresses.decider.metrics),
        (
            "audit api",
            Some(addresses.audit.grpc),
            addresses.audit.metrics,
        ),
        ("audit projector", None, addresses.audit_projector.metrics),
        (
            "billing api",
            Some(addresses.billing.grpc),
            addresses.billing.metrics,
        ),
        ("billing decider", None, addresses.billing_decider.metrics),
        ("billing forwarder", None, addresses.forwarder.metrics),
        (
            "analytics api",
            Some(addresses.analytics.grpc),
            addresses.analytics.metrics,
        ),
        (
            "analytics projector",
            None,
            addresses.analytics_projector.metrics,
        ),
    ] {
        let grpc = grpc.map(|address| address.to_string()).unwrap_or_default();
        table.row([say::cell(role), say::cell(grpc), say::cell(http(metrics))]);
    }
    table
}

/// Addresses and keys.
pub(crate) fn show(
    addresses: &Addresses,
    credentials: &Credentials,
    path: &Path,
) -> anyhow::Result<()> {
    roles(addresses).print()?;
    let mut table = say::Columns::new(&["key of", "may", ""]);
    let keys = &credentials.keys;
    let mut row = |who: &str, may: &str, key: &Option<SecretString>| {
        let key = key.as_ref().map_or("", |key| key.expose_secret());
        table.row([say::cell(who), say::cell(may), say::cell(key)]);
    };
    row(
        "the operator",
        "make tenants; sees no records",
        &keys.operator,
    );
    row(
        "demo-admin",
        "do everything in the tenant demo",
        &keys.admin,
    );
    row("demo-agent", "append, ask for calls, read", &keys.agent);
    row("demo-viewer", "read", &keys.viewer);
    row(
        "demo-reviewer",
        "read, approve and reject held calls",
        &keys.reviewer,
    );
    row(
        "demo-agent, sandbox",
        "append and read, in the sandbox only",
        &keys.sandbox,
    );
    table.print()?;
    say::line(format_args!(
        "Kept in {}, where the other commands find them.",
        path.display()
    ))?;
    Ok(())
}
