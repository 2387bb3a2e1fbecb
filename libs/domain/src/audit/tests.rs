use chrono::DateTime;
use proptest::prelude::*;

use super::*;
use crate::approval::{ApprovalTerms, Verdict};
use crate::ids::{ApprovalId, KeyId, Name, TenantId};
use crate::log::{Cause, Kind, Stream};
use crate::policy::{Action, Severity};
use crate::run::ToolCallStarted;
use crate::scope::{Mode, Scope};
use crate::time::Timestamp;

fn moment() -> Timestamp {
    DateTime::from_timestamp(1_767_225_600, 0).unwrap()
}

fn user() -> Actor {
    Actor {
        principal: PrincipalId::new(Uuid::from_u128(9)),
        kind: PrincipalKind::User,
        role: Role::Reviewer,
    }
}

fn record(stream: Stream) -> Record {
    Record {
        id: RecordId::new(Uuid::from_u128(1)),
        scope: Scope {
            tenant: TenantId::new(Uuid::from_u128(7)),
            mode: Mode::Live,
        },
        stream,
        kind: Kind::Decision,
        type_name: "any".into(),
        occurred_at: moment(),
        recorded_at: moment(),
        author: user().into(),
        cause: Some(Cause {
            stream: None,
            id: RecordId::new(Uuid::from_u128(2)),
        }),
        request_digest: [0; 32],
        key: None,
        payload: Vec::new(),
        terms: None,
    }
}

fn run() -> Record {
    record(Stream::run(&"r-1".parse().unwrap()))
}

fn held() -> ToolCallDecided {
    ToolCallDecided {
        call: ToolCallStarted {
            run_id: "r-1".parse().unwrap(),
            tool_call_id: "c-1".parse().unwrap(),
            tool: "pay".parse().unwrap(),
            arguments: Some(Json::parse(r#"{"to":"hushed"}"#).unwrap()),
            action_hint: String::new(),
            reason: String::new(),
            agent_context: None,
            step_id: None,
        },
        agent_id: "a-1".parse().unwrap(),
        requester: user(),
        verdict: Verdict::AwaitingApproval,
        reason: "POLICY".into(),
        message: "held".into(),
        matches: vec![Match {
            policy: "p-1".parse().unwrap(),
            version: 3,
            name: "Pay".into(),
            action: Action::RequireApproval,
            severity: Some(Severity::High),
            error: None,
        }],
        arguments_digest: [0xab; 32],
        held: Some((
            ApprovalId::new(Uuid::from_u128(5)),
            ApprovalTerms {
                quorum: 1,
                approvers: Vec::new(),
                requester_may_approve: false,
                decide_by: moment(),
                use_within: std::time::Duration::from_secs(1),
            },
        )),
        opens_run: true,
        severity: Some(Severity::High),
        run_reported: false,
    }
}

/// Actor, entity and action, in their order.
fn told(entries: &[Entry]) -> Vec<String> {
    let words = |one: &Entry| format!("{} {} {}", one.by.text(), one.entity_type, one.action);
    entries.iter().map(words).collect()
}

#[test]
fn a_held_call_tells_of_agent_and_policy_and_not_of_its_arguments() {
    let said = Said::Call(Decision::ToolCallDecided(Box::new(held())));
    let found = entries(&run(), &said);
    let expected = [
        "agent:a-1 tool_call requested",
        "system:policy:p-1 policy matched",
        "system:policy:p-1 tool_call awaiting_approval",
        "system:policy:p-1 approval requested",
    ];
    assert_eq!(told(&found), expected);
    assert!(!format!("{found:?}").contains("hushed"));
    assert_eq!(run_of(&run()), Some("r-1"));
    assert_eq!(run_of(&record(Stream::policies())), None);
}

#[test]
fn a_limit_of_the_run_is_told_beside_the_block() {
    let mut call = held();
    call.verdict = Verdict::Blocked;
    call.reason = "RUN_LIMIT_TOOL_CALLS".into();
    call.held = None;
    call.matches.clear();
    let said = Said::Call(Decision::ToolCallDecided(Box::new(call)));
    let expected = [
        "agent:a-1 tool_call requested",
        "system:decider run limit_hit",
        "system:decider tool_call blocked",
    ];
    assert_eq!(told(&entries(&run(), &said)), expected);
}

#[test]
fn a_refused_use_names_its_command_and_why() {
    let rejection = Rejection::new(
        crate::decision::RejectionKind::Precondition,
        "ALREADY_USED",
        "used",
    );
    let of = |command: &str| {
        let said = Said::Rejected(rejection.clone(), command.to_owned());
        entries(&run(), &said).remove(0)
    };
    let used = of("runledger.approval.v1.ConfirmExecution");
    assert_eq!(
        (used.entity_type, used.action.as_str()),
        ("command", "use_refused")
    );
    assert_eq!(used.entity_id, Uuid::from_u128(2).to_string());
    assert!(used.details.as_str().contains("ALREADY_USED"));
    assert_eq!(of("runledger.policy.v1.CreatePolicy").action, "rejected");
}

#[test]
fn changes_of_the_directory_are_told_by_what_they_change() {
    for (change, entity, action) in [
        ("TenantCreated", "tenant", "created"),
        ("LimitsSet", "limits", "set"),
        ("PrincipalDisabled", "principal", "disabled"),
        ("RoleSet", "role", "set"),
        ("KeyRevoked", "key", "revoked"),
        ("KillSwitchTurnedOn", "kill_switch", "turned_on"),
        ("Key", "directory", "key"),
        ("WeatherMade", "directory", "weather_made"),
    ] {
        assert_eq!(done(change), (entity, action.to_owned()), "{change}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn details_are_bounded_and_canonical(
        change in "[!-~]{1,128}", text in ".{0,400}", times in 1_usize..200, subject: Option<u128>,
    ) {
        let detail = json!({ "name": text.repeat(times), "none": null }).to_string();
        let Ok(detail) = Json::parse(&detail) else { return Ok(()) };
        let changed = directory::Changed {
            change: Name::parse(change.as_str()).unwrap(),
            subject: subject.map(Uuid::from_u128),
            detail,
            key: Some(KeyId::new(Uuid::from_u128(3))),
        };
        let found = entries(&record(Stream::directory()), &Said::Directory(changed.clone()));
        prop_assert_eq!(found.len(), 1);
        let details = found[0].details.as_str();
        prop_assert!(details.len() <= DETAILS_BYTES_MAX);
        let parsed = Json::parse(details).unwrap();
        prop_assert_eq!(parsed.as_str(), details);
        prop_assert!(named(&changed).is_none_or(|(_, name)| name.chars().count() <= TEXT_CHARS_MAX));
    }
}
