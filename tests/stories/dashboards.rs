//! Boards show a tenant what it has, by SQL, and nobody else; whoever signs in as one cannot become another.

use std::fs;
use std::time::Duration;

use prost_types::Timestamp as WireTime;
use runledger_domain::scope::Role;
use runledger_proto::billing::v1 as billing;
use runledger_proto::billing::v1::billing_service_client::BillingServiceClient;
use runledger_proto::policy::v1 as policy;
use runledger_proto::run::v1::RunIngestServiceAppendRequest;
use runledger_testkit::eventually;
use runledger_tests::{Installation, Kind, Tenant, facts, seed};
use serde_json::Value;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, Connection as _, Executor as _};

use crate::approvals::desk::{Desk, call, decided, new_id, on_tool};

const SOON: Duration = Duration::from_secs(60);
const RUNS: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../deploy/demo/airline-agent-runs.jsonl"
);
const BOARDS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/grafana/boards");
/// How fresh read models are, is not of any tenant.
const OF_NOBODY: &str = "dashboard.lag";

#[tokio::test(flavor = "multi_thread")]
async fn boards_show_a_tenant_what_it_has_and_nothing_to_anybody_else() {
    let mut installation = Installation::start("dashboards").await;
    installation.govern(1, 1).await;
    installation.bill(1, 1).await;
    installation.analytics().await;
    let ours = Tenant::create(&installation, "ours").await;
    let theirs = Tenant::create(&installation, "theirs").await;
    let mut roles = Roles::new(&installation);
    let mut we = roles.create("ours", &["--tenant", &ours.id]).await;
    let mut they = roles.create("theirs", &["--tenant", &theirs.id]).await;
    let mut sandbox = roles
        .create("sandbox", &["--tenant", &ours.id, "--mode", "sandbox"])
        .await;
    roles.refuses(&ours).await;

    happen(&installation, &ours).await;
    has_arrived(&mut we).await;
    for board in boards() {
        for (title, sql) in panels(&board) {
            let shown = rows(&mut we, &sql).await;
            // Nothing of the kind has happened.
            let may_be_empty = ["Parked records", "Owed", "Spent"].contains(&title.as_str());
            assert!(
                may_be_empty || shown.iter().any(says_something),
                "{title} shows nothing: {sql}"
            );
            for stranger in [&mut they, &mut sandbox] {
                let shown = rows(stranger, &sql).await;
                let is_blind = !shown.iter().any(says_something);
                assert!(
                    is_blind || sql.contains(OF_NOBODY),
                    "{title} shows a stranger {shown:?}"
                );
            }
        }
    }
    assert_real(&mut we).await;
    assert_bound(&mut they, &ours, &roles).await;
    follows_what_is_served(&installation, &ours, &mut we).await;

    roles.drop_all().await;
    let refused = we.fetch_all("SELECT 1 FROM dashboard.runs").await;
    assert_eq!(code(refused.err()).as_deref(), Some("42501"));
    installation.assert_unharmed();
}

/// Real runs; a call that is approved, one that waits, and one that no policy covers; credits, and usage without a price.
async fn happen(installation: &Installation, tenant: &Tenant) {
    let (imported, said) = installation
        .people(50, &["import", RUNS], tenant.key(Role::Agent))
        .await;
    assert!(imported, "{said}");
    let mut admin = Desk::role(installation, tenant, Role::Admin);
    let held = admin
        .create("pay", on_tool("pay", policy::Action::RequireApproval))
        .await;
    let known = [held];
    let people = tenant.reviewers(installation, 1).await;
    let mut agent = Desk::role(installation, tenant, Role::Agent);
    for (number, tool) in ["pay", "pay", "think"].into_iter().enumerate() {
        let asked = call("governed", number, tool, "{}");
        let answered = agent
            .request(&new_id(), asked, &known)
            .await
            .expect("an answer");
        if number == 0 {
            let approval = decided(answered).approval_id;
            let mut reviewer = Desk::of(installation, 0, &people[0]);
            reviewer
                .approve(&new_id(), &approval)
                .await
                .expect("a vote");
        }
    }
    let connection = installation.connection(Kind::Billing, 0, tenant.key(Role::Admin));
    let mut billing = BillingServiceClient::new(connection);
    let granted = billing.grant_credits(billing::GrantCreditsRequest {
        id: new_id(),
        account_id: "default".into(),
        terms: Some(billing::GrantTerms {
            amount_micros: 7_500_000,
            kind: billing::GrantKind::Paid.into(),
            ..Default::default()
        }),
        reason: "to begin with".into(),
    });
    granted.await.expect("a grant");
    let held = billing.reserve_credits(billing::ReserveCreditsRequest {
        id: new_id(),
        account_id: "default".into(),
        amount_micros: 500_000,
        expires_at: Some(WireTime {
            seconds: 4_102_444_800,
            nanos: 0,
        }),
        spender: None,
    });
    held.await.expect("a hold");
}

