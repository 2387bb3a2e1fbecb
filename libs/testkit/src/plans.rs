//! How the server would run a statement.

use sqlx::{AssertSqlSafe, Executor as _, PgConnection, PgPool, Row as _};

/// The plan, line by line. `prepared`: what follows the name in `PREPARE`; `values`: one a parameter.
pub async fn plan(connection: &mut PgConnection, prepared: &str, values: &str) -> String {
    let explain = format!("PREPARE planned {prepared}; EXPLAIN EXECUTE planned ({values})");
    let rows = connection
        .fetch_all(sqlx::raw_sql(AssertSqlSafe(explain)))
        .await
        .expect("the statement is sound");
    connection
        .execute("DEALLOCATE planned")
        .await
        .expect("it was prepared");
    let plan: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    plan.join("\n")
}

/// Plans as connections with these settings of the server do.
pub async fn plan_with(connection: &mut PgConnection, settings: &[(&str, &str)]) {
    for (setting, value) in settings {
        let set = format!("SET {setting} = {value}");
        connection
            .execute(AssertSqlSafe(set))
            .await
            .expect("a setting of the server");
    }
}

/// That a statement over columns looks its rows up by primary keys and by nothing else, already
/// while the tables are empty: what a connection plans then it goes on doing when they have grown.
pub async fn assert_by_key(connection: &mut PgConnection, sql: &str) {
    let (plan, indexes) = indexes(connection, sql).await;
    let is_key = |index: &String| index.ends_with("_pkey");
    assert!(
        !indexes.is_empty() && indexes.iter().all(is_key),
        "{sql}\n{plan}"
    );
}

/// That a statement scans these indexes, in this order, and no table, already while the tables are empty.
pub async fn assert_by_indexes(connection: &mut PgConnection, sql: &str, expected: &[&str]) {
    let (plan, indexes) = indexes(connection, sql).await;
    let is_scan = |line: &str| line.contains("Seq Scan") || line.contains("Bitmap");
    assert!(!plan.lines().any(is_scan), "{sql}\n{plan}");
    assert_eq!(indexes, expected, "{sql}\n{plan}");
}

/// The plan of a statement over columns, and the indexes that it uses.
async fn indexes(connection: &mut PgConnection, sql: &str) -> (String, Vec<String>) {
    let parameters = (1..40).take_while(|number| sql.contains(&format!("${number}")));
    let nulls = vec!["NULL"; parameters.count()].join(", ");
    let plan = plan(connection, &format!("AS {sql}"), &nulls).await;
    let used = plan.lines().filter_map(|line| {
        let (scan, rest) = line.split_once(" using ")?;
        let index = rest.split_once(" on ")?.0;
        scan.contains("Index").then(|| index.to_owned())
    });
    let indexes = used.collect();
    (plan, indexes)
}

/// That outcomes are asked for without a look at the whole table of commands, even where that is known
/// to be empty. `schema`: whose.
pub async fn assert_outcomes_by_key(pool: &PgPool, schema: &str) {
    let mut transaction = pool.begin().await.expect("a transaction");
    transaction
        .execute(AssertSqlSafe(format!("ANALYZE {schema}.commands")))
        .await
        .expect("counted");
    let asked = format!(
        "SELECT count(*) FROM {schema}.outcomes(ARRAY[gen_random_uuid()], '{{live}}', '{{s}}', ARRAY[gen_random_uuid()])"
    );
    transaction
        .execute(AssertSqlSafe(asked))
        .await
        .expect("no outcome");
    let (scans, lookups): (i64, i64) = sqlx::query_as(
        "SELECT pg_stat_get_xact_numscans(to_regclass($1)), pg_stat_get_xact_numscans(to_regclass($2))",
    )
    .bind(format!("{schema}.commands"))
    .bind(format!("{schema}.commands_pkey"))
    .fetch_one(&mut *transaction)
    .await
    .expect("counted");
    assert_eq!((scans, lookups), (0, 1), "{schema}");
}
