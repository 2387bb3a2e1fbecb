//! What open billing products are known to get wrong, each by its name.

use super::*;

#[test]
fn a_top_up_that_is_sent_twice_is_one() {
    let mut story = Story::default();
    story.does(0, 1, &Command::Grant(paid(10)));
    // The log gives a command one outcome; should its decision ever be seen twice, it does not fit.
    let (at, about, posted) = story.posted[0].clone();
    let before = story.account.clone();
    assert!(!evolve(&mut story.account, &mut None, &posted, at));
    assert_eq!((&story.account, about), (&before, None));
}

#[test]
fn credit_that_has_expired_and_was_not_swept_is_not_spent() {
    let mut story = Story::default();
    story.does(0, 1, &Command::Grant(until(10, 50)));
    assert_eq!(story.standing(49), [10, 0, 0, 0, 0]);
    assert_eq!(story.standing(50), [0, 0, 0, 0, 0]);
    assert_eq!(
        story.refuses(50, 2, &reserve(1, 100)),
        "INSUFFICIENT_CREDITS"
    );
    story.charge(40, 50, 1);
    assert_eq!(story.standing(50), [0, 0, 0, 1, 1]);
    let (_, _, posted) = &story.posted[1];
    let kinds: Vec<(EntryKind, Timestamp)> = posted
        .transactions
        .iter()
        .map(|one| (one.kind, one.at))
        .collect();
    assert_eq!(
        kinds,
        [(EntryKind::Expiration, at(50)), (EntryKind::Debit, at(50))]
    );
}

#[test]
fn a_grant_at_the_instant_of_a_reset_is_whole() {
    let mut story = Story::default();
    story.does(0, 1, &Command::Grant(until(10, 50)));
    let next = GrantTerms {
        effective_at: at(50),
        ..until(10, 100)
    };
    story.does(1, 2, &Command::Grant(next));
    story.charge(20, 20, 4);
    assert_eq!(story.standing(49), [6, 0, 0, 0, 4]);
    assert_eq!(story.standing(50), [10, 0, 0, 0, 4]);
    story.charge(50, 50, 1);
    assert_eq!(story.standing(50), [9, 0, 0, 0, 5]);
    assert_eq!(story.account.balances.expired, micros(6));
}

#[test]
fn two_first_commands_of_an_unknown_account_make_one() {
    let mut story = Story::default();
    story.does(0, 1, &Command::Grant(paid(3)));
    story.does(0, 2, &Command::Grant(paid(4)));
    assert_eq!(story.standing(0), [7, 0, 0, 0, 0]);
    let initial = story
        .posted
        .iter()
        .flat_map(|(_, _, one)| &one.transactions);
    let initial = initial.filter(|one| one.kind == EntryKind::Initial);
    assert_eq!(initial.count(), 1);
}

#[test]
fn a_hold_that_a_crash_has_lost_gives_back_what_it_held() {
    let mut story = Story::default();
    story.does(0, 1, &Command::Grant(paid(10)));
    story.does(1, 2, &reserve(10, 30));
    assert_eq!(
        story.refuses(29, 3, &reserve(1, 100)),
        "INSUFFICIENT_CREDITS"
    );
    assert_eq!(story.standing(30), [10, 0, 0, 0, 0]);
    story.does(30, 4, &reserve(10, 100));
    assert_eq!(story.refuses(31, 5, &settle(2, 1)), "HOLD_EXPIRED");
}

#[test]
fn credit_granted_after_a_period_is_not_spent_on_it() {
    let mut story = Story::default();
    story.does(0, 1, &Command::Grant(until(10, 50)));
    let next = GrantTerms {
        effective_at: at(50),
        ..until(10, 100)
    };
    story.does(1, 2, &Command::Grant(next));
    // Used before the reset and charged behind it: the period's own credit is gone by then.
    story.charge(49, 60, 3);
    assert_eq!(story.standing(60), [10, 0, 0, 3, 3]);
}

#[test]
fn what_was_used_above_the_hold_is_charged_and_what_was_not_is_given_back() {
    let mut story = Story::default();
    story.does(0, 1, &Command::Grant(paid(10)));
    story.does(1, 2, &reserve(4, 100));
    story.does(2, 3, &settle(2, 7));
    assert_eq!(story.standing(2), [3, 0, 0, 0, 7]);
    story.does(3, 4, &reserve(3, 100));
    story.does(4, 5, &settle(4, 1));
    assert_eq!(story.standing(4), [2, 0, 0, 0, 8]);
    story.does(5, 6, &reserve(2, 100));
    story.does(6, 7, &settle(6, 5));
    assert_eq!(story.standing(6), [0, 0, 0, 3, 13]);
}
