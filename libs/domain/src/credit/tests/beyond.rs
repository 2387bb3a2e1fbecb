//! What passing a limit comes to, and what does not fit.

use super::*;

fn limited(day: i64, beyond: Beyond) -> Story {
    let mut story = Story::default();
    story.does(0, 1, &Command::Grant(paid(1_000)));
    let limits = Limits {
        day: Some(micros(day)),
        beyond,
        ..Limits::default()
    };
    story.does(0, 2, &Command::SetLimits(limits));
    story
}

/// Amount, pricing and limits passed of each line of the last charge.
fn told(posted: &Posted) -> Vec<(i64, &'static str, usize)> {
    let Change::Charged(lines) = &posted.change else {
        panic!("{posted:?}")
    };
    let lines = lines.iter();
    lines
        .map(|line| {
            let amount = line.amount.as_micros();
            (amount, line.pricing.as_str(), line.over.len())
        })
        .collect()
}

#[test]
fn usage_beyond_a_limit_is_charged_and_marked_unless_it_is_to_be_rejected() {
    let usages = [usage(1, 6), usage(1, 6), usage(1, 4)];
    for (beyond, expected, spent) in [
        (
            Beyond::RejectHolds,
            [(6, "priced", 0), (6, "priced", 1), (4, "priced", 1)],
            16,
        ),
        (
            Beyond::Flag,
            [(6, "priced", 0), (6, "priced", 1), (4, "priced", 1)],
            16,
        ),
        // What still has room is charged.
        (
            Beyond::Reject,
            [(6, "priced", 0), (0, "rejected", 1), (4, "priced", 0)],
            10,
        ),
    ] {
        let mut story = limited(10, beyond);
        let posted = story.charge_all(1, &usages).clone();
        assert_eq!(told(&posted), expected, "{beyond}");
        assert_eq!(story.account.balances.spent, micros(spent));
    }
}

#[test]
fn a_hold_beyond_a_limit_is_refused_or_marked() {
    for beyond in [Beyond::RejectHolds, Beyond::Reject] {
        assert_eq!(
            limited(10, beyond).refuses(1, 3, &reserve(11, 60)),
            "SPEND_LIMIT"
        );
    }
    let mut story = limited(10, Beyond::Flag);
    let posted = story.ask(1, 3, &reserve(11, 60)).unwrap();
    let Change::Reserved { over, .. } = &posted.change else {
        panic!("{posted:?}")
    };
    assert_eq!(over, &[Limit::Day]);
    // Of what is settled only what exceeds the hold is new.
    let settled = story.ask(2, 4, &settle(3, 11)).unwrap();
    let Change::Settled { over, .. } = &settled.change else {
        panic!("{settled:?}")
    };
    assert_eq!(over, &[]);
}

#[test]
fn a_decision_that_tells_of_another_balance_does_not_fit() {
    let mut story = Story::default();
    story.does(0, 1, &Command::Grant(paid(10)));
    let before = story.account.clone();
    let command = Command::Grant(paid(5));
    let mut posted = story.clone().ask(1, 2, &command).unwrap().clone();
    posted.before.available = micros(11);
    assert!(!evolve(&mut story.account, &mut None, &posted, at(1)));
    assert_eq!(story.account, before);
}

#[test]
fn what_cannot_be_charged_costs_nothing_and_is_shown() {
    let story = limited(10, Beyond::Reject);
    let posted = give_up(&story.account, &[usage(1, 6)], at(1));
    assert_eq!(told(&posted), [(0, "undecidable", 0)]);
    let mut account = story.account.clone();
    assert!(evolve(&mut account, &mut None, &posted, at(1)));
    assert_eq!(account.balance(), story.account.balance());
}

#[test]
fn only_the_last_of_many_spenders_are_remembered() {
    let mut story = Story::default();
    let limits = Limits {
        run: Some(micros(1_000)),
        ..Limits::default()
    };
    story.does(0, 1, &Command::SetLimits(limits));
    let spender = |run: usize| Spender {
        agent: None,
        run: Some(format!("run-{run}").parse().unwrap()),
    };
    let usages: Vec<Usage> = (0..=SPENDERS_MAX)
        .map(|run| Usage {
            spender: spender(run),
            ..usage(1, 1)
        })
        .collect();
    story.charge_all(1, &usages[..SPENDERS_MAX]);
    assert_eq!(story.account.spending.of_runs.len(), SPENDERS_MAX);
    story.charge_all(2, &usages[SPENDERS_MAX..]);
    let runs = &story.account.spending.of_runs;
    assert!(runs.len() < SPENDERS_MAX && runs.contains_key(&spender(SPENDERS_MAX).run.unwrap()));
}
