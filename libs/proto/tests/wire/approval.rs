//! Governed calls: a sample of every command and decision, their round trips, and what folding a
//! decision makes.

use std::collections::BTreeSet;
use std::time::Duration;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use runledger_domain::approval::{
    ApprovalClosed, ApprovalTerms, ApprovalVoted, Call, Command, ConfirmExecution, DecideApproval,
    Decision, ExecutionConfirmed, RequestToolCall, Run, Status, ToolCallDecided, Verdict,
    digest_arguments, evolve,
};
use runledger_domain::digest;
use runledger_domain::ids::{ApprovalId, PrincipalId};
use runledger_domain::log::{Asked, Decided, Kind, Record, Stream, Terms};
use runledger_domain::policy::{Action, ApproverSet, Match, Severity};
use runledger_domain::run::{AgentContext, ToolCallStarted};
use runledger_domain::scope::{Actor, PrincipalKind, Role};
use runledger_proto::{decode, encode, types};
use uuid::Uuid;

use crate::any::{any_id, any_json, any_moment, any_text, any_tool_call_started};
use crate::samples::{carry, id, json, moment, skipped};

const AT: i64 = 1_767_225_600_123_456;

fn approval_id() -> ApprovalId {
    ApprovalId::new(Uuid::from_u128(0x0198_f0c2_5f1e_7b9a_8c55_3f2f_6f0e_8d13))
}

fn actor(principal: u128, role: Role) -> Actor {
    Actor {
        principal: PrincipalId::new(Uuid::from_u128(principal)),
        kind: PrincipalKind::User,
        role,
    }
}

