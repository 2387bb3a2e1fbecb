//! Whether the entries of a part of the log are those that its records in force make, and no others.
//!
//! Both are read in the order of the log, page by page, in one snapshot. What lies outside the range is
//! not looked at, with one exception: a fact of the directory that came before is known by its entries.

use std::collections::{HashMap, HashSet, VecDeque};

use runledger_domain::log::{Partition, Position};
use runledger_projection::rebuild::{self, Found, Page, Range, Read, Site, Span, Walk, WalkStep};
use runledger_projection::{Applied, ApplyError};
use sqlx::PgConnection;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::read_model::{Row, is_change, rows_of, said};
use crate::{FAMILIES, statements};

/// Most entries fetched at once: of 16 KiB of details at most.
const FETCH: &str = "FETCH 500 FROM entries_of_range";

/// Verifies ranges of one installation's audit.
pub struct Verifier {
    site: Site,
    shutdown: CancellationToken,
}

/// The first place at which the audit is not what the log says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    pub family: String,
    pub partition: i64,
    /// Of the record; of a cursor or checkpoint the next one.
    pub offset: i64,
    pub what: String,
}

/// What was looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Checked {
    pub records: u64,
    pub checkpoints: u64,
    pub entries: u64,
    /// Decisions.
    pub in_force: u64,
    pub void: u64,
    /// Records in force that the audit leaves out.
    pub parked: u64,
    pub skipped: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Findings {
    pub spans: Vec<Span>,
    /// Up to the difference, if there is one.
    pub checked: Checked,
    pub difference: Option<Difference>,
}

/// Why it could not be found out.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot read the range")]
    Walk(#[source] rebuild::Error),
    #[error("cannot {doing}")]
    Database {
        doing: &'static str,
        #[source]
        source: sqlx::Error,
    },
}

impl Error {
    fn database(doing: &'static str) -> impl FnOnce(sqlx::Error) -> Self {
        move |source| Self::Database { doing, source }
    }
}

impl Verifier {
    pub(crate) fn new(site: Site, shutdown: CancellationToken) -> Self {
        Self { site, shutdown }
    }

    /// Compares a range with the log. Changes nothing.
    ///
    /// # Errors
    /// It could not be found out; what differs is no error.
    pub async fn verify(&self, range: Range) -> Result<Findings, Error> {
        let walk = Walk::begin(&self.site, FAMILIES, range, self.shutdown.clone());
        let mut walk = walk.await.map_err(Error::Walk)?;
        let mut entries = Entries::open(walk.snapshot(), &range).await?;
        let mut checked = Checked {
            checkpoints: walk.checkpoints(),
            ..Checked::default()
        };
        let difference = loop {
            match walk.next().await.map_err(Error::Walk)? {
                WalkStep::Page(page) => {
                    let mut compare = Compare {
                        db: walk.snapshot(),
                        entries: &mut entries,
                        checked: &mut checked,
                    };
                    if let Some(difference) = compare.page(page).await? {
                        break Some(difference);
                    }
                }
                WalkStep::Differs(found) => break Some(Difference::of(found)),
                WalkStep::End => {
                    let left = entries.peek(walk.snapshot()).await?;
                    let why = "the audit has not read a record there";
                    break left.map(|row| Difference::unaccounted(row, why));
                }
            }
        };
        Ok(Findings {
            spans: walk.spans().to_vec(),
            checked,
            difference,
        })
    }
}

impl Difference {
    fn of(found: rebuild::Discontinuity) -> Self {
        Self {
            family: found.partition.family.as_str().to_owned(),
            partition: found.partition.number.into(),
            offset: signed(found.next_offset),
            what: found.what,
        }
    }

    fn at(position: Position, what: String) -> Self {
        Self {
            family: position.partition.family.as_str().to_owned(),
            partition: position.partition.number.into(),
            offset: signed(position.offset),
            what,
        }
    }

