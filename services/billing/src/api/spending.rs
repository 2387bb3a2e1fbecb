//! What was spent within a range, by whatever is asked: sums of quarters of an hour.

use chrono::{DurationRound as _, TimeDelta};
use runledger_domain::calendar::Zone;
use runledger_domain::fault::Fault;
use runledger_domain::ids::{AccountId, AgentId, Name, RunId};
use runledger_domain::log::Stream;
use runledger_domain::time::Timestamp;
use runledger_proto::billing::v1 as wire;
use runledger_proto::decode::billing as read;
use runledger_proto::decode::fields::{Fields, reason};
use runledger_service::page;
use sqlx::{FromRow, Postgres, QueryBuilder};

use super::{Api, Call, account, account_not_found, database, parse, unsigned};

/// Most groups of one question.
const GROUPS_MAX: usize = 3;
/// Most meters that one question names.
const METERS_MAX: usize = 32;
const BUCKET: TimeDelta = TimeDelta::minutes(15);

/// By what sums are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Group {
    Column(&'static str),
    Days,
    Months,
}

/// What is asked, checked.
struct Asked {
    account: AccountId,
    range: (Timestamp, Timestamp),
    groups: Vec<Group>,
    agent: Option<AgentId>,
    run: Option<RunId>,
    meters: Vec<Name>,
    by_cost: bool,
}

#[derive(FromRow)]
struct Row {
    keys: Vec<String>,
    amount: i64,
    quantity: i64,
    lines: i64,
    unpriced: i64,
    total_amount: i64,
    total_lines: i64,
}

/// The group, and whether only runs know it.
fn group(number: i32) -> Option<Group> {
    use wire::SpendingGroup as Wire;
    Some(match Wire::try_from(number).ok()? {
        Wire::Agent => Group::Column("agent_id"),
        Wire::Run => Group::Column("run_id"),
        Wire::Meter => Group::Column("meter"),
        Wire::Model => Group::Column("model"),
        Wire::Tool => Group::Column("tool"),
        Wire::Space => Group::Column("space"),
        Wire::Day => Group::Days,
        Wire::Month => Group::Months,
        Wire::Unspecified => return None,
    })
}

fn groups(numbers: &[i32], see: &mut Fields<'_>) -> Option<Vec<Group>> {
    let groups: Option<Vec<Group>> = numbers.iter().map(|one| group(*one)).collect();
    let is_fine = |groups: &Vec<Group>| {
        let mut seen = groups.iter().enumerate();
        groups.len() <= GROUPS_MAX && seen.all(|(at, one)| !groups[..at].contains(one))
    };
    let groups = groups.filter(is_fine);
    if groups.is_none() {
        let why = format_args!("must be at most {GROUPS_MAX} different known groups");
        see.fault("group_by", reason::UNKNOWN_VALUE, why);
    }
    groups
}

fn asked(request: wire::GetSpendingRequest, see: &mut Fields<'_>) -> Option<Asked> {
    let account = account(see, request.account_id);
    let range = read::range(request.range, see);
    let groups = groups(&request.group_by, see);
    let agent = see.optional_id("agent_id", request.agent_id, AgentId::parse);
    let run = see.optional_id("run_id", request.run_id, RunId::parse);
    if request.meters.len() > METERS_MAX {
        let why = format_args!("must have at most {METERS_MAX} entries");
        see.fault("meters", reason::TOO_MANY, why);
        return None;
    }
    let meters = request.meters.into_iter().enumerate();
    let meters: Vec<Option<Name>> = meters
        .map(|(index, meter)| see.item("meters", index, |see| see.item_id(meter, Name::parse)))
        .collect();
    let by_cost = match wire::SpendingOrder::try_from(request.order) {
        Ok(wire::SpendingOrder::Cost) => true,
        Ok(wire::SpendingOrder::Key | wire::SpendingOrder::Unspecified) => false,
        Err(_) => {
            see.fault("order", reason::UNKNOWN_VALUE, "must be a known order");
            false
        }
    };
    let asked = Asked {
        account: account?,
        range: range?,
        groups: groups?,
        agent,
        run,
        meters: meters.into_iter().collect::<Option<_>>()?,
        by_cost,
    };
    let of_others = ["model", "tool", "space"].map(Group::Column);
    if asked.is_by_run() && asked.groups.iter().any(|group| of_others.contains(group)) {
        let what = "runs cannot be told apart by model, tool or space; ask for one of both, or for the lines of a run by GetRunCost";
        see.fault("group_by", "NOT_TOGETHER", what);
    }
    Some(asked)
}

impl Asked {
    fn is_by_run(&self) -> bool {
        self.run.is_some() || self.groups.contains(&Group::Column("run_id"))
    }

    /// Whole quarters of an hour: the first begins at or before the range, the last ends at or behind it.
    fn buckets(&self) -> (Timestamp, Timestamp) {
        let (from, to) = self.range;
        (from.duration_trunc(BUCKET).unwrap_or(from), to)
    }

    fn list(&self, scope: &str) -> page::List {
        let meters: Vec<&str> = self.meters.iter().map(Name::as_str).collect();
        page::List::of(&[
            "GetSpending",
            scope,
            self.account.as_str(),
            &format!("{:?} {:?} {}", self.range, self.groups, self.by_cost),
            self.agent.as_ref().map_or("", |id| id.as_str()),
            self.run.as_ref().map_or("", |id| id.as_str()),
            &meters.join(" "),
        ])
    }

