use super::*;
use crate::approval::Verdict;
use crate::scope::PrincipalKind;

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
    let (set, book) = (PolicySet::compile([&over(10, 3)]), Book::of([over(10, 3)]));
    let same = Draft::default().compile(&book, change()).unwrap();
    for arguments in [r#"{"amount":11}"#, r#"{"amount":9}"#, "{}", ""] {
        let given = Given::new(arguments);
        let then = set.judge(&given.subject());
        let again = same.simulate(&given.subject(), by_policies(&then));
        assert!(!again.changes(), "{arguments}");
        assert_eq!(again.causes, []);
    }
}

#[test]
fn a_draft_shows_what_it_changes_and_why() {
    let given = Given::new(r#"{"amount":11}"#);
    let none = PolicySet::default().judge(&given.subject());
    let blocked = PolicySet::compile([&over(10, 3)]).judge(&given.subject());
    let mut milder = over(10, 0);
    milder.spec.action = Action::Warn;
    let (block, warn) = (Some((3, Action::Block)), Some((4, Action::Warn)));
    let cases = [
        (&blocked, over(20, 0), Verdict::Allowed, (block, None)),
        (&none, over(10, 3), Verdict::Blocked, (None, block)),
        (&blocked, milder, Verdict::Warned, (block, warn)),
    ];
    for (then, drafted, after, (cause_before, cause_after)) in cases {
        let draft = Draft {
            policies: vec![(drafted.id, drafted.spec)],
            ..Draft::default()
        };
        let draft = draft.compile(&Book::of([over(10, 3)]), change()).unwrap();
        let simulation = draft.simulate(&given.subject(), by_policies(then));
        assert_eq!(
            (simulation.before, simulation.after),
            (then.action.into(), after)
        );
        let cause = Cause {
            policy: "amount".parse().unwrap(),
            before: cause_before,
            after: cause_after,
        };
        assert_eq!(simulation.causes, [cause]);
    }
}

#[test]
fn a_verdict_that_was_not_the_policies_stays() {
    let given = Given::new(r#"{"amount":11}"#);
    let blocking = PolicySet::compile([&over(10, 3)]).judge(&given.subject());
    let recorded = Recorded {
        by_policies: false,
        ..by_policies(&blocking)
    };
    let nothing = Draft {
        from_nothing: true,
        ..Draft::default()
    };
    let nothing = nothing.compile(&Book::default(), change()).unwrap();
    let simulation = nothing.simulate(&given.subject(), recorded);
    assert!(
        !simulation.changes(),
        "the run had ended, or its limit was reached"
    );
}

#[test]
fn fields_are_those_of_the_policies_that_a_draft_names() {
    let book = Book::of([over(10, 3)]);
    let labelled = When::Conditions(vec![condition("labels.team", "equals", "\"x\"")]);
    let draft = Draft {
        policies: vec![("team".parse().unwrap(), spec(Action::Warn, labelled))],
        ..Draft::default()
    };
    let drafted = draft.compile(&book, change()).unwrap();
    let given = Given::new("{}");
    let judged = PolicySet::default().judge(&given.subject());
    let fields = drafted
        .simulate(&given.subject(), by_policies(&judged))
        .fields;
    assert_eq!((fields.present, fields.read), (0, 1));
}

#[test]
fn a_draft_is_the_scopes_policies_with_changes() {
    let book = Book::of([over(10, 3), policy("other", over(1, 1).spec)]);
    let id = |text: &str| PolicyId::parse(text).unwrap();
    let ids = |policies: &[Policy]| -> Vec<(String, u64)> {
        let all = policies.iter();
        all.map(|one| (one.id.to_string(), one.version)).collect()
    };
    let draft = Draft {
        from_nothing: false,
        policies: vec![
            (id("amount"), over(20, 0).spec),
            (id("new"), over(5, 0).spec),
        ],
        without: vec![id("other")],
    };
    let drafted = draft.apply(&book, change()).unwrap();
    assert_eq!(ids(&drafted), [("amount".into(), 4), ("new".into(), 1)]);
    // What says the same is the same.
    let same = Draft {
        from_nothing: true,
        policies: vec![(id("amount"), over(10, 0).spec)],
        without: Vec::new(),
    };
    let drafted = same.apply(&book, change()).unwrap();
    assert_eq!(ids(&drafted), [("amount".into(), 3)]);
    let missing = Draft {
        without: vec![id("none")],
        ..Draft::default()
    };
    assert_eq!(
        missing.apply(&book, change()),
        Err(DraftError::NoSuchPolicy(id("none")))
    );
    let many = (0..=POLICIES_MAX).map(|number| (id(&number.to_string()), over(1, 1).spec));
    let many = Draft {
        policies: many.collect(),
        ..Draft::default()
    };
    assert_eq!(
        many.apply(&book, change()),
        Err(DraftError::TooManyPolicies)
    );
}

fn change() -> Change {
    Change {
        at: Timestamp::UNIX_EPOCH,
        by: Actor {
            principal: PrincipalId::new(uuid::Uuid::from_u128(1)),
            kind: PrincipalKind::User,
            role: Role::Admin,
        },
    }
}

fn by_policies(judgement: &Judgement) -> Recorded<'_> {
    Recorded {
        verdict: judgement.action.into(),
        matches: &judgement.matches,
        by_policies: true,
    }
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
