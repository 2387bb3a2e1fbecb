//! Questions over the real runs, and questions that are none.

use runledger_proto::analytics::v1 as wire;
use runledger_service::status::reason;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use super::{Analytics, ask, at, question, summary, total, years};

pub(super) async fn are_answered(viewer: &Analytics) {
    by_time(viewer).await;
    exported(viewer).await;
    compared(viewer).await;
    let request = wire::GetInsightsRequest {
        range: years(),
        read: None,
    };
    let insights = viewer
        .clone()
        .get_insights(request)
        .await
        .expect("insights")
        .into_inner();
    let told: Vec<&str> = insights.insights.iter().map(|one| &*one.message).collect();
    let uncovered = "Calls of get_reservation_details that no policy covers: 377.";
    assert!(told.contains(&uncovered), "{told:#?}");
    let failed = summary(viewer, true).await.failed_runs;
    let request = wire::DiagnoseRunRequest {
        run: Some(wire::diagnose_run_request::Run::LatestFailureOfAgentId(
            failed[0].agent_id.clone(),
        )),
        read: None,
    };
    let told = viewer
        .clone()
        .diagnose_run(request)
        .await
        .expect("a diagnosis")
        .into_inner();
    assert_eq!(
        (told.run_id, told.status),
        (failed[0].run_id.clone(), "failed".to_owned())
    );
    assert_eq!(told.causes[0].kind, "RUN_ERROR");
}

/// However a range is cut, and by whose clocks: the same sum.
async fn by_time(viewer: &Analytics) {
    for zone in ["", "Europe/Berlin", "Asia/Kathmandu", "America/St_Johns"] {
        for granularity in [
            wire::Granularity::Day,
            wire::Granularity::Week,
            wire::Granularity::Month,
        ] {
            let question = wire::Question {
                granularity: granularity.into(),
                time_zone: zone.into(),
                durations: true,
                ..question(wire::Subject::ToolCall, &[wire::Dimension::Status])
            };
            let answer = ask(viewer, question).await;
            let rows = answer
                .rows
                .iter()
                .map(|row| row.measures.expect("measures"));
            let (mut calls, mut ended) = (0, 0);
            for measures in rows {
                calls += measures.count;
                ended += measures.durations.map_or(0, |one| one.count);
            }
            assert_eq!((calls, ended), (1_164, 1_164), "{zone} {granularity:?}");
            assert!(
                answer
                    .rows
                    .iter()
                    .all(|row| row.begin.is_some() && !row.period.is_empty())
            );
        }
    }
    // A part of a day, to the minute: what the whole has is in one part or the other.
    let first = summary(viewer, true).await.failed_runs;
    let middle = first[50].started_at.expect("a start").seconds / 60 * 60;
    let mut halves = 0;
    for (from, to) in [(1_704_067_200, middle), (middle, 1_924_992_000)] {
        let question = wire::Question {
            range: Some(wire::Range {
                from: at(from),
                to: at(to),
            }),
            ..question(wire::Subject::Run, &[])
        };
        let half = total(&ask(viewer, question).await);
        assert!(half > 0);
        halves += half;
    }
    assert_eq!(halves, 200);
}

async fn exported(viewer: &Analytics) {
    let by_tool = wire::Question {
        durations: true,
        ..question(
            wire::Subject::ToolCall,
            &[wire::Dimension::Tool, wire::Dimension::Status],
        )
    };
    let request = wire::ExportQueryRequest {
        question: Some(by_tool),
        read: None,
    };
    let mut chunks = viewer
        .clone()
        .export_query(request)
        .await
        .expect("an export")
        .into_inner();
    let (mut csv, mut as_of) = (Vec::new(), None);
    while let Some(chunk) = chunks.message().await.expect("a chunk") {
        csv.extend(chunk.csv);
        as_of = chunk.as_of;
    }
    let text = String::from_utf8(csv).expect("text");
    let mut lines = text.split_terminator("\r\n");
    let head = "tool,status,count,quantity,ended,mean_seconds,p50_seconds,p90_seconds,p99_seconds";
    assert_eq!(lines.next(), Some(head));
    let counts = lines.map(|line| {
        line.split(',')
            .nth(2)
            .expect("a count")
            .parse::<u64>()
            .expect("a number")
    });
    assert_eq!(counts.sum::<u64>(), 1_164);
    assert!(as_of.is_some());
}

async fn compared(viewer: &Analytics) {
    let tool = |tool: &str| wire::Filter {
        dimension: wire::Dimension::Tool.into(),
        values: vec![tool.into()],
    };
    let request = wire::CompareRequest {
        question: Some(wire::Question {
            filters: vec![tool("get_reservation_details")],
            ..question(wire::Subject::ToolCall, &[])
        }),
        other_filters: vec![tool("think")],
        ..wire::CompareRequest::default()
    };
    let compared = viewer
        .clone()
        .compare(request)
        .await
        .expect("both")
        .into_inner();
    assert_eq!(compared.total.expect("a total").count, 377);
    assert!(compared.other_total.expect("the other").count > 0);
    assert_eq!(compared.range, compared.other_range);
    let request = wire::CompareRequest {
        question: Some(question(wire::Subject::Run, &[wire::Dimension::Agent])),
        ..wire::CompareRequest::default()
    };
    let compared = viewer
        .clone()
        .compare(request)
        .await
        .expect("both")
        .into_inner();
    assert_eq!(
        (
            compared.total.expect("a total").count,
            compared.other_total.expect("the other").count
        ),
        (200, 0)
    );
    assert_eq!(
        compared.other_range.expect("a range").to,
        compared.range.expect("a range").from
    );
}

