//! The command line: what there is, and what each part says of itself.

use std::path::PathBuf;

use clap::builder::FalseyValueParser;
use clap::{Args, Parser, Subcommand};

mod analytics;
mod approvals;
mod audit;
mod credits;
mod dashboard_role;
mod dead_letters;
mod load;
mod people;
mod policies;
mod replay;
mod retire;

pub(crate) use analytics::{
    Analytics, AnalyticsAsk, AnalyticsDiagnose, AnalyticsQuery, AnalyticsRange, AnalyticsSummary,
    dimension,
};
pub(crate) use approvals::{
    Approvals, ApprovalsApprove, ApprovalsList, ApprovalsReject, ApprovalsShow, ApprovalsWatch,
};
pub(crate) use audit::AuditVerify;
pub(crate) use credits::{
    CreditsAccount, CreditsBalance, CreditsCommand, CreditsGrant, CreditsHistory, CreditsQuote,
    CreditsRun, PricesCommand, PricesDiff, PricesList, PricesPublish, PricesShow,
};
pub(crate) use dashboard_role::DashboardRole;
pub(crate) use dead_letters::{
    DeadLetters, DeadLettersCommand, DeadList, DeadRedrive, DeadShow, DeadSkip, WhichStreams,
};
pub(crate) use load::{Figures, Load};
pub(crate) use people::{
    AuditList, AuditShow, Demo, Import, Keys, KeysCommand, KillSwitch, Lag, Model, Reading,
    Rebuild, RunsList, RunsShow, RunsTail, Server, Tenants, TenantsCommand, Turn, Verify,
    WhichTenant,
};
pub(crate) use policies::{
    NewPolicy, Policies, PolicyChange, PolicyCreate, PolicyList, PolicyShow, PolicySimulate,
    PolicyUpdate,
};
pub(crate) use replay::{Record, Replay, Times};
pub(crate) use retire::Retire;

