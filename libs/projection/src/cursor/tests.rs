use proptest::prelude::*;
use runledger_domain::ids::Incarnation;
use runledger_domain::log::{Family, Kind, Partition, Position};
use runledger_domain::scope::Mode;
use runledger_domain::scope::Scope;
use runledger_eventlog::{Headers, Stored};
use uuid::Uuid;

use super::*;

const PARTITION: Partition = Partition {
    family: Family::Run,
    number: 3,
};

fn incarnation(number: u128) -> Incarnation {
    Incarnation::new(Uuid::from_u128(number))
}

fn stored(offset: u64, kind: Kind, prev: Option<Digest>, value: &'static str) -> Stored {
    let scope = Scope {
        tenant: "0192f0c4-0000-7000-8000-000000000001".parse().unwrap(),
        mode: Mode::Live,
    };
    Stored {
        position: Position {
            partition: PARTITION,
            incarnation: incarnation(1),
            offset,
        },
        key: "t/live/run/1".into(),
        value: value.into(),
        headers: Ok(Headers {
            kind,
            type_name: "t".into(),
            scope: (kind != Kind::Genesis).then_some(scope),
            prev,
            trace: None,
        }),
        log_timestamp: None,
    }
}

fn begun() -> Cursor {
    let mut cursor = Cursor::new(PARTITION);
    assert_eq!(
        cursor.advance(&stored(0, Kind::Genesis, None, "genesis")),
        Ok(Verdict::LeftOut)
    );
    cursor
}

#[test]
fn a_partition_begins_with_its_genesis() {
    let mut cursor = Cursor::new(PARTITION);
    let fact = stored(0, Kind::Fact, None, "fact");
    assert_eq!(
        cursor.advance(&fact),
        Err(Diverged::NoGenesis {
            partition: PARTITION
        })
    );
    assert_eq!(begun().chain_head, Some(digest::of(b"genesis")));
}

#[test]
fn a_later_genesis_is_ignored() {
    let mut cursor = begun();
    let head = cursor.chain_head;
    assert_eq!(
        cursor.advance(&stored(1, Kind::Genesis, None, "another")),
        Ok(Verdict::LeftOut)
    );
    assert_eq!(cursor.chain_head, head);
}

#[test]
fn every_offset_is_expected() {
    let mut cursor = begun();
    for offset in [0, 2] {
        let found = cursor.advance(&stored(offset, Kind::Fact, None, "fact"));
        assert_eq!(
            found,
            Err(Diverged::Offset {
                partition: PARTITION,
                expected: 1,
                found: offset
            })
        );
    }
    assert_eq!(
        cursor.advance(&stored(1, Kind::Fact, None, "fact")),
        Ok(Verdict::Applies)
    );
}

#[test]
fn another_incarnation_and_another_record_are_recognised() {
    let mut cursor = begun();
    let fact = stored(1, Kind::Fact, None, "fact");
    assert_eq!(cursor.advance(&fact), Ok(Verdict::Applies));
    assert_eq!(cursor.recognise(&fact), Ok(()));
    let changed = stored(1, Kind::Fact, None, "other");
    assert_eq!(
        cursor.recognise(&changed),
        Err(Diverged::Digest {
            partition: PARTITION,
            offset: 1
        })
    );
    let mut anew = stored(2, Kind::Fact, None, "fact");
    anew.position.incarnation = incarnation(2);
    assert_eq!(
        cursor.advance(&anew),
        Err(Diverged::Incarnation {
            partition: PARTITION,
            expected: incarnation(1),
            found: incarnation(2)
        })
    );
}

#[test]
fn a_decision_is_in_force_only_if_it_continues_the_chain() {
    let mut cursor = begun();
    let genesis = digest::of(b"genesis");
    let first = stored(1, Kind::Decision, Some(genesis), "first");
    let first_hash = decision_hash(&genesis, &first.key, &first.value);
    assert_eq!(cursor.advance(&first), Ok(Verdict::Applies));
    assert_eq!(
        cursor.advance(&stored(2, Kind::Decision, Some(genesis), "rival")),
        Ok(Verdict::LeftOut)
    );
    assert_eq!(cursor.chain_head, Some(first_hash));
    assert_eq!(
        cursor.advance(&stored(3, Kind::Decision, Some(first_hash), "second")),
        Ok(Verdict::Applies)
    );
}

#[test]
fn a_lost_chain_stops() {
    let mut cursor = begun();
    for offset in 1..=u64::from(VOIDS_IN_A_ROW_MAX) {
        assert_eq!(
            cursor.advance(&stored(offset, Kind::Decision, Some([9; 32]), "void")),
            Ok(Verdict::LeftOut)
        );
    }
    let offset = u64::from(VOIDS_IN_A_ROW_MAX) + 1;
    let lost = cursor.advance(&stored(offset, Kind::Decision, Some([9; 32]), "void"));
    assert_eq!(
        lost,
        Err(Diverged::ChainLost {
            partition: PARTITION,
            offset
        })
    );
}

proptest! {
    /// Two deciders at once, in any interleaving: every reader sees one unbroken chain, and the
    /// cursor is the same wherever reading was interrupted.
    #[test]
    fn the_chain_is_the_same_however_the_log_is_cut(choices in prop::collection::vec((0_usize..4, 0_usize..3), 1..60), cut in 0_usize..60) {
        let values = ["a", "b", "c", "d"];
        let mut known = vec![digest::of(b"genesis")];
        let mut log = Vec::new();
        for (offset, (value, back)) in choices.iter().enumerate() {
            let prev = known[known.len().saturating_sub(1 + back)];
            let record = stored(offset as u64 + 1, Kind::Decision, Some(prev), values[*value]);
            known.push(decision_hash(&prev, &record.key, &record.value));
            log.push(record);
        }
        let mut whole = begun();
        let in_force: Vec<Verdict> = log.iter().map(|record| whole.advance(record).unwrap()).collect();
        let mut first = begun();
        let cut = cut.min(log.len());
        for record in &log[..cut] {
            first.advance(record).unwrap();
        }
        let mut second = first.clone();
        for record in &log[cut..] {
            second.advance(record).unwrap();
        }
        prop_assert_eq!(&second, &whole);
        let mut head = digest::of(b"genesis");
        for (record, verdict) in log.iter().zip(in_force) {
            let continues = record.headers.as_ref().unwrap().prev == Some(head);
            prop_assert_eq!(verdict == Verdict::Applies, continues);
            if continues {
                head = decision_hash(&head, &record.key, &record.value);
            }
        }
    }
}
