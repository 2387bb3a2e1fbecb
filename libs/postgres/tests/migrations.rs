//! Installations of every age have one schema: the one that is written down here.
//!
//! `tests/schema/<version>.txt` is the schema that the migrations up to that one make;
//! `migrations/released.sha384` names every migration by its content, and only grows. After adding a
//! migration: `make schema`, and commit what it writes.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use runledger_postgres::{migrate, migrator};
use runledger_testkit::Database;
use sqlx::PgPool;

const MIGRATOR: &str = "runledger_migrator";

/// The schema as text, sorted: equal texts, equal schemas.
async fn schema(pool: &PgPool) -> String {
    sqlx::query_scalar(include_str!("schema.sql"))
        .fetch_one(pool)
        .await
        .expect("the schema")
}

async fn schema_of(database: &Database) -> String {
    let admin = database.admin();
    let schema = schema(&admin).await;
    admin.close().await;
    schema
}

/// A migrator's pool, as `runledger migrate` makes it.
fn pool(database: &Database) -> PgPool {
    database.pool(MIGRATOR, "public")
}

fn versions() -> Vec<i64> {
    migrator().iter().map(|one| one.version).collect()
}

/// The schemas written down, by the last migration in them.
fn written() -> BTreeMap<i64, String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/schema");
    let entries = fs::read_dir(folder).expect("the schemas written down");
    let read = |path: PathBuf| {
        let stem = path.file_stem().expect("a name").to_string_lossy();
        let version = stem.parse().expect("a file is named by a version");
        (version, fs::read_to_string(path).expect("a schema"))
    };
    entries
        .map(|entry| read(entry.expect("an entry").path()))
        .collect()
}

/// What `make schema` takes over.
fn write_afresh(name: &str, text: &str) {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("schema");
    fs::create_dir_all(&folder).expect("a folder for what is written afresh");
    fs::write(folder.join(name), text).expect("a file");
}

/// Lines of one that the other lacks.
fn without<'a>(one: &'a str, other: &str) -> Vec<&'a str> {
    let other: Vec<&str> = other.lines().collect();
    one.lines().filter(|line| !other.contains(line)).collect()
}

fn assert_same(found: &str, expected: &str, what: &str) {
    assert!(
        found == expected,
        "{what}\nnot expected: {:#?}\nmissing: {:#?}\nif it is meant: make schema",
        without(found, expected),
        without(expected, found),
    );
}

#[tokio::test]
async fn a_new_database_has_the_schema_that_is_written_down() {
    let found = schema_of(&Database::fresh().await).await;
    let newest = *versions().last().expect("a migration");
    write_afresh(&format!("{newest}.txt"), &found);
    let written = written();
    let expected = written.get(&newest).map_or("", String::as_str);
    assert_same(&found, expected, &format!("tests/schema/{newest}.txt"));
}

#[tokio::test]
async fn an_installation_of_any_age_ends_up_with_the_schema_of_a_new_one() {
    let expected = schema_of(&Database::fresh().await).await;
    let written = written();
    for from in versions() {
        let database = Database::empty().await;
        let pool = pool(&database);
        migrator().run_to(from, &pool).await.expect("its age");
        if let Some(then) = written.get(&from) {
            let found = schema_of(&database).await;
            assert_same(&found, then, &format!("the schema of {from} has changed"));
        }
        migrate(&pool).await.expect("the upgrade");
        pool.close().await;
        let found = schema_of(&database).await;
        assert_same(&found, &expected, &format!("upgraded from {from}"));
    }
    let unknown: Vec<&i64> = written
        .keys()
        .filter(|version| !versions().contains(version))
        .collect();
    assert!(
        unknown.is_empty(),
        "schemas of no migration that there is: {unknown:?}"
    );
}

/// What was applied, when, and what the migrations put into tables.
async fn applied(pool: &PgPool) -> Vec<String> {
    let rows = "SELECT to_jsonb(m)::text FROM _sqlx_migrations AS m
                UNION ALL SELECT to_jsonb(g)::text FROM runs.active_generation AS g ORDER BY 1";
    let rows = sqlx::query_scalar(rows).fetch_all(pool).await;
    rows.expect("what was applied")
}

#[tokio::test(flavor = "multi_thread")]
async fn migrating_twice_or_from_several_places_at_once_is_harmless() {
    let expected = schema_of(&Database::fresh().await).await;
    let database = Database::empty().await;
    let pools = [(); 4].map(|()| pool(&database));
    let [a, b, c, d] = &pools;
    let all = tokio::join!(migrate(a), migrate(b), migrate(c), migrate(d));
    for one in [all.0, all.1, all.2, all.3] {
        one.expect("every one of them");
    }
    assert_same(&schema_of(&database).await, &expected, "four at once");
    let before = applied(a).await;
    assert_eq!(before.len(), versions().len() + 1);
    migrate(a).await.expect("a second time");
    assert_eq!(applied(a).await, before, "a second time");
    assert_same(&schema_of(&database).await, &expected, "a second time");
    for pool in pools {
        pool.close().await;
    }
}

/// Name and hash of the files, in the form of `sha384sum`.
fn checksums() -> Vec<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../migrations");
    let mut names: Vec<String> = fs::read_dir(folder)
        .expect("the migrations")
        .map(|entry| entry.expect("an entry").file_name().into_string())
        .map(|name| name.expect("a name in UTF-8"))
        .filter(|name| name.ends_with(".sql"))
        .collect();
    names.sort();
    let migrations: Vec<_> = migrator().iter().collect();
    assert_eq!(names.len(), migrations.len(), "a file each");
    let line = |(name, one): (&String, &&sqlx::migrate::Migration)| {
        assert!(name.starts_with(&format!("{}_", one.version)), "{name}");
        format!("{}  {name}", hex::encode(&one.checksum))
    };
    names.iter().zip(&migrations).map(line).collect()
}

#[test]
fn released_migrations_stay_as_they_were_and_new_ones_come_behind_them() {
    let released = include_str!("../../../migrations/released.sha384");
    let (heading, listed): (Vec<&str>, Vec<&str>) =
        released.lines().partition(|line| line.starts_with('#'));
    let found = checksums();
    // Never a line other than it is: what is written afresh only adds to them.
    let mut afresh = [heading, listed.clone()].concat();
    afresh.extend(found.iter().skip(listed.len()).map(String::as_str));
    write_afresh("released.sha384", &format!("{}\n", afresh.join("\n")));
    for (listed, found) in listed.iter().zip(&found) {
        assert_eq!(
            listed, found,
            "a released migration was changed, removed, or one was put before it; write a new one behind the last"
        );
    }
    assert!(
        found.len() >= listed.len(),
        "released migrations are gone: {:?}",
        &listed[found.len()..]
    );
    let new = &found[listed.len()..];
    assert!(
        new.is_empty(),
        "migrations that are not listed yet: {new:#?}\nmake schema"
    );
}
