//! What is refused, for which reason, with nothing half done.

use super::*;

fn daily(amount: i64, until: Option<i64>) -> Command {
    Command::GrantRecurring(recurring::daily(amount, 0, until))
}

fn never() -> Command {
    Command::GrantRecurring(Recurrence {
        every: Period::Months(0),
        ..recurring::daily(1, 0, None)
    })
}

fn reserve_for(agent: &str, amount: i64) -> Command {
    Command::Reserve {
        amount: micros(amount),
        expires_at: at(1_000),
        spender: Spender {
            agent: Some(agent.parse().unwrap()),
            run: None,
        },
    }
}

#[test]
fn amounts_and_times_must_make_sense() {
    let mut story = Story::default();
    story.does(0, 1, &Command::Grant(paid(10)));
    let expires_first = GrantTerms {
        effective_at: at(50),
        ..until(1, 50)
    };
    for (command, reason) in [
        (Command::Grant(paid(0)), "AMOUNT_NOT_POSITIVE"),
        (Command::Grant(paid(-1)), "AMOUNT_NOT_POSITIVE"),
        (Command::Grant(until(1, 1)), "EXPIRES_TOO_EARLY"),
        (Command::Grant(expires_first), "EXPIRES_TOO_EARLY"),
        (Command::Grant(paid(i64::MAX)), "OVERFLOW"),
        (Command::Adjust { amount: micros(0) }, "AMOUNT_NOT_POSITIVE"),
        (
            Command::Adjust {
                amount: micros(-11),
            },
            "INSUFFICIENT_CREDITS",
        ),
        (
            Command::Adjust {
                amount: micros(i64::MIN),
            },
            "INSUFFICIENT_CREDITS",
        ),
        (Command::Refund { amount: micros(1) }, "MORE_THAN_SPENT"),
        (Command::WriteOff { amount: micros(1) }, "MORE_THAN_OWED"),
        (reserve(0, 9), "AMOUNT_NOT_POSITIVE"),
        (reserve(1, 1), "EXPIRES_TOO_EARLY"),
        (reserve(11, 9), "INSUFFICIENT_CREDITS"),
        (reserve(i64::MAX, 9), "INSUFFICIENT_CREDITS"),
        (overdraft(-1), "AMOUNT_NEGATIVE"),
        (daily(0, None), "AMOUNT_NOT_POSITIVE"),
        (daily(1, Some(0)), "EXPIRES_TOO_EARLY"),
        (never(), "PERIOD_OUT_OF_RANGE"),
        (Command::Void { grant: grant_id(9) }, "GRANT_NOT_FOUND"),
    ] {
        assert_eq!(story.refuses(1, 2, &command), reason, "{command:?}");
    }
    assert_eq!(story.standing(1), [10, 0, 0, 0, 0]);
}

#[test]
fn a_hold_ends_once() {
    let mut story = Story::default();
    story.does(0, 1, &Command::Grant(paid(10)));
    for (number, second) in [(2, 100), (3, 100), (4, 10)] {
        story.does(1, number, &reserve(1, second));
    }
    story.does(2, 5, &settle(2, 1));
    story.does(2, 6, &Command::Release { hold: hold_id(3) });
    let extend = |hold| Command::Extend {
        hold: hold_id(hold),
        expires_at: at(200),
    };
    for (hold, reason) in [
        (2, "HOLD_SETTLED"),
        (3, "HOLD_RELEASED"),
        (4, "HOLD_EXPIRED"),
        (9, "HOLD_NOT_FOUND"),
    ] {
        let release = Command::Release {
            hold: hold_id(hold),
        };
        for command in [settle(hold, 1), release, extend(hold)] {
            assert_eq!(story.refuses(20, 7, &command), reason, "{command:?}");
        }
    }
    story.does(21, 8, &reserve(1, 100));
    assert_eq!(story.refuses(21, 9, &settle(8, -1)), "AMOUNT_NEGATIVE");
    story.does(22, 10, &extend(8));
    assert_eq!(story.standing(150), [8, 1, 0, 0, 1]);
    assert_eq!(story.standing(200), [9, 0, 0, 0, 1]);
}

#[test]
fn what_is_held_counts_to_what_may_be_spent() {
    let mut story = Story::default();
    story.does(0, 1, &Command::Grant(paid(100)));
    let limits = Limits {
        day: Some(micros(10)),
        agent: Some(micros(6)),
        ..Limits::default()
    };
    story.does(0, 2, &Command::SetLimits(limits));
    story.does(1, 3, &reserve_for("a", 4));
    assert_eq!(story.refuses(1, 4, &reserve_for("a", 3)), "SPEND_LIMIT");
    story.does(2, 5, &settle(3, 3));
    story.does(3, 6, &reserve_for("a", 3));
    assert_eq!(story.refuses(3, 7, &reserve_for("a", 1)), "SPEND_LIMIT");
    assert_eq!(story.refuses(3, 8, &reserve_for("b", 5)), "SPEND_LIMIT");
    story.does(3, 9, &reserve_for("b", 4));
    // The next day begins anew, with what is still held.
    story.does(
        86_400,
        10,
        &Command::SetLimits(Limits {
            day: Some(micros(10)),
            ..Limits::default()
        }),
    );
    story.does(
        86_401,
        11,
        &Command::Reserve {
            amount: micros(10),
            expires_at: at(90_000),
            spender: Spender::default(),
        },
    );
}

#[test]
fn grants_and_holds_are_counted() {
    let mut story = Story::default();
    for number in 0..GRANTS_MAX as u128 {
        story.does(0, number, &Command::Grant(paid(1)));
    }
    let more = Command::Grant(paid(1));
    assert_eq!(story.refuses(0, 5_000, &more), "TOO_MANY_GRANTS");
    // Those that are over count no more, though nobody has said so yet.
    let mut other = Story::default();
    for number in 0..GRANTS_MAX as u128 {
        other.does(0, number, &Command::Grant(until(1, 5)));
    }
    other.does(5, 5_000, &more);
    let wide = reserve(i64::try_from(DRAWS_MAX).unwrap() + 1, 9);
    assert_eq!(story.refuses(0, 5_001, &wide), "TOO_MANY_HOLDS");
    story.does(0, 5_002, &reserve(i64::try_from(DRAWS_MAX).unwrap(), 9));
}

#[test]
fn draws_of_all_holds_are_counted_together() {
    let mut story = Story::default();
    story.does(0, 1, &Command::Grant(paid(10)));
    let draw = Draw {
        from: Source::Grant(grant_id(1)),
        amount: micros(1),
    };
    let hold = Hold {
        amount: micros(0),
        draws: vec![draw; OPEN_DRAWS_MAX - 1],
        expires_at: at(1_000),
        spender: Spender::default(),
    };
    story.account.holds.insert(hold_id(9_000), hold);
    story.does(0, 2, &reserve(1, 900));
    assert_eq!(story.refuses(0, 3, &reserve(1, 900)), "TOO_MANY_HOLDS");
    assert_eq!(
        story.account.decisions, 2,
        "what was refused counts as nothing"
    );
}
