//! The switches that stop appends and commands, of one tenant or of all.

use runledger_domain::fault::{Fault, Kind};
use runledger_domain::ids::{PrincipalId, TenantId};
use runledger_domain::scope::Mode;
use runledger_domain::time::Timestamp;
use runledger_service::auth::Caller;
use sqlx::PgConnection;
use sqlx::postgres::PgRow;
use sqlx::{FromRow, Row as _};

use crate::Directory;
use crate::audit::Change;
use crate::error::Result;
use crate::model::KillSwitch;
use crate::reach::{self, Reach};
use crate::sql;

/// What a switch stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// The caller's own tenant.
    Own,
    Tenant(TenantId),
    Everyone,
}

/// On, with a reason; or off, with or without one.
#[derive(Debug)]
pub(crate) enum Turn {
    On(String),
    Off(Option<String>),
}

impl Directory {
    /// Turns a switch, and answers with those that stop its target now.
    pub(crate) async fn set_kill_switch(
        &self,
        caller: &Caller,
        target: Target,
        turn: Turn,
    ) -> Result<Vec<KillSwitch>> {
        let reach = Reach::of(caller)?;
        let tenant = match target {
            Target::Own => Some(reach.tenant(None)?),
            Target::Tenant(tenant) => Some(reach.tenant(Some(tenant))?),
            Target::Everyone => {
                reach::require_operator(caller)?;
                None
            }
        };
        reach::require_live(caller, Mode::Live)?;
        self.turn(caller, reach, tenant, turn).await?;
        match tenant {
            Some(_) => self.switches_on(tenant).await,
            None => self.switch_of_everyone().await,
        }
    }

    pub(crate) async fn kill_switches(
        &self,
        caller: &Caller,
        named: Option<TenantId>,
    ) -> Result<Vec<KillSwitch>> {
        let realm = self.existing(Reach::of(caller)?, named).await?;
        self.switches_on(realm.tenant()).await
    }

    /// Those that stop `tenant`, everybody's among them; none: all.
    pub(crate) async fn switches_on(&self, tenant: Option<TenantId>) -> Result<Vec<KillSwitch>> {
        let switches = sqlx::query_as(sql::LIST_KILL_SWITCHES)
            .bind(tenant.map(TenantId::as_uuid))
            .fetch_all(&self.pool)
            .await?;
        Ok(switches)
    }

    pub(crate) async fn switch_of_everyone(&self) -> Result<Vec<KillSwitch>> {
        let mut switches = self.switches_on(None).await?;
        switches.retain(|switch| switch.tenant.is_none());
        Ok(switches)
    }

    async fn turn(
        &self,
        caller: &Caller,
        reach: Reach,
        tenant: Option<TenantId>,
        turn: Turn,
    ) -> Result<()> {
        let by_operator = reach == Reach::Everything;
        let mut change = self.begin(caller).await?;
        let set_by = caller.principal.principal;
        let before = lock(&mut change.tx, tenant, set_by, by_operator).await?;
        let is_above = before
            .as_ref()
            .is_some_and(|on| on.by_operator && !by_operator);
        match turn {
            // The writes are stopped, as asked, and by a stronger hand.
            Turn::On(_) if is_above => Ok(()),
            Turn::Off(_) if is_above => Err(Fault::new(
                Kind::Forbidden,
                "OPERATORS_ONLY",
                "an operator turned this switch on, and only an operator turns it off; ask them",
            )
            .into()),
            Turn::On(reason) => {
                let after = KillSwitch {
                    tenant,
                    since: before.as_ref().map_or(change.by.at, |on| on.since),
                    reason,
                    set_by,
                    by_operator,
                };
                let same =
                    |on: &KillSwitch| on.reason == after.reason && on.by_operator == by_operator;
                if before.as_ref().is_some_and(same) {
                    return Ok(());
                }
                write(&mut change.tx, tenant, Some(&after), set_by, by_operator).await?;
                Ok(change.commit(Change::kill_switch_on(&after)).await?)
            }
            Turn::Off(why) => {
                let Some(was) = before else { return Ok(()) };
                write(&mut change.tx, tenant, None, set_by, by_operator).await?;
                let off = Change::kill_switch_off(&was, why.as_deref());
                Ok(change.commit(off).await?)
            }
        }
    }
}

/// The switch of `tenant`, locked, if it is on.
async fn lock(
    tx: &mut PgConnection,
    tenant: Option<TenantId>,
    set_by: PrincipalId,
    by_operator: bool,
) -> Result<Option<KillSwitch>> {
    sqlx::query(sql::MAKE_KILL_SWITCH)
        .bind(tenant.map(TenantId::as_uuid))
        .bind(set_by.as_uuid())
        .bind(by_operator)
        .execute(&mut *tx)
        .await?;
    let row: PgRow = sqlx::query(sql::LOCK_KILL_SWITCH)
        .bind(tenant.map(TenantId::as_uuid))
        .fetch_one(&mut *tx)
        .await?;
    let since: Option<Timestamp> = row.try_get("since")?;
    Ok(since.map(|_| KillSwitch::from_row(&row)).transpose()?)
}

async fn write(
    tx: &mut PgConnection,
    tenant: Option<TenantId>,
    after: Option<&KillSwitch>,
    set_by: PrincipalId,
    by_operator: bool,
) -> Result<()> {
    sqlx::query(sql::SET_KILL_SWITCH)
        .bind(tenant.map(TenantId::as_uuid))
        .bind(after.map(|on| on.since))
        .bind(after.map(|on| on.reason.as_str()))
        .bind(set_by.as_uuid())
        .bind(by_operator)
        .execute(tx)
        .await?;
    Ok(())
}
