//! What people ask for, from decisions in force: the queue, its votes and changes, and the history
//! of policies. Statements take columns; rows go in sorted, so that processes take locks in one order.

use std::collections::BTreeMap;

use async_trait::async_trait;
use runledger_decider::Folded;
use runledger_domain::approval::{self, ApprovalVoted, Status, ToolCallDecided};
use runledger_domain::ids::ApprovalId;
use runledger_domain::log::Position;
use runledger_domain::policy::Changed;
use runledger_domain::scope::Scope;
use runledger_domain::time::Timestamp;
use runledger_projection::{Applied, ApplyError};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::rules::{Decision, Rules};
use crate::statements;

/// The tables of the decider, and of this read model.
pub(crate) const TABLES: &[&str] = &[
    "identities",
    "commands",
    "streams",
    "parts",
    "decided",
    "approvals",
    "votes",
    "changes",
    "policy_versions",
];

/// The queue and the history of policies.
#[derive(Clone, Copy, Debug, Default)]
pub struct ReadModel;

#[async_trait]
impl runledger_decider::ReadModel<Rules> for ReadModel {
    fn tables(&self) -> &'static [&'static str] {
        TABLES
    }

    async fn apply(
        &mut self,
        tx: &mut PgConnection,
        _facts: &[&Applied],
        decisions: &[Folded<'_, Decision>],
    ) -> Result<(), ApplyError> {
        let mut batch = Batch::default();
        for folded in decisions {
            batch.take_in(folded);
        }
        batch.write(tx).await
    }
}

type Key = (Scope, ApprovalId);

/// What decisions of one batch make of an approval; `None`: what it was.
#[derive(Default)]
struct Update {
    status: Option<Status>,
    approved: Option<u32>,
    decided_at: Option<Timestamp>,
    use_by: Option<Timestamp>,
    used_at: Option<Timestamp>,
    arguments_digest: Option<Vec<u8>>,
    edited_arguments: Option<String>,
}

