//! Places in Postgres where a rebuild waits for as long as a story wants it to.
//!
//! Triggers of the story's own ask for an advisory lock that everybody shares, unless the story
//! holds it: so a phase is caught by being seen to wait, and not by being fast.

use std::time::Duration;

use runledger_testkit::eventually;
use sqlx::pool::PoolConnection;
use sqlx::{PgPool, Postgres, Transaction};

/// How long a rebuild may take to come to a gate.
const ARRIVAL: Duration = Duration::from_secs(30);
/// How long the connections of a process that was killed may live on, whatever they wait for.
const AFTERLIFE: Duration = Duration::from_secs(3);
/// As the rebuild names itself in `pg_stat_activity`.
const REBUILD: &str = "runledger runs upkeep";

/// Where a rebuild can be held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Gate {
    /// In the transaction that applies the messages to this generation.
    Messages(i32),
    /// With the first of its indexes made.
    Indexes,
    /// With all of its tables logged, before that is committed.
    Logged,
    /// At the switch, before it holds the projector still.
    Freeze,
    /// In the transaction of the switch, before it names the new generation.
    Switch,
    /// In its commit.
    Commit,
}

impl Gate {
    fn number(self) -> i32 {
        match self {
            Self::Indexes => 1,
            Self::Logged => 2,
            Self::Switch => 3,
            Self::Commit => 4,
            Self::Freeze => 5,
            Self::Messages(generation) => 100 + generation,
        }
    }
}

const GATES: &str = r"
CREATE SCHEMA gates;
GRANT USAGE ON SCHEMA gates TO PUBLIC;
CREATE FUNCTION gates.pass(number integer) RETURNS void LANGUAGE sql AS
    $$ SELECT pg_advisory_xact_lock_shared(4711, number) $$;
CREATE FUNCTION gates.on_row() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM gates.pass(100 + substring(TG_TABLE_SCHEMA FROM '\d+$')::integer);
    RETURN NEW;
END $$;
CREATE FUNCTION gates.on_table() RETURNS event_trigger LANGUAGE plpgsql AS $$
DECLARE
    made record;
BEGIN
    FOR made IN SELECT * FROM pg_event_trigger_ddl_commands() WHERE object_identity ~ '^runs_\d+\.records$' LOOP
        EXECUTE format('CREATE OR REPLACE TRIGGER gate BEFORE INSERT ON %s FOR EACH ROW WHEN (NEW.family = ''message'') '
                       'EXECUTE FUNCTION gates.on_row()', made.object_identity);
    END LOOP;
END $$;
CREATE EVENT TRIGGER on_table ON ddl_command_end WHEN TAG IN ('CREATE TABLE') EXECUTE FUNCTION gates.on_table();
CREATE FUNCTION gates.on_index() RETURNS event_trigger LANGUAGE plpgsql AS
    $$ BEGIN PERFORM gates.pass(1); END $$;
CREATE EVENT TRIGGER on_index ON ddl_command_end WHEN TAG IN ('CREATE INDEX') EXECUTE FUNCTION gates.on_index();
CREATE FUNCTION gates.on_alter() RETURNS event_trigger LANGUAGE plpgsql AS $$
BEGIN
    IF current_query() ~ '^ALTER TABLE runs_\d+\.occurrences SET LOGGED' THEN PERFORM gates.pass(2); END IF;
END $$;
CREATE EVENT TRIGGER on_alter ON ddl_command_end WHEN TAG IN ('ALTER TABLE') EXECUTE FUNCTION gates.on_alter();
CREATE FUNCTION gates.on_switch() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM gates.pass(TG_ARGV[0]::integer);
    RETURN NEW;
END $$;
CREATE TRIGGER on_switch BEFORE UPDATE ON runs.active_generation FOR EACH ROW EXECUTE FUNCTION gates.on_switch(3);
CREATE FUNCTION gates.on_freeze() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF current_query() ~ 'frozen = true' THEN PERFORM gates.pass(5); END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER on_freeze BEFORE UPDATE OF frozen ON runs.cursors FOR EACH STATEMENT EXECUTE FUNCTION gates.on_freeze();
CREATE CONSTRAINT TRIGGER on_commit AFTER UPDATE ON runs.active_generation DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION gates.on_switch(4);
";

