use std::thread;

use anyhow::Context;
use runledger_postgres::Config;
use sha2::{Digest, Sha256};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, PgPool};

use crate::Stack;

/// The local password of every role; see deploy/dev.
const PASSWORD: &str = "runledger-dev";

/// A migrated database of one test's own; dropped with the value.
#[derive(Debug)]
pub struct Database {
    name: String,
    admin: PgConnectOptions,
}

impl Database {
    /// Makes one.
    ///
    /// # Panics
    /// When the test stack is away.
    pub async fn fresh() -> Self {
        Self::fresh_on(&Stack::get()).await
    }

    /// Makes one on this stack.
    ///
    /// # Panics
    /// When the stack is away.
    pub async fn fresh_on(stack: &Stack) -> Self {
        Self::create(&stack.postgres, true)
            .await
            .expect("a fresh database on the test stack; start it with `make up STACK=test`")
    }

    /// Makes one that is not migrated.
    ///
    /// # Panics
    /// When the test stack is away.
    pub async fn empty() -> Self {
        Self::create(&Stack::get().postgres, false)
            .await
            .expect("an empty database on the test stack; start it with `make up STACK=test`")
    }

    async fn create(admin: &PgConnectOptions, migrated: bool) -> anyhow::Result<Self> {
        let mut connection =
            PgConnection::connect_with(&admin.clone().database("postgres")).await?;
        let template = if migrated {
            template(admin, &mut connection).await?
        } else {
            "template0".to_owned()
        };
        let name = format!("test_{:016x}", rand::random::<u64>());
        execute(
            &mut connection,
            format!("CREATE DATABASE {name} TEMPLATE {template} OWNER runledger_migrator"),
        )
        .await?;
        Ok(Self {
            name,
            admin: admin.clone(),
        })
    }

    /// The config with which role `user` finds it.
    pub fn config(&self, user: &str) -> Config {
        Config {
            host: self.admin.get_host().into(),
            port: self.admin.get_port(),
            database: self.name.clone(),
            user: user.into(),
            password: PASSWORD.into(),
            ssl_mode: "disable".into(),
            connections_max: 8,
            acquire_timeout: std::time::Duration::from_secs(10),
            statement_timeout: std::time::Duration::from_secs(60),
        }
    }

    /// A pool of role `user` that looks up unqualified names in `schema`.
    ///
    /// # Panics
    /// When the config is malformed.
    pub fn pool(&self, user: &str, schema: &str) -> PgPool {
        runledger_postgres::connect(&self.config(user), "test", schema).expect("a pool")
    }

    /// A pool of the superuser, whom row-level security does not bind.
    pub fn admin(&self) -> PgPool {
        PgPoolOptions::new()
            .max_connections(4)
            .connect_lazy_with(self.admin.clone().database(&self.name))
    }

    pub fn name(&self) -> &str {
        &self.name
    }
}

impl Drop for Database {
    /// On a thread of its own: a test's runtime may be single-threaded, or gone.
    fn drop(&mut self) {
        let (name, admin) = (self.name.clone(), self.admin.clone().database("postgres"));
        let dropped = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            runtime.block_on(async {
                let mut connection = PgConnection::connect_with(&admin).await?;
                execute(
                    &mut connection,
                    format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)"),
                )
                .await
            })
        })
        .join();
        if !matches!(dropped, Ok(Ok(()))) {
            eprintln!("could not drop database {}: {dropped:?}", self.name);
        }
    }
}

/// The migrated template of these very migrations; made by whichever test comes first.
async fn template(
    admin: &PgConnectOptions,
    connection: &mut PgConnection,
) -> anyhow::Result<String> {
    let mut hasher = Sha256::new();
    for migration in runledger_postgres::migrator().iter() {
        hasher.update(migration.version.to_be_bytes());
        hasher.update(&migration.checksum);
    }
    let name = format!("template_{}", &hex::encode(hasher.finalize())[..16]);
    // One at a time, across processes; the lock goes with the connection.
    connection
        .execute("SELECT pg_advisory_lock(727182)")
        .await?;
    let there: bool = sqlx::query_scalar(
        "SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1 AND datistemplate)",
    )
    .bind(&name)
    .fetch_one(&mut *connection)
    .await?;
    if !there {
        execute(
            connection,
            format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)"),
        )
        .await?;
        execute(
            connection,
            format!("CREATE DATABASE {name} OWNER runledger_migrator"),
        )
        .await?;
        let options = admin
            .clone()
            .database(&name)
            .username("runledger_migrator")
            .password(PASSWORD);
        let pool = PgPoolOptions::new()
            .max_connections(1)
            .connect_with(options)
            .await?;
        runledger_postgres::migrate(&pool)
            .await
            .context("cannot migrate the template")?;
        pool.close().await;
        execute(
            connection,
            format!("ALTER DATABASE {name} IS_TEMPLATE true"),
        )
        .await?;
    }
    connection
        .execute("SELECT pg_advisory_unlock(727182)")
        .await?;
    Ok(name)
}

async fn execute(connection: &mut PgConnection, statement: String) -> anyhow::Result<()> {
    connection.execute(AssertSqlSafe(statement)).await?;
    Ok(())
}
