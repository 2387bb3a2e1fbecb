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
        prop_assert_eq!(usize::try_from(sketch.count()).unwrap(), micros.len());
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

    #[test]
    fn a_range_is_covered_once_and_no_piece_lies_across_an_edge(
        from in 0..400_000_i64,
        length in 1..400_000_i64,
        edges in proptest::collection::vec((0..800_000_i64, prop_oneof![Just(60), Just(900), Just(86_400)]), 0..4),
    ) {
        let at = |minutes: i64| DateTime::from_timestamp(minutes * 60, 0).unwrap();
        let range = Range { from: at(from), to: at(from + length) };
        let edges: Vec<Timestamp> = edges
            .into_iter()
            .map(|(minute, grain)| DateTime::from_timestamp(minute * 60 / grain * grain, 0).unwrap())
            .collect();
        let mut behind = range.from;
        for (grain, piece) in range.cover(&edges) {
            prop_assert_eq!(piece.from, behind);
            prop_assert!(piece.from < piece.to);
            for edge in [piece.from, piece.to].iter().chain(&edges) {
                prop_assert_eq!(grain.floor(*edge), *edge);
            }
            behind = piece.to;
        }
        prop_assert_eq!(behind, range.to);
    }

    #[test]
    fn periods_follow_each_other_in_every_zone(
        from in 1_500_000_000..1_800_000_000_i64,
        length in 60..5_000_000_i64,
        zone in proptest::sample::select(&["UTC", "Europe/Berlin", "Asia/Kathmandu", "Australia/Lord_Howe", "America/St_Johns"][..]),
    ) {
        let at = |seconds: i64| DateTime::from_timestamp(seconds / 60 * 60, 0).unwrap();
        let range = Range::of(at(from), at(from + length));
        for granularity in Granularity::ALL {
            let question = Question {
                granularity: Some(*granularity),
                zone: zone.parse().unwrap(),
                ..Question::of(Subject::Run, range, &[])
            };
            let periods = question.periods();
            prop_assert!(periods.len() <= question.periods_max(), "{granularity}: {}", periods.len());
            prop_assert!(periods[0].0 <= range.from);
            prop_assert!(periods.windows(2).all(|two| two[0].0 < two[1].0));
            prop_assert!(periods.get(1).is_none_or(|second| second.0 > range.from));
            prop_assert!(periods.iter().all(|(begin, _)| *begin < range.to));
            prop_assert!(periods.iter().all(|(begin, _)| Grain::Quarter.floor(*begin) == *begin)
                || *granularity == Granularity::Minute);
        }
    }
}

#[test]
fn hours_and_days_go_by_the_clocks_of_the_zone() {
    let at = |text: &str| text.parse::<Timestamp>().unwrap();
    let berlin = |granularity, from, to| {
        let question = Question {
            granularity: Some(granularity),
            zone: "Europe/Berlin".parse().unwrap(),
            ..Question::of(Subject::Run, Range::of(at(from), at(to)), &[])
        };
        let named = question.periods().into_iter();
        named
            .map(|(begin, name)| format!("{} {name}", begin.format("%dT%H:%M")))
            .collect::<Vec<_>>()
    };
    // On the last Sunday of October clocks show the third hour twice.
    let autumn = berlin(
        Granularity::Hour,
        "2026-10-25T00:10:00Z",
        "2026-10-25T02:10:00Z",
    );
    assert_eq!(
        autumn,
        [
            "25T00:00 2026-10-25 02:00",
            "25T01:00 2026-10-25 02:00",
            "25T02:00 2026-10-25 03:00"
        ]
    );
    let days = berlin(
        Granularity::Day,
        "2026-10-24T23:00:00Z",
        "2026-10-26T00:00:00Z",
    );
    assert_eq!(days, ["24T22:00 2026-10-25", "25T23:00 2026-10-26"]);
    let weeks = berlin(
        Granularity::Week,
        "2026-10-25T12:00:00Z",
        "2026-10-26T12:00:00Z",
    );
    assert_eq!(weeks, ["18T22:00 2026-10-19", "25T23:00 2026-10-26"]);
}
