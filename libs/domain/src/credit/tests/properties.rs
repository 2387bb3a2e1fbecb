//! P6: what holds for every story.

use proptest::prelude::*;

use super::super::account::grants_of;
use super::*;

/// What happens next, and how many seconds later.
#[derive(Clone, Debug)]
enum Step {
    Ask(Command),
    Charge { used_ago: i64, amounts: Vec<u64> },
}

fn any_terms() -> impl Strategy<Value = GrantTerms> {
    let kind = prop::sample::select(GrantKind::ALL);
    (
        1..50_i64,
        kind,
        -1..2_i32,
        0..40_i64,
        prop::option::of(1..60_i64),
    )
        .prop_map(|(amount, kind, priority, effective, lasts)| GrantTerms {
            amount: micros(amount),
            kind,
            priority,
            effective_at: at(effective),
            expires_at: lasts.map(|lasts| at(effective + lasts)),
        })
}

fn any_recurrence() -> impl Strategy<Value = Recurrence> {
    (1..20_i64, 0..100_000_i64, prop::option::of(0..900_000_i64)).prop_map(
        |(amount, first, until)| Recurrence {
            amount: micros(amount),
            priority: 0,
            every: Period::Days(1),
            first_at: at(first),
            until: until.map(at),
        },
    )
}

/// Seconds until something happens: mostly few, now and then days.
fn any_pause() -> impl Strategy<Value = i64> {
    prop_oneof![8 => 0..9_i64, 1 => 20_000..200_000_i64]
}

/// Holds are named by the numbers of commands: any of the first few dozen.
fn any_step() -> impl Strategy<Value = Step> {
    let amount = -5..40_i64;
    prop_oneof![
        4 => any_terms().prop_map(|terms| Step::Ask(Command::Grant(terms))),
        1 => (0..40_u128).prop_map(|one| Step::Ask(Command::Void { grant: grant_id(one) })),
        1 => (-20..20_i64).prop_map(|one| Step::Ask(Command::Adjust { amount: micros(one) })),
        1 => amount.clone().prop_map(|one| Step::Ask(Command::Refund { amount: micros(one) })),
        1 => amount.clone().prop_map(|one| Step::Ask(Command::WriteOff { amount: micros(one) })),
        5 => (1..30_i64, 0..80_i64).prop_map(|(amount, until)| Step::Ask(reserve(amount, until))),
        1 => (0..40_u128, 0..90_i64).prop_map(|(hold, until)| {
            Step::Ask(Command::Extend { hold: hold_id(hold), expires_at: at(until) })
        }),
        4 => (0..40_u128, amount).prop_map(|(hold, amount)| Step::Ask(settle(hold, amount))),
        2 => (0..40_u128).prop_map(|hold| Step::Ask(Command::Release { hold: hold_id(hold) })),
        1 => (0..30_i64).prop_map(|amount| Step::Ask(overdraft(amount))),
        1 => any_recurrence().prop_map(|terms| Step::Ask(Command::GrantRecurring(terms))),
        1 => Just(Step::Ask(Command::SetZone("Europe/Berlin".parse().unwrap()))),
        1 => (0..30_i64).prop_map(|below| {
            let low = Threshold::AvailableBelow(micros(below));
            Step::Ask(Command::SetThresholds([("low".parse().unwrap(), low)].into()))
        }),
        4 => (0..20_i64, prop::collection::vec(0..15_u64, 1..4))
            .prop_map(|(used_ago, amounts)| Step::Charge { used_ago, amounts }),
    ]
}

fn tell(steps: &[(i64, Step)]) -> Story {
    let mut story = Story::default();
    let mut second = 0;
    for (number, (later, step)) in steps.iter().enumerate() {
        second += later;
        match step {
            Step::Ask(command) => drop(story.ask(second, number as u128, command)),
            Step::Charge { used_ago, amounts } => {
                let used = second - used_ago;
                let usages: Vec<Usage> = amounts.iter().map(|one| usage(used, *one)).collect();
                story.charge_all(second, &usages);
            }
        }
        assert_sound(&story, second);
    }
    story
}

/// What must hold after every decision, and at every moment behind it.
fn assert_sound(story: &Story, second: i64) {
    for ahead in [0, 7, 1_000] {
        let account = story.seen(at(second + ahead));
        assert_eq!(account.sum(), 0, "something was lost");
        for hold in account.holds.values() {
            let drawn = Credits::sum(hold.draws.iter().map(|draw| draw.amount));
            assert_eq!(drawn, Ok(hold.amount), "a hold holds what was drawn for it");
        }
        for grant in account.grants.values() {
            assert!(!grant.remaining.is_negative() && grant.remaining <= grant.terms.amount);
            let is_over = grant.has_expired(at(second + ahead));
            assert!(
                !is_over || grant.remaining.is_zero(),
                "expired and still there"
            );
            let open = account.holds.values();
            let open = open.filter(|hold| {
                grants_of(&hold.draws)
                    .iter()
                    .any(|id| account.grants.get(id) == Some(grant))
            });
            assert_eq!(grant.holds as usize, open.count());
        }
        assert!(!account.overdrawn().is_negative() && !account.unpaid().is_negative());
    }
    let Some((_, _, posted)) = story.posted.last() else {
        return;
    };
    assert!(posted.transactions.iter().all(Transaction::is_balanced));
    let mut sorted = posted.transactions.clone();
    sorted.sort_by_key(|one| one.at);
    assert_eq!(
        sorted, posted.transactions,
        "in the order in which it happened"
    );
}

