//! P7: whatever comes over the wire gets the right answer, and no process minds.

use prost::Message as _;
use rand::rngs::StdRng;
use runledger_domain::ids::Incarnation;
use runledger_domain::log::Position;
use runledger_domain::scope::Role;
use runledger_eventlog::token::Token;
use runledger_proto::common::v1::append_result::Outcome;
use runledger_proto::common::v1::{AppendResult, ReadOptions};
use runledger_proto::run::v1::run_fact::Fact;
use runledger_proto::run::v1::{
    self as run, RunFact, RunIngestServiceAppendRequest, RunIngestServiceAppendResponse, RunStarted,
};
use runledger_service::status::reason;
use runledger_tests::{Asking, Clients, Installation, Rpc, Tenant, facts, seed};
use tonic::{Code, Status};
use uuid::Uuid;

const MIB: usize = 1024 * 1024;
const APPEND: &str = "/runledger.run.v1.RunIngestService/Append";
const LIST_RUNS: &str = "/runledger.run.v1.RunsService/ListRuns";

/// A tenant's agent and its means.
struct Scene {
    installation: Installation,
    key: String,
    clients: Clients,
    rng: StdRng,
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_input_is_refused_with_reasons_and_harms_nothing() {
    let rng = seed("bad input");
    let installation = Installation::start("bad-input").await;
    let tenant = Tenant::create(&installation, "story").await;
    let key = tenant.key(Role::Agent).to_owned();
    let mut scene = Scene {
        clients: installation.clients(&key),
        installation,
        key,
        rng,
    };
    scene.requests_that_are_none().await;
    scene.facts_that_are_refused().await;
    scene.json_comes_back_as_it_is_meant().await;
    scene.an_id_that_comes_again().await;
    scene.tokens_that_are_none().await;
    scene.pages_that_are_none().await;
    scene.installation.assert_unharmed();
}

impl Scene {
    /// Bytes and batches that are refused whole.
    async fn requests_that_are_none(&mut self) {
        let many = vec![facts::run_started(&mut self.rng, "run-many"); 1_001];
        let many = RunIngestServiceAppendRequest { facts: many };
        let not_utf8 = [0x0a, 4, 0x0a, 2, 0xff, 0xfe];
        let cases = [
            ("an empty batch", APPEND, Vec::new(), "EMPTY_BATCH"),
            (
                "too many facts",
                APPEND,
                many.encode_to_vec(),
                "BATCH_TOO_LARGE",
            ),
            (
                "half a million empty facts",
                APPEND,
                [0x0a, 0].repeat(MIB / 2),
                "BATCH_TOO_LARGE",
            ),
            (
                "more than 1 MiB",
                APPEND,
                vec![0; MIB + 1],
                "REQUEST_TOO_LARGE",
            ),
            ("no message", APPEND, vec![0xff; 64], "REQUEST_MALFORMED"),
            (
                "a message cut short",
                APPEND,
                vec![0x0a, 0x7f, 0x0a],
                "REQUEST_MALFORMED",
            ),
            (
                "text that is not UTF-8",
                APPEND,
                not_utf8.into(),
                "REQUEST_MALFORMED",
            ),
            (
                "text that is not UTF-8, read",
                LIST_RUNS,
                vec![0x12, 2, 0xc3, 0x28],
                "REQUEST_MALFORMED",
            ),
            (
                "a state that is none",
                LIST_RUNS,
                vec![0x08, 99],
                "INVALID_FIELDS",
            ),
        ];
        for (what, path, body, why) in cases {
            let rpc = Rpc::all()
                .into_iter()
                .find(|rpc| rpc.path == path)
                .expect("the rpc");
            let asking = Asking::new(&self.installation, &rpc)
                .key(&self.key)
                .body(body);
            let status = asking.call().await.expect_err(what);
            assert_refused(&status, why, what);
        }
    }

