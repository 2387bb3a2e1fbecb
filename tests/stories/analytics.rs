//! What agents do is counted exactly, for those who may know, and the same when it is counted anew.

mod questions;

use std::time::Duration;

use runledger_domain::scope::Role;
use runledger_proto::analytics::v1 as wire;
use runledger_proto::analytics::v1::analytics_service_client::AnalyticsServiceClient;
use runledger_proto::common::v1::ReadOptions;
use runledger_proto::policy::v1 as policy;
use runledger_proto::run::v1 as run;
use runledger_service::client::Connection;
use runledger_service::status::reason;
use runledger_testkit::eventually;
use runledger_tests::{Installation, Kind, Tenant, facts, seed};
use tonic::Code;

use crate::approvals::desk::{Desk, call, decided, new_id, on_tool};

type Analytics = AnalyticsServiceClient<Connection>;

const SOON: Duration = Duration::from_secs(60);
const RUNS: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../deploy/demo/airline-agent-runs.jsonl"
);

fn analytics(installation: &Installation, key: &str) -> Analytics {
    AnalyticsServiceClient::new(installation.connection(Kind::Analytics, 0, key))
}

fn at(seconds: i64) -> Option<prost_types::Timestamp> {
    Some(prost_types::Timestamp { seconds, nanos: 0 })
}

/// All of the years 2024 to 2030.
fn years() -> Option<wire::Range> {
    Some(wire::Range {
        from: at(1_704_067_200),
        to: at(1_924_992_000),
    })
}

fn read(token: &str) -> Option<ReadOptions> {
    Some(ReadOptions {
        at_least: vec![token.to_owned()],
        max_wait: Some(prost_types::Duration {
            seconds: 10,
            nanos: 0,
        }),
    })
}

fn question(subject: wire::Subject, group_by: &[wire::Dimension]) -> wire::Question {
    wire::Question {
        subject: subject.into(),
        range: years(),
        group_by: group_by.iter().map(|one| (*one).into()).collect(),
        ..wire::Question::default()
    }
}

async fn ask(analytics: &Analytics, question: wire::Question) -> wire::QueryResponse {
    let request = wire::QueryRequest {
        question: Some(question),
        ..wire::QueryRequest::default()
    };
    let answered = analytics.clone().query(request).await;
    answered.expect("an answer").into_inner()
}

fn total(answer: &wire::QueryResponse) -> u64 {
    answer.total.expect("a total").count
}

