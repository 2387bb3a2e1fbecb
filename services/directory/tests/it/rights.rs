//! What each role of the database may do, tried.

use sqlx::{AssertSqlSafe, Executor as _, PgPool};

use crate::world::World;

const TABLES: [&str; 5] = [
    "tenants",
    "principals",
    "api_keys",
    "kill_switches",
    "outbox",
];

async fn denied(pool: &PgPool, sql: String) {
    let error = pool
        .execute(AssertSqlSafe(sql.clone()))
        .await
        .expect_err(&sql);
    let code = error.as_database_error().and_then(|error| error.code());
    assert_eq!(code.as_deref(), Some("42501"), "{sql}: {error}");
}

#[tokio::test]
async fn the_role_of_the_keys_calls_one_function_and_sees_nothing() {
    let world = World::new().await;
    for table in TABLES {
        denied(&world.keys, format!("SELECT FROM directory.{table}")).await;
        denied(&world.keys, format!("DELETE FROM directory.{table}")).await;
    }
    denied(
        &world.keys,
        "INSERT INTO directory.tenants DEFAULT VALUES".into(),
    )
    .await;
    denied(&world.keys, "CREATE TABLE directory.mine ()".into()).await;
    let functions: Vec<String> = sqlx::query_scalar(
        "SELECT p.proname::text FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
          WHERE n.nspname = 'directory' AND has_function_privilege('runledger_keys', p.oid, 'EXECUTE')",
    )
    .fetch_all(&world.admin)
    .await
    .unwrap();
    assert_eq!(functions, ["authenticate"]);
    assert!(world.opens(&world.operator).await);
    // A table or a function of the same name, in front of ours, deceives nobody.
    let mut one = world.keys.acquire().await.unwrap();
    one.execute("CREATE TEMPORARY TABLE api_keys (digest bytea)")
        .await
        .unwrap();
    one.execute("SET search_path = pg_temp, directory")
        .await
        .unwrap();
    let digest = runledger_domain::digest::of(world.operator.as_bytes());
    let rows: i64 = sqlx::query_scalar("SELECT count(*) FROM directory.authenticate($1)")
        .bind(digest.as_slice())
        .fetch_one(&mut *one)
        .await
        .unwrap();
    assert_eq!(rows, 1);
}

#[tokio::test]
async fn other_services_have_no_door() {
    let world = World::new().await;
    for role in ["runledger_runs_writer", "runledger_runs_reader"] {
        let pool = world.database.pool(role, "directory");
        denied(&pool, "SELECT FROM directory.authenticate('')".into()).await;
        denied(&pool, "SELECT FROM directory.tenants".into()).await;
    }
}

#[tokio::test]
async fn the_writer_deletes_nothing_and_rewrites_no_history() {
    let world = World::new().await;
    world.home("Acme").await;
    let pool = world.database.pool("runledger_directory", "directory");
    for table in TABLES {
        denied(&pool, format!("DELETE FROM directory.{table}")).await;
        denied(&pool, format!("TRUNCATE directory.{table}")).await;
    }
    for (table, column) in [
        ("tenants", "name = 'x'"),
        ("tenants", "created_at = now()"),
        ("principals", "tenant_id = NULL"),
        ("principals", "name = 'x'"),
        ("api_keys", "digest = '\\x00'"),
        ("api_keys", "principal_id = NULL"),
        ("api_keys", "mode = 'live'"),
        ("outbox", "detail = '{}'"),
        ("outbox", "actor_id = NULL"),
        ("outbox", "at = now()"),
    ] {
        denied(&pool, format!("UPDATE directory.{table} SET {column}")).await;
    }
    pool.execute("UPDATE directory.outbox SET relayed_at = now()")
        .await
        .unwrap();
}

#[tokio::test]
async fn row_level_security_binds_the_owner_too() {
    let world = World::new().await;
    world.home("Acme").await;
    let unbound: Vec<String> = sqlx::query_scalar(
        "SELECT c.relname::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
          WHERE n.nspname = 'directory' AND c.relkind IN ('r', 'p')
            AND NOT (c.relrowsecurity AND c.relforcerowsecurity AND pg_get_userbyid(c.relowner) = 'runledger_migrator')",
    )
    .fetch_all(&world.admin)
    .await
    .unwrap();
    assert_eq!(unbound, Vec::<String>::new());
    let owner = world.database.pool("runledger_migrator", "directory");
    let seen: (i64, i64) = sqlx::query_as(
        "SELECT (SELECT count(*) FROM directory.tenants), (SELECT count(*) FROM directory.outbox)",
    )
    .fetch_one(&owner)
    .await
    .unwrap();
    assert_eq!(seen, (1, 0), "what authenticate() needs, and no more");
    let changed = owner
        .execute("UPDATE directory.principals SET role = 'admin'; DELETE FROM directory.api_keys")
        .await
        .unwrap();
    assert_eq!(changed.rows_affected(), 0);
    denied(
        &owner,
        "INSERT INTO directory.tenants SELECT * FROM directory.tenants".into(),
    )
    .await;
    // Nobody else got a right by the way.
    for role in [
        "runledger_runs_writer",
        "runledger_runs_reader",
        "runledger_keys",
    ] {
        let visible: i64 = sqlx::query_scalar(
            "SELECT count(*) FROM information_schema.role_table_grants WHERE table_schema = 'directory' AND grantee = $1",
        )
        .bind(role)
        .fetch_one(&world.admin)
        .await
        .unwrap();
        assert_eq!(visible, 0, "{role}");
    }
}

#[tokio::test]
async fn the_tables_refuse_what_the_service_would_never_write() {
    let world = World::new().await;
    let home = world.home("Acme").await;
    let tenant = &home.tenant_id;
    let cases = [
        // Records of the operators lie under this id.
        ("INSERT INTO directory.tenants (tenant_id, name, records_per_second, bytes_per_second, commands_per_second, created_at)
          VALUES ('00000000-0000-0000-0000-000000000000', 'x', 1, 1024, 1, now())".to_owned(), "tenants_not_nil_check"),
        (format!("INSERT INTO directory.principals (principal_id, tenant_id, name, kind, role, created_at)
                  VALUES (gen_random_uuid(), '{tenant}', 'x', 'user', 'operator', now())"), "principals_operator_check"),
        ("INSERT INTO directory.principals (principal_id, name, kind, role, created_at)
          VALUES (gen_random_uuid(), 'x', 'user', 'admin', now())".to_owned(), "principals_operator_check"),
        ("INSERT INTO directory.principals (principal_id, name, kind, role, created_at)
          VALUES (gen_random_uuid(), 'operator', 'user', 'operator', now())".to_owned(), "principals_name_key"),
        (format!("INSERT INTO directory.api_keys (key_id, realm, principal_id, digest, head, tail, label, mode, created_at)
                  VALUES (gen_random_uuid(), '{tenant}', '{}', '\\x00', 'aaaa', 'bbbb', '', 'live', now())", home.admin_id),
         "api_keys_digest_check"),
        (format!("INSERT INTO directory.api_keys (key_id, realm, principal_id, digest, head, tail, label, mode, created_at)
                  SELECT gen_random_uuid(), '{tenant}', principal_id, sha256('x'), 'aaaa', 'bbbb', '', 'live', now()
                    FROM directory.principals WHERE role = 'operator'"), "api_keys_principal_fkey"),
    ];
    for (sql, constraint) in cases {
        let error = world.admin.execute(AssertSqlSafe(sql)).await.unwrap_err();
        assert_eq!(runledger_postgres::constraint(&error), Some(constraint));
    }
}