async fn has_arrived(role: &mut PgConnection) {
    let counts = "SELECT (SELECT count(*) FROM dashboard.runs WHERE ended_at IS NOT NULL) AS runs,
        (SELECT count(*) FROM dashboard.approvals) AS approvals,
        (SELECT count(*) FROM dashboard.approvals WHERE status = 'approved') AS approved,
        (SELECT sum(count) FROM dashboard.activity_days WHERE subject = 'tool_call') AS calls,
        (SELECT sum(available)::bigint FROM dashboard.accounts) AS available,
        (SELECT count(*) > 0 FROM dashboard.spending) AS is_charged";
    let role = std::sync::Arc::new(tokio::sync::Mutex::new(role));
    eventually(SOON, || async {
        let found = rows(&mut **role.lock().await, counts).await;
        let wanted = serde_json::json!({
            "runs": 200, "approvals": 2, "approved": 1, "calls": 1_167, "available": 7, "is_charged": true,
        });
        if found == [wanted] { Ok(()) } else { Err(format!("{found:?}")) }
    })
    .await;
}

/// What is known of the real runs.
async fn assert_real(role: &mut PgConnection) {
    let tools = "SELECT tool, count(*) AS calls FROM dashboard.tool_calls GROUP BY tool ORDER BY calls DESC LIMIT 1";
    let top = serde_json::json!({ "tool": "get_reservation_details", "calls": 377 });
    assert_eq!(rows(role, tools).await, [top]);
    let runs = "SELECT count(*) FILTER (WHERE status = 'succeeded') AS succeeded, sum(failed_tool_calls) AS failed_calls
        FROM dashboard.runs";
    let runs = rows(role, runs).await;
    assert_eq!(
        runs,
        [serde_json::json!({ "succeeded": 84, "failed_calls": 73 })]
    );
}

/// Signed in as one of theirs, nothing of ours can be had, nor anything changed.
async fn assert_bound(role: &mut PgConnection, ours: &Tenant, roles: &Roles<'_>) {
    let refused = role.execute("CREATE TABLE dashboard.mine ()").await;
    assert_eq!(code(refused.err()).as_deref(), Some("25006"));
    role.execute("SET default_transaction_read_only = off")
        .await
        .expect("a setting");
    for statement in [
        "DELETE FROM dashboard.runs".to_owned(),
        "CREATE TABLE dashboard.mine ()".to_owned(),
        "SELECT * FROM runs.runs".to_owned(),
        "SELECT * FROM analytics.rollups".to_owned(),
        "SELECT * FROM dashboard.roles".to_owned(),
        "SELECT * FROM dashboard.definitions".to_owned(),
        "SELECT dashboard.follow(NULL)".to_owned(),
        "SELECT * FROM directory.tenants".to_owned(),
        "SET ROLE runledger_migrator".to_owned(),
        "SET ROLE runledger_runs_reader".to_owned(),
        format!("SET SESSION AUTHORIZATION {}", roles.name("ours")),
        format!("SET ROLE {}", roles.name("ours")),
        "ALTER ROLE CURRENT_USER SUPERUSER".to_owned(),
    ] {
        let refused = role
            .execute(sqlx::raw_sql(AssertSqlSafe(statement.clone())))
            .await;
        assert_eq!(code(refused.err()).as_deref(), Some("42501"), "{statement}");
    }
    // What it may set changes nothing of what it sees.
    for setting in [
        format!("SET runledger.tenant = '{}'", ours.id),
        "SET runledger.mode = 'live'".to_owned(),
        "SET ROLE runledger_dashboard".to_owned(),
    ] {
        role.execute(sqlx::raw_sql(AssertSqlSafe(setting)))
            .await
            .expect("a setting");
        assert!(rows(role, "SELECT 1 FROM dashboard.runs").await.is_empty());
    }
    role.execute("SET row_security = off")
        .await
        .expect("a setting");
    let refused = role.fetch_all("SELECT 1 FROM dashboard.runs").await;
    assert_eq!(code(refused.err()).as_deref(), Some("42501"));
}

