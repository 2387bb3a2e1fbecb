use super::*;

/// A run of two tool calls, of which the first is acknowledged, its failed end included.
fn known() -> Known {
    let acknowledged = [
        (Kind::Started, 0),
        (Kind::CallStarted, 0),
        (Kind::CallEnded, 0),
        (Kind::Message, 1),
        (Kind::Occurrence, 2),
        (Kind::Used, 3),
    ];
    Known {
        run: RunKey {
            writer: 1,
            number: 2,
        },
        acknowledged: acknowledged.into(),
        planned: Planned {
            calls: 2,
            messages: 2,
            occurrences: 3,
            uses: 4,
        },
    }
}

const LEAST: ShownRun = ShownRun {
    started: true,
    ended: false,
    calls: 1,
    failed: 1,
    messages: 1,
    uses: 1,
    used: 4,
};

fn is_stale(judgement: &Judgement) -> bool {
    matches!(judgement, Judgement::Stale(_))
}

fn is_wrong(judgement: &Judgement) -> bool {
    matches!(judgement, Judgement::Wrong(_))
}

#[test]
fn a_run_shows_at_least_what_was_acknowledged() {
    let known = known();
    assert_eq!(known.judge_run(Some(LEAST)), Judgement::Fresh);
    let most = ShownRun {
        ended: true,
        calls: 2,
        messages: 2,
        uses: 4,
        used: 1 + 2 + 3 + 4,
        ..LEAST
    };
    assert_eq!(known.judge_run(Some(most)), Judgement::Fresh);
    let less: [fn(&mut ShownRun); 6] = [
        |shown| shown.started = false,
        |shown| shown.calls -= 1,
        |shown| shown.failed -= 1,
        |shown| shown.messages -= 1,
        |shown| shown.uses -= 1,
        |shown| shown.used -= 1,
    ];
    for change in less {
        let mut shown = LEAST;
        change(&mut shown);
        let judgement = known.judge_run(Some(shown));
        assert!(is_stale(&judgement), "{judgement:?}");
    }
    assert!(is_stale(&known.judge_run(None)));
}

#[test]
fn a_run_of_which_nothing_was_acknowledged_may_be_unknown() {
    let known = Known {
        acknowledged: BTreeSet::new(),
        ..known()
    };
    assert_eq!(known.judge_run(None), Judgement::Fresh);
}

#[test]
fn a_run_never_shows_more_than_was_sent() {
    let more: [fn(&mut ShownRun); 5] = [
        |shown| shown.calls = 3,
        |shown| shown.failed = 2,
        |shown| shown.messages = 3,
        |shown| shown.uses = 5,
        |shown| shown.used = 11,
    ];
    for change in more {
        let mut shown = LEAST;
        change(&mut shown);
        let judgement = known().judge_run(Some(shown));
        assert!(is_wrong(&judgement), "{judgement:?}");
    }
}

#[test]
fn lists_hold_what_was_acknowledged_once() {
    let known = known();
    let judge = |shown: &[Option<u16>]| known.judge_parts(Kind::Message, shown);
    assert_eq!(judge(&[Some(1)]), Judgement::Fresh);
    assert_eq!(judge(&[Some(0), Some(1)]), Judgement::Fresh);
    assert!(is_stale(&judge(&[Some(0)])));
    assert!(is_stale(&judge(&[])));
    assert!(is_wrong(&judge(&[Some(1), Some(1)])));
    assert!(is_wrong(&judge(&[Some(1), Some(2)])));
    assert!(is_wrong(&judge(&[Some(1), None])));
    let occurrences = |shown: &[Option<u16>]| known.judge_parts(Kind::Occurrence, shown);
    assert_eq!(occurrences(&[Some(2)]), Judgement::Fresh);
    assert!(is_stale(&occurrences(&[Some(1)])));
}

#[test]
fn a_list_of_tool_calls_shows_both_ends() {
    let known = known();
    let judge = |shown: &[(Option<u16>, bool, bool)]| known.judge_calls(shown);
    assert_eq!(judge(&[(Some(0), true, true)]), Judgement::Fresh);
    assert!(is_stale(&judge(&[(Some(0), true, false)])));
    assert!(is_stale(&judge(&[(Some(0), false, true)])));
    assert!(is_stale(&judge(&[(Some(1), true, true)])));
    assert!(is_wrong(&judge(&[
        (Some(0), true, true),
        (Some(0), true, true)
    ])));
    assert!(is_wrong(&judge(&[
        (Some(0), true, true),
        (Some(2), true, true)
    ])));
}
