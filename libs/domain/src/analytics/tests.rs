use chrono::TimeDelta;
use proptest::prelude::*;

use super::*;

fn of(micros: &[u64]) -> Durations {
    let mut sum = Durations::default();
    for one in micros {
        let length = TimeDelta::microseconds(i64::try_from(*one).unwrap());
        sum.add(&Durations::one(length).unwrap());
    }
    sum
}

#[test]
fn lengths_begin_where_they_are_said_to() {
    let at = DateTime::from_timestamp(1_790_012_345, 678_000).unwrap();
    for (grain, begin) in [
        (Grain::Minute, 1_790_012_340),
        (Grain::Quarter, 1_790_011_800),
        (Grain::Day, 1_789_948_800),
    ] {
        assert_eq!(grain.floor(at).timestamp(), begin);
    }
    let before = DateTime::from_timestamp(-1, 0).unwrap();
    assert_eq!(Grain::Day.floor(before).timestamp(), -86_400);
}

#[test]
fn what_ends_before_it_begins_has_no_duration() {
    assert_eq!(Durations::one(TimeDelta::microseconds(-1)), None);
    assert_eq!(of(&[0]).quantile(500).unwrap().as_micros(), 1);
    assert_eq!(Durations::default().quantile(500), None);
}

#[test]
fn series_are_the_same_for_ever() {
    let mut cell = Cell::new(Subject::ToolCall, DateTime::UNIX_EPOCH);
    cell.tool = "pay".into();
    let origin = Origin {
        agent: "a".into(),
        model: "m".into(),
        ..Origin::default()
    };
    let other = Cell {
        model: "m".into(),
        ..cell.clone()
    };
    assert_eq!(cell.series(&origin), other.series(&origin));
    assert_eq!(
        uuid::Uuid::from_bytes(cell.series(&origin)).to_string(),
        "017d3bac-98fc-c877-3ee1-9943fd1aeffa"
    );
    assert_ne!(cell.series(&origin), cell.series(&Origin::default()));
}

proptest! {
    #[test]
    fn quantiles_lie_within_two_percent(mut micros in proptest::collection::vec(1..10_000_000_000_u64, 1..200)) {
        let sketch = of(&micros);
        micros.sort_unstable();
        prop_assert_eq!(sketch.count(), micros.len() as i64);
        prop_assert_eq!(sketch.micros(), micros.iter().map(|one| i128::from(*one)).sum::<i128>());
        for thousandths in [0, 500, 900, 990, 1_000] {
            let exact = u128::from(micros[(micros.len() - 1) * thousandths as usize / 1_000]);
            let told = sketch.quantile(thousandths).unwrap().as_micros();
            // A microsecond more for what is rounded.
            prop_assert!(told.abs_diff(exact) * 100 <= exact * 2 + 100, "{told} for {exact}");
        }
    }

    #[test]
    fn what_is_added_can_be_taken_away(
        stays in proptest::collection::vec(0..1_000_000_u64, 0..20),
        goes in proptest::collection::vec(0..1_000_000_u64, 0..20),
    ) {
        let mut sum = of(&stays);
        sum.add(&of(&goes));
        sum.add(&of(&goes).negated());
        prop_assert_eq!(sum, of(&stays));
    }
}