/// The ledger under an AI-agent platform.
///
/// Agent runs, tool calls, schedules and messages go in over gRPC, lie in Kafka for good, and come
/// back out of Postgres.
///
/// New here? `runledger demo` shows real agent runs; `runledger dev` runs the whole house and prints
/// addresses and keys; in another terminal, `runledger runs list`.
#[derive(Debug, Parser)]
#[command(
    name = "runledger",
    version,
    max_term_width = 100,
    propagate_version = true
)]
pub(crate) struct Cli {
    /// No colours
    #[arg(long, global = true, env = "NO_COLOR", hide_env = true, value_parser = FalseyValueParser::new())]
    pub(crate) no_color: bool,

    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run every role in one process, with a seeded tenant
    ///
    /// Migrates, makes the tenant `demo` with its keys through the gRPC api, writes them to
    /// .runledger/credentials.toml (mode 0600) where the other commands find them, prints addresses
    /// and keys, and serves until Ctrl-C. Running it again reuses what is there.
    ///
    /// Needs Kafka and Postgres: `make up`.
    Dev,
    /// Show real agent runs, from nothing to the terminal
    ///
    /// Imports 200 recorded runs through the gRPC services into Kafka and shows them from the Postgres
    /// read model. Then asks for their tool calls once more, in runs of their own, as calls that
    /// policies govern, and decides on some of those that are held. Uses a `runledger dev` that is running; without one it starts the roles in its own
    /// process and leaves nothing running, unless told to --keep them. The second time, nothing changes.
    Demo(Demo),
    /// Import recorded agent runs from a file
    ///
    /// The file has one run a line, as deploy/demo/README.md describes it. Facts go in through the
    /// ingestion services in batches, and are counted again in the read model when they have
    /// arrived there; the command fails when the counts differ from the file's.
    ///
    /// The source has no times. They are chosen from --seed alone: a base moment in autumn 2024 and
    /// plausible seconds from there on. Record ids are derived from the run's id, the place of the
    /// fact in its run and the seed. So importing a file twice changes nothing, on any day, from
    /// any machine. Recorded tool-call ids repeat inside runs and are left out: calls are numbered
    /// `call-1`, `call-2`, and so on.
    Import(Import),
    /// Record the facts of a scope into a file, to be replayed elsewhere
    ///
    /// Reads the log itself, so it needs Kafka as the roles do. Facts that services report go into the
    /// file in the order of their recording, packed, with a checksum over every block and all before
    /// it. Commands and decisions stay out: where the facts are replayed, policies and prices decide anew.
    /// Cut short, it goes on with --resume.
    Record(Record),
    /// Tell recorded facts again, in another scope or under new ids
    ///
    /// From a file that `runledger record` made, or from the log. Facts go in through the ingestion
    /// services with the key of whoever is to have them, as fast as they are taken or as fast as
    /// --speed says. In the end what arrived is read back from the log and compared: every fact once, as
    /// it was told, in the order of its stream. Doing it again is safe: the same ids count once.
    ///
    /// A key of a live world is refused, unless --into-live and --tenant say that it is meant.
    Replay(Box<Replay>),
    /// Look at runs; or run the roles of their read model
    #[command(subcommand)]
    Runs(Runs),
    /// The queue of held tool calls: list, show, approve, reject, watch; or run its roles
    #[command(subcommand)]
    Approvals(Approvals),
    /// Policies: what agents may do alone, and what people approve first
    #[command(subcommand)]
    Policies(Policies),
    /// What agents do, counted: summary, query, funnel, coverage, insights, diagnose; or run its roles
    #[command(subcommand)]
    Analytics(Analytics),
    /// Look at who did what; or run the roles of the audit
    #[command(subcommand)]
    Audit(Audit),
    /// Credits of an account: balance, history, explain, grant, quote, holds, and what a run has cost
    #[command(subcommand)]
    Credits(CreditsCommand),
    /// Prices of usage: publish, show, list, diff
    #[command(subcommand)]
    Prices(PricesCommand),
    /// Run the roles of billing: forwarder, decider, api
    #[command(subcommand)]
    Billing(Billing),
    /// API keys: list, create, rotate, revoke
    Keys(Keys),
    /// Tenants: list, create
    Tenants(Tenants),
    /// Roles of Postgres for dashboards, each of which sees one scope: create, list, drop
    ///
    /// They read the views of the schema `dashboard`, and nothing else; deploy/grafana has boards made of them.
    /// Needs a superuser of Postgres.
    #[command(subcommand)]
    DashboardRole(DashboardRole),
    /// Stop all writes of a tenant, or of everybody; allow them again
    KillSwitch(KillSwitch),
    /// How far the read model is behind the log, partition by partition
    Lag(Lag),
    /// Check the read model against the log
    ///
    /// Recomputes every cursor and checkpoint from the log, builds the read model anew up to where it
    /// is, in tables of its own, compares row by row, and drops them again. What is served is only
    /// read. Names the first record, row or cursor that is not what the log says.
    ///
    /// Ends with status 0 when all is as it should be, 2 when something differs, 1 when it could not
    /// be found out.
    Verify(Verify),
    /// Build the read model anew beside the one that is served, and switch to it
    ///
    /// Reads the log from its first record into tables of its own, catches up, compares row by row
    /// with what is served, and switches in one transaction; readers notice nothing. What was served
    /// before is kept for --rollback until --finish drops it. Interrupted, it goes on where it was
    /// when it is run again; until the switch nothing that is served changes.
    Rebuild(Rebuild),
    /// Delete rollups of analytics that are older than they are to be kept, for good: rebuilding does not bring them
    /// back. To be run now and then, once a day for example
    Retire(Retire),
    /// Records that the read model could not apply: list, show, redrive, skip
    ///
    /// A record that cannot be applied parks its stream, a run for example: that record and all
    /// later ones of the stream wait, in order, and everything else goes on. Reads whose token
    /// reaches past one are refused with READ_MODEL_PARKED.
    ///
    /// First see why (`list`, `show`). When the cause can be mended, mend it and `redrive`: the
    /// records are applied in their order. When it never can, `skip` the record: that is a fact in
    /// the log, which every rebuild obeys and nothing takes back.
    DeadLetters(DeadLetters),
    /// Load a local installation, and measure it honestly
    ///
    /// Appends tool calls to runs of its own. With --rate the loop is open: every request has its
    /// moment, and its latency counts from that moment, so that a server that stalls cannot hide
    /// it. Without --rate, --callers append as fast as they are answered.
    ///
    /// Talks to this machine only.
    Load(Load),
    /// Role: take facts in over gRPC
    Ingest(Role),
    /// Role: tenants, principals, keys, limits, the kill switch
    Directory(Directory),
    /// Bring the database and the topics up to date
    ///
    /// Applies the migrations that are missing, then makes the topics and Genesis records that are
    /// missing. Running it again changes nothing. Waits a while for Kafka and Postgres to be there.
    Migrate(Role),
}

#[derive(Debug, Subcommand)]
pub(crate) enum Runs {
    /// List runs, newest first
    List(RunsList),
    /// Show one run: what it was, its tool calls, its timeline
    Show(RunsShow),
    /// Follow a run: what is stored, then what comes
    Tail(RunsTail),
    /// Role: write the read model from the log
    Projector(Role),
    /// Role: answer from the read model
    Api(Role),
}

#[derive(Debug, Subcommand)]
pub(crate) enum Billing {
    /// Role: put what runs have used into the streams of their accounts
    Forwarder(Role),
    /// Role: price and charge usage, and answer what is asked of accounts and prices
    Decider(Role),
    /// Role: take in what is asked of accounts and prices, and explain them
    Api(Role),
}

#[derive(Debug, Subcommand)]
pub(crate) enum Audit {
    /// List entries, newest first
    List(AuditList),
    /// Show one entry
    Show(AuditShow),
    /// Check a part of the log, and the entries that it makes
    ///
    /// Recomputes count, hashes and the chain of decisions from the checkpoint before the range, compares
    /// them with every checkpoint in it and with the cursor, and every entry with the record that it says
    /// it comes from. Names the first place that is not what the log says. Changes nothing.
    ///
    /// Ends with status 0 when all is as it should be, 2 when something differs, 1 when it could not
    /// be found out.
    Verify(AuditVerify),
    /// Role: write the entries from the log
    Projector(Role),
    /// Role: answer from the entries
    Api(Role),
}