    /// Columns come from a fixed list; everything from outside is bound. What lies behind `behind` alone,
    /// by the order that is asked for; sums are over all.
    fn query(
        &self,
        (tenant, mode): (uuid::Uuid, &'static str),
        zone: Zone,
        behind: Option<Behind>,
        limit: i64,
    ) -> QueryBuilder<Postgres> {
        let (from, to) = self.buckets();
        let mut query = QueryBuilder::new("SELECT * FROM (SELECT ARRAY[");
        for (index, group) in self.groups.iter().enumerate() {
            if index > 0 {
                query.push(", ");
            }
            match group {
                Group::Column(column) => {
                    query.push(*column);
                }
                Group::Days => push_period(&mut query, zone.days(from, to)),
                Group::Months => push_period(&mut query, zone.months(from, to)),
            }
        }
        let most = "9223372036854775807";
        query.push(format_args!(
            "]::text[] AS keys, least(sum(amount), {most})::bigint AS amount, least(sum(quantity), {most})::bigint AS quantity, \
             sum(lines)::bigint AS lines, sum(unpriced)::bigint AS unpriced, \
             least(sum(sum(amount)) OVER (), {most})::bigint AS total_amount, \
             (sum(sum(lines)) OVER ())::bigint AS total_lines FROM "
        ));
        query.push(if self.is_by_run() {
            "run_spending"
        } else {
            "spending"
        });
        query.push(" WHERE tenant_id = ").push_bind(tenant);
        query.push(" AND mode = ").push_bind(mode);
        let account = self.account.as_str().to_owned();
        query.push(" AND account_id = ").push_bind(account);
        query.push(" AND used_from >= ").push_bind(from);
        query.push(" AND used_from < ").push_bind(to);
        if let Some(agent) = &self.agent {
            let agent = agent.as_str().to_owned();
            query.push(" AND agent_id = ").push_bind(agent);
        }
        if let Some(run) = &self.run {
            let run = run.as_str().to_owned();
            query.push(" AND run_id = ").push_bind(run);
        }
        if !self.meters.is_empty() {
            let meters: Vec<String> = self.meters.iter().map(Name::to_string).collect();
            query.push(" AND meter = ANY (").push_bind(meters).push(")");
        }
        query.push(" GROUP BY keys) AS g");
        if let Some((amount, keys)) = behind {
            query.push(" WHERE ");
            if self.by_cost {
                query.push("amount < ").push_bind(amount);
                query.push(" OR amount = ").push_bind(amount).push(" AND ");
            }
            query.push("keys COLLATE \"C\" > ").push_bind(keys);
        }
        query.push(" ORDER BY ");
        if self.by_cost {
            query.push("amount DESC, ");
        }
        query.push("keys COLLATE \"C\" LIMIT ").push_bind(limit);
        query
    }
}

/// The last row of a page: what it cost, and its keys.
type Behind = (i64, Vec<String>);

/// The name of the period in which a bucket begins. Periods are those of our own calendar: Postgres knows
/// other zones by the same names.
fn push_period(query: &mut QueryBuilder<Postgres>, periods: Vec<(Timestamp, String)>) {
    let (begins, names): (Vec<Timestamp>, Vec<String>) = periods.into_iter().unzip();
    query.push("(").push_bind(names);
    query.push("::text[])[width_bucket(used_from, ");
    query.push_bind(begins).push("::timestamptz[])]");
}

impl Api {
    pub(super) async fn spending(
        &self,
        call: Call<wire::GetSpendingRequest>,
    ) -> Result<wire::GetSpendingResponse, Fault> {
        let scope = call.caller.require_scope()?;
        let mut request = call.message;
        let size = page::size(request.page_size);
        let page_token = std::mem::take(&mut request.page_token);
        let (asked, options) = parse(request.read.take(), |see| asked(request, see))?;
        let list = asked.list(&scope.to_string());
        let is_text = |(_, keys): &Behind| keys.iter().all(|key| !key.contains('\0'));
        let behind = list.place_where(&page_token, is_text)?;
        let stream = Stream::account(&asked.account);
        let mut view = self.read(scope, &options, Some(&stream)).await?;
        let known = view.account(&asked.account).await?;
        let (_, known) = known.ok_or_else(account_not_found)?;
        let owner = (view.tenant(), view.mode());
        let mut query = asked.query(owner, known.zone, behind, i64::from(size) + 1);
        let query = query.build_query_as::<Row>();
        let mut rows = query.fetch_all(&mut **view.tx()).await.map_err(database)?;
        let more = rows.len() > size as usize;
        rows.truncate(size as usize);
        let last = rows.last().filter(|_| more);
        let next = last.map(|row| list.token(&(row.amount, &row.keys)));
        let total = rows.first().map(|row| (row.total_amount, row.total_lines));
        let (total_micros, total_lines) = total.unwrap_or_default();
        // Without groups there is one row; without anything spent, of nothing.
        rows.retain(|row| row.lines > 0 && !row.keys.is_empty());
        Ok(wire::GetSpendingResponse {
            rows: rows.into_iter().map(row).collect(),
            total_micros,
            total_lines: unsigned(total_lines),
            next_page_token: next.transpose()?.unwrap_or_default(),
            as_of: Some(view.close().await?),
        })
    }
}

fn row(row: Row) -> wire::get_spending_response::Row {
    wire::get_spending_response::Row {
        keys: row.keys,
        amount_micros: row.amount,
        quantity: unsigned(row.quantity),
        lines: unsigned(row.lines),
        unpriced_lines: unsigned(row.unpriced),
    }
}
