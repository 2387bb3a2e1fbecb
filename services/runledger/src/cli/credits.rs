//! What `runledger credits` and `runledger prices` say of themselves.

use std::path::PathBuf;

use chrono::{DateTime, Utc};
use clap::{Args, Subcommand};
use runledger_domain::credit::GrantKind;
use runledger_domain::money::Credits;
use uuid::Uuid;

use super::people::{label, moment, word};
use super::{Reading, Server};
use crate::credits::EXAMPLE;

#[derive(Debug, Subcommand)]
pub(crate) enum CreditsCommand {
    /// What an account has and owes, now or as of a moment
    Balance(CreditsBalance),
    /// Every entry with the balance behind it, the newest first
    History(CreditsHistory),
    /// Where all credits lie, and the postings that put them there
    Explain(CreditsBalance),
    /// Give an account credits; needs the key of an admin
    Grant(CreditsGrant),
    /// What usage would cost now, and what would pay for it; nothing is recorded
    Quote(CreditsQuote),
    /// What is set aside, what expires first at first
    Holds(CreditsAccount),
    /// What a run has cost, line by line
    Run(CreditsRun),
}

#[derive(Clone, Debug, Args)]
pub(crate) struct CreditsAccount {
    /// The account
    #[arg(long, value_name = "ID", default_value = "default")]
    pub(crate) account: String,
    #[command(flatten)]
    pub(crate) reading: Reading,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct CreditsBalance {
    /// As it was then: a day, 2026-11-23, or a moment, 2026-11-23T10:00:00Z
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub(crate) at: Option<DateTime<Utc>>,
    #[command(flatten)]
    pub(crate) of: CreditsAccount,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct CreditsHistory {
    /// At most so many
    #[arg(long, value_name = "N", default_value_t = 50)]
    pub(crate) limit: u32,
    #[command(flatten)]
    pub(crate) of: CreditsAccount,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct CreditsRun {
    /// Id of the run
    pub(crate) run: String,
    #[command(flatten)]
    pub(crate) reading: Reading,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct CreditsGrant {
    /// How many, for example 12.50
    pub(crate) amount: Credits,
    /// The account
    #[arg(long, value_name = "ID", default_value = "default")]
    pub(crate) account: String,
    /// paid or promotional; what was paid for pays debts first
    #[arg(long, default_value = "paid", value_parser = |text: &str| word(text, GrantKind::ALL))]
    pub(crate) kind: GrantKind,
    /// The lower the sooner it is drawn on
    #[arg(
        long,
        value_name = "N",
        default_value_t = 0,
        allow_negative_numbers = true
    )]
    pub(crate) priority: i32,
    /// What is left then is gone
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub(crate) expires: Option<DateTime<Utc>>,
    /// Why
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub(crate) reason: String,
    /// UUID of the grant: given again with it, it is one grant
    #[arg(long, value_name = "UUID")]
    pub(crate) id: Option<Uuid>,
    #[command(flatten)]
    pub(crate) server: Server,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct CreditsQuote {
    /// Meter and quantity, for example tokens_output=1500; several may be given
    #[arg(required = true, value_name = "METER=QUANTITY", value_parser = label)]
    pub(crate) usage: Vec<(String, String)>,
    /// What the usage says of itself, for example model=large; may be given again
    #[arg(long = "with", value_name = "NAME=VALUE", value_parser = label)]
    pub(crate) dimensions: Vec<(String, String)>,
    #[command(flatten)]
    pub(crate) of: CreditsAccount,
}

#[derive(Debug, Subcommand)]
pub(crate) enum PricesCommand {
    /// Publish a price list from a file; needs the key of an admin
    ///
    /// It takes the place of the list before it, 60 s after it is published at the earliest, and never
    /// changes: what was used before is charged by the list of its own time.
    Publish(PricesPublish),
    /// Show the prices in force, or a version of them
    Show(PricesShow),
    /// List every version, the newest first
    List(PricesList),
    /// What one version has otherwise than another
    Diff(PricesDiff),
}

#[derive(Clone, Debug, Args)]
#[command(after_long_help = EXAMPLE)]
pub(crate) struct PricesPublish {
    /// File with the rules, in TOML
    pub(crate) file: PathBuf,
    /// When they take effect; without it 60 s from now. Not before a list that is announced already
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub(crate) from: Option<DateTime<Utc>>,
    /// Id of the command; asked again with the same, nothing is published twice
    #[arg(long, value_name = "UUID")]
    pub(crate) id: Option<Uuid>,
    /// Only if the list before it has this version; 0: if there is none
    #[arg(long, value_name = "N")]
    pub(crate) after: Option<u64>,
    #[command(flatten)]
    pub(crate) server: Server,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct PricesShow {
    /// The version; without it the one in force
    // Not named `version`: every command has a flag of that name.
    #[arg(default_value_t = 0, hide_default_value = true, value_name = "VERSION")]
    pub(crate) edition: u64,
    #[command(flatten)]
    pub(crate) reading: Reading,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct PricesList {
    #[command(flatten)]
    pub(crate) reading: Reading,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct PricesDiff {
    /// A version
    pub(crate) before: u64,
    /// Another
    pub(crate) after: u64,
    #[command(flatten)]
    pub(crate) reading: Reading,
}
