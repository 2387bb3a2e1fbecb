//! Reads over gRPC.

use std::collections::{BTreeMap, BTreeSet};

use runledger_domain::Fact;
use runledger_domain::ids::RecordId;
use runledger_domain::log::{Cause, Record};
use runledger_domain::run::{self, Outcome, Phase, WorkStatus};
use runledger_domain::scope::Role;
use runledger_proto::run::v1::{
    self as wire, GetRunRequest, GetTimelineRequest, ListMessagesRequest, ListOccurrencesRequest,
    ListRunsRequest, ListToolCallsRequest, RunStatus, timeline_item,
};

use crate::facts::{
    at, call_end, call_start, end, message, occurrence, one_run, progress, record, scope, start,
    started, usage,
};
use crate::world::{Client, World, at_least};

#[tokio::test(flavor = "multi_thread")]
async fn a_run_is_read_back_as_it_was_reported() {
    let world = World::new().await;
    let scope = scope(1);
    let mut client = world.client(scope, Role::Viewer).await;
    let token = world.append(scope, 1, &one_run()).await;
    let answer = client
        .get_run(GetRunRequest {
            run_id: "r1".into(),
            read: at_least(&token),
        })
        .await
        .unwrap()
        .into_inner();
    let run = answer.run.unwrap();
    assert_eq!(run.status(), RunStatus::Succeeded);
    assert_eq!(run.started.unwrap().task, "Pay the bill");
    assert_eq!(run.ended.unwrap().outcome(), wire::RunOutcome::Succeeded);
    assert_eq!(
        (run.note.as_str(), run.started_at.unwrap().seconds),
        ("on it", at(0).timestamp())
    );
    let totals = run.totals.unwrap();
    assert_eq!(
        (totals.steps, totals.tool_calls, totals.failed_tool_calls),
        (1, 3, 1)
    );
    assert_eq!(
        (totals.messages, totals.late_facts, totals.conflicts),
        (2, 1, 0)
    );
    assert_eq!(run.usage.len(), 1);
    assert_eq!(
        (
            run.usage[0].meter.as_str(),
            run.usage[0].quantity,
            run.usage[0].records
        ),
        ("tokens", 42, 2)
    );
    let as_of = answer.as_of.unwrap();
    // What an answer reflects can be asked for again.
    let again = GetRunRequest {
        run_id: "r1".into(),
        read: at_least(&as_of.token),
    };
    client.get_run(again).await.unwrap();
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_run_did_is_listed_in_the_order_of_the_log() {
    let world = World::new().await;
    let scope = scope(1);
    let mut client = world.client(scope, Role::Viewer).await;
    let token = world.append(scope, 1, &one_run()).await;
    let read = at_least(&token);
    let run_id = "r1".to_owned();
    client
        .get_run(GetRunRequest { run_id, read })
        .await
        .unwrap();
    let calls = client
        .list_tool_calls(ListToolCallsRequest {
            run_id: "r1".into(),
            ..Default::default()
        })
        .await
        .unwrap()
        .into_inner()
        .tool_calls;
    let ids: Vec<_> = calls
        .iter()
        .map(|call| (call.tool_call_id.as_str(), call.late))
        .collect();
    assert_eq!(ids, [("c1", false), ("c2", false), ("c3", true)]);
    assert_eq!(calls[0].started.as_ref().unwrap().tool, "search");
    assert_eq!(
        calls[0].ended.as_ref().unwrap().status(),
        wire::WorkStatus::Failed
    );
    assert!(calls[2].ended.is_none());
    let failed = ListToolCallsRequest {
        run_id: "r1".into(),
        statuses: vec![wire::WorkStatus::Failed.into()],
        tool: "search".into(),
        ..Default::default()
    };
    assert_eq!(
        client
            .list_tool_calls(failed)
            .await
            .unwrap()
            .into_inner()
            .tool_calls
            .len(),
        1
    );

    let messages = client
        .list_messages(ListMessagesRequest {
            conversation_id: "k1".into(),
            ..Default::default()
        })
        .await
        .unwrap()
        .into_inner()
        .messages;
    let ids: Vec<_> = messages
        .iter()
        .map(|message| message.message.as_ref().unwrap().message_id.as_str())
        .collect();
    assert_eq!(ids, ["m1", "m2"]);
    assert!(messages[0].actor.is_some());
    let occurrences = ListOccurrencesRequest {
        schedule_id: "daily".into(),
        ..Default::default()
    };
    let occurrences = client
        .list_occurrences(occurrences)
        .await
        .unwrap()
        .into_inner()
        .occurrences;
    assert_eq!(occurrences[0].occurrence.as_ref().unwrap().run_id, "r1");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_came_again_with_another_content_is_shown_where_it_is_read() {
    let world = World::new().await;
    let scope = scope(1);
    let mut client = world.client(scope, Role::Viewer).await;
    let contradicted =
        |id, fact: &Fact, other: &Fact| [record(scope, id, fact, 1), record(scope, id, other, 2)];
    let facts = [start("r1"), message("k1", "m2", Some("r1"))];
    let records = [
        contradicted(1, &message("k1", "m1", None), &message("k1", "m3", None)),
        contradicted(
            1,
            &occurrence("daily", 5, None),
            &occurrence("daily", 6, None),
        ),
    ];
    world.append(scope, 10, &facts).await;
    let token = world.append_records(records.concat()).await;
    let messages = ListMessagesRequest {
        conversation_id: "k1".into(),
        read: at_least(&token),
        ..Default::default()
    };
    let messages = client.list_messages(messages).await.unwrap().into_inner();
    let occurrences = ListOccurrencesRequest {
        schedule_id: "daily".into(),
        ..Default::default()
    };
    let occurrences = client
        .list_occurrences(occurrences)
        .await
        .unwrap()
        .into_inner();
    let conflicts: Vec<u64> = messages.messages.iter().map(|one| one.conflicts).collect();
    assert_eq!(conflicts, [0, 1]);
    let (message, occurrence) = (&messages.messages[1], &occurrences.occurrences[0]);
    assert_eq!(occurrence.conflicts, 1);
    assert_eq!(message.record_id, occurrence.record_id);
    assert_eq!(message.position.as_ref().unwrap().family, "message");
    assert_eq!(occurrence.position.as_ref().unwrap().family, "schedule");
    let timeline = timeline(&mut client, 10).await.concat();
    let mut streams: Vec<&str> = timeline.iter().map(|item| item.stream.as_str()).collect();
    streams.sort_unstable();
    assert_eq!(streams, ["conversation/k1", "run/r1"]);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_timeline_says_what_was_reported_by_whom_and_because_of_what() {
    let world = World::new().await;
    let scope = scope(1);
    let mut client = world.client(scope, Role::Viewer).await;
    let mut records: Vec<Record> = (1..4)
        .map(|n| record(scope, n, &progress("r1", Phase::Running, "on it"), 1))
        .collect();
    let cause = RecordId::new(uuid::Uuid::from_u128(9));
    records[0].cause = Some(Cause {
        stream: Some("run/r0".into()),
        id: cause,
    });
    // As a later version would write them.
    records[1].author.role = None;
    let unheard = wire::RunProgressed {
        run_id: "r1".into(),
        phase: 99,
        ..Default::default()
    };
    records[1].payload = prost::Message::encode_to_vec(&unheard);
    records[2].key = Some("k".into());
    let token = world.append_records(records).await;
    let get = GetRunRequest {
        run_id: "r1".into(),
        read: at_least(&token),
    };
    client.get_run(get).await.unwrap();
    let items = timeline(&mut client, 10).await.concat();
    assert_eq!(
        (items[0].cause_id.as_str(), items[0].cause_stream.as_str()),
        (cause.to_string().as_str(), "run/r0")
    );
    let actor = items[1].actor.as_ref().unwrap();
    assert_eq!((actor.principal_id.is_empty(), actor.role), (false, 0));
    assert_eq!(
        items[1].fact,
        Some(timeline_item::Fact::RunProgressed(unheard))
    );
    assert_eq!(items[2].fact, None);
    world.stop().await;
}

/// Pages until the end; returns the pages.
async fn timeline(client: &mut Client, page_size: u32) -> Vec<Vec<wire::TimelineItem>> {
    let (mut pages, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = GetTimelineRequest {
            run_id: "r1".into(),
            page_size,
            page_token,
            read: None,
        };
        let answer = client.get_timeline(request).await.unwrap().into_inner();
        assert!(answer.items.len() <= page_size as usize);
        pages.push(answer.items);
        page_token = answer.next_page_token;
        if page_token.is_empty() {
            return pages;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_timeline_keeps_the_order_of_each_stream_on_any_pages() {
    let world = World::new().await;
    let scope = scope(1);
    let mut client = world.client(scope, Role::Agent).await;
    // Two streams about one run, whose writers' clocks jump back and forth.
    let mut records = Vec::new();
    for (number, jump) in [5, 0, 9, 2, 2, 30, 1, 1, 12, 3].into_iter().enumerate() {
        let n = number as u128;
        records.push(record(
            scope,
            100 + n,
            &progress("r1", Phase::Running, &number.to_string()),
            jump,
        ));
        records.push(record(
            scope,
            200 + n,
            &message("k1", &format!("m{number}"), Some("r1")),
            10 - jump / 3,
        ));
    }
    let token = world.append_records(records).await;
    client
        .get_run(GetRunRequest {
            run_id: "r1".into(),
            read: at_least(&token),
        })
        .await
        .unwrap();
    let whole = timeline(&mut client, 100).await.concat();
    assert_eq!(whole.len(), 20);
    for family in ["run", "message"] {
        let positions = whole.iter().map(|item| item.position.as_ref().unwrap());
        let offsets: Vec<u64> = positions
            .filter(|position| position.family == family)
            .map(|position| position.offset)
            .collect();
        assert!(offsets.is_sorted(), "{family}: {offsets:?}");
    }
    for size in [1, 2, 3, 7] {
        assert_eq!(
            timeline(&mut client, size).await.concat(),
            whole,
            "pages of {size}"
        );
    }
    let facts: BTreeSet<bool> = whole
        .iter()
        .map(|item| {
            matches!(
                item.fact,
                Some(
                    timeline_item::Fact::MessageRecorded(_) | timeline_item::Fact::RunProgressed(_)
                )
            )
        })
        .collect();
    assert_eq!(facts, BTreeSet::from([true]));
    world.stop().await;
}

async fn found(client: &mut Client, request: ListRunsRequest) -> Vec<String> {
    let runs = client.list_runs(request).await.unwrap().into_inner().runs;
    runs.into_iter().map(|run| run.run_id).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_are_found_by_every_filter_newest_first() {
    let world = World::new().await;
    let scope = scope(1);
    let mut client = world.client(scope, Role::Reviewer).await;
    let run_with = |run: &str, task: &str, agent: &str, team: &str| {
        let mut start = started(run, task);
        start.agent_id = agent.parse().unwrap();
        start.labels.insert("team".parse().unwrap(), team.into());
        Fact::Run(run::Fact::Started(Box::new(start)))
    };
    let facts = [
        run_with("r1", "Pay the ÄRGER bill", "a1", "red"),
        run_with("r2", "100% of it", "a2", "red"),
        run_with("r3", "100 of it", "a2", "blue"),
        call_start("r2", "c1", "search"),
        call_end("r2", "c1", WorkStatus::Failed),
        end("r1", Outcome::Completed),
        end("r3", Outcome::Failed),
        call_start("r4", "c1", "search"),
    ];
    let token = world.append(scope, 1, &facts).await;
    client
        .get_run(GetRunRequest {
            run_id: "r4".into(),
            read: at_least(&token),
        })
        .await
        .unwrap();
    client
        .get_run(GetRunRequest {
            run_id: "r1".into(),
            read: at_least(&token),
        })
        .await
        .unwrap();
    let all = ListRunsRequest::default;
    let label = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let second = |seconds| Some(runledger_proto::encode::timestamp(at(seconds)));
    let cases: Vec<(ListRunsRequest, &[&str])> = vec![
        (all(), &["r4", "r3", "r2", "r1"]),
        (
            ListRunsRequest {
                agent_id: "a2".into(),
                ..all()
            },
            &["r3", "r2"],
        ),
        (
            ListRunsRequest {
                space_id: "space-1".into(),
                ..all()
            },
            &["r3", "r2", "r1"],
        ),
        (
            ListRunsRequest {
                statuses: vec![RunStatus::Failed.into()],
                ..all()
            },
            &["r3"],
        ),
        (
            ListRunsRequest {
                statuses: vec![RunStatus::Unknown.into(), RunStatus::Running.into()],
                ..all()
            },
            &["r4", "r2"],
        ),
        (
            ListRunsRequest {
                labels: BTreeMap::from([label("team", "red")]),
                ..all()
            },
            &["r2", "r1"],
        ),
        (
            ListRunsRequest {
                labels: BTreeMap::from([label("team", "blue"), label("tier", "gold")]),
                ..all()
            },
            &["r3"],
        ),
        (
            ListRunsRequest {
                labels: BTreeMap::from([label("team", "blue"), label("tier", "tin")]),
                ..all()
            },
            &[],
        ),
        (
            ListRunsRequest {
                tool: "search".into(),
                ..all()
            },
            &["r4", "r2"],
        ),
        (
            ListRunsRequest {
                has_failed_tool_calls: Some(true),
                ..all()
            },
            &["r2"],
        ),
        (
            ListRunsRequest {
                has_failed_tool_calls: Some(false),
                ..all()
            },
            &["r4", "r3", "r1"],
        ),
        (
            ListRunsRequest {
                from: second(1),
                to: second(7),
                ..all()
            },
            &["r3", "r2"],
        ),
        (
            ListRunsRequest {
                task_contains: "100%".into(),
                ..all()
            },
            &["r2"],
        ),
        (
            ListRunsRequest {
                task_contains: "ärger".into(),
                ..all()
            },
            &["r1"],
        ),
        (
            ListRunsRequest {
                task_contains: "of".into(),
                agent_id: "a2".into(),
                tool: "search".into(),
                ..all()
            },
            &["r2"],
        ),
    ];
    for (request, expected) in cases {
        assert_eq!(
            found(&mut client, request.clone()).await,
            expected,
            "{request:?}"
        );
        // The same one by one.
        let (mut ids, mut page_token) = (Vec::new(), String::new());
        loop {
            let page = ListRunsRequest {
                page_size: 1,
                page_token,
                ..request.clone()
            };
            let answer = client.list_runs(page).await.unwrap().into_inner();
            ids.extend(answer.runs.into_iter().map(|run| run.run_id));
            page_token = answer.next_page_token;
            if page_token.is_empty() {
                break;
            }
        }
        assert_eq!(ids, expected, "{request:?}");
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_counts_notes_and_meters_too() {
    let world = World::with(|config| config.api.page_bytes_max = 2_500).await;
    let scope = scope(1);
    let mut client = world.client(scope, Role::Viewer).await;
    let note = "x".repeat(1_200);
    let mut facts: Vec<Fact> = (0..6)
        .map(|n| progress(&format!("r{n}"), Phase::Running, &note))
        .collect();
    facts.extend((0..20).map(|n| usage("r5", &format!("m{n}"), 1)));
    let token = world.append(scope, 1, &facts).await;
    let list = ListRunsRequest {
        read: at_least(&token),
        ..Default::default()
    };
    let page = client.list_runs(list).await.unwrap().into_inner();
    let shown: Vec<_> = page
        .runs
        .iter()
        .map(|run| (run.run_id.as_str(), run.usage.len()))
        .collect();
    assert_eq!(shown, [("r5", 16), ("r4", 0)]);
    assert!(!page.next_page_token.is_empty());
    let get = GetRunRequest {
        run_id: "r5".into(),
        read: None,
    };
    let run = client.get_run(get).await.unwrap().into_inner().run.unwrap();
    assert_eq!(run.usage.len(), 20);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_ends_before_it_outgrows_a_message() {
    let world = World::with(|config| config.api.page_bytes_max = 1_000).await;
    let scope = scope(1);
    let mut client = world.client(scope, Role::Viewer).await;
    let mut facts = Vec::new();
    for number in 0..6 {
        facts.push(Fact::Run(run::Fact::Started(Box::new(started(
            &format!("r{number}"),
            &"x".repeat(600),
        )))));
        facts.push(progress("r1", Phase::Running, &"y".repeat(600)));
        let mut long = message("k1", &format!("m{number}"), None);
        let Fact::Message(runledger_domain::message::Fact::MessageRecorded(message)) = &mut long
        else {
            unreachable!()
        };
        message.content = runledger_domain::message::Content::Text("z".repeat(600));
        facts.push(long);
    }
    let token = world.append(scope, 1, &facts).await;
    let read = at_least(&token);
    let page = client
        .list_runs(ListRunsRequest {
            read,
            ..Default::default()
        })
        .await
        .unwrap()
        .into_inner();
    assert_eq!(page.runs.len(), 2);
    assert!(!page.next_page_token.is_empty());
    let rest = ListRunsRequest {
        page_token: page.next_page_token,
        ..Default::default()
    };
    assert_eq!(
        client
            .list_runs(rest)
            .await
            .unwrap()
            .into_inner()
            .runs
            .len(),
        2
    );
    let page = ListMessagesRequest {
        conversation_id: "k1".into(),
        ..Default::default()
    };
    let page = client.list_messages(page).await.unwrap().into_inner();
    assert_eq!(
        (page.messages.len(), page.next_page_token.is_empty()),
        (2, false)
    );
    let pages = timeline(&mut client, 1_000).await;
    assert!(pages.len() > 2);
    assert_eq!(pages.concat().len(), 7);
    world.stop().await;
}
