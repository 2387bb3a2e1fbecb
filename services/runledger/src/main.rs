//! The one binary of Runledger: a subcommand a role, and the people's commands.
//!
//! For: starting each role from its configuration, all of them at once for a developer, and everything that
//! people do with an installation from a terminal, over the same gRPC as anybody.
//! Must never: reach around the services into their tables or topics, except where it says so (`migrate`,
//! `directory bootstrap`, `dashboard-role`, `lag`, `dead-letters`, `record`, `replay`, `verify`, `audit verify`,
//! `rebuild`, the figures of `load`).

mod admin;
mod analytics;
mod approvals;
mod audit;
mod cli;
mod credentials;
mod credits;
mod dashboard_role;
mod dead_letters;
mod demo;
mod dev;
mod house;
mod import;
mod json;
mod lag;
mod load;
mod migrate;
mod policies;
mod reading;
mod remote;
mod replay;
mod retire;
mod roles;
mod runs;
mod say;
mod seed;
mod upkeep;

use std::io;
use std::process::ExitCode;

use clap::Parser as _;
use cli::{Analytics, Approvals, Audit, Billing, Cli, Command, DirectoryCommand, Runs};
use mimalloc::MiMalloc;

/// A call allocates and frees on several threads, which the C library's allocator pays for with
/// locks.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

#[tokio::main]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    if cli.no_color {
        say::plain();
    }
    // Boxed: it is as large as the largest command.
    match Box::pin(run(cli.command)).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) if error.is::<upkeep::Differs>() => {
            say::aside(format_args!("runledger: {error:#}"));
            ExitCode::from(2)
        }
        Err(error) => {
            say::aside(format_args!("runledger: {error:#}"));
            if is_unreachable(&error) {
                say::aside(
                    "Is Postgres there? `make up` starts the dev stack; --check-config shows where it is looked for.",
                );
            }
            ExitCode::FAILURE
        }
    }
}

/// The pool tries to connect until its time is up, and does not say what stood in its way.
fn is_unreachable(error: &anyhow::Error) -> bool {
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<sqlx::Error>())
        .any(|cause| matches!(cause, sqlx::Error::PoolTimedOut))
}

async fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Dev => Box::pin(dev::run()).await,
        Command::Demo(args) => demo::run(&args).await,
        Command::Import(args) => import::run(&args).await,
        Command::Record(args) => replay::record(&args).await,
        Command::Replay(args) => Box::pin(replay::replay(&args)).await,
        Command::Runs(Runs::List(args)) => runs::list(&args).await,
        Command::Runs(Runs::Show(args)) => runs::show(&args).await,
        Command::Runs(Runs::Tail(args)) => runs::tail(&args).await,
        Command::Runs(Runs::Projector(role)) => roles::projector(&role).await,
        Command::Runs(Runs::Api(role)) => roles::api(&role).await,
        Command::Approvals(Approvals::Decider(role)) => roles::approvals_decider(&role).await,
        Command::Approvals(Approvals::Api(role)) => roles::approvals_api(&role).await,
        Command::Approvals(Approvals::List(args)) => approvals::list(&args).await,
        Command::Approvals(Approvals::Show(args)) => approvals::show(&args).await,
        Command::Approvals(Approvals::Approve(args)) => approvals::approve(&args).await,
        Command::Approvals(Approvals::Reject(args)) => approvals::reject(&args).await,
        Command::Approvals(Approvals::Watch(args)) => approvals::watch(&args).await,
        Command::Policies(command) => policies::run(&command).await,
        Command::Analytics(Analytics::Projector(role)) => roles::analytics_projector(&role).await,
        Command::Analytics(Analytics::Api(role)) => roles::analytics_api(&role).await,
        Command::Analytics(Analytics::Ask(asked)) => analytics::run(&asked).await,
        Command::Audit(Audit::List(args)) => audit::list(&args).await,
        Command::Audit(Audit::Show(args)) => audit::show(&args).await,
        Command::Audit(Audit::Verify(args)) => audit::verify(&args).await,
        Command::Audit(Audit::Projector(role)) => roles::audit_projector(&role).await,
        Command::Audit(Audit::Api(role)) => roles::audit_api(&role).await,
        Command::Credits(command) => credits::run(&command).await,
        Command::Prices(command) => credits::prices(&command).await,
        Command::Billing(Billing::Forwarder(role)) => roles::billing_forwarder(&role).await,
        Command::Billing(Billing::Decider(role)) => roles::billing_decider(&role).await,
        Command::Billing(Billing::Api(role)) => roles::billing_api(&role).await,
        Command::Keys(args) => admin::keys(&args).await,
        Command::Tenants(args) => admin::tenants(&args).await,
        Command::DashboardRole(command) => dashboard_role::run(&command).await,
        Command::KillSwitch(args) => admin::kill_switch(&args).await,
        Command::Lag(args) => lag::run(&args).await,
        Command::Verify(args) => upkeep::verify(&args).await,
        Command::Rebuild(args) => upkeep::rebuild(&args).await,
        Command::Retire(args) => retire::run(&args).await,
        Command::DeadLetters(args) => dead_letters::run(&args.command).await,
        Command::Load(args) => load::run(&args).await,
        Command::Ingest(role) => roles::ingest(&role).await,
        Command::Directory(directory) => match directory.command {
            Some(DirectoryCommand::Bootstrap(role)) => roles::bootstrap(&role).await,
            None => roles::directory(&directory.role).await,
        },
        Command::Migrate(role) => roles::migrate(&role).await,
    }
}

/// Whoever read our output has read enough: `runledger runs list | head`.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<io::Error>())
        .any(|cause| cause.kind() == io::ErrorKind::BrokenPipe)
}
