//! Rows of what usage was charged, and the sums of it.

use std::collections::{BTreeMap, HashMap};

use chrono::{DurationRound as _, TimeDelta};
use runledger_decider::Answered;
use runledger_domain::Fact;
use runledger_domain::credit::{Change, Line, Posted, Pricing};
use runledger_domain::ids::{Name, RecordId};
use runledger_domain::time::Timestamp;
use runledger_domain::usage::Forwarded;
use sqlx::PgConnection;
use uuid::Uuid;

use super::{Place, Places, signed};
use crate::statements;

/// Every zone's days and months begin with a quarter of an hour.
const BUCKET: TimeDelta = TimeDelta::minutes(15);

/// Columns of charges, and what they add up to.
#[derive(Default)]
pub(super) struct Charges<'a> {
    places: Places<'a>,
    rows: Vec<Row<'a>>,
    spending: Sums<Spending<'a>>,
    run_spending: Sums<RunSpending<'a>>,
}

/// A line, and the usage that it charges.
struct Row<'a> {
    number: i32,
    line: &'a Line,
    source: Option<(Uuid, &'a str)>,
    dimensions: String,
}

/// Tenant, mode, account.
type Owner<'a> = (Uuid, &'static str, &'a str);

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Spending<'a> {
    owner: Owner<'a>,
    used_from: Timestamp,
    agent: &'a str,
    meter: &'a str,
    model: &'a str,
    tool: &'a str,
    space: &'a str,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct RunSpending<'a> {
    owner: Owner<'a>,
    run: &'a str,
    used_from: Timestamp,
    agent: &'a str,
    meter: &'a str,
}

/// What several lines add up to.
#[derive(Clone, Copy, Default)]
struct Sum {
    amount: i128,
    quantity: i128,
    lines: i64,
    unpriced: i64,
}

impl Sum {
    fn add(&mut self, line: &Line) {
        // Without a bound, as Postgres adds batches up: how they are cut must not show.
        self.amount += i128::from(line.amount.as_micros());
        self.quantity += i128::from(line.quantity);
        self.lines += 1;
        self.unpriced += i64::from(line.pricing == Pricing::Unpriced);
    }
}

struct Sums<K>(BTreeMap<K, Sum>);

impl<K> Default for Sums<K> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<K: Ord> Sums<K> {
    fn add(&mut self, key: K, line: &Line) {
        self.0.entry(key).or_default().add(line);
    }

    fn keys<'s, T>(&'s self, column: impl Fn(&'s K) -> T) -> Vec<T> {
        self.0.keys().map(column).collect()
    }

    fn sums<T>(&self, column: impl Fn(&Sum) -> T) -> Vec<T> {
        self.0.values().map(column).collect()
    }
}

impl<'a> Charges<'a> {
    pub(super) fn take_in(
        &mut self,
        place: Place<'a>,
        posted: &'a Posted,
        answers: &'a [Answered],
    ) {
        let Change::Charged(lines) = &posted.change else {
            return;
        };
        let answers: HashMap<RecordId, &Answered> =
            answers.iter().map(|one| (one.record.id, one)).collect();
        for (number, line) in (0_i32..).zip(lines) {
            let answered = answers.get(&line.source).copied();
            let usage = answered.and_then(forwarded);
            self.add(place, line, usage);
            self.places.push(place);
            self.rows.push(Row {
                number,
                line,
                source: answered.and_then(source),
                dimensions: usage.map_or_else(|| "{}".to_owned(), dimensions),
            });
        }
    }

    fn add(&mut self, place: Place<'a>, line: &'a Line, usage: Option<&'a Forwarded>) {
        let owner = (
            place.scope.tenant.as_uuid(),
            place.scope.mode.as_str(),
            place.account,
        );
        let used_from = line.used_at.duration_trunc(BUCKET).unwrap_or(line.used_at);
        let agent = line.spender.agent.as_ref().map_or("", |id| id.as_str());
        let meter = line.meter.as_str();
        let said = |name: &str| {
            let dimensions = usage.map(|usage| &usage.dimensions)?;
            let name = Name::parse(name).ok()?;
            dimensions.get(&name).map(String::as_str)
        };
        let spending = Spending {
            owner,
            used_from,
            agent,
            meter,
            model: said("model").unwrap_or_default(),
            tool: said("tool").unwrap_or_default(),
            space: said("space").unwrap_or_default(),
        };
        self.spending.add(spending, line);
        if let Some(run) = &line.spender.run {
            let spending = RunSpending {
                owner,
                run: run.as_str(),
                used_from,
                agent,
                meter,
            };
            self.run_spending.add(spending, line);
        }
    }

    pub(super) async fn write(&self, tx: &mut PgConnection) -> Result<(), sqlx::Error> {
        if self.places.is_empty() {
            return Ok(());
        }
        self.insert(tx).await?;
        self.upsert_spending(tx).await?;
        self.upsert_run_spending(tx).await
    }