/// Of what Postgres has refused; `None`: it did it.
fn code(refused: Option<sqlx::Error>) -> Option<String> {
    let refused = refused?;
    let code = refused.as_database_error().and_then(|error| error.code());
    Some(code.unwrap_or_default().into_owned())
}

/// The views go over to what a rebuild has built, and hold up neither it nor the end of what was before.
async fn follows_what_is_served(
    installation: &Installation,
    tenant: &Tenant,
    role: &mut PgConnection,
) {
    for (number, arguments) in [
        ["rebuild", "runs"].as_slice(),
        &["rebuild", "runs", "--finish"],
    ]
    .into_iter()
    .enumerate()
    {
        let (built, said) = installation
            .command(60 + u32::try_from(number).expect("few"), arguments)
            .await;
        assert!(built, "{said}");
    }
    for (number, arguments) in [
        ["rebuild", "analytics"].as_slice(),
        &["rebuild", "analytics", "--finish"],
    ]
    .into_iter()
    .enumerate()
    {
        let number = 70 + u32::try_from(number).expect("few");
        let (built, said) = installation.analytics_command(number, arguments).await;
        assert!(built, "{said}");
    }
    assert_real(role).await;
    let run = facts::run_started(&mut seed("dashboards"), "after-the-rebuild");
    let request = RunIngestServiceAppendRequest { facts: vec![run] };
    let appended = installation
        .clients(tenant.key(Role::Agent))
        .runs_in
        .append(request)
        .await;
    appended.expect("a run");
    let counts =
        "SELECT (SELECT count(*) FROM dashboard.runs WHERE run_id = 'after-the-rebuild') AS run,
        (SELECT sum(count) FROM dashboard.activity_days WHERE subject = 'run') AS runs";
    let role = std::sync::Arc::new(tokio::sync::Mutex::new(role));
    eventually(SOON, || async {
        let found = rows(&mut **role.lock().await, counts).await;
        let wanted = serde_json::json!({ "run": 1, "runs": 201 });
        if found == [wanted] {
            Ok(())
        } else {
            Err(format!("{found:?}"))
        }
    })
    .await;
}

/// Roles that this story has made. They are of the whole server, so their names are this story's own.
struct Roles<'a> {
    installation: &'a Installation,
    made: Vec<String>,
    own: String,
}

impl<'a> Roles<'a> {
    fn new(installation: &'a Installation) -> Self {
        Self {
            installation,
            made: Vec::new(),
            own: format!("{:016x}", rand::random::<u64>()),
        }
    }

    fn name(&self, name: &str) -> String {
        format!("runledger_dashboard_{name}_{}", self.own)
    }

    async fn command(&self, number: usize, arguments: &[&str]) -> (bool, String) {
        let number = u32::try_from(number).expect("few");
        let arguments = [&["dashboard-role"], arguments].concat();
        self.installation.people(number, &arguments, "").await
    }