/// A decision overdraws no further than the limit that it was taken under.
fn assert_within_overdraft(story: &Story) {
    let mut told = Story::default();
    for (at, about, posted) in &story.posted {
        let before = told.account.clone();
        told.take_in(*at, *about, posted.clone());
        let most = before.limits.overdraft.max(before.overdrawn());
        assert!(told.account.overdrawn() <= most);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn postings_sum_to_zero_and_nothing_passes_its_limits(
        steps in prop::collection::vec((any_pause(), any_step()), 1..40)
    ) {
        let story = tell(&steps);
        assert_within_overdraft(&story);
    }

    #[test]
    fn a_rebuild_and_a_look_at_any_moment_come_to_the_same(
        steps in prop::collection::vec((any_pause(), any_step()), 1..40),
        moment in prop_oneof![0..200_i64, 0..500_000_i64],
        further in 0..100_i64,
    ) {
        let story = tell(&steps);
        let last = story.posted.last().map_or_else(|| at(0), |(at, _, _)| *at);
        prop_assert_eq!(&story.folded(last).account, &story.account);
        // As of a moment: a fold that stops there, however far time has gone on since, and however
        // often somebody looked meanwhile.
        let then = story.folded(at(moment));
        let mut stepwise = then.clone();
        for second in [moment / 2, moment, moment + further] {
            let lapsed = lapse(&stepwise.account, at(second));
            stepwise.account.pass(&lapsed, at(second));
            prop_assert_eq!(stepwise.standing(second), then.standing(second.max(moment / 2)));
        }
    }

    #[test]
    fn charges_cost_the_same_one_by_one_and_in_bulk(
        steps in prop::collection::vec((any_pause(), any_step()), 0..20),
        amounts in prop::collection::vec(0..15_u64, 1..10),
    ) {
        let story = tell(&steps);
        let last = story.posted.last().map_or_else(|| at(0), |(at, _, _)| *at);
        let second = (last - at(0)).num_seconds();
        let usages: Vec<Usage> = amounts.iter().map(|one| usage(second, *one)).collect();
        let (mut bulk, mut single) = (story.clone(), story);
        bulk.charge_all(second, &usages);
        for one in &usages {
            single.charge_all(second, std::slice::from_ref(one));
        }
        // The one thing that differs: in how many decisions it was said.
        single.account.decisions = bulk.account.decisions;
        prop_assert_eq!(bulk.account, single.account);
    }

    /// Were it owed again at the same moment, its decider would never rest.
    #[test]
    fn what_time_owes_is_owed_once_and_in_time(
        steps in prop::collection::vec((any_pause(), any_step()), 1..40),
        later in prop_oneof![0..100_i64, 0..2_000_000_i64],
    ) {
        let mut story = tell(&steps);
        let last = story.posted.last().map_or_else(|| at(0), |(at, _, _)| *at);
        let moment = last + TimeDelta::seconds(later);
        let is_due = next_lapse(&story.account).is_some_and(|due| due <= moment);
        let moves = !lapse(&story.account, moment).is_empty();
        let posted = owed(&story.account, moment);
        prop_assert_eq!(posted.is_some(), is_due);
        prop_assert!(is_due || !moves, "something has moved, and nobody is woken");
        if let Some(posted) = posted {
            let seen = story.seen(moment);
            story.take_in(moment, None, posted);
            prop_assert_eq!(story.account.balance(), seen.balance());
        }
        prop_assert!(next_lapse(&story.account).is_none_or(|due| due > moment));
        let kept = Account::from_bytes(&story.account.to_bytes()).unwrap();
        prop_assert_eq!(kept, story.account);
    }

    #[test]
    fn no_decision_fits_twice(steps in prop::collection::vec((any_pause(), any_step()), 1..20)) {
        let mut story = tell(&steps);
        let moving = |posted: &Posted| match &posted.change {
            Change::Granted { .. } | Change::Reserved { .. } | Change::Settled { .. }
            | Change::Released { .. } => true,
            Change::Recurs { .. } | Change::Voided { .. } | Change::Extended { .. }
            | Change::LimitsSet(_) | Change::ZoneSet(_) | Change::ThresholdsSet(_)
            | Change::Charged(_) | Change::Moved => false,
        };
        if let Some((at, _, posted)) = story.posted.last().cloned().filter(|one| moving(&one.2)) {
            let before = story.account.clone();
            // A grant that is used up is forgotten; its command is not: it has its outcome.
            let is_forgotten = matches!(&posted.change, Change::Granted { grant, .. }
                if !before.grants.contains_key(grant));
            let mut fate = Some(Fate::Settled);
            if !is_forgotten {
                prop_assert!(!evolve(&mut story.account, &mut fate, &posted, at));
                prop_assert_eq!(story.account, before);
            }
        }
    }
}