/// The rows that a batch of decisions makes.
#[derive(Default)]
struct Batch<'a> {
    held: BTreeMap<Key, (&'a ToolCallDecided, Timestamp)>,
    updates: BTreeMap<Key, Update>,
    votes: Vec<(Key, Position, Timestamp, Vec<u8>)>,
    changes: Vec<(Key, Position)>,
    versions: Vec<(Scope, &'a Changed, Timestamp, Vec<u8>)>,
}

impl<'a> Batch<'a> {
    fn take_in(&mut self, folded: &Folded<'a, Decision>) {
        let (scope, at) = (
            folded.applied.record.scope,
            folded.applied.record.occurred_at,
        );
        let position = folded.applied.position;
        let approval = match folded.decision {
            Decision::Policy(changed) => {
                let payload = folded.applied.record.payload.clone();
                self.versions.push((scope, changed, at, payload));
                None
            }
            Decision::Call(approval::Decision::ToolCallDecided(decided)) => {
                decided.held.as_ref().map(|(approval_id, _)| {
                    self.held.insert((scope, *approval_id), (decided, at));
                    *approval_id
                })
            }
            Decision::Call(approval::Decision::ApprovalVoted(voted)) => {
                let key = (scope, voted.approval_id);
                let payload = folded.applied.record.payload.clone();
                self.votes.push((key, position, at, payload));
                self.voted(key, voted, at);
                Some(voted.approval_id)
            }
            Decision::Call(approval::Decision::ApprovalClosed(closed)) => {
                let update = self.updates.entry((scope, closed.approval_id)).or_default();
                update.status = Some(closed.status);
                update.decided_at = Some(at);
                Some(closed.approval_id)
            }
            Decision::Call(approval::Decision::ExecutionConfirmed(confirmed)) => {
                confirmed.approval_id.inspect(|approval_id| {
                    self.updates
                        .entry((scope, *approval_id))
                        .or_default()
                        .used_at = Some(at);
                })
            }
        };
        if let Some(approval_id) = approval {
            self.changes.push(((scope, approval_id), position));
        }
    }

    fn voted(&mut self, key: Key, voted: &ApprovalVoted, at: Timestamp) {
        let update = self.updates.entry(key).or_default();
        update.status = Some(voted.status);
        update.approved = Some(voted.approved);
        update.use_by = voted.use_by;
        update.arguments_digest = Some(voted.arguments_digest.to_vec());
        if voted.status != Status::Pending {
            update.decided_at = Some(at);
        }
        if let Some(edited) = &voted.edited_arguments {
            update.edited_arguments = Some(edited.as_str().to_owned());
        }
    }

    async fn write(&self, tx: &mut PgConnection) -> Result<(), ApplyError> {
        let doing = ApplyError::database;
        self.insert_held(tx)
            .await
            .map_err(doing("write approvals"))?;
        self.write_updates(tx)
            .await
            .map_err(doing("change approvals"))?;
        self.insert_votes(tx).await.map_err(doing("write votes"))?;
        self.insert_changes(tx)
            .await
            .map_err(doing("write changes"))?;
        self.insert_versions(tx)
            .await
            .map_err(doing("write versions of policies"))
    }

    async fn insert_held(&self, tx: &mut PgConnection) -> Result<(), sqlx::Error> {
        if self.held.is_empty() {
            return Ok(());
        }
        let keys = Keys::of(self.held.keys());
        let mut columns = HeldColumns::default();
        for (decided, at) in self.held.values() {
            columns.push(decided, *at);
        }
        sqlx::query(statements::INSERT_APPROVALS)
            .bind(&keys.tenants)
            .bind(&keys.modes)
            .bind(&keys.ids)
            .bind(columns.runs)
            .bind(columns.calls)
            .bind(columns.agents)
            .bind(columns.tools)
            .bind(columns.policies)
            .bind(columns.policy_versions)
            .bind(columns.policy_names)
            .bind(columns.severities)
            .bind(columns.quorums)
            .bind(columns.requested_ats)
            .bind(columns.requesters)
            .bind(columns.requester_kinds)
            .bind(columns.requester_roles)
            .bind(columns.decide_bys)
            .bind(columns.digests)
            .execute(tx)
            .await?;
        Ok(())
    }

    async fn write_updates(&self, tx: &mut PgConnection) -> Result<(), sqlx::Error> {
        if self.updates.is_empty() {
            return Ok(());
        }
        let keys = Keys::of(self.updates.keys());
        let all = || self.updates.values();
        sqlx::query(statements::UPDATE_APPROVALS)
            .bind(&keys.tenants)
            .bind(&keys.modes)
            .bind(&keys.ids)
            .bind(
                all()
                    .map(|one| one.status.map(|one| one.as_str()))
                    .collect::<Vec<_>>(),
            )
            .bind(all().map(|one| one.approved.map(small)).collect::<Vec<_>>())
            .bind(all().map(|one| one.decided_at).collect::<Vec<_>>())
            .bind(all().map(|one| one.use_by).collect::<Vec<_>>())
            .bind(all().map(|one| one.used_at).collect::<Vec<_>>())
            .bind(
                all()
                    .map(|one| one.arguments_digest.as_deref())
                    .collect::<Vec<_>>(),
            )
            .bind(
                all()
                    .map(|one| one.edited_arguments.as_deref())
                    .collect::<Vec<_>>(),
            )
            .execute(tx)
            .await?;
        Ok(())
    }

    async fn insert_votes(&self, tx: &mut PgConnection) -> Result<(), sqlx::Error> {
        if self.votes.is_empty() {
            return Ok(());
        }
        let keys = Keys::of(self.votes.iter().map(|(key, ..)| key));
        let all = || self.votes.iter();
        sqlx::query(statements::INSERT_VOTES)
            .bind(&keys.tenants)
            .bind(&keys.modes)
            .bind(&keys.ids)
            .bind(all().map(|(_, at, ..)| number(at)).collect::<Vec<_>>())
            .bind(
                all()
                    .map(|(_, at, ..)| signed(at.offset))
                    .collect::<Vec<_>>(),
            )
            .bind(all().map(|(.., at, _)| *at).collect::<Vec<_>>())
            .bind(
                all()
                    .map(|(.., payload)| payload.as_slice())
                    .collect::<Vec<_>>(),
            )
            .execute(tx)
            .await?;
        Ok(())
    }

    async fn insert_changes(&self, tx: &mut PgConnection) -> Result<(), sqlx::Error> {
        if self.changes.is_empty() {
            return Ok(());
        }
        let keys = Keys::of(self.changes.iter().map(|(key, _)| key));
        let all = || self.changes.iter();
        sqlx::query(statements::INSERT_CHANGES)
            .bind(&keys.tenants)
            .bind(&keys.modes)
            .bind(all().map(|(_, at)| number(at)).collect::<Vec<_>>())
            .bind(all().map(|(_, at)| signed(at.offset)).collect::<Vec<_>>())
            .bind(&keys.ids)
            .execute(tx)
            .await?;
        Ok(())
    }

    async fn insert_versions(&self, tx: &mut PgConnection) -> Result<(), sqlx::Error> {
        if self.versions.is_empty() {
            return Ok(());
        }
        let all = || self.versions.iter();
        sqlx::query(statements::INSERT_POLICY_VERSIONS)
            .bind(
                all()
                    .map(|(scope, ..)| scope.tenant.as_uuid())
                    .collect::<Vec<_>>(),
            )
            .bind(
                all()
                    .map(|(scope, ..)| scope.mode.as_str())
                    .collect::<Vec<_>>(),
            )
            .bind(
                all()
                    .map(|(_, one, ..)| one.policy.id.as_str())
                    .collect::<Vec<_>>(),
            )
            .bind(
                all()
                    .map(|(_, one, ..)| signed(one.policy.version))
                    .collect::<Vec<_>>(),
            )
            .bind(all().map(|(.., at, _)| *at).collect::<Vec<_>>())
            .bind(
                all()
                    .map(|(.., payload)| payload.as_slice())
                    .collect::<Vec<_>>(),
            )
            .execute(tx)
            .await?;
        Ok(())
    }
}

/// Columns of calls that are held.
#[derive(Default)]
struct HeldColumns<'a> {
    runs: Vec<&'a str>,
    calls: Vec<&'a str>,
    agents: Vec<&'a str>,
    tools: Vec<&'a str>,
    policies: Vec<&'a str>,
    policy_versions: Vec<i64>,
    policy_names: Vec<&'a str>,
    severities: Vec<Option<&'static str>>,
    quorums: Vec<i32>,
    requested_ats: Vec<Timestamp>,
    requesters: Vec<Uuid>,
    requester_kinds: Vec<&'static str>,
    requester_roles: Vec<&'static str>,
    decide_bys: Vec<Timestamp>,
    digests: Vec<&'a [u8]>,
}