    /// Facts that are refused one by one, each with every fault, beside one that is accepted.
    async fn facts_that_are_refused(&mut self) {
        let cases = self.refused_facts();
        let good = self.started(|_| {});
        let facts = cases.iter().map(|(fact, _)| fact.clone());
        let answer = self.append(facts.chain([good.clone()]).collect()).await;
        for ((fact, why), result) in cases.iter().zip(&answer.results) {
            assert_eq!(result.id, fact.id);
            let expected: Vec<String> = why.iter().map(|why| (*why).to_owned()).collect();
            assert_eq!(faults(result), expected, "{fact:?}");
        }
        let last = answer.results.last().expect("a result");
        assert!(
            matches!(last.outcome, Some(Outcome::Accepted(_))),
            "{last:?}"
        );
        // Of all of them the good one alone is in the log.
        let request = run::ListRunsRequest {
            read: read(&answer.token),
            ..Default::default()
        };
        let listed = self.clients.runs.clone().list_runs(request).await;
        let runs = listed.expect("the runs").into_inner().runs;
        let ids: Vec<&str> = runs.iter().map(|run| run.run_id.as_str()).collect();
        assert_eq!(ids, [run_id(&good)]);
    }

    /// Facts, and what is said of each: the field and the reason.
    #[expect(clippy::too_many_lines, reason = "a table")]
    fn refused_facts(&mut self) -> Vec<(RunFact, &'static [&'static str])> {
        let deep = format!("{}{}", "[".repeat(65), "]".repeat(65));
        let json = |text: &str| {
            let input_json = text.to_owned();
            move |started: &mut RunStarted| started.input_json = input_json
        };
        let far = |seconds| Some(prost_types::Timestamp { seconds, nanos: 0 });
        vec![
            (
                RunFact::default(),
                &["id REQUIRED", "occurred_at REQUIRED", "fact REQUIRED"],
            ),
            (
                RunFact {
                    id: "17".into(),
                    cause_id: "x".into(),
                    ..self.started(|_| {})
                },
                &["id INVALID_UUID", "cause_id INVALID_UUID"],
            ),
            (
                self.started(|started| *started = RunStarted::default()),
                &["run_id REQUIRED", "agent_id REQUIRED", "trigger REQUIRED"],
            ),
            (
                self.started(|started| started.trigger = 99),
                &["trigger UNKNOWN_VALUE"],
            ),
            (
                self.started(|started| started.run_id = "r".repeat(129)),
                &["run_id TOO_LONG"],
            ),
            (
                self.started(|started| started.run_id = "a b".into()),
                &["run_id NOT_PRINTABLE"],
            ),
            (
                self.started(|started| started.task = "a\0b".into()),
                &["task NUL_CHARACTER"],
            ),
            (self.started(json(&deep)), &["input_json INVALID_JSON"]),
            (self.started(json("{")), &["input_json INVALID_JSON"]),
            (
                self.started(json(r#""\u0000""#)),
                &["input_json INVALID_JSON"],
            ),
            (
                self.started(json(r#""\ud800""#)),
                &["input_json INVALID_JSON"],
            ),
            (
                self.started(json(r#"{"a":1,"a":1}"#)),
                &["input_json INVALID_JSON"],
            ),
            (
                self.started(json(r#"{"a":1,"\u0061":1}"#)),
                &["input_json INVALID_JSON"],
            ),
            (
                self.started(json(&format!("{:?}", "x".repeat(260 * 1024)))),
                &[" RECORD_TOO_LARGE"],
            ),
            (
                RunFact {
                    occurred_at: far(1),
                    ..self.started(|_| {})
                },
                &["occurred_at OUT_OF_RANGE"],
            ),
            (
                RunFact {
                    occurred_at: far(i64::MAX),
                    ..self.started(|_| {})
                },
                &["occurred_at OUT_OF_RANGE"],
            ),
            (
                RunFact {
                    occurred_at: far(64_000_000_000),
                    ..self.started(|_| {})
                },
                &["occurred_at OUT_OF_RANGE"],
            ),
        ]
    }

    /// Large objects and large integers lose nothing.
    async fn json_comes_back_as_it_is_meant(&mut self) {
        let keys = (0..10_000).map(|key| format!("\"{key:05}\":{key}"));
        let wide = format!("{{{}}}", keys.collect::<Vec<_>>().join(","));
        let exact = "[9007199254740993,-9223372036854775808,18446744073709551615,123456789012345678901234567890]";
        let nested = format!("{}{}", "[".repeat(64), "]".repeat(64));
        let cases = [
            (wide.as_str(), wide.as_str()),
            (exact, exact),
            (nested.as_str(), nested.as_str()),
            (
                r#"{ "b" : 1, "a" : "\ud83d\ude00" }"#,
                r#"{"a":"😀","b":1}"#,
            ),
        ];
        for (sent, kept) in cases {
            let fact = self.started(|started| started.input_json = sent.into());
            let answer = self.append(vec![fact.clone()]).await;
            assert_eq!(faults(&answer.results[0]), Vec::<String>::new());
            let run = self
                .run(run_id(&fact), &answer.token)
                .await
                .expect("the run");
            assert_eq!(run.started.expect("its start").input_json, kept);
        }
    }

    /// The same id again: the first stands, and what differs is shown as a conflict.
    async fn an_id_that_comes_again(&mut self) {
        let first = self.started(|started| started.task = "the first".into());
        let mut other = first.clone();
        if let Some(Fact::RunStarted(started)) = &mut other.fact {
            started.task = "another".into();
        }
        let twice = self.append(vec![first.clone(), first.clone()]).await;
        assert_eq!(twice.results[0], twice.results[1]);
        let both = self.append(vec![first.clone(), other]).await;
        assert_eq!(faults(&both.results[1]), Vec::<String>::new());
        let again = self.append(vec![first.clone()]).await;

        let id = run_id(&first);
        let run = self.run(id, &again.token).await.expect("the run");
        assert_eq!(run.started.expect("its start").task, "the first");
        assert_eq!(run.totals.expect("totals").conflicts, 1);
        let request = run::GetTimelineRequest {
            run_id: id.into(),
            read: read(&again.token),
            ..Default::default()
        };
        let timeline = self.clients.runs.clone().get_timeline(request).await;
        let items = timeline.expect("the timeline").into_inner().items;
        let shown: Vec<_> = items
            .iter()
            .map(|item| (&item.record_id, item.conflicts))
            .collect();
        assert_eq!(shown, [(&first.id, 1)]);
    }

    /// Tokens that were never handed out here.
    async fn tokens_that_are_none(&mut self) {
        let fact = self.started(|_| {});
        let token = self.append(vec![fact.clone()]).await.token;
        let position = Token::parse(&token).expect("a token").positions().next();
        let position = position.expect("a position");
        let elsewhere = Position {
            incarnation: Incarnation::new(Uuid::from_u128(7)),
            ..position
        };
        let ahead = Position {
            offset: position.offset + 1_000_000,
            ..position
        };
        let made = |position| Token::from_positions([position]).to_string();
        let mut forged = token.clone().into_bytes();
        forged[8] = if forged[8] == b'A' { b'B' } else { b'A' };
        let cases = [
            (
                "forged",
                String::from_utf8(forged).expect("text"),
                "TOKEN_INVALID",
            ),
            (
                "cut short",
                token[..token.len() - 3].to_owned(),
                "TOKEN_INVALID",
            ),
            ("no token", "not a token".to_owned(), "TOKEN_INVALID"),
            ("too long", "A".repeat(100_000), "TOKEN_INVALID"),
            (
                "of another incarnation",
                made(elsewhere),
                "TOKEN_INCARNATION",
            ),
            ("of the future", made(ahead), "TOKEN_BEYOND_LOG"),
        ];
        for (what, token, why) in cases {
            let status = self.run(run_id(&fact), &token).await.expect_err(what);
            assert_refused(&status, why, what);
        }
        self.run(run_id(&fact), &token).await.expect("a good token");
    }

    /// Page tokens that were changed, or belong to another list.
    async fn pages_that_are_none(&mut self) {
        let (one, two) = (self.started(|_| {}), self.started(|_| {}));
        let token = self.append(vec![one, two]).await.token;
        let request = run::ListRunsRequest {
            page_size: 1,
            read: read(&token),
            ..Default::default()
        };
        let mut runs = self.clients.runs.clone();
        let page = runs
            .list_runs(request.clone())
            .await
            .expect("a page")
            .into_inner();
        let good = page.next_page_token;
        let mut tampered = good.clone().into_bytes();
        let last = tampered.len() - 4;
        tampered[last] = if tampered[last] == b'A' { b'B' } else { b'A' };
        let tampered = String::from_utf8(tampered).expect("text");
        let cases = [
            ("tampered with", tampered, String::new()),
            (
                "cut short",
                good[..good.len() - 1].to_owned(),
                String::new(),
            ),
            ("no page token", "second".to_owned(), String::new()),
            ("of other filters", good.clone(), "agent-2".to_owned()),
        ];
        for (what, page_token, agent_id) in cases {
            let request = run::ListRunsRequest {
                page_token,
                agent_id,
                ..request.clone()
            };
            let status = runs.list_runs(request).await.expect_err(what);
            assert_refused(&status, "PAGE_TOKEN_INVALID", what);
        }
        let request = run::ListRunsRequest {
            page_token: good,
            ..request
        };
        runs.list_runs(request).await.expect("the next page");
        let request = run::TailRunRequest {
            run_id: "run-1".into(),
            resume_token: "here".into(),
            ..Default::default()
        };
        let status = runs.tail_run(request).await.expect_err("no resume token");
        assert_refused(&status, "RESUME_TOKEN_INVALID", "no resume token");
    }

    /// The start of a run of its own, changed by `change`.
    fn started(&mut self, change: impl FnOnce(&mut RunStarted)) -> RunFact {
        let run_id = format!("run-{}", facts::id(&mut self.rng));
        let mut fact = facts::run_started(&mut self.rng, &run_id);
        if let Some(Fact::RunStarted(started)) = &mut fact.fact {
            change(started);
        }
        fact
    }

    async fn append(&self, facts: Vec<RunFact>) -> RunIngestServiceAppendResponse {
        let request = RunIngestServiceAppendRequest { facts };
        let answer = self.clients.runs_in.clone().append(request).await;
        answer.expect("an answer fact by fact").into_inner()
    }

    async fn run(&self, run_id: &str, token: &str) -> Result<run::Run, Status> {
        let request = run::GetRunRequest {
            run_id: run_id.into(),
            read: read(token),
        };
        let answer = self.clients.runs.clone().get_run(request).await?;
        Ok(answer.into_inner().run.expect("a run"))
    }
}

fn read(token: &str) -> Option<ReadOptions> {
    Some(ReadOptions {
        at_least: vec![token.into()],
        max_wait: None,
    })
}

fn run_id(fact: &RunFact) -> &str {
    match &fact.fact {
        Some(Fact::RunStarted(started)) => &started.run_id,
        other => panic!("{other:?}"),
    }
}

/// The faults of one fact: the field's name without its path, and the reason.
fn faults(result: &AppendResult) -> Vec<String> {
    let Some(Outcome::Refused(refused)) = &result.outcome else {
        return Vec::new();
    };
    let fault = |field: &str, reason: &str| {
        let name = field.rsplit(['.', ']']).next().unwrap_or_default();
        format!("{name} {reason}")
    };
    let violations = refused.violations.iter();
    violations
        .map(|one| fault(&one.field, &one.reason))
        .collect()
}

/// The sender's fault, and said so that he can mend it.
fn assert_refused(status: &Status, why: &str, what: &str) {
    assert_eq!(
        (status.code(), reason(status).as_deref()),
        (Code::InvalidArgument, Some(why)),
        "{what}: {status:?}"
    );
    assert!(!status.message().is_empty(), "{what}");
}
