//! Strategies for any fact and any record.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use runledger_domain::Fact;
use runledger_domain::ids::{InvalidId, Name, PrincipalId, RecordId, TenantId};
use runledger_domain::json::Json;
use runledger_domain::log::{Author, Cause, Record};
use runledger_domain::message::{self, Content, SenderRole};
use runledger_domain::run::{self, AgentContext, Limits, ToolResult};
use runledger_domain::schedule::{self, OccurrenceStatus};
use runledger_domain::scope::{Mode, PrincipalKind, Role, Scope};
use runledger_domain::time::Timestamp;
use uuid::Uuid;

use crate::samples::{id, json, moment, record};

pub(crate) fn any_id<T: std::str::FromStr<Err = InvalidId> + std::fmt::Debug>()
-> impl Strategy<Value = T> {
    "[!-~]{1,128}".prop_map(|text| id(&text))
}

pub(crate) fn any_text() -> impl Strategy<Value = String> {
    "[^\0]{0,60}"
}

pub(crate) fn any_moment() -> impl Strategy<Value = Timestamp> {
    (-62_135_596_800_000_000_i64..253_402_300_800_000_000).prop_map(moment)
}

pub(crate) fn any_json() -> impl Strategy<Value = Json> {
    let leaf = prop_oneof![
        Just("null".to_owned()),
        any::<i64>().prop_map(|number| number.to_string()),
        any::<f64>()
            .prop_filter("finite", |number| number.is_finite())
            .prop_map(|number| format!("{number:e}")),
        "[^\0\"\\\\\u{1}-\u{1f}]{0,8}".prop_map(|text| format!("\"{text}\"")),
    ];
    leaf.prop_recursive(4, 16, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(|items| format!("[{}]", items.join(","))),
            btree_map("[a-z]{1,3}", inner, 0..4).prop_map(|members| {
                let members: Vec<_> = members
                    .iter()
                    .map(|(key, value)| format!("\"{key}\":{value}"))
                    .collect();
                format!("{{{}}}", members.join(","))
            }),
        ]
    })
    .prop_map(|text| json(&text))
}

fn any_context() -> impl Strategy<Value = AgentContext> {
    (any_text(), any_text(), option::of(any_id())).prop_map(|(goal, reasoning, conversation_id)| {
        AgentContext {
            goal,
            reasoning,
            conversation_id,
        }
    })
}

fn any_error() -> impl Strategy<Value = run::Error> {
    (any_id(), any_text()).prop_map(|(code, message)| run::Error { code, message })
}

fn any_texts(most: usize) -> impl Strategy<Value = BTreeMap<Name, String>> {
    btree_map(any_id(), any_text(), 0..most)
}

fn any_limits() -> impl Strategy<Value = Limits> {
    let micros = 0_u64..1_000_000_000_000_000;
    let any_u32 = || option::of(any::<u32>());
    (any_u32(), any_u32(), option::of(micros), any_u32()).prop_map(
        |(tool_calls, calls_of_one_tool, micros, blocked_calls)| Limits {
            tool_calls,
            calls_of_one_tool,
            duration: micros.map(Duration::from_micros),
            blocked_calls,
        },
    )
}

fn any_started() -> impl Strategy<Value = run::Fact> {
    let ids = (
        any_id(),
        any_id(),
        option::of(any_id()),
        option::of(any_id()),
        option::of(any_id()),
        option::of(any_id()),
    );
    let words = (any_text(), any_text(), any_text(), any_text());
    let rest = (
        select(run::Trigger::ALL),
        option::of(any_context()),
        option::of(any_json()),
        any_texts(4),
        any_limits(),
    );
    (ids, words, rest).prop_map(|(ids, words, rest)| {
        let (run_id, agent_id, parent_run_id, conversation_id, space_id, account_id) = ids;
        let (agent_version, task, reason, model) = words;
        let (trigger, agent_context, input, labels, limits) = rest;
        run::Fact::Started(Box::new(run::Started {
            run_id,
            agent_id,
            agent_version,
            parent_run_id,
            conversation_id,
            space_id,
            account_id,
            trigger,
            task,
            reason,
            agent_context,
            model,
            input,
            labels,
            limits,
        }))
    })
}

fn any_ended() -> impl Strategy<Value = run::Fact> {
    let counters = btree_map(any_id(), any::<i64>(), 0..4);
    (
        any_id(),
        select(run::Outcome::ALL),
        option::of(any_error()),
        option::of(any_json()),
        counters,
    )
        .prop_map(|(run_id, outcome, error, result, counters)| {
            let finished = matches!(outcome, run::Outcome::Completed | run::Outcome::Succeeded);
            let error = error.filter(|_| !finished);
            run::Fact::Ended(run::Ended {
                run_id,
                outcome,
                error,
                result,
                counters,
            })
        })
}

fn any_step() -> impl Strategy<Value = run::Fact> {
    let started = (any_id(), any_id(), option::of(any_id()), any_text()).prop_map(
        |(run_id, step_id, parent_step_id, name)| {
            run::Fact::StepStarted(run::StepStarted {
                run_id,
                step_id,
                parent_step_id,
                name,
            })
        },
    );
    let ended = (
        any_id(),
        any_id(),
        select(run::WorkStatus::ALL),
        option::of(any_error()),
    )
        .prop_map(|(run_id, step_id, status, error)| {
            run::Fact::StepEnded(run::StepEnded {
                run_id,
                step_id,
                status,
                error,
            })
        });
    prop_oneof![started, ended]
}

