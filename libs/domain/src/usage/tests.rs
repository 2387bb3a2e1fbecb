use std::collections::BTreeSet;

use chrono::TimeDelta;

use super::*;
use crate::ids::TenantId;
use crate::run::{Limits, Trigger};
use crate::scope::Mode;

fn at(millis: i64) -> Timestamp {
    Timestamp::UNIX_EPOCH + TimeDelta::milliseconds(millis)
}

fn started(account: Option<&str>) -> Started {
    Started {
        run_id: "r".parse().unwrap(),
        agent_id: "a".parse().unwrap(),
        agent_version: String::new(),
        parent_run_id: None,
        conversation_id: None,
        space_id: Some("s".parse().unwrap()),
        account_id: account.map(|account| account.parse().unwrap()),
        trigger: Trigger::Api,
        task: String::new(),
        reason: String::new(),
        agent_context: None,
        model: "m".into(),
        input: None,
        labels: BTreeMap::new(),
        limits: Limits::default(),
    }
}

fn said(forwarded: &Forwarded) -> Vec<(&str, &str)> {
    let dimensions = forwarded.dimensions.iter();
    dimensions
        .map(|(key, value)| (key.as_str(), value.as_str()))
        .collect()
}

#[test]
fn a_run_pays_from_its_account_or_from_the_default_one() {
    let account = |named| Payer::of(&started(named), at(0)).account.to_string();
    assert_eq!([account(Some("mine")), account(None)], ["mine", "default"]);
    assert!(ACCOUNT_DEFAULT.parse::<AccountId>().is_ok());
    assert!(CALL_MILLISECONDS.parse::<Name>().is_ok());
}

#[test]
fn a_report_knows_its_model_and_its_tool_best() {
    let payer = Payer::of(&started(None), at(0));
    let mut usage = UsageRecorded {
        run_id: "r".parse().unwrap(),
        meter: "tokens_output".parse().unwrap(),
        quantity: 7,
        tool_call_id: None,
        dimensions: [("agent".parse().unwrap(), "another".to_owned())].into(),
    };
    let tool: Name = "search".parse().unwrap();
    let implied = payer.reported(&usage, Some(&tool));
    assert_eq!(implied.quantity, 7);
    assert_eq!(
        said(&implied),
        [
            ("agent", "a"),
            ("model", "m"),
            ("space", "s"),
            ("tool", "search")
        ]
    );
    for (key, value) in [("model", "mine"), ("tool", "hammer")] {
        usage.dimensions.insert(key.parse().unwrap(), value.into());
    }
    let reported = payer.reported(&usage, Some(&tool));
    assert_eq!(
        said(&reported),
        [
            ("agent", "a"),
            ("model", "mine"),
            ("space", "s"),
            ("tool", "hammer")
        ]
    );
}

#[test]
fn ends_say_how_long_it_took_and_how_it_ended() {
    let payer = Payer::of(&started(None), at(500));
    let tool: Name = "search".parse().unwrap();
    let [call, time] = payer.called(&tool, at(600), at(1_850), WorkStatus::Failed);
    assert_eq!((call.meter.as_str(), call.quantity), ("tool_calls", 1));
    assert_eq!(
        (time.meter.as_str(), time.quantity),
        (CALL_MILLISECONDS, 1_250)
    );
    assert!(said(&call).contains(&("outcome", "failed")));
    // A clock that was set back makes no usage of less than nothing.
    let [_, back] = payer.called(&tool, at(600), at(599), WorkStatus::Succeeded);
    assert_eq!(back.quantity, 0);
    let seconds = [500, 501, 1_500, 1_501].map(|end| {
        let ran = payer.ran(at(end), Outcome::Completed);
        assert_eq!(ran.meter.as_str(), "run_seconds");
        ran.quantity
    });
    assert_eq!(seconds, [0, 1, 1, 2]);
}

#[test]
fn what_is_forwarded_has_one_id_and_no_other() {
    let scope = |mode| Scope {
        tenant: TenantId::new(Uuid::from_u128(1)),
        mode,
    };
    let (run, other) = ("r".parse().unwrap(), "other".parse().unwrap());
    let report = RecordId::new(Uuid::from_u128(1));
    let all = [
        Of::Report(report),
        Of::Call("c"),
        Of::CallTime("c"),
        Of::Call("d"),
        Of::Run,
    ];
    let mut ids = BTreeSet::new();
    for of in all {
        let id = forwarded_id(scope(Mode::Live), &run, of);
        assert_eq!(forwarded_id(scope(Mode::Live), &run, of), id);
        ids.insert(id);
        ids.insert(forwarded_id(scope(Mode::Sandbox), &run, of));
        ids.insert(forwarded_id(scope(Mode::Live), &other, of));
    }
    assert_eq!(ids.len(), 3 * all.len());
}

#[test]
fn long_values_are_cut_where_a_character_ends() {
    let mut start = started(None);
    start.model = "ä".repeat(300);
    let ran = Payer::of(&start, at(0)).ran(at(0), Outcome::Completed);
    let model = said(&ran).into_iter().find(|(key, _)| *key == "model");
    assert_eq!(model.map(|(_, value)| value.chars().count()), Some(256));
}