async fn summary(analytics: &Analytics, include_failed: bool) -> wire::GetRunSummaryResponse {
    let request = wire::GetRunSummaryRequest {
        range: years(),
        include_failed,
        ..wire::GetRunSummaryRequest::default()
    };
    let answered = analytics.clone().get_run_summary(request).await;
    answered.expect("a summary").into_inner()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_agents_do_is_counted_exactly_and_the_same_anew() {
    let mut installation = Installation::start("analytics").await;
    installation.govern(1, 1).await;
    installation.analytics().await;
    let ours = Tenant::create(&installation, "ours").await;
    let theirs = Tenant::create(&installation, "theirs").await;
    import(&installation, &ours).await;
    let viewer = analytics(&installation, ours.key(Role::Viewer));
    assert_real_runs(&viewer).await;
    questions::are_answered(&viewer).await;
    questions::that_are_none_are_refused(&viewer).await;

    let stranger = analytics(&installation, theirs.key(Role::Admin));
    assert_eq!(summary(&stranger, true).await.total, 0);
    let messages = question(wire::Subject::Message, &[]);
    assert_eq!(total(&ask(&stranger, messages).await), 0);
    let sandbox = analytics(&installation, &ours.sandbox_keys[&Role::Viewer]);
    assert_eq!(summary(&sandbox, true).await.total, 0);

    assert_read_your_writes(&installation, &theirs).await;
    assert_governed(&installation, &theirs).await;

    let (whole, said) = installation
        .analytics_command(1, &["verify", "analytics"])
        .await;
    assert!(whole, "{said}");
    let (built, said) = installation
        .analytics_command(2, &["rebuild", "analytics"])
        .await;
    assert!(built, "{said}");
    assert_real_runs(&viewer).await;
    assert_retired(&installation, &viewer).await;
    installation.assert_unharmed();
}

/// The runs are of 2024. Without their minutes their years are what they were; a part that minutes alone could answer is
/// refused; and folding it all anew comes to the same.
async fn assert_retired(installation: &Installation, viewer: &Analytics) {
    let finish = ["rebuild", "analytics", "--finish"];
    let (done, said) = installation.analytics_command(6, &finish).await;
    assert!(done, "{said}");
    let nonsense = ["retire", "--minutes", "30d", "--days", "20d"];
    let (done, said) = installation.analytics_command(3, &nonsense).await;
    assert!(
        !done && said.contains("minutes cannot be kept for longer"),
        "{said}"
    );
    let (done, said) = installation
        .analytics_command(4, &["retire", "--minutes", "2d", "--quarters", "30d"])
        .await;
    assert!(done && said.contains(" rollups of "), "{said}");
    assert!(!said.lines().any(|line| line.starts_with("0 ")), "{said}");
    assert_real_runs(viewer).await;
    let of_minutes = wire::Question {
        range: Some(wire::Range {
            from: at(1_704_067_260),
            to: at(1_924_992_000),
        }),
        ..question(wire::Subject::Run, &[])
    };
    let request = wire::QueryRequest {
        question: Some(of_minutes),
        ..wire::QueryRequest::default()
    };
    let refused = viewer
        .clone()
        .query(request)
        .await
        .expect_err("it is retired");
    assert_eq!(refused.code(), Code::FailedPrecondition, "{refused:?}");
    assert!(refused.message().contains("kept from"), "{refused:?}");
    let (whole, said) = installation
        .analytics_command(5, &["verify", "analytics"])
        .await;
    assert!(whole, "{said}");
}

async fn import(installation: &Installation, tenant: &Tenant) {
    let key = tenant.key(Role::Agent);
    let (imported, said) = installation.people(1, &["import", RUNS], key).await;
    assert!(imported, "{said}");
    let viewer = analytics(installation, tenant.key(Role::Viewer));
    eventually(SOON, || async {
        let calls = ask(&viewer, question(wire::Subject::ToolCall, &[])).await;
        let messages = ask(&viewer, question(wire::Subject::Message, &[])).await;
        let counted = (total(&calls), total(&messages));
        if counted == (1_164, 2_870) {
            Ok(())
        } else {
            Err(format!("{counted:?}"))
        }
    })
    .await;
}

/// 200 runs, 84 succeeded, 1,164 tool calls, 73 failed, 2,870 messages; as their source counts them.
async fn assert_real_runs(viewer: &Analytics) {
    let runs = summary(viewer, true).await;
    assert_eq!((runs.total, runs.failed), (200, 116));
    assert_eq!(runs.completed + runs.completed_with_errors, 84);
    assert!(runs.completed_with_errors > 0);
    assert_eq!((runs.success_rate, runs.agents), (Some(420), 1));
    assert_eq!(runs.failed_runs.len(), 100);
    assert!(
        runs.failed_runs
            .iter()
            .all(|one| one.error_code == "GOAL_NOT_REACHED"),
        "{:?}",
        runs.failed_runs[0]
    );
    assert_eq!(runs.durations.expect("durations").count, 200);
    let by_status = question(wire::Subject::ToolCall, &[wire::Dimension::Status]);
    let by_status = ask(viewer, by_status).await;
    let failed = by_status.rows.iter().find(|row| row.group == ["failed"]);
    assert_eq!(
        failed
            .expect("failed calls")
            .measures
            .expect("measures")
            .count,
        73
    );
    assert_eq!(total(&by_status), 1_164);
    let tools = ask(
        viewer,
        question(wire::Subject::ToolCall, &[wire::Dimension::Tool]),
    )
    .await;
    assert_eq!(tools.groups, 14);
    assert_eq!(tools.rows[0].group, ["get_reservation_details"]);
    assert_eq!(tools.rows[0].measures.expect("measures").count, 377);
}

/// What a write's token covers is counted at once, in whatever stream it lies.
async fn assert_read_your_writes(installation: &Installation, tenant: &Tenant) {
    let mut rng = seed("analytics");
    let mut agent = installation.clients(tenant.key(Role::Agent));
    let viewer = analytics(installation, tenant.key(Role::Viewer));
    for number in 1..=50_u64 {
        let run_id = format!("fresh-{number}");
        let request = run::RunIngestServiceAppendRequest {
            facts: vec![facts::run_started(&mut rng, &run_id)],
        };
        let appended = agent
            .runs_in
            .append(request)
            .await
            .expect("appended")
            .into_inner();
        let request = wire::QueryRequest {
            question: Some(question(wire::Subject::Run, &[])),
            read: read(&appended.token),
            ..wire::QueryRequest::default()
        };
        let answered = viewer.clone().query(request).await.expect("an answer");
        assert_eq!(total(answered.get_ref()), number);
    }
}

/// A call that is held and approved, one that is blocked, and one that nobody had a policy for; the token
/// of the last of them.
async fn govern(installation: &Installation, tenant: &Tenant) -> String {
    let mut admin = Desk::role(installation, tenant, Role::Admin);
    let held = admin
        .create("pay", on_tool("pay", policy::Action::RequireApproval))
        .await;
    let blocked = admin
        .create("wipe", on_tool("wipe", policy::Action::Block))
        .await;
    let known = [held, blocked];
    let people = tenant.reviewers(installation, 1).await;
    let mut reviewer = Desk::of(installation, 0, &people[0]);
    let mut agent = Desk::role(installation, tenant, Role::Agent);
    let mut last = String::new();
    for (number, tool) in ["pay", "wipe", "think"].into_iter().enumerate() {
        let asked = call("governed", number, tool, "{}");
        let answered = agent
            .request(&new_id(), asked, &known)
            .await
            .expect("an answer");
        last.clone_from(&answered.token);
        if tool == "pay" {
            let approval = decided(answered).approval_id;
            reviewer
                .approve(&new_id(), &approval)
                .await
                .expect("a vote");
        }
    }
    last
}

async fn assert_governed(installation: &Installation, tenant: &Tenant) {
    let last = govern(installation, tenant).await;
    let viewer = analytics(installation, tenant.key(Role::Viewer));
    let request = wire::GetFunnelRequest {
        range: years(),
        read: read(&last),
        ..wire::GetFunnelRequest::default()
    };
    let funnel = viewer
        .clone()
        .get_funnel(request)
        .await
        .expect("a funnel")
        .into_inner();
    let calls = (funnel.asked, funnel.held, funnel.blocked, funnel.allowed);
    assert_eq!(calls, (3, 1, 1, 1), "{funnel:?}");
    assert_eq!((funnel.approved, funnel.pending), (1, 0));
    assert_eq!(funnel.waiting.expect("an answer").count, 1);
    let request = wire::GetCoverageRequest {
        range: years(),
        ..wire::GetCoverageRequest::default()
    };
    let coverage = viewer
        .clone()
        .get_coverage(request)
        .await
        .expect("coverage")
        .into_inner();
    let bare: Vec<&str> = coverage
        .tools
        .iter()
        .filter(|one| one.covered == 0)
        .map(|one| &*one.tool)
        .collect();
    assert_eq!(bare, ["think"], "{coverage:?}");
    let request = wire::DiagnoseRunRequest {
        run: Some(wire::diagnose_run_request::Run::RunId("governed".into())),
        ..wire::DiagnoseRunRequest::default()
    };
    let told = viewer
        .clone()
        .diagnose_run(request)
        .await
        .expect("a diagnosis")
        .into_inner();
    assert_eq!((told.tool_calls, told.blocked_tool_calls), (3, 1));
    assert_eq!(told.causes[0].kind, "CALL_BLOCKED");
    let request = wire::DiagnoseRunRequest {
        run: Some(wire::diagnose_run_request::Run::RunId("nobody's".into())),
        ..wire::DiagnoseRunRequest::default()
    };
    let refused = viewer
        .clone()
        .diagnose_run(request)
        .await
        .expect_err("no such run");
    assert_eq!(
        (refused.code(), reason(&refused).as_deref()),
        (Code::NotFound, Some("RUN_NOT_FOUND"))
    );
}
