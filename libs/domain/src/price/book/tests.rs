use std::collections::BTreeSet;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::*;
use crate::fault::Kind;
use crate::price::tests::{change, list, name, rule, second};

fn publish(effective_at: Option<Timestamp>) -> Publish {
    Publish {
        effective_at,
        rules: vec![rule("r", "messages")],
        meters: BTreeSet::new(),
        expected_version: None,
    }
}

/// In force from a second on.
fn from(seconds: i64) -> Publish {
    publish(Some(second(seconds)))
}

/// Decides and takes in.
fn done(book: &mut PriceBook, command: &Publish, at: i64) -> PriceList {
    let published = decide(&book.edition(), command, change(second(at))).unwrap();
    assert!(
        evolve(book, &published),
        "a decision fits the book it was taken on"
    );
    published.list
}

fn refused(book: &PriceBook, command: &Publish, at: i64, reason: &str) -> Rejection {
    let rejection = decide(&book.edition(), command, change(second(at))).unwrap_err();
    assert_eq!(
        (rejection.kind, &*rejection.reason),
        (RejectionKind::Precondition, reason)
    );
    rejection
}

fn in_force(book: &PriceBook, seconds: i64) -> u64 {
    book.at(second(seconds)).map_or(0, |list| list.version)
}

#[test]
fn prices_go_their_way_version_by_version() {
    let mut book = PriceBook::default();
    assert_eq!(
        (book.version(), book.latest(), in_force(&book, 1_000)),
        (0, None, 0)
    );
    let first = done(&mut book, &publish(None), 0);
    assert_eq!((first.version, first.effective_at), (1, second(60)));
    assert_eq!(first.recorded, change(second(0)));
    let named = Publish {
        meters: [name("gpu")].into(),
        rules: vec![rule("g", "gpu")],
        expected_version: Some(1),
        ..from(200)
    };
    let second = done(&mut book, &named, 1);
    assert_eq!(
        (&second.rules, &second.meters),
        (&named.rules, &named.meters)
    );
    let none = Publish {
        rules: vec![],
        ..from(300)
    };
    done(&mut book, &none, 2);
    let moments = [0, 59, 60, 199, 200, 299, 300, 9_999];
    let found = moments.map(|moment| in_force(&book, moment));
    assert_eq!(found, [0, 0, 1, 1, 2, 2, 3, 3]);
    assert_eq!(book.get(2).map(|list| &**list), Some(&second));
    assert_eq!((book.get(0), book.get(4)), (None, None));
    assert_eq!((book.version(), book.lists().count()), (3, 3));
}

#[test]
fn prices_take_effect_a_minute_after_they_are_published_and_within_ten_years() {
    let book = PriceBook::default();
    let at = 1_000_000_000;
    for seconds in [0, at - 1, at, at + 59] {
        refused(&book, &from(seconds), at, "PRICE_EFFECTIVE_TOO_SOON");
    }
    let nearly = second(at + 60) - TimeDelta::microseconds(1);
    refused(
        &book,
        &publish(Some(nearly)),
        at,
        "PRICE_EFFECTIVE_TOO_SOON",
    );
    let ten_years = AHEAD_MAX.num_seconds();
    for seconds in [at + 60, at + ten_years] {
        assert!(decide(&book.edition(), &from(seconds), change(second(at))).is_ok());
    }
    refused(
        &book,
        &from(at + ten_years + 1),
        at,
        "PRICE_EFFECTIVE_TOO_FAR",
    );
    for (effective_at, at) in [
        (Some(Timestamp::MAX_UTC), Timestamp::MIN_UTC),
        (Some(Timestamp::MIN_UTC), Timestamp::MAX_UTC),
        (None, Timestamp::MAX_UTC),
    ] {
        assert!(decide(&book.edition(), &publish(effective_at), change(at)).is_err());
    }
}

#[test]
fn what_takes_effect_no_sooner_can_be_replaced_before_it_does() {
    let mut book = PriceBook::default();
    done(&mut book, &from(60), 0);
    done(&mut book, &from(500), 1);
    refused(&book, &from(499), 2, "EFFECTIVE_OUT_OF_ORDER");
    let soon = refused(&book, &publish(None), 2, "EFFECTIVE_OUT_OF_ORDER");
    assert!(
        soon.message
            .contains("version 2 takes effect at 1970-01-01 00:08:20 UTC"),
        "{}",
        soon.message
    );
    done(&mut book, &from(500), 2);
    assert_eq!([499, 500].map(|moment| in_force(&book, moment)), [1, 3]);
    refused(&book, &from(500), 441, "PRICE_EFFECTIVE_TOO_SOON");
}

#[test]
fn a_command_can_say_what_it_follows() {
    let mut book = PriceBook::default();
    let after = |version| Publish {
        expected_version: Some(version),
        ..publish(None)
    };
    let stale = refused(&book, &after(1), 0, "VERSION_MISMATCH");
    assert!(
        stale.message.contains("version 0, not 1"),
        "{}",
        stale.message
    );
    done(&mut book, &after(0), 0);
    refused(&book, &after(0), 1, "VERSION_MISMATCH");
    done(&mut book, &after(1), 1);
}

