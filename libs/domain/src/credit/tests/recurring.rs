//! Credits that come again, and thresholds.

use super::*;

const DAY: i64 = 86_400;

pub(super) fn daily(amount: i64, first: i64, until: Option<i64>) -> Recurrence {
    Recurrence {
        amount: micros(amount),
        priority: 0,
        every: Period::Days(1),
        first_at: at(first),
        until: until.map(at),
    }
}

fn entries(story: &Story) -> Vec<(EntryKind, i64)> {
    let all = story
        .posted
        .iter()
        .flat_map(|(_, _, one)| &one.transactions);
    all.map(|one| (one.kind, (one.at - at(0)).num_seconds()))
        .collect()
}

#[test]
fn each_time_comes_at_its_instant_and_ends_with_the_next() {
    let mut story = Story::default();
    story.does(5, 1, &Command::GrantRecurring(daily(10, 100, None)));
    assert_eq!(story.standing(99), [0, 0, 0, 0, 0]);
    assert_eq!(story.standing(100), [10, 0, 0, 0, 0]);
    story.charge(150, 150, 4);
    assert_eq!(story.standing(DAY + 99), [6, 0, 0, 0, 4]);
    assert_eq!(story.standing(DAY + 100), [10, 0, 0, 0, 4]);
    story.charge(DAY + 100, DAY + 200, 1);
    assert_eq!(
        entries(&story),
        [
            (EntryKind::Initial, 100),
            (EntryKind::Debit, 150),
            (EntryKind::Expiration, DAY + 100),
            (EntryKind::Credit, DAY + 100),
            (EntryKind::Debit, DAY + 200),
        ]
    );
}

#[test]
fn what_came_and_went_while_nobody_looked_is_passed_over() {
    let mut story = Story::default();
    story.does(0, 1, &Command::GrantRecurring(daily(10, 0, None)));
    story.charge(3_650 * DAY + 7, 3_650 * DAY + 7, 1);
    assert_eq!(story.standing(3_650 * DAY + 7), [9, 0, 0, 0, 1]);
    let last = 3_650 * DAY;
    assert_eq!(
        entries(&story),
        [(EntryKind::Initial, last), (EntryKind::Debit, last + 7)]
    );
    // As of a moment between it was there all the same.
    assert_eq!(story.folded(at(DAY)).standing(DAY), [10, 0, 0, 0, 0]);
}

#[test]
fn a_recurrence_ends_when_it_was_to_end_or_is_voided() {
    let mut story = Story::default();
    story.does(0, 1, &Command::GrantRecurring(daily(10, 0, Some(DAY + 50))));
    story.does(0, 2, &Command::GrantRecurring(daily(3, 0, None)));
    assert_eq!(story.standing(DAY + 49), [13, 0, 0, 0, 0]);
    assert_eq!(story.standing(DAY + 50), [3, 0, 0, 0, 0]);
    story.does(DAY, 3, &Command::Void { grant: grant_id(2) });
    assert_eq!(
        story.standing(DAY + 60),
        [3, 0, 0, 0, 0],
        "what was given is not taken back"
    );
    assert_eq!(story.standing(2 * DAY), [0, 0, 0, 0, 0]);
    let again = Command::Void { grant: grant_id(2) };
    assert_eq!(story.refuses(DAY, 4, &again), "GRANT_NOT_FOUND");
}

#[test]
fn a_threshold_is_crossed_once_each_time() {
    let mut story = Story::default();
    story.does(0, 1, &Command::Grant(paid(100)));
    let thresholds = [
        ("low", Threshold::AvailableBelow(micros(50))),
        ("much", Threshold::SpentOver(micros(60))),
    ];
    let thresholds = thresholds.map(|(name, one)| (name.parse().unwrap(), one));
    story.does(0, 2, &Command::SetThresholds(thresholds.into()));
    let crossed = |posted: &Posted| -> Vec<String> {
        posted.crossed.iter().map(ToString::to_string).collect()
    };
    assert_eq!(crossed(story.charge(1, 1, 50)), [""; 0]);
    assert_eq!(crossed(story.charge(2, 2, 1)), ["low"]);
    assert_eq!(crossed(story.charge(3, 3, 9)), [""; 0]);
    assert_eq!(crossed(story.charge(4, 4, 1)), ["much"]);
    story.does(5, 3, &Command::Grant(paid(100)));
    assert_eq!(crossed(story.charge(6, 6, 100)), ["low"]);
    // A month later nothing is spent yet.
    assert_eq!(crossed(story.charge(40 * DAY, 40 * DAY, 1)), [""; 0]);
    assert_eq!(crossed(story.charge(40 * DAY, 40 * DAY, 60)), ["much"]);
    // Nor is it told the less when one charge passes it at once.
    assert_eq!(crossed(story.charge(70 * DAY, 70 * DAY, 90)), ["much"]);
}

#[test]
fn what_never_comes_owes_nothing() {
    let mut story = Story::default();
    let end = "9999-12-31T00:00:00Z".parse().unwrap();
    let last = Recurrence {
        first_at: end,
        ..daily(5, 0, None)
    };
    story.does(0, 1, &Command::GrantRecurring(last));
    assert_eq!(next_lapse(&story.account), None);
    assert_eq!(owed(&story.account, end), None);
}

#[test]
fn more_than_can_be_counted_is_not_given() {
    let mut story = Story::default();
    let much = i64::MAX / 2 + 1;
    story.does(0, 1, &Command::GrantRecurring(daily(much, 0, None)));
    story.does(0, 2, &Command::Grant(paid(7)));
    for day in 1..4 {
        let posted = owed(&story.account, at(day * DAY)).unwrap();
        story.take_in(at(day * DAY), None, posted);
    }
    assert_eq!(story.account.balances.issued, micros(-i64::MAX));
    let more = Command::Grant(paid(1));
    assert_eq!(story.refuses(4 * DAY, 3, &more), "OVERFLOW");
    let void = Command::Void { grant: grant_id(1) };
    story.does(4 * DAY, 4, &void);
    assert_eq!(next_lapse(&story.account), None);
}

#[test]
fn days_and_months_begin_by_the_clocks_of_the_account() {
    let mut story = Story::default();
    story.does(0, 1, &Command::Grant(paid(100)));
    story.does(0, 2, &Command::SetZone("Europe/Berlin".parse().unwrap()));
    let limits = Limits {
        day: Some(micros(10)),
        ..Limits::default()
    };
    story.does(0, 3, &Command::SetLimits(limits));
    story.charge(1, 1, 10);
    // Midnight is an hour earlier there than in UTC.
    let before = DAY - 3_600 - 1;
    assert_eq!(
        story.refuses(before, 4, &reserve(1, 2 * DAY)),
        "SPEND_LIMIT"
    );
    story.does(before + 1, 5, &reserve(1, 2 * DAY));
}

#[test]
fn a_day_goes_on_by_other_clocks() {
    let mut story = Story::default();
    story.does(0, 1, &Command::Grant(paid(100)));
    story.charge(1, 1, 10);
    for (number, zone) in [(2, "Pacific/Honolulu"), (3, "UTC")] {
        story.does(2, number, &Command::SetZone(zone.parse().unwrap()));
        assert_eq!(story.account.spent(at(3)), (micros(10), micros(10)));
    }
}
