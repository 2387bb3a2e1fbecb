//! What usage is charged, and how that is explained.

use super::*;
use crate::calendar::Zone;

const MONTH: i64 = 31 * 86_400;

fn lines(posted: &Posted) -> &[Line] {
    let Change::Charged(lines) = &posted.change else {
        panic!("{posted:?}")
    };
    lines
}

fn amounts(posted: &Posted) -> Vec<i64> {
    lines(posted)
        .iter()
        .map(|line| line.amount.as_micros())
        .collect()
}

/// Ten free, then ten at 5, the rest at 1.
fn graduated() -> Rule {
    Rule {
        included: 10,
        tiers: vec![
            Tier {
                up_to: Some(10),
                price: micros(5),
            },
            Tier {
                up_to: None,
                price: micros(1),
            },
        ],
        ..rule("graduated", 0)
    }
}

#[test]
fn units_are_counted_by_the_month_in_which_they_were_used() {
    let set = list(1, vec![graduated()]);
    let mut story = Story::default();
    let mut charged = |second, usages: &[Usage]| -> Vec<i64> {
        let posted = charge(&story.account, &|_| Some(&set), usages, at(second));
        amounts(story.take_in(at(second), None, posted))
    };
    assert_eq!(charged(1, &[usage(1, 8), usage(1, 4)]), [0, 10]);
    assert_eq!(charged(2, &[usage(2, 10)]), [42]);
    // The month after begins anew; what comes late goes on with its own.
    assert_eq!(charged(MONTH, &[usage(MONTH, 11), usage(3, 2)]), [5, 2]);
    let late: Vec<bool> = lines(&story.posted[2].2)
        .iter()
        .map(|line| line.late)
        .collect();
    assert_eq!(late, [false, true]);
    let counted = story.account.used.values().flat_map(BTreeMap::values);
    assert_eq!(counted.copied().collect::<Vec<_>>(), [24, 11]);
    // A year and more later it is forgotten.
    let later = 15 * MONTH;
    let posted = charge(
        &story.account,
        &|_| Some(&set),
        &[usage(later, 1)],
        at(later),
    );
    story.take_in(at(later), None, posted);
    assert_eq!(story.account.used.len(), 1);
    // What is as old as that by then is counted all the same: it is free once, not each time.
    let mut charged = |second, usages: &[Usage]| -> Vec<i64> {
        let posted = charge(&story.account, &|_| Some(&set), usages, at(second));
        amounts(story.take_in(at(second), None, posted))
    };
    assert_eq!(charged(later, &[usage(4, 10), usage(4, 10)]), [0, 50]);
    assert_eq!(charged(later + 1, &[usage(4, 1)]), [1]);
}

#[test]
fn counts_are_bounded() {
    let mut account = Account::default();
    let rules = (0..COUNTS_MAX).map(|number| (format!("r{number}").parse().unwrap(), 1));
    let long_ago = Zone::default().month(at(-2 * MONTH));
    account.used.insert(long_ago, rules.collect());
    let set = list(1, vec![rule("r", 1)]);
    let posted = charge(&account, &|_| Some(&set), &[usage(1, 5)], at(1));
    assert!(evolve(&mut account, &mut None, &posted, at(1)));
    let counted = account.used.values().flat_map(BTreeMap::values);
    assert_eq!(counted.copied().collect::<Vec<_>>(), [5]);
}

#[test]
fn usage_costs_what_it_cost_when_it_was_used() {
    let (before, after) = (list(1, vec![rule("r", 2)]), list(2, vec![rule("r", 3)]));
    let prices = |moment| match moment < at(100) {
        true => Some(&before),
        false => Some(&after),
    };
    let usages = [usage(99, 10), usage(100, 10)];
    let posted = charge(&Account::default(), &prices, &usages, at(200));
    assert_eq!(amounts(&posted), [20, 30]);
    let versions = lines(&posted).iter().map(|line| match &line.pricing {
        Pricing::By { version, .. } => *version,
        Pricing::Unpriced | Pricing::Overflow | Pricing::Rejected | Pricing::Undecidable => 0,
    });
    assert_eq!(versions.collect::<Vec<_>>(), [1, 2]);
}

#[test]
fn what_has_no_price_or_no_place_is_charged_nothing_and_shown() {
    let set = list(1, vec![rule("r", i64::MAX)]);
    let other = Usage {
        meter: Meter::ToolCalls.into(),
        ..usage(1, 5)
    };
    let usages = [other, usage(1, 2), usage(1, 1), usage(1, 1)];
    let mut story = Story::default();
    let posted = charge(&story.account, &|_| Some(&set), &usages, at(1));
    let posted = story.take_in(at(1), None, posted).clone();
    let pricing: Vec<&Pricing> = lines(&posted).iter().map(|line| &line.pricing).collect();
    assert!(
        matches!(
            pricing.as_slice(),
            [
                Pricing::Unpriced,
                Pricing::Overflow,
                Pricing::By { .. },
                Pricing::Overflow
            ]
        ),
        "{pricing:?}"
    );
    assert_eq!(story.account.unpaid(), Credits::MAX);
    let before = charge(&story.account, &|_| None, &[usage(1, 1)], at(2));
    assert!(matches!(lines(&before)[0].pricing, Pricing::Unpriced));
    assert_eq!(before.transactions, []);
}

#[test]
fn a_quote_is_what_would_be_charged() {
    let mut story = Story::default();
    story.does(0, 1, &Command::Grant(paid(10)));
    let set = list(1, vec![rule("messages", 1)]);
    let quote = charge(&story.account, &|_| Some(&set), &[usage(1, 4)], at(1));
    let before = story.account.net();
    assert_eq!(&quote, story.charge(1, 1, 4));
    assert_eq!(story.account.net(), before - 4);
}

#[test]
fn a_threshold_that_is_crossed_when_it_is_set_is_told_then_and_not_again() {
    let mut story = Story::default();
    story.does(0, 1, &Command::Grant(paid(5)));
    let low = Threshold::AvailableBelow(micros(10));
    let set = Command::SetThresholds([("low".parse().unwrap(), low)].into());
    let crossed = |posted: &Posted| posted.crossed.len();
    assert_eq!(crossed(story.ask(1, 2, &set).unwrap()), 1);
    assert_eq!(crossed(story.charge(2, 2, 1)), 0);
    assert_eq!(crossed(story.ask(3, 3, &set).unwrap()), 0);
    // Above it and below it again: told again.
    story.does(4, 4, &Command::Grant(paid(20)));
    assert_eq!(crossed(story.charge(5, 5, 20)), 1);
}
