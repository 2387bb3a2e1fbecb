//! Every statement of the directory, by name; a test has Postgres prepare each of them.

macro_rules! statements {
    ($($name:ident = $sql:expr;)+) => {
        $(pub(crate) const $name: &str = $sql;)+

        #[cfg(test)]
        const ALL: &[(&str, &str)] = &[$((stringify!($name), $sql)),+];
    };
}

statements! {
    // Nobody waits on a lock for longer than a caller would.
    BOUND_WAIT = "SET LOCAL lock_timeout = '5s'";
    PROBE = "SELECT FROM directory.tenants LIMIT 1";
    PROBE_KEYS = "SELECT FROM directory.authenticate('')";

    INSERT_TENANT = include_str!("../sql/insert_tenant.sql");
    GET_TENANT = "SELECT tenant_id, name, records_per_second, bytes_per_second, commands_per_second, created_at
          FROM directory.tenants WHERE tenant_id = $1";
    LOCK_TENANT = "SELECT tenant_id, name, records_per_second, bytes_per_second, commands_per_second, created_at
          FROM directory.tenants WHERE tenant_id = $1 FOR NO KEY UPDATE";
    LIST_TENANTS = include_str!("../sql/list_tenants.sql");
    SET_LIMITS = "UPDATE directory.tenants SET records_per_second = $2, bytes_per_second = $3, commands_per_second = $4
         WHERE tenant_id = $1";

    INSERT_PRINCIPAL = "INSERT INTO directory.principals (principal_id, tenant_id, name, kind, role, created_at)
        VALUES ($1, $2, $3, $4, $5, $6)
        RETURNING principal_id, tenant_id, name, kind, role, created_at, disabled_at";
    // The first operator. The unique name lets one of many through, whoever they are.
    INSERT_FIRST_OPERATOR = "INSERT INTO directory.principals (principal_id, name, kind, role, created_at)
        VALUES ($1, $2, 'user', 'operator', $3) ON CONFLICT ON CONSTRAINT principals_name_key DO NOTHING";
    GET_PRINCIPAL = "SELECT principal_id, tenant_id, name, kind, role, created_at, disabled_at
          FROM directory.principals WHERE principal_id = $1 AND ($2::uuid IS NULL OR realm = $2)";
    LOCK_PRINCIPAL = "SELECT principal_id, tenant_id, name, kind, role, created_at, disabled_at
          FROM directory.principals WHERE principal_id = $1 AND ($2::uuid IS NULL OR realm = $2) FOR NO KEY UPDATE";
    // Who heads a realm is changed by one transaction at a time.
    LOCK_REALM = "SELECT pg_advisory_xact_lock(hashtextextended('runledger.directory.realm.' || $1::uuid::text, 0))";
    COUNT_HEADS = "SELECT count(*) FROM directory.principals WHERE realm = $1 AND role = $2 AND disabled_at IS NULL";
    LIST_PRINCIPALS = include_str!("../sql/list_principals.sql");
    SET_ROLE = "UPDATE directory.principals SET role = $2 WHERE principal_id = $1";
    DISABLE_PRINCIPAL = "UPDATE directory.principals SET disabled_at = $2 WHERE principal_id = $1";

    INSERT_KEY = include_str!("../sql/insert_key.sql");
    LOCK_KEY = include_str!("../sql/lock_key.sql");
    END_KEY = include_str!("../sql/end_key.sql");
    LIST_KEYS = include_str!("../sql/list_keys.sql");

    MAKE_KILL_SWITCH = "INSERT INTO directory.kill_switches (tenant_id, set_by, by_operator) VALUES ($1, $2, $3)
        ON CONFLICT ON CONSTRAINT kill_switches_target_key DO NOTHING";
    LOCK_KILL_SWITCH = "SELECT tenant_id, since, reason, set_by, by_operator FROM directory.kill_switches
         WHERE tenant_id IS NOT DISTINCT FROM $1::uuid FOR UPDATE";
    SET_KILL_SWITCH = "UPDATE directory.kill_switches SET since = $2, reason = $3, set_by = $4, by_operator = $5
         WHERE tenant_id IS NOT DISTINCT FROM $1::uuid";
    LIST_KILL_SWITCHES = include_str!("../sql/list_kill_switches.sql");

    INSERT_OUTBOX = include_str!("../sql/insert_outbox.sql");
    // Held by the connection until it ends.
    LOCK_RELAY = "SELECT pg_try_advisory_lock(hashtextextended('runledger.directory.relay', 0))";
    UNRELAYED = include_str!("../sql/unrelayed.sql");
    OLDEST_UNRELAYED = "SELECT at FROM directory.outbox WHERE relayed_at IS NULL ORDER BY sequence LIMIT 1";
    MARK_RELAYED = "UPDATE directory.outbox SET relayed_at = $2 WHERE id = ANY($1) AND relayed_at IS NULL";
}

#[cfg(test)]
mod tests {
    use runledger_testkit::Database;
    use sqlx::{Executor as _, SqlStr};

    use super::*;

    #[tokio::test]
    async fn postgres_prepares_every_statement() {
        let database = Database::fresh().await;
        let pool = database.pool("runledger_directory", "directory");
        for &(name, sql) in ALL {
            let prepared = pool.prepare(SqlStr::from_static(sql)).await;
            assert!(prepared.is_ok(), "{name}: {prepared:?}");
        }
    }
}
