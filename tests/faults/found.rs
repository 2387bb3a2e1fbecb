//! What the read model holds in the end, row by row, by a superuser's eyes.

use futures::TryStreamExt as _;
use runledger_domain::ids::TenantId;
use runledger_domain::scope::Scope;
use sqlx::{FromRow, PgPool};
use uuid::Uuid;

use crate::check::{CallRow, Checker, Counts, PartRow, RecordRow, RunRow};

/// Puts every row of the generation that is served into the checker, one at a time.
pub(crate) async fn read(database: &PgPool, checker: &mut Checker<'_>) -> Result<(), sqlx::Error> {
    let mut database = database.acquire().await?;
    let database = &mut *database;
    sqlx::query("SELECT set_config('search_path', search_path, false) FROM runs.active_generation")
        .execute(&mut *database)
        .await?;
    let mut rows = sqlx::query_as::<_, Record>(
        "SELECT tenant_id, mode, stream, record_id, run_id, family, partition, log_offset, late, conflicts
           FROM records",
    )
    .fetch(&mut *database);
    while let Some(row) = rows.try_next().await? {
        checker.record(&row.into());
    }
    drop(rows);
    let mut rows = sqlx::query_as::<_, Call>(
        "SELECT tenant_id, mode, run_id, tool_call_id, started_record, ended_record FROM tool_calls",
    )
    .fetch(&mut *database);
    while let Some(row) = rows.try_next().await? {
        checker.call(&row.into());
    }
    drop(rows);
    let mut rows = sqlx::query_as::<_, Part>(
        "SELECT tenant_id, mode, conversation_id AS belongs_to, message_id AS part_id, record_id FROM messages",
    )
    .fetch(&mut *database);
    while let Some(row) = rows.try_next().await? {
        checker.message(&row.into());
    }
    drop(rows);
    let mut rows = sqlx::query_as::<_, Part>(
        "SELECT tenant_id, mode, schedule_id AS belongs_to, NULL AS part_id, record_id FROM occurrences",
    )
    .fetch(&mut *database);
    while let Some(row) = rows.try_next().await? {
        checker.occurrence(&row.into());
    }
    drop(rows);
    // Runs last: they are compared with their records.
    let mut rows = sqlx::query_as::<_, Run>(
        "SELECT tenant_id, mode, run_id, started_record, ended_record, conflicts,
                tool_calls, failed_tool_calls, messages, late_facts,
                coalesce(u.records, 0) AS uses, coalesce(u.quantity, 0) AS used
           FROM runs LEFT JOIN usage_totals u USING (tenant_id, mode, run_id)",
    )
    .fetch(&mut *database);
    while let Some(row) = rows.try_next().await? {
        checker.run(&row.into());
    }
    Ok(())
}

fn scope(tenant_id: Uuid, mode: &str) -> Scope {
    Scope {
        tenant: TenantId::new(tenant_id),
        mode: mode.parse().expect("a mode, as the table checks"),
    }
}

#[derive(FromRow)]
struct Record {
    tenant_id: Uuid,
    mode: String,
    stream: String,
    record_id: Uuid,
    run_id: Option<String>,
    family: String,
    partition: i32,
    log_offset: i64,
    late: bool,
    conflicts: i64,
}

impl From<Record> for RecordRow {
    fn from(row: Record) -> Self {
        let number = u32::try_from(row.partition).expect("a number, as the table checks");
        Self {
            scope: scope(row.tenant_id, &row.mode),
            stream: row.stream,
            id: row.record_id,
            run_id: row.run_id,
            place: (row.family, number),
            offset: u64::try_from(row.log_offset).expect("an offset"),
            late: row.late,
            conflicts: row.conflicts,
        }
    }
}

#[derive(FromRow)]
struct Call {
    tenant_id: Uuid,
    mode: String,
    run_id: String,
    tool_call_id: String,
    started_record: Option<Uuid>,
    ended_record: Option<Uuid>,
}

impl From<Call> for CallRow {
    fn from(row: Call) -> Self {
        Self {
            scope: scope(row.tenant_id, &row.mode),
            run_id: row.run_id,
            tool_call_id: row.tool_call_id,
            started: row.started_record,
            ended: row.ended_record,
        }
    }
}

#[derive(FromRow)]
struct Part {
    tenant_id: Uuid,
    mode: String,
    belongs_to: String,
    part_id: Option<String>,
    record_id: Uuid,
}

impl From<Part> for PartRow {
    fn from(row: Part) -> Self {
        Self {
            scope: scope(row.tenant_id, &row.mode),
            belongs_to: row.belongs_to,
            part_id: row.part_id,
            record: row.record_id,
        }
    }
}

#[derive(FromRow)]
struct Run {
    tenant_id: Uuid,
    mode: String,
    run_id: String,
    started_record: Option<Uuid>,
    ended_record: Option<Uuid>,
    conflicts: i64,
    tool_calls: i64,
    failed_tool_calls: i64,
    messages: i64,
    late_facts: i64,
    uses: i64,
    used: i64,
}

impl From<Run> for RunRow {
    fn from(row: Run) -> Self {
        Self {
            scope: scope(row.tenant_id, &row.mode),
            run_id: row.run_id,
            started: row.started_record,
            ended: row.ended_record,
            conflicts: row.conflicts,
            counts: Counts {
                calls: row.tool_calls,
                failed: row.failed_tool_calls,
                messages: row.messages,
                late: row.late_facts,
                uses: row.uses,
                used: row.used,
            },
        }
    }
}
