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

pub(super) async fn that_are_none_are_refused(viewer: &Analytics) {
    let runs = || question(wire::Subject::Run, &[]);
    let range = |from, to| {
        Some(wire::Range {
            from: at(from),
            to: at(to),
        })
    };
    let filter = |values: Vec<String>| wire::Filter {
        dimension: wire::Dimension::Tool.into(),
        values,
    };
    let cases: Vec<(&str, wire::Question, u32, &str)> = vec![
        (
            "no subject",
            wire::Question {
                subject: 0,
                ..runs()
            },
            0,
            "question.subject",
        ),
        (
            "an unknown subject",
            wire::Question {
                subject: 99,
                ..runs()
            },
            0,
            "question.subject",
        ),
        (
            "no range",
            wire::Question {
                range: None,
                ..runs()
            },
            0,
            "question.range",
        ),
        (
            "upside down",
            wire::Question {
                range: range(60, 0),
                ..runs()
            },
            0,
            "question.range.to",
        ),
        (
            "of nothing",
            wire::Question {
                range: range(60, 60),
                ..runs()
            },
            0,
            "question.range.to",
        ),
        (
            "a thousand years",
            wire::Question {
                range: range(0, 31_556_952_000),
                ..runs()
            },
            0,
            "question.range.to",
        ),
        (
            "an unknown dimension",
            wire::Question {
                group_by: vec![77],
                ..runs()
            },
            0,
            "question.group_by",
        ),
        (
            "a dimension twice",
            wire::Question {
                group_by: vec![1, 1],
                ..runs()
            },
            0,
            "question.group_by",
        ),
        (
            "five dimensions",
            wire::Question {
                group_by: vec![1, 2, 3, 4, 5],
                ..runs()
            },
            0,
            "question.group_by",
        ),
        (
            "a filter of nothing",
            wire::Question {
                filters: vec![filter(vec![])],
                ..runs()
            },
            0,
            "question.filters[0].values",
        ),
        (
            "a filter twice",
            wire::Question {
                filters: vec![filter(vec!["a".into()]); 2],
                ..runs()
            },
            0,
            "question.filters",
        ),
        (
            "many values",
            wire::Question {
                filters: vec![filter(vec!["a".into(); 101])],
                ..runs()
            },
            0,
            "question.filters[0].values",
        ),
        (
            "a zone that is none",
            wire::Question {
                time_zone: "Mars/Olympus".into(),
                ..runs()
            },
            0,
            "question.time_zone",
        ),
        (
            "minutes of years",
            wire::Question {
                granularity: 1,
                ..runs()
            },
            0,
            "question.granularity",
        ),
        (
            "days of many groups",
            wire::Question {
                granularity: 3,
                group_by: vec![1],
                ..runs()
            },
            1_000,
            "limit",
        ),
    ];
    for (name, question, limit, field) in cases {
        let request = wire::QueryRequest {
            question: Some(question),
            limit,
            read: None,
        };
        let refused = viewer.clone().query(request).await.expect_err(name);
        let (code, reasons) = refusal(&refused);
        assert_eq!(code, Code::InvalidArgument, "{name}: {refused:?}");
        assert!(
            reasons
                .iter()
                .any(|one| one.starts_with(&format!("{field} "))),
            "{name}: {reasons:?}"
        );
    }
    let request = wire::CompareRequest {
        question: Some(wire::Question {
            granularity: 3,
            ..runs()
        }),
        ..wire::CompareRequest::default()
    };
    let refused = viewer.clone().compare(request).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    let request = wire::GetRunSummaryRequest {
        range: years(),
        filters: vec![filter(vec!["pay".into()])],
        ..wire::GetRunSummaryRequest::default()
    };
    let refused = viewer.clone().get_run_summary(request).await.unwrap_err();
    assert!(
        refusal(&refused).1[0].starts_with("filters "),
        "{refused:?}"
    );
    let refused = viewer
        .clone()
        .diagnose_run(wire::DiagnoseRunRequest::default())
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
}
