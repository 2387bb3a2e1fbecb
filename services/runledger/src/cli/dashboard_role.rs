//! The arguments of `dashboard-role`.

use clap::{Args, Subcommand};
use runledger_domain::ids::TenantId;
use runledger_domain::scope::Mode;
use secrecy::SecretString;

use super::people::mode;

/// Who makes roles.
#[derive(Clone, Debug, Args)]
pub(crate) struct Superuser {
    /// A superuser of the Postgres that has the schema `dashboard`, and the database; better by the variable than by
    /// the flag, which others on this machine can see
    #[arg(
        long,
        env = "RUNLEDGER_ADMIN_POSTGRES",
        hide_env_values = true,
        value_name = "URL",
        default_value = "postgres://runledger_admin:runledger-dev@127.0.0.1:15432/runledger"
    )]
    pub(crate) admin_postgres: SecretString,
}

#[derive(Clone, Debug, Subcommand)]
pub(crate) enum DashboardRole {
    /// Make a role that sees one world of one tenant, and show its password, this once
    Create {
        /// What tells it from others: small letters, digits and _; `runledger_dashboard_` goes before it
        name: String,
        /// The tenant's id, as `runledger tenants list` shows it
        #[arg(long, value_name = "UUID")]
        tenant: TenantId,
        /// Which of its worlds: live or sandbox
        #[arg(long, value_name = "MODE", default_value = "live", value_parser = mode)]
        mode: Mode,
        #[command(flatten)]
        admin: Superuser,
    },
    /// List the roles of dashboards, and what they see
    List {
        #[command(flatten)]
        admin: Superuser,
    },
    /// Take a role away
    Drop {
        /// Its name, with or without what goes before it
        name: String,
        #[command(flatten)]
        admin: Superuser,
    },
}
