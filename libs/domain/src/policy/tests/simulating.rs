use super::*;
use crate::approval::Verdict;

fn over(amount: u64, version: u64) -> Policy {
    let when = When::Conditions(vec![condition(
        "arguments.amount",
        "gt",
        &amount.to_string(),
    )]);
    Policy {
        version,
        ..policy("amount", spec(Action::Block, when))
    }
}

#[test]
fn the_same_policies_change_nothing() {
    let policies = [over(10, 3)];
    let set = PolicySet::compile(&policies);
    for arguments in [r#"{"amount":11}"#, r#"{"amount":9}"#, "{}", ""] {
        let given = Given::new(arguments);
        let then = set.judge(&given.subject());
        let again = simulate(&set, &given.subject(), &then.matches, then.action.into());
        assert!(!again.changes(), "{arguments}");
        assert_eq!(again.causes, []);
    }
}

#[test]
fn a_draft_shows_what_it_changes_and_why() {
    let given = Given::new(r#"{"amount":11}"#);
    let then = PolicySet::compile([&over(10, 3)]).judge(&given.subject());
    let draft = PolicySet::compile([&over(20, 4)]);
    let simulation = simulate(&draft, &given.subject(), &then.matches, Verdict::Blocked);
    assert_eq!(
        (simulation.before, simulation.after),
        (Verdict::Blocked, Verdict::Allowed)
    );
    let [
        Cause::NoLonger {
            version: 3,
            action: Action::Block,
            ..
        },
    ] = simulation.causes.as_slice()
    else {
        panic!("{:?}", simulation.causes);
    };
    let back = simulate(
        &PolicySet::compile([&over(10, 3)]),
        &given.subject(),
        &[],
        Verdict::Allowed,
    );
    assert!(matches!(back.causes.as_slice(), [Cause::Now { .. }]));
    let mut milder = over(10, 4);
    milder.spec.action = Action::Warn;
    let warned = simulate(
        &PolicySet::compile([&milder]),
        &given.subject(),
        &then.matches,
        Verdict::Blocked,
    );
    assert_eq!(warned.after, Verdict::Warned);
    assert!(matches!(
        warned.causes.as_slice(),
        [Cause::Otherwise {
            versions: (3, 4),
            ..
        }]
    ));
}

#[test]
fn a_verdict_that_was_not_the_policies_stays() {
    let given = Given::new("{}");
    let simulation = simulate(
        &PolicySet::default(),
        &given.subject(),
        &[],
        Verdict::Blocked,
    );
    assert!(
        !simulation.changes(),
        "the run had ended, or its limit was reached"
    );
}

#[test]
fn a_call_says_how_much_of_what_a_draft_reads_it_has() {
    let conditions = vec![
        condition("arguments.amount", "gt", "1"),
        condition("arguments.cabin", "equals", "\"x\""),
        condition("arguments.gone", "exists", "false"),
    ];
    let cel =
        "arguments.payment['method'] == 'card' && has(arguments.insurance) && arguments.amount > 1";
    let policies = [
        policy("a", spec(Action::Warn, When::Conditions(conditions))),
        policy("b", spec(Action::Warn, When::Cel(cel.into()))),
    ];
    let set = PolicySet::compile(&policies);
    let some = set.fields_present(&Given::new(r#"{"amount":1}"#).subject());
    // amount, cabin, payment.method, and the arguments that has() looks into.
    assert_eq!(
        some,
        FieldsPresent {
            present: 2,
            read: 4
        }
    );
    let given = Given::new(r#"{"amount":1,"cabin":"b","payment":{"method":"card"}}"#);
    assert!(set.fields_present(&given.subject()).all());
}