    fn unaccounted(row: &Row, why: &str) -> Self {
        let Row {
            ordinal,
            actor,
            action,
            entity_type,
            entity_id,
            ..
        } = row;
        Self {
            family: row.family.clone(),
            partition: row.partition.into(),
            offset: row.log_offset,
            what: format!(
                "nothing in the log makes entry {ordinal}, {actor} {action} {entity_type} {entity_id}: {why}"
            ),
        }
    }
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// The entries of the range in the order of the log, a page of them at a time.
struct Entries {
    fetched: VecDeque<Row>,
    is_over: bool,
}

impl Entries {
    async fn open(db: &mut PgConnection, range: &Range) -> Result<Self, Error> {
        let number = range
            .partition
            .map(|one| i32::try_from(one).unwrap_or(i32::MAX));
        // What is before the first offset is nowhere in the log, and no less to be told.
        let from = if range.from == 0 {
            i64::MIN
        } else {
            signed(range.from)
        };
        sqlx::query(statements::DECLARE_ENTRIES)
            .bind(range.family.map(|family| family.as_str()))
            .bind(number)
            .bind(from)
            .bind(range.to.map_or(i64::MAX, signed))
            .execute(db)
            .await
            .map_err(Error::database("read the entries"))?;
        Ok(Self {
            fetched: VecDeque::new(),
            is_over: false,
        })
    }

    async fn peek(&mut self, db: &mut PgConnection) -> Result<Option<&Row>, Error> {
        if self.fetched.is_empty() && !self.is_over {
            let fetched: Vec<Row> = sqlx::query_as(FETCH)
                .fetch_all(db)
                .await
                .map_err(Error::database("read the entries"))?;
            self.is_over = fetched.is_empty();
            self.fetched = fetched.into();
        }
        Ok(self.fetched.front())
    }
}

/// Where a row lies, to be compared with where a record lies.
fn place(row: &Row) -> (&str, i32, i64) {
    (&row.family, row.partition, row.log_offset)
}

struct Compare<'a> {
    db: &'a mut PgConnection,
    entries: &'a mut Entries,
    checked: &'a mut Checked,
}

impl Compare<'_> {
    async fn page(&mut self, page: Page) -> Result<Option<Difference>, Error> {
        let partition = page.partition;
        let copies = copies(self.db, &page).await?;
        for read in page.records {
            self.count(&read);
            let is_copy = copies.contains(&read.position.offset);
            let expected = match expected(&read, is_copy) {
                Ok(expected) => expected,
                Err(difference) => return Ok(Some(difference)),
            };
            let difference = self.record(partition, read.position, expected).await?;
            if difference.is_some() {
                return Ok(difference);
            }
        }
        Ok(None)
    }

    fn count(&mut self, read: &Read) {
        let checked = &mut *self.checked;
        checked.records += 1;
        checked.in_force += u64::from(read.in_force == Some(true));
        checked.void += u64::from(read.in_force == Some(false));
        checked.parked += u64::from(matches!(read.found, Found::Parked));
        checked.skipped += u64::from(matches!(read.found, Found::Skipped));
    }

    async fn record(
        &mut self,
        partition: Partition,
        position: Position,
        expected: Expected,
    ) -> Result<Option<Difference>, Error> {
        let number = i32::try_from(partition.number).unwrap_or(i32::MAX);
        let here = (partition.family.as_str(), number, signed(position.offset));
        for row in expected.rows {
            let found = match self.entries.peek(self.db).await? {
                Some(found) if place(found) < here => {
                    let why = "the audit has not read a record there";
                    return Ok(Some(Difference::unaccounted(found, why)));
                }
                Some(found) if place(found) == here && found.ordinal <= row.ordinal => found,
                _ => {
                    let Row {
                        ordinal,
                        actor,
                        action,
                        entity_type,
                        entity_id,
                        ..
                    } = &row;
                    let what = format!(
                        "entry {ordinal} is missing, {actor} {action} {entity_type} {entity_id}"
                    );
                    return Ok(Some(Difference::at(position, what)));
                }
            };
            if found.ordinal < row.ordinal {
                let why = "another row has its place";
                return Ok(Some(Difference::unaccounted(found, why)));
            }
            if let Some((column, ours, theirs)) = found.differs(&row) {
                let ordinal = row.ordinal;
                let what =
                    format!("entry {ordinal} has the {column} {ours:?}, and by the log {theirs:?}");
                return Ok(Some(Difference::at(position, what)));
            }
            self.entries.fetched.pop_front();
            self.checked.entries += 1;
        }
        let next = self.entries.peek(self.db).await?;
        let extra = next.filter(|found| place(found) <= here);
        Ok(extra.map(|found| {
            let is_here = place(found) == here;
            let elsewhere = "the audit has not read a record there";
            Difference::unaccounted(found, if is_here { expected.why } else { elsewhere })
        }))
    }
}