/// Code and reasons, those of fields included.
fn refusal(refused: &Status) -> (Code, Vec<String>) {
    let details = refused.get_error_details();
    let fields = details
        .bad_request()
        .map(|bad| bad.field_violations.clone());
    let fields = fields.unwrap_or_default().into_iter();
    let mut reasons: Vec<String> = fields
        .map(|one| format!("{} {}", one.field, one.description))
        .collect();
    reasons.extend(reason(refused));
    (refused.code(), reasons)
}

/// What it is, the question, how many groups of it, and the field at fault.
type Case = (&'static str, wire::Question, u32, &'static str);

fn runs(change: impl FnOnce(&mut wire::Question)) -> wire::Question {
    let mut runs = question(wire::Subject::Run, &[]);
    change(&mut runs);
    runs
}

fn between(from: i64, to: i64) -> wire::Question {
    runs(|runs| {
        runs.range = Some(wire::Range {
            from: at(from),
            to: at(to),
        });
    })
}

fn by(group_by: &[i32]) -> wire::Question {
    runs(|runs| runs.group_by = group_by.to_vec())
}

fn of_tools(tools: usize) -> wire::Filter {
    wire::Filter {
        dimension: wire::Dimension::Tool.into(),
        values: vec!["pay".into(); tools],
    }
}

fn only(filters: &[wire::Filter]) -> wire::Question {
    runs(|runs| runs.filters = filters.to_vec())
}

fn cases() -> Vec<Case> {
    let every_minute = runs(|runs| runs.granularity = 1);
    let mut every_day = by(&[1]);
    every_day.granularity = 3;
    let mars = runs(|runs| runs.time_zone = "Mars/Olympus".into());
    vec![
        (
            "no subject",
            runs(|one| one.subject = 0),
            0,
            "question.subject",
        ),
        (
            "an unknown one",
            runs(|one| one.subject = 9),
            0,
            "question.subject",
        ),
        (
            "no range",
            runs(|one| one.range = None),
            0,
            "question.range",
        ),
        ("upside down", between(60, 0), 0, "question.range.to"),
        ("of nothing", between(60, 60), 0, "question.range.to"),
        (
            "a thousand years",
            between(0, 31_556_952_000),
            0,
            "question.range.to",
        ),
        ("an unknown dimension", by(&[77]), 0, "question.group_by"),
        ("a dimension twice", by(&[1, 1]), 0, "question.group_by"),
        (
            "five dimensions",
            by(&[1, 2, 3, 4, 5]),
            0,
            "question.group_by",
        ),
        (
            "of no value",
            only(&[of_tools(0)]),
            0,
            "question.filters[0].values",
        ),
        (
            "many values",
            only(&[of_tools(101)]),
            0,
            "question.filters[0].values",
        ),
        (
            "a filter twice",
            only(&[of_tools(1), of_tools(1)]),
            0,
            "question.filters",
        ),
        ("a zone of nobody", mars, 0, "question.time_zone"),
        ("minutes of years", every_minute, 0, "question.granularity"),
        ("days of many groups", every_day, 1_000, "limit"),
    ]
}

pub(super) async fn that_are_none_are_refused(viewer: &Analytics) {
    for (name, question, limit, field) in cases() {
        let request = wire::QueryRequest {
            question: Some(question),
            limit,
            read: None,
        };
        let refused = viewer.clone().query(request).await.expect_err(name);
        let (code, reasons) = refusal(&refused);
        assert_eq!(code, Code::InvalidArgument, "{name}: {refused:?}");
        let field = format!("{field} ");
        assert!(
            reasons.iter().any(|one| one.starts_with(&field)),
            "{name}: {reasons:?}"
        );
    }
    let request = wire::CompareRequest {
        question: Some(runs(|runs| runs.granularity = 3)),
        ..wire::CompareRequest::default()
    };
    let refused = viewer.clone().compare(request).await.expect_err("days");
    assert_eq!(refused.code(), Code::InvalidArgument);
    let request = wire::GetRunSummaryRequest {
        range: years(),
        filters: vec![of_tools(1)],
        ..wire::GetRunSummaryRequest::default()
    };
    let refused = viewer
        .clone()
        .get_run_summary(request)
        .await
        .expect_err("runs of a tool");
    assert!(
        refusal(&refused).1[0].starts_with("filters "),
        "{refused:?}"
    );
    let none = wire::DiagnoseRunRequest::default();
    let refused = viewer.clone().diagnose_run(none).await.expect_err("no run");
    assert_eq!(refused.code(), Code::InvalidArgument);
}