/// How a role is configured: defaults, then --config, then RUNLEDGER_<SECTION>__<FIELD>.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct Role {
    /// TOML that overrides the defaults
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Print the configuration in force, secrets hidden, and end
    #[arg(long)]
    pub(crate) check_config: bool,
}

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Directory {
    #[command(flatten)]
    pub(crate) role: Role,
    #[command(subcommand)]
    pub(crate) command: Option<DirectoryCommand>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum DirectoryCommand {
    /// Make the first operator and print its key: once
    ///
    /// The key is shown this once and kept nowhere. With it, make tenants (`runledger tenants
    /// create`) and everything else.
    Bootstrap(Role),
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_tree_is_sound() {
        Cli::command().debug_assert();
    }

    fn parse(line: &str) -> Result<Command, clap::Error> {
        Cli::try_parse_from(line.split(' ')).map(|cli| cli.command)
    }

    #[test]
    fn roles_take_a_config() {
        for line in [
            "runledger ingest --config a.toml",
            "runledger directory --config a.toml",
            "runledger directory bootstrap --config a.toml",
            "runledger runs projector --config a.toml",
            "runledger runs api --config a.toml --check-config",
            "runledger approvals decider --config a.toml",
            "runledger approvals api --config a.toml",
            "runledger audit projector --config a.toml",
            "runledger audit api --config a.toml",
            "runledger analytics projector --config a.toml",
            "runledger analytics api --config a.toml",
            "runledger analytics summary --from 2024-09-01 --agent a --failed --json",
            "runledger analytics query tool-call --by tool,status --every day --zone Europe/Berlin --where tool=pay --durations",
            "runledger analytics query usage --by kind --order quantity --csv",
            "runledger analytics funnel",
            "runledger analytics coverage --agent a",
            "runledger analytics insights --to 2024-10-01",
            "runledger analytics diagnose run-1",
            "runledger analytics diagnose --agent a",
            "runledger verify analytics",
            "runledger billing forwarder --config a.toml",
            "runledger billing decider --config a.toml",
            "runledger billing api --config a.toml",
            "runledger credits balance --account a --at 2026-11-23 --json",
            "runledger credits history --limit 5",
            "runledger credits explain",
            "runledger credits grant 12.50 --kind promotional --priority -1 --expires 2027-01-01 --reason welcome",
            "runledger credits quote tokens_output=1500 tool_calls=2 --with model=large",
            "runledger credits holds",
            "runledger credits run run-1",
            "runledger prices publish prices.toml --from 2027-01-01 --after 0",
            "runledger prices show 2",
            "runledger prices list",
            "runledger prices diff 1 2",
            "runledger verify billing",
            "runledger rebuild usage",
            "runledger audit list --run r --entity-type policy --actor-type user --search words --json",
            "runledger audit show run.3.4711.0",
            "runledger migrate --config a.toml",
            "runledger dead-letters list --mode live --json --config a.toml",
            "runledger dead-letters show run/a",
            "runledger dead-letters redrive run/a --dry-run",
            "runledger dead-letters redrive --all --tenant 0198f0c2-5f1e-7b9a-8c55-3f2f6f0e8d11",
            "runledger dead-letters skip run/3/4711 --reason broken",
        ] {
            assert!(parse(line).is_ok(), "{line}");
        }
    }

    #[test]
    fn people_may_filter_as_the_api_can() {
        let line = "runledger runs list --status failed,stopped --agent a --space s --label task=1 --label trial=0 \
                    --tool think --failed-calls --from 2024-09-01 --to 2024-09-02T10:00:00Z --task refund --limit 5 --json";
        let Ok(Command::Runs(Runs::List(list))) =
            parse(&line.split_whitespace().collect::<Vec<_>>().join(" "))
        else {
            panic!("not parsed")
        };
        assert_eq!(
            list.labels,
            [
                ("task".to_owned(), "1".to_owned()),
                ("trial".to_owned(), "0".to_owned())
            ]
        );
        assert_eq!(list.statuses.len(), 2);
        assert!(parse("runledger runs list --label task").is_err());
        assert!(parse("runledger runs list --failed-calls --no-failed-calls").is_err());
        assert!(parse("runledger runs list --from yesterday").is_err());
    }

    #[test]
    fn nothing_is_redriven_or_skipped_by_accident() {
        for line in [
            "runledger dead-letters redrive",
            "runledger dead-letters redrive run/a --all",
            "runledger dead-letters show",
            "runledger dead-letters skip run/3/4711",
            "runledger dead-letters skip run/3 --reason broken",
            "runledger dead-letters skip runs/3/1 --reason broken",
            "runledger dead-letters list --mode test",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
    }

    #[test]
    fn load_is_bounded() {
        assert!(parse("runledger load --rate 100 --callers 4").is_err());
        assert!(parse("runledger load --duration 2h").is_err());
        assert!(parse("runledger load --batch 1001").is_err());
        assert!(parse("runledger load --duration 10s --batch 100 --check-every 10").is_ok());
    }
}