pub(crate) fn any_tool_call_started() -> impl Strategy<Value = run::ToolCallStarted> {
    (
        (any_id(), any_id(), option::of(any_id()), any_id()),
        (
            option::of(any_json()),
            any_text(),
            any_text(),
            option::of(any_context()),
        ),
    )
        .prop_map(
            |(
                (run_id, tool_call_id, step_id, tool),
                (arguments, action_hint, reason, agent_context),
            )| run::ToolCallStarted {
                run_id,
                tool_call_id,
                step_id,
                tool,
                arguments,
                action_hint,
                reason,
                agent_context,
            },
        )
}

fn any_tool_call() -> impl Strategy<Value = run::Fact> {
    let started = any_tool_call_started().prop_map(run::Fact::ToolCallStarted);
    let result = prop_oneof![
        any_json().prop_map(ToolResult::Json),
        (0..=i64::MAX as u64).prop_map(ToolResult::Chars),
    ];
    let ended = (
        any_id(),
        any_id(),
        select(run::WorkStatus::ALL),
        option::of(result),
        option::of(any_error()),
    )
        .prop_map(|(run_id, tool_call_id, status, result, error)| {
            run::Fact::ToolCallEnded(run::ToolCallEnded {
                run_id,
                tool_call_id,
                status,
                result,
                error,
            })
        });
    prop_oneof![started, ended]
}

fn any_other_run_fact() -> impl Strategy<Value = run::Fact> {
    let progressed =
        (any_id(), select(run::Phase::ALL), any_text()).prop_map(|(run_id, phase, note)| {
            run::Fact::Progressed(run::Progressed {
                run_id,
                phase,
                note,
            })
        });
    let usage = (
        any_id(),
        any_id(),
        0..=i64::MAX,
        option::of(any_id()),
        any_texts(4),
    )
        .prop_map(|(run_id, meter, quantity, tool_call_id, dimensions)| {
            run::Fact::UsageRecorded(run::UsageRecorded {
                run_id,
                meter,
                quantity,
                tool_call_id,
                dimensions,
            })
        });
    prop_oneof![progressed, usage]
}

fn any_occurrence() -> impl Strategy<Value = schedule::Fact> {
    let words = (select(OccurrenceStatus::ALL), any_text());
    (
        any_id(),
        any_id(),
        any_moment(),
        words,
        option::of(any_id()),
        option::of(any_moment()),
    )
        .prop_map(
            |(
                owner_id,
                schedule_id,
                scheduled_at,
                (status, result),
                run_id,
                next_occurrence_at,
            )| {
                schedule::Fact::OccurrenceRecorded(schedule::OccurrenceRecorded {
                    owner_id,
                    schedule_id,
                    scheduled_at,
                    status,
                    result,
                    run_id,
                    next_occurrence_at,
                })
            },
        )
}

fn any_message() -> impl Strategy<Value = message::Fact> {
    let content = prop_oneof![
        any_text().prop_map(Content::Text),
        (0..=i64::MAX as u64).prop_map(Content::Chars)
    ];
    let who = (any_text(), select(SenderRole::ALL), any_id());
    (
        any_id(),
        any_id(),
        who,
        content,
        option::of(any_id()),
        option::of(any_id()),
    )
        .prop_map(
            |(
                conversation_id,
                message_id,
                (sender_id, role, kind),
                content,
                in_reply_to,
                run_id,
            )| {
                message::Fact::MessageRecorded(message::MessageRecorded {
                    conversation_id,
                    message_id,
                    sender_id,
                    role,
                    kind,
                    content,
                    in_reply_to,
                    run_id,
                })
            },
        )
}

/// Any fact that the domain can hold.
pub(crate) fn any_fact() -> impl Strategy<Value = Fact> {
    prop_oneof![
        any_started().prop_map(Fact::Run),
        any_ended().prop_map(Fact::Run),
        any_step().prop_map(Fact::Run),
        any_tool_call().prop_map(Fact::Run),
        any_other_run_fact().prop_map(Fact::Run),
        any_occurrence().prop_map(Fact::Schedule),
        any_message().prop_map(Fact::Message),
    ]
}

/// Any record with a fact in it.
pub(crate) fn any_record() -> impl Strategy<Value = Record> {
    let ids = (
        any::<u128>(),
        any::<u128>(),
        any::<u128>(),
        option::of((any::<u128>(), option::of("[!-~]{1,160}"))),
    );
    let words = (
        select(Mode::ALL),
        option::of(select(PrincipalKind::ALL)),
        option::of(select(Role::ALL)),
        option::of("[a-z0-9]{1,200}"),
    );
    (any_fact(), ids, words, any_moment(), any_moment()).prop_map(
        |(fact, ids, words, occurred_at, recorded_at)| {
            let (tenant, principal, own, cause) = ids;
            let (mode, kind, role, key) = words;
            let mut record = record(&fact);
            record.id = RecordId::new(Uuid::from_u128(own));
            record.scope = Scope {
                tenant: TenantId::new(Uuid::from_u128(tenant)),
                mode,
            };
            record.author = Author {
                principal: PrincipalId::new(Uuid::from_u128(principal)),
                kind,
                role,
            };
            record.key = key.map(Into::into);
            record.cause = cause.map(|(id, stream)| Cause {
                stream: stream.map(Into::into),
                id: RecordId::new(Uuid::from_u128(id)),
            });
            record.occurred_at = occurred_at;
            record.recorded_at = recorded_at;
            record
        },
    )
}