impl<'a> HeldColumns<'a> {
    fn push(&mut self, decided: &'a ToolCallDecided, at: Timestamp) {
        let first = decided.matches.first();
        let terms = decided.held.as_ref().map(|(_, terms)| terms);
        let requester = decided.requester;
        self.runs.push(decided.call.run_id.as_str());
        self.calls.push(decided.call.tool_call_id.as_str());
        self.agents.push(decided.agent_id.as_str());
        self.tools.push(decided.call.tool.as_str());
        self.policies
            .push(first.map_or("", |one| one.policy.as_str()));
        self.policy_versions
            .push(first.map_or(0, |one| signed(one.version)));
        self.policy_names
            .push(first.map_or("", |one| one.name.as_str()));
        self.severities
            .push(decided.severity.map(|one| one.as_str()));
        self.quorums
            .push(terms.map_or(1, |terms| small(terms.quorum)));
        self.requested_ats.push(at);
        self.requesters.push(requester.principal.as_uuid());
        self.requester_kinds.push(requester.kind.as_str());
        self.requester_roles.push(requester.role.as_str());
        self.decide_bys
            .push(terms.map_or(at, |terms| terms.decide_by));
        self.digests.push(&decided.arguments_digest);
    }
}

/// Columns of what approvals are known by.
struct Keys {
    tenants: Vec<Uuid>,
    modes: Vec<&'static str>,
    ids: Vec<Uuid>,
}

impl Keys {
    fn of<'a>(keys: impl Iterator<Item = &'a Key>) -> Self {
        let (mut tenants, mut modes, mut ids) = (Vec::new(), Vec::new(), Vec::new());
        for (scope, approval_id) in keys {
            tenants.push(scope.tenant.as_uuid());
            modes.push(scope.mode.as_str());
            ids.push(approval_id.as_uuid());
        }
        Self {
            tenants,
            modes,
            ids,
        }
    }
}

/// Postgres has no unsigned numbers.
fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn small(number: u32) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

fn number(position: &Position) -> i32 {
    small(position.partition.number)
}
