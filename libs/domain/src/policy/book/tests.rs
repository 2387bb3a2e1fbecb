use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use uuid::Uuid;

use super::*;
use crate::fault::Kind;
use crate::ids::PrincipalId;
use crate::policy::tests::{condition, spec};
use crate::policy::{Action, When};
use crate::scope::{Actor, PrincipalKind, Role};
use crate::time::Timestamp;

fn change(second: i64) -> Change {
    Change {
        at: Timestamp::from_timestamp(second, 0).unwrap(),
        by: Actor {
            principal: PrincipalId::new(Uuid::from_u128(1)),
            kind: PrincipalKind::User,
            role: Role::Admin,
        },
    }
}

fn sound() -> Spec {
    let conditions = vec![condition("tool", "exists", "true")];
    spec(Action::Warn, When::Conditions(conditions))
}

fn id(text: &str) -> PolicyId {
    text.parse().unwrap()
}

fn create(id: &str) -> Command {
    Command::Create {
        id: self::id(id),
        spec: sound(),
    }
}

fn update(id: &str, expected_version: Option<u64>) -> Command {
    Command::Update {
        id: self::id(id),
        spec: sound(),
        expected_version,
    }
}

fn enable(id: &str, enabled: bool) -> Command {
    Command::SetEnabled {
        id: self::id(id),
        enabled,
        expected_version: None,
    }
}

fn delete(id: &str) -> Command {
    Command::Delete {
        id: self::id(id),
        expected_version: None,
    }
}

/// Decides and takes in.
fn done(book: &mut Book, command: &Command) -> Changed {
    let changed = decide(book, command, change(1)).unwrap();
    assert!(
        evolve(book, &changed),
        "a decision fits the book it was taken on"
    );
    changed
}

fn refused(book: &Book, command: &Command, kind: RejectionKind, reason: &str) -> Rejection {
    let before = book.clone();
    let rejection = decide(book, command, change(1)).unwrap_err();
    assert_eq!((rejection.kind, &*rejection.reason), (kind, reason));
    assert_eq!(*book, before);
    rejection
}

#[test]
fn a_policy_goes_its_way_version_by_version() {
    let mut book = Book::default();
    assert_eq!(done(&mut book, &create("p")).policy.version, 1);
    assert_eq!(done(&mut book, &update("p", Some(1))).policy.version, 2);
    assert_eq!(
        done(&mut book, &enable("p", false)).changing,
        Changing::Disabled
    );
    assert!(book.get(&id("p")).unwrap().spec.disabled);
    assert_eq!(done(&mut book, &enable("p", true)).policy.version, 4);
    let gone = done(&mut book, &delete("p"));
    assert_eq!((gone.policy.version, gone.policy.deleted), (5, true));
    assert!(book.get(&id("p")).unwrap().deleted, "it is still told of");
}

#[test]
fn who_made_it_and_who_changed_it_are_kept() {
    let mut book = Book::default();
    let made = decide(&book, &create("p"), change(1)).unwrap();
    evolve(&mut book, &made);
    let updated = decide(&book, &update("p", None), change(2)).unwrap().policy;
    assert_eq!(
        (updated.created, updated.updated),
        (Some(change(1)), Some(change(2)))
    );
}

#[test]
fn what_does_not_fit_is_refused_with_its_reason() {
    let mut book = Book::default();
    let (not_found, exists, precondition) = (
        RejectionKind::NotFound,
        RejectionKind::AlreadyExists,
        RejectionKind::Precondition,
    );
    for command in [update("p", None), enable("p", true), delete("p")] {
        refused(&book, &command, not_found, "POLICY_NOT_FOUND");
    }
    done(&mut book, &create("p"));
    refused(&book, &create("p"), exists, "POLICY_EXISTS");
    refused(
        &book,
        &create("default-force-push"),
        exists,
        "POLICY_EXISTS",
    );
    let stale = refused(
        &book,
        &update("p", Some(7)),
        precondition,
        "VERSION_MISMATCH",
    );
    assert!(
        stale.message.contains("version 1, not 7"),
        "{}",
        stale.message
    );
    refused(&book, &enable("p", true), precondition, "NOTHING_TO_CHANGE");
    done(&mut book, &delete("p"));
    refused(&book, &create("p"), exists, "POLICY_EXISTS");
    for command in [update("p", None), enable("p", false), delete("p")] {
        refused(&book, &command, not_found, "POLICY_NOT_FOUND");
    }
    let bad = spec(Action::Warn, When::Conditions(vec![]));
    let rejection = refused(
        &book,
        &Command::Create {
            id: id("q"),
            spec: bad,
        },
        RejectionKind::Invalid,
        "INVALID_FIELDS",
    );
    assert_eq!(rejection.violations[0].field, "spec.conditions.all");
    assert_eq!(crate::fault::Fault::from(rejection).kind, Kind::Invalid);
}

#[test]
fn a_scope_has_so_many_policies() {
    let mut book = Book::default();
    for number in 0..POLICIES_MAX - defaults().len() {
        done(&mut book, &create(&format!("p{number}")));
    }
    refused(
        &book,
        &create("more"),
        RejectionKind::Precondition,
        "TOO_MANY_POLICIES",
    );
    done(&mut book, &delete("p7"));
    done(&mut book, &create("more"));
}

#[test]
fn a_default_that_was_changed_never_comes_back() {
    let mut book = Book::default();
    let edited = done(&mut book, &update("default-force-push", Some(0)));
    assert_eq!((edited.policy.version, edited.policy.created), (1, None));
    done(&mut book, &delete("default-deployments"));
    assert_eq!(book.compile().len(), defaults().len() - 1);
    assert_eq!(book.get(&id("default-force-push")).unwrap().spec, sound());
}

fn any_command() -> impl Strategy<Value = Command> {
    let id = select(vec!["a", "b", "default-force-push", "default-deployments"]);
    (id, 0..6_u8, 0..4_u64).prop_map(|(id, kind, version)| match kind {
        0 => create(id),
        1 => update(id, Some(version)),
        2 => update(id, None),
        3 => enable(id, version % 2 == 0),
        4 => delete(id),
        _ => Command::Delete {
            id: self::id(id),
            expected_version: Some(version),
        },
    })
}

proptest! {
    #[test]
    fn versions_rise_by_one_and_a_book_is_what_its_decisions_make(commands in vec(any_command(), 0..40)) {
        let (mut book, mut decisions) = (Book::default(), Vec::new());
        for (second, command) in (1..).zip(&commands) {
            if let Ok(changed) = decide(&book, command, change(second)) {
                let before = book.get(&changed.policy.id).map_or(0, |policy| policy.version);
                prop_assert_eq!(changed.policy.version, before + 1);
                prop_assert!(evolve(&mut book, &changed));
                decisions.push(changed);
            }
        }
        let mut again = Book::default();
        for changed in &decisions {
            evolve(&mut again, changed);
            // A copy changes nothing.
            prop_assert!(!evolve(&mut again, changed));
        }
        prop_assert_eq!(again, book);
    }
}