#[test]
fn a_list_with_faults_is_refused_with_all_of_them() {
    let twice = Publish {
        rules: vec![rule("r", "messages"), rule("r", "unheard")],
        ..from(0)
    };
    let rejection = decide(&Edition::default(), &twice, change(second(0))).unwrap_err();
    assert_eq!(
        (rejection.kind, &*rejection.reason),
        (RejectionKind::Invalid, "INVALID_FIELDS")
    );
    assert_eq!(rejection.violations.len(), 2);
    assert_eq!(crate::fault::Fault::from(rejection).kind, Kind::Invalid);
}

#[test]
fn a_scope_has_so_many_versions() {
    let mut book = PriceBook::default();
    for at in 0..1_000 {
        done(&mut book, &publish(None), at);
    }
    refused(&book, &publish(None), 1_000, "TOO_MANY_VERSIONS");
}

#[test]
fn a_decision_that_does_not_fit_is_told_and_taken_if_it_is_later() {
    let of = |version, from| Published {
        list: PriceList {
            version,
            effective_at: second(from),
            ..list(vec![])
        },
    };
    let mut book = PriceBook::default();
    assert!(!evolve(&mut book, &of(0, 10)));
    assert!(!evolve(&mut book, &of(3, 100)));
    assert_eq!(book.version(), 3);
    let before = book.clone();
    for earlier in [of(2, 50), of(3, 200)] {
        assert!(!evolve(&mut book, &earlier));
        assert_eq!(book, before);
    }
    // Out of order, which no command can bring about: the moment decides, not the version.
    assert!(evolve(&mut book, &of(4, 50)));
    assert_eq!(
        [49, 50, 99, 100].map(|moment| in_force(&book, moment)),
        [0, 4, 4, 3]
    );
    assert!(!evolve(&mut book, &of(u64::MAX, 300)));
    assert!(!evolve(&mut book, &of(u64::MAX, 300)));
    let twice = PriceBook::of([of(1, 10).list, of(1, 20).list]);
    assert_eq!(twice, PriceBook::of([of(1, 10).list]));
}

/// When a command comes after the one before it, how far ahead it takes effect, and what it follows.
fn any_command() -> impl Strategy<Value = (i64, Publish)> {
    let expected = option::weighted(0.3, 0..6_u64);
    (0..90_i64, option::of(40..300_i64), expected).prop_map(|(after, ahead, expected_version)| {
        let command = Publish {
            expected_version,
            // Until its moment is known.
            effective_at: ahead.map(second),
            ..publish(None)
        };
        (after, command)
    })
}

/// Lists as decisions make them: effective one after the other, or at once.
fn any_lists() -> impl Strategy<Value = Vec<PriceList>> {
    vec(0..3_i64, 0..12).prop_map(|gaps| {
        let mut effective = 0;
        let numbered = (1..).zip(gaps);
        numbered
            .map(|(version, gap)| {
                effective += gap;
                PriceList {
                    version,
                    effective_at: second(effective),
                    ..list(vec![])
                }
            })
            .collect()
    })
}

proptest! {
    #[test]
    fn no_decision_changes_the_next_minute_and_a_book_is_what_its_decisions_make(
        commands in vec(any_command(), 0..24),
    ) {
        let (mut book, mut decisions, mut at) = (PriceBook::default(), Vec::new(), 0);
        for (after, mut command) in commands {
            at += after;
            let ahead = command.effective_at.map(|ahead| ahead.timestamp());
            command.effective_at = ahead.map(|ahead| second(at + ahead));
            let before = book.clone();
            if let Ok(published) = decide(&book.edition(), &command, change(second(at))) {
                prop_assert_eq!(published.list.version, book.version() + 1);
                prop_assert!(evolve(&mut book, &published));
                decisions.push(published);
            }
            for moment in at - 200..at + 60 {
                prop_assert_eq!(book.at(second(moment)), before.at(second(moment)));
            }
        }
        let mut again = PriceBook::default();
        for published in &decisions {
            evolve(&mut again, published);
            // A copy changes nothing.
            prop_assert!(!evolve(&mut again, published));
        }
        prop_assert_eq!(&again, &book);
        prop_assert_eq!(PriceBook::of(book.lists().map(|list| PriceList::clone(list))), again);
    }

    #[test]
    fn the_order_of_keeping_does_not_show(
        (lists, kept) in any_lists().prop_flat_map(|lists| (Just(lists.clone()), Just(lists).prop_shuffle())),
    ) {
        let book = PriceBook::of(kept);
        prop_assert_eq!(&book, &PriceBook::of(lists.clone()));
        for moment in 0..40 {
            let moment = second(moment);
            let begun = lists.iter().filter(|list| list.effective_at <= moment);
            let last = begun.max_by_key(|list| (list.effective_at, list.version));
            prop_assert_eq!(book.at(moment).map(|list| &**list), last);
        }
    }
}