fn started() -> ToolCallStarted {
    ToolCallStarted {
        run_id: id("run-1"),
        tool_call_id: id("call-1"),
        step_id: Some(id("step-2")),
        tool: id("book"),
        arguments: Some(json(r#"{"price":48.5}"#)),
        action_hint: "pay".into(),
        reason: "the cheapest".into(),
        agent_context: Some(AgentContext {
            goal: "a ticket".into(),
            reasoning: String::new(),
            conversation_id: None,
        }),
    }
}

fn edited() -> runledger_domain::json::Json {
    json(r#"{"price":40}"#)
}

fn commands() -> Vec<Command> {
    vec![
        Command::RequestToolCall(Box::new(RequestToolCall {
            call: started(),
            agent_id: id("agent-7"),
        })),
        Command::DecideApproval(DecideApproval {
            approval_id: approval_id(),
            tool_call_id: id("call-1"),
            approve: true,
            reason: "cheap – enough".into(),
            edited_arguments: Some(edited()),
            arguments_digest: Some(digest_arguments(started().arguments.as_ref())),
        }),
        Command::ConfirmExecution(ConfirmExecution {
            tool_call_id: id("call-1"),
            arguments_digest: digest_arguments(Some(&edited())),
        }),
    ]
}

fn decided() -> Decision {
    let found = |policy: &str, action, severity, error: Option<&str>| Match {
        policy: id(policy),
        version: 3,
        name: format!("{policy} is \"watched\""),
        action,
        severity: Some(severity),
        error: error.map(Into::into),
    };
    let require = Action::RequireApproval;
    Decision::ToolCallDecided(Box::new(ToolCallDecided {
        call: started(),
        agent_id: id("agent-7"),
        requester: actor(9, Role::Agent),
        verdict: Verdict::AwaitingApproval,
        reason: "POLICY".into(),
        message: "policy \"paying\" holds this call until it is approved".into(),
        matches: vec![
            found("paying", require, Severity::High, Some("no such key")),
            found("booking", Action::Warn, Severity::Medium, None),
        ],
        arguments_digest: digest_arguments(started().arguments.as_ref()),
        held: Some((
            approval_id(),
            ApprovalTerms {
                quorum: 1,
                approvers: vec![
                    ApproverSet::default(),
                    ApproverSet {
                        roles: BTreeSet::from([Role::Admin, Role::Reviewer]),
                        principals: BTreeSet::from([PrincipalId::new(Uuid::from_u128(10))]),
                    },
                ],
                requester_may_approve: true,
                decide_by: moment(AT + 86_400_000_000),
                use_within: Duration::from_micros(3_600_000_001),
            },
        )),
        opens_run: true,
        severity: Some(Severity::High),
        run_reported: true,
    }))
}

fn decisions() -> Vec<Decision> {
    vec![
        decided(),
        Decision::ApprovalVoted(ApprovalVoted {
            approval_id: approval_id(),
            tool_call_id: id("call-1"),
            voter: actor(10, Role::Reviewer),
            approve: true,
            reason: "cheap – enough".into(),
            edited_arguments: Some(edited()),
            arguments_digest: digest_arguments(Some(&edited())),
            approved: 1,
            status: Status::Approved,
            use_by: Some(moment(AT + 3_600_000_001)),
        }),
        Decision::ApprovalClosed(ApprovalClosed {
            approval_id: approval_id(),
            tool_call_id: id("call-1"),
            status: Status::Expired,
        }),
        Decision::ExecutionConfirmed(ExecutionConfirmed {
            tool_call_id: id("call-1"),
            arguments_digest: digest_arguments(Some(&edited())),
            actor: actor(9, Role::Agent),
            approval_id: Some(approval_id()),
        }),
    ]
}

/// A record of every type.
pub(crate) fn records() -> Vec<Record> {
    let stream = Stream::run(&id("run-1"));
    let view = skipped().position;
    let commands = commands();
    let commands = commands.iter().map(|command| Record {
        kind: Kind::Command,
        terms: Some(Terms::Asked(Asked {
            deadline: moment(AT + 60_000_000),
            expected_version: Some(7),
            at_least: vec![view],
        })),
        ..carry(stream.clone(), encode::approval_command(command))
    });
    let decisions = decisions();
    let decisions = decisions.iter().map(|decision| Record {
        kind: Kind::Decision,
        terms: Some(Terms::Decided(Decided {
            read_to: 4_711,
            rules_version: 1,
            stream_version: 8,
            views: vec![view],
        })),
        ..carry(stream.clone(), encode::approval_decision(decision))
    });
    commands.chain(decisions).collect()
}

/// What a stored record of these types says, and what folding it makes. `None`: of another type.
pub(crate) fn reading(record: &Record) -> Option<String> {
    let (type_name, payload) = (&record.type_name, &record.payload);
    if let Some(command) =
        decode::stored_approval_command(type_name, payload).expect("a payload of its type")
    {
        assert_eq!(encode::approval_command(&command).1, *payload);
        return Some(format!("{command:#?}\n"));
    }
    let decision =
        decode::stored_approval_decision(type_name, payload).expect("a payload of its type")?;
    assert_eq!(encode::approval_decision(&decision).1, *payload);
    // Each follows on those that it needs.
    let before = match &decision {
        Decision::ToolCallDecided(_) => 0,
        Decision::ApprovalVoted(_) | Decision::ApprovalClosed(_) => 1,
        Decision::ExecutionConfirmed(_) => 2,
    };
    let (mut run, mut call) = (Run::default(), None::<Call>);
    for decision in &decisions()[..before] {
        assert!(evolve(&mut run, &mut call, decision, record.occurred_at));
    }
    let fits = evolve(&mut run, &mut call, &decision, record.occurred_at);
    Some(format!(
        "{decision:#?}\n\nfits {fits}\n{run:#?}\n{call:#?}\n"
    ))
}

fn any_digest() -> impl Strategy<Value = digest::Digest> {
    any::<[u8; 32]>()
}

fn any_uuid() -> impl Strategy<Value = Uuid> {
    (1..u128::MAX).prop_map(Uuid::from_u128)
}

fn any_approval() -> impl Strategy<Value = ApprovalId> {
    any_uuid().prop_map(ApprovalId::new)
}

fn any_actor() -> impl Strategy<Value = Actor> {
    let words = (select(PrincipalKind::ALL), select(Role::ALL));
    (any::<u128>(), words).prop_map(|(principal, (kind, role))| Actor {
        principal: PrincipalId::new(Uuid::from_u128(principal)),
        kind,
        role,
    })
}

fn any_command() -> impl Strategy<Value = Command> {
    let request = (any_tool_call_started(), any_id()).prop_map(|(call, agent_id)| {
        Command::RequestToolCall(Box::new(RequestToolCall { call, agent_id }))
    });
    let arguments = (option::of(any_json()), option::of(any_digest()));
    let decide = (
        any_approval(),
        any_id(),
        any::<bool>(),
        any_text(),
        arguments,
    )
        .prop_map(
            |(approval_id, tool_call_id, approve, reason, (edited_arguments, arguments_digest))| {
                Command::DecideApproval(DecideApproval {
                    approval_id,
                    tool_call_id,
                    approve,
                    reason,
                    edited_arguments,
                    arguments_digest,
                })
            },
        );
    let confirm = (any_id(), any_digest()).prop_map(|(tool_call_id, arguments_digest)| {
        Command::ConfirmExecution(ConfirmExecution {
            tool_call_id,
            arguments_digest,
        })
    });
    prop_oneof![request, decide, confirm]
}

fn any_terms() -> impl Strategy<Value = ApprovalTerms> {
    let roles = proptest::collection::btree_set(select(Role::ALL), 0..3);
    let principals = proptest::collection::btree_set(any_uuid().prop_map(PrincipalId::new), 0..3);
    let set = (roles, principals).prop_map(|(roles, principals)| ApproverSet { roles, principals });
    let times = (any_moment(), any::<u64>());
    (any::<u32>(), vec(set, 0..3), any::<bool>(), times).prop_map(
        |(quorum, approvers, requester_may_approve, (decide_by, micros))| ApprovalTerms {
            quorum,
            approvers,
            requester_may_approve,
            decide_by,
            use_within: Duration::from_micros(micros),
        },
    )
}

fn any_match() -> impl Strategy<Value = Match> {
    let words = (select(Action::ALL), option::of(select(Severity::ALL)));
    let texts = (any_text(), option::of("[^\0]{1,20}"));
    (any_id(), any::<u64>(), texts, words).prop_map(
        |(policy, version, (name, error), (action, severity))| Match {
            policy,
            version,
            name,
            action,
            severity,
            error,
        },
    )
}

fn any_decided() -> impl Strategy<Value = Decision> {
    let who = (any_tool_call_started(), any_id(), any_actor());
    let why = (
        select(Verdict::ALL),
        "[A-Z_]{0,20}",
        any_text(),
        vec(any_match(), 0..3),
    );
    let held = option::of((any_approval(), any_terms()));
    let rest = (
        any_digest(),
        held,
        any::<[bool; 2]>(),
        option::of(select(Severity::ALL)),
    );
    (who, why, rest).prop_map(|(who, why, rest)| {
        let (call, agent_id, requester) = who;
        let (verdict, reason, message, matches) = why;
        let (arguments_digest, held, [opens_run, run_reported], severity) = rest;
        Decision::ToolCallDecided(Box::new(ToolCallDecided {
            call,
            agent_id,
            requester,
            verdict,
            reason: reason.into(),
            message,
            matches,
            arguments_digest,
            held,
            opens_run,
            severity,
            run_reported,
        }))
    })
}

fn any_voted() -> impl Strategy<Value = Decision> {
    let what = (
        any_approval(),
        any_id(),
        any_actor(),
        any::<bool>(),
        any_text(),
    );
    let how = (option::of(any_json()), any_digest(), any::<u32>());
    let now = (select(Status::ALL), option::of(any_moment()));
    (what, how, now).prop_map(|(what, how, (status, use_by))| {
        let (approval_id, tool_call_id, voter, approve, reason) = what;
        let (edited_arguments, arguments_digest, approved) = how;
        Decision::ApprovalVoted(ApprovalVoted {
            approval_id,
            tool_call_id,
            voter,
            approve,
            reason,
            edited_arguments,
            arguments_digest,
            approved,
            status,
            use_by,
        })
    })
}

fn any_decision() -> impl Strategy<Value = Decision> {
    let closed = (any_approval(), any_id(), select(Status::ALL)).prop_map(
        |(approval_id, tool_call_id, status)| {
            Decision::ApprovalClosed(ApprovalClosed {
                approval_id,
                tool_call_id,
                status,
            })
        },
    );
    let confirmed = (
        any_id(),
        any_digest(),
        any_actor(),
        option::of(any_approval()),
    )
        .prop_map(|(tool_call_id, arguments_digest, actor, approval_id)| {
            Decision::ExecutionConfirmed(ExecutionConfirmed {
                tool_call_id,
                arguments_digest,
                actor,
                approval_id,
            })
        });
    prop_oneof![any_decided(), any_voted(), closed, confirmed]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn a_command_comes_back_as_it_was_stored(command in any_command()) {
        let (type_name, bytes) = encode::approval_command(&command);
        prop_assert_eq!(decode::stored_approval_command(type_name, &bytes).unwrap(), Some(command));
        prop_assert_eq!(decode::stored_approval_decision(type_name, &bytes).unwrap(), None);
    }

    #[test]
    fn a_decision_comes_back_as_it_was_stored(decision in any_decision()) {
        let (type_name, bytes) = encode::approval_decision(&decision);
        prop_assert_eq!(decode::stored_approval_decision(type_name, &bytes).unwrap(), Some(decision));
        prop_assert_eq!(decode::stored_approval_command(type_name, &bytes).unwrap(), None);
    }

    #[test]
    fn damaged_commands_and_decisions_are_a_value_or_an_error(
        noise in vec(any::<u8>(), 0..200), which in 0..7_usize,
        at in any::<prop::sample::Index>(), byte: u8, cut in any::<prop::sample::Index>(),
    ) {
        let mut bytes = records()[which].payload.clone();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        let torn = &bytes[..=cut.index(bytes.len())];
        for type_name in types::ALL {
            for bytes in [&noise, &bytes, torn] {
                let _either = decode::stored_approval_command(type_name, bytes);
                let _either = decode::stored_approval_decision(type_name, bytes);
            }
        }
    }
}

#[test]
fn what_a_later_version_says_of_a_call_is_not_guessed_at() {
    use prost::Message as _;
    use runledger_proto::approval::v1 as wire;
    let (type_name, bytes) = encode::approval_decision(&decided());
    let read = |change: fn(&mut wire::ToolCallDecided)| {
        let mut decided = wire::ToolCallDecided::decode(bytes.as_slice()).unwrap();
        change(&mut decided);
        decode::stored_approval_decision(type_name, &decided.encode_to_vec()).unwrap()
    };
    assert!(read(|_| ()).is_some());
    assert_eq!(read(|decided| decided.verdict = 99), None);
    assert_eq!(read(|decided| decided.severity = 99), None);
    assert_eq!(read(|decided| decided.arguments_digest.truncate(31)), None);
    // Without its role this set would be empty, which stands for admins and reviewers.
    let of_a_role = read(|decided| {
        let terms = decided.terms.as_mut().unwrap();
        terms.approvers[1].principals.clear();
        terms.approvers[1].roles = vec![99];
    });
    assert_eq!(of_a_role, None);
}