/// The gates of a database, all open at first.
pub(super) struct Gates {
    pub(super) admin: PgPool,
}

/// A gate that is shut for as long as this lives.
pub(super) struct Shut {
    gate: Gate,
    connection: PoolConnection<Postgres>,
}

impl Gates {
    pub(super) async fn build(admin: PgPool) -> Self {
        sqlx::raw_sql(GATES)
            .execute(&admin)
            .await
            .expect("the gates");
        Self { admin }
    }

    pub(super) async fn shut(&self, gate: Gate) -> Shut {
        let mut connection = self.admin.acquire().await.expect("a connection");
        sqlx::query("SELECT pg_advisory_lock(4711, $1)")
            .bind(gate.number())
            .execute(&mut *connection)
            .await
            .expect("the lock of a gate");
        Shut { gate, connection }
    }

    /// Opens it, and whoever waits goes on.
    pub(super) async fn open(&self, shut: Shut) {
        let mut connection = shut.connection;
        sqlx::query("SELECT pg_advisory_unlock(4711, $1)")
            .bind(shut.gate.number())
            .execute(&mut *connection)
            .await
            .expect("an open gate");
    }

    /// Waits until somebody stands there.
    pub(super) async fn somebody_waits_at(&self, shut: &Shut) {
        let waiting = "SELECT count(*) FROM pg_locks
                        WHERE locktype = 'advisory' AND classid = 4711 AND objid = $1::integer::oid AND NOT granted
                          AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
        eventually(ARRIVAL, async || {
            let waiting: i64 = sqlx::query_scalar(waiting)
                .bind(shut.gate.number())
                .fetch_one(&self.admin)
                .await
                .expect("the locks");
            (waiting > 0)
                .then_some(())
                .ok_or_else(|| format!("nobody at {:?}", shut.gate))
        })
        .await;
    }

    /// Asks for a table of a generation, for itself alone, behind those who have it now. Nobody else
    /// gets it before `Taken` is dropped.
    pub(super) async fn take(&self, table: String) -> Transaction<'static, Postgres> {
        let mut tx = self.admin.begin().await.expect("a transaction");
        sqlx::raw_sql(sqlx::AssertSqlSafe(format!(
            "LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE"
        )))
        .execute(&mut *tx)
        .await
        .expect("the table");
        tx
    }

    /// Waits until this many of the rebuild's statements, or the story's own, that read so wait for
    /// a table.
    pub(super) async fn waits_for_table(&self, statement: &str) {
        eventually(ARRIVAL, async || {
            let waiting: i64 = sqlx::query_scalar(
                "SELECT count(*) FROM pg_stat_activity a JOIN pg_locks l USING (pid)
                  WHERE a.datname = current_database() AND a.query LIKE $1 AND l.locktype = 'relation' AND NOT l.granted",
            )
            .bind(format!("{statement}%"))
            .fetch_one(&self.admin)
            .await
            .expect("the locks");
            (waiting > 0)
                .then_some(())
                .ok_or_else(|| format!("nobody waits with {statement}"))
        })
        .await;
    }

    /// Waits until nothing of a rebuild that was killed is left in Postgres, although a gate or a
    /// lock that it waits for is still shut.
    pub(super) async fn nothing_is_left_running(&self) {
        eventually(AFTERLIFE, async || {
            let left: Vec<String> = sqlx::query_scalar(
                "SELECT query FROM pg_stat_activity WHERE datname = current_database() AND application_name = $1",
            )
            .bind(REBUILD)
            .fetch_all(&self.admin)
            .await
            .expect("who is connected");
            left.is_empty()
                .then_some(())
                .ok_or_else(|| format!("still there: {left:?}"))
        })
        .await;
    }
}