    /// Signed in as it, by what the command has printed.
    async fn create(&mut self, name: &str, of: &[&str]) -> PgConnection {
        let name = format!("{name}_{}", self.own);
        let arguments = [&["create", &name], of].concat();
        let (made, said) = self.command(self.made.len(), &arguments).await;
        assert!(made, "{said}");
        self.made.push(name);
        let address = said.lines().find(|line| line.starts_with("postgres://"));
        let options: PgConnectOptions = address.expect("an address").parse().expect("an address");
        PgConnection::connect_with(&options)
            .await
            .expect("a way in")
    }

    async fn refuses(&self, tenant: &Tenant) {
        let there = format!("ours_{}", self.own);
        let nobody = new_id();
        for (number, (arguments, reason)) in [
            (
                ["create", &there, "--tenant", &tenant.id].as_slice(),
                "ROLE_EXISTS",
            ),
            (
                &["create", "nobody", "--tenant", &nobody],
                "TENANT_NOT_FOUND",
            ),
            (&["create", "o'r", "--tenant", &tenant.id], "NAME_MALFORMED"),
            (&["create", "mine", "--tenant", "mine"], "invalid value"),
            (&["drop", "nobody"], "ROLE_NOT_FOUND"),
        ]
        .into_iter()
        .enumerate()
        {
            let (done, said) = self.command(10 + number, arguments).await;
            assert!(!done && said.contains(reason), "{arguments:?}: {said}");
        }
        let (listed, said) = self.command(20, &["list"]).await;
        assert!(listed && said.contains(&self.name("ours")), "{said}");
    }

    async fn drop_all(&self) {
        for (number, name) in self.made.iter().enumerate() {
            let (dropped, said) = self.command(30 + number, &["drop", name]).await;
            assert!(dropped, "{said}");
        }
    }
}

fn boards() -> Vec<Value> {
    let files = fs::read_dir(BOARDS).expect("the boards");
    let boards: Vec<Value> = files
        .map(|file| fs::read(file.expect("a board").path()).expect("a board"))
        .map(|board| serde_json::from_slice(&board).expect("a board in JSON"))
        .collect();
    assert_eq!(boards.len(), 4);
    boards
}

/// Titles and queries, as Grafana would send them for all time.
fn panels(board: &Value) -> Vec<(String, String)> {
    let mut panels = Vec::new();
    for panel in board["panels"].as_array().expect("panels") {
        let title = panel["title"].as_str().expect("a title");
        for target in panel["targets"].as_array().expect("targets") {
            let sql = target["rawSql"].as_str().expect("a query");
            panels.push((title.to_owned(), expanded(sql)));
        }
    }
    assert!(panels.len() >= 5);
    panels
}

fn expanded(sql: &str) -> String {
    let mut said = sql.to_owned();
    for (name, to) in [
        ("$__timeFilter(", "{} BETWEEN '2024-01-01' AND '2100-01-01'"),
        ("$__timeGroup(", "date_bin({1}, {}, 'epoch'::timestamptz)"),
    ] {
        while let Some(at) = said.find(name) {
            let rest = &said[at + name.len()..];
            let end = rest.find(')').expect("its end");
            let mut arguments = rest[..end].split(", ");
            let first = arguments.next().expect("a column");
            let second = arguments.next().unwrap_or_default();
            let becomes = to.replace("{1}", second).replace("{}", first);
            said = format!("{}{becomes}{}", &said[..at], &rest[end + 1..]);
        }
    }
    assert!(!said.contains('$'), "{said}");
    said
}

async fn rows(role: &mut PgConnection, sql: &str) -> Vec<Value> {
    let sql = format!("SELECT to_jsonb(panel) FROM ({sql}) AS panel");
    let rows = sqlx::query_scalar(AssertSqlSafe(sql.clone()))
        .fetch_all(role)
        .await;
    rows.unwrap_or_else(|error| panic!("{sql}: {error}"))
}

/// Whether a row has anything that is not nothing.
fn says_something(row: &Value) -> bool {
    let is_nothing = |value: &Value| value.is_null() || value.as_f64() == Some(0.0);
    row.as_object()
        .is_some_and(|row| !row.values().all(is_nothing))
}