/// The rows that a record makes, and why it makes no others.
struct Expected {
    rows: Vec<Row>,
    why: &'static str,
}

fn expected(read: &Read, is_copy: bool) -> Result<Expected, Difference> {
    let none = |why| {
        Ok(Expected {
            rows: Vec::new(),
            why,
        })
    };
    let unreadable = |why: &str| {
        let what =
            format!("the record cannot be applied, and is neither parked nor skipped: {why}");
        Difference::at(read.position, what)
    };
    match &read.found {
        Found::Parked => none("its record is parked"),
        Found::Skipped => none("its record is skipped"),
        Found::LeftOut if read.in_force == Some(false) => none("its record is a void decision"),
        Found::LeftOut => none("its record is a command or a Genesis"),
        Found::Unreadable(why) => Err(unreadable(why)),
        Found::Applies(_) if is_copy => none("its record is a copy of an earlier one"),
        Found::Applies(applied) => {
            let told = said(&applied.record).map_err(|error| unreadable(&reason(&error)))?;
            Ok(Expected {
                rows: told.map_or_else(Vec::new, |told| rows_of(applied, &told)),
                why: "its record makes no such entry",
            })
        }
    }
}

/// An error and what caused it.
fn reason(error: &ApplyError) -> String {
    let cause = std::error::Error::source(error);
    cause.map_or_else(|| error.to_string(), |cause| format!("{error}: {cause}"))
}

type Identity<'a> = (Uuid, &'a str, &'a str, Uuid);

fn identity(applied: &Applied) -> Identity<'_> {
    let record = &applied.record;
    (
        record.scope.tenant.as_uuid(),
        record.scope.mode.as_str(),
        record.stream.as_str(),
        record.id.as_uuid(),
    )
}

/// Facts of the directory that came before: the first of an identity is the one that counts.
async fn copies(db: &mut PgConnection, page: &Page) -> Result<HashSet<u64>, Error> {
    let change = |read: &Read| match &read.found {
        Found::Applies(applied) if is_change(applied) => Some(applied.as_ref().clone()),
        _ => None,
    };
    let changes: Vec<Applied> = page.records.iter().filter_map(change).collect();
    if changes.is_empty() {
        return Ok(HashSet::new());
    }
    let mut firsts: HashMap<Identity<'_>, u64> = HashMap::new();
    for applied in &changes {
        firsts
            .entry(identity(applied))
            .or_insert(applied.position.offset);
    }
    let asked: Vec<Identity<'_>> = firsts.keys().copied().collect();
    let earliest: Vec<(i64, i64)> = sqlx::query_as(statements::SELECT_EARLIEST)
        .bind(asked.iter().map(|one| one.0).collect::<Vec<_>>())
        .bind(asked.iter().map(|one| one.1).collect::<Vec<_>>())
        .bind(asked.iter().map(|one| one.2).collect::<Vec<_>>())
        .bind(asked.iter().map(|one| one.3).collect::<Vec<_>>())
        .fetch_all(db)
        .await
        .map_err(Error::database("look up facts that came before"))?;
    for (place, offset) in earliest {
        let at = usize::try_from(place)
            .ok()
            .and_then(|place| place.checked_sub(1));
        let first = at.and_then(|at| firsts.get_mut(asked.get(at)?));
        if let Some(first) = first {
            *first = (*first).min(offset.unsigned_abs());
        }
    }
    let is_copy = |applied: &&Applied| {
        let first = firsts.get(&identity(applied));
        first.is_some_and(|first| *first < applied.position.offset)
    };
    let copies = changes.iter().filter(is_copy);
    Ok(copies.map(|one| one.position.offset).collect())
}