    async fn insert(&self, tx: &mut PgConnection) -> Result<(), sqlx::Error> {
        let lines = || self.rows.iter().map(|row| row.line);
        let column = |pick: fn(&Line) -> i64| lines().map(pick).collect::<Vec<_>>();
        sqlx::query(statements::INSERT_CHARGES)
            .bind(&self.places.tenants)
            .bind(&self.places.modes)
            .bind(&self.places.accounts)
            .bind(&self.places.offsets)
            .bind(self.rows.iter().map(|row| row.number).collect::<Vec<_>>())
            .bind(
                lines()
                    .map(|line| line.source.as_uuid())
                    .collect::<Vec<_>>(),
            )
            .bind(self.sources(|(id, _)| id))
            .bind(self.sources(|(_, stream)| stream))
            .bind(lines().map(run).collect::<Vec<_>>())
            .bind(lines().map(agent).collect::<Vec<_>>())
            .bind(lines().map(|line| line.meter.as_str()).collect::<Vec<_>>())
            .bind(column(|line| signed(line.quantity)))
            .bind(
                self.rows
                    .iter()
                    .map(|row| &*row.dimensions)
                    .collect::<Vec<_>>(),
            )
            .bind(lines().map(|line| line.used_at).collect::<Vec<_>>())
            .bind(&self.places.ats)
            .bind(
                lines()
                    .map(|line| line.pricing.as_str())
                    .collect::<Vec<_>>(),
            )
            .bind(column(|line| signed(priced(line).0)))
            .bind(lines().map(|line| priced(line).1).collect::<Vec<_>>())
            .bind(column(|line| signed(priced(line).2)))
            .bind(column(|line| signed(priced(line).3)))
            .bind(column(|line| line.amount.as_micros()))
            .bind(lines().map(|line| line.late).collect::<Vec<_>>())
            .bind(lines().map(over).collect::<Vec<_>>())
            .execute(tx)
            .await?;
        Ok(())
    }

    fn sources<T>(&self, column: impl Fn((Uuid, &'a str)) -> T) -> Vec<Option<T>> {
        self.rows
            .iter()
            .map(|row| row.source.map(&column))
            .collect()
    }

    async fn upsert_spending(&self, tx: &mut PgConnection) -> Result<(), sqlx::Error> {
        let sums = &self.spending;
        sqlx::query(statements::UPSERT_SPENDING)
            .bind(sums.keys(|key| key.owner.0))
            .bind(sums.keys(|key| key.owner.1))
            .bind(sums.keys(|key| key.owner.2))
            .bind(sums.keys(|key| key.used_from))
            .bind(sums.keys(|key| key.agent))
            .bind(sums.keys(|key| key.meter))
            .bind(sums.keys(|key| key.model))
            .bind(sums.keys(|key| key.tool))
            .bind(sums.keys(|key| key.space))
            .bind(sums.sums(|sum| sum.amount.to_string()))
            .bind(sums.sums(|sum| sum.quantity.to_string()))
            .bind(sums.sums(|sum| sum.lines))
            .bind(sums.sums(|sum| sum.unpriced))
            .execute(tx)
            .await?;
        Ok(())
    }

    async fn upsert_run_spending(&self, tx: &mut PgConnection) -> Result<(), sqlx::Error> {
        let sums = &self.run_spending;
        sqlx::query(statements::UPSERT_RUN_SPENDING)
            .bind(sums.keys(|key| key.owner.0))
            .bind(sums.keys(|key| key.owner.1))
            .bind(sums.keys(|key| key.owner.2))
            .bind(sums.keys(|key| key.run))
            .bind(sums.keys(|key| key.used_from))
            .bind(sums.keys(|key| key.agent))
            .bind(sums.keys(|key| key.meter))
            .bind(sums.sums(|sum| sum.amount.to_string()))
            .bind(sums.sums(|sum| sum.quantity.to_string()))
            .bind(sums.sums(|sum| sum.lines))
            .bind(sums.sums(|sum| sum.unpriced))
            .execute(tx)
            .await?;
        Ok(())
    }
}

fn run(line: &Line) -> &str {
    line.spender.run.as_ref().map_or("", |id| id.as_str())
}

fn agent(line: &Line) -> &str {
    line.spender.agent.as_ref().map_or("", |id| id.as_str())
}

/// Version, rule, free and billable units; nothing where it is not priced.
fn priced(line: &Line) -> (u64, &str, u64, u64) {
    match &line.pricing {
        Pricing::By {
            version,
            rule,
            free,
            billable,
        } => (*version, rule.as_str(), *free, *billable),
        Pricing::Unpriced | Pricing::Overflow | Pricing::Rejected | Pricing::Undecidable => {
            (0, "", 0, 0)
        }
    }
}

/// As Postgres writes an array: words that it need not quote.
fn over(line: &Line) -> String {
    let words: Vec<&str> = line.over.iter().map(|limit| limit.as_str()).collect();
    format!("{{{}}}", words.join(","))
}

fn forwarded(answered: &Answered) -> Option<&Forwarded> {
    match &answered.fact {
        Fact::Usage(fact) => Some(fact.forwarded()),
        Fact::Run(_) | Fact::Schedule(_) | Fact::Message(_) => None,
    }
}

fn source(answered: &Answered) -> Option<(Uuid, &str)> {
    let cause = answered.record.cause.as_ref()?;
    Some((cause.id.as_uuid(), cause.stream.as_deref()?))
}

/// Names and texts: nothing can stand in the way of writing them.
fn dimensions(usage: &Forwarded) -> String {
    serde_json::to_string(&usage.dimensions).unwrap_or_default()
}
