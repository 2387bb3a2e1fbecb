//! Facts and commands in the order of the log, by rules that only count.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

use runledger_domain::ids::{AccountId, Incarnation, RecordId, TenantId};
use runledger_domain::log::{Asked, Family, Partition, Stream, Terms};
use runledger_domain::scope::{Mode, Scope};
use runledger_domain::time::Timestamp;
use runledger_domain::usage::{self, Forwarded};
use runledger_proto::decode;

use super::*;
use crate::judging::{Desk, Judged, Owed, Undecided, Work, judge};
use crate::rules::{Moment, Ruling, StateError};
use crate::states::States;

/// A fact of this quantity fells whoever decides it; one of this makes a decision that no log takes, one
/// of this a decision that does not fit.
const FELLS: u64 = 666;
const IS_LARGE: u64 = 777;
const IS_MISFIT: u64 = 888;

/// What a stream has been through, by offset; a decision is what it adds.
#[derive(Default)]
struct Counting {
    waits: AtomicBool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Did {
    Answered(Vec<u64>),
    GivenUp(u64),
    Commanded,
    Lapsed,
}

impl Rules for Counting {
    type Command = ();
    type Decision = Did;
    type Stream = Vec<Did>;
    type Part = ();

    fn version(&self) -> u32 {
        1
    }

    fn families(&self) -> &'static [Family] {
        &[Family::Billing]
    }

    fn command(&self, record: &Record) -> Result<Option<()>, decode::Error> {
        Ok((&*record.type_name == "command").then_some(()))
    }

    fn decision(&self, _: &Record) -> Result<Option<Did>, decode::Error> {
        Ok(None)
    }

    fn encode(&self, decision: &Did) -> (&'static str, Vec<u8>) {
        let is_large = matches!(decision, Did::Answered(all) if all.contains(&IS_LARGE));
        let bytes = format!("{decision:?}").into_bytes();
        ("did", if is_large { vec![0; 2 << 20] } else { bytes })
    }

    fn part_of_command<'a>(&self, (): &'a ()) -> Option<&'a str> {
        None
    }

    fn part_of_decision<'a>(&self, _: &'a Did) -> Option<&'a str> {
        None
    }

    fn unheard(&self, _: &Stream) -> Vec<Did> {
        Vec::new()
    }

    fn encode_stream(&self, _: &Vec<Did>) -> Vec<u8> {
        Vec::new()
    }

    fn decode_stream(&self, _: &Stream, _: &[u8]) -> Result<Vec<Did>, StateError> {
        Ok(Vec::new())
    }

    fn encode_part(&self, (): &()) -> Vec<u8> {
        Vec::new()
    }

    fn decode_part(&self, _: &Stream, _: &[u8]) -> Result<(), StateError> {
        Ok(())
    }

    fn heeds(&self, _: &Fact) -> bool {
        false
    }

    fn heed(&self, _: &mut Vec<Did>, _: &Fact, _: Timestamp) -> bool {
        false
    }

    fn decide(&self, _: &Vec<Did>, _: Option<&()>, (): &(), _: &Moment<'_>) -> Ruling<Did> {
        Ruling::Decided {
            decision: Did::Commanded,
            views: Vec::new(),
        }
    }

    fn evolve(&self, stream: &mut Vec<Did>, _: &mut Option<()>, did: &Did, _: Timestamp) -> bool {
        let fits = !matches!(did, Did::Answered(all) if all.contains(&IS_MISFIT));
        if fits {
            stream.push(did.clone());
        }
        fits
    }

    fn due(&self, _: &Vec<Did>, _: &str, (): &(), _: Timestamp) -> Option<Did> {
        None
    }

    fn due_at(&self, _: &Vec<Did>, (): &()) -> Option<Timestamp> {
        None
    }

    fn lapses(&self) -> bool {
        true
    }

    fn lapse(&self, _: &Vec<Did>, _: Timestamp) -> Option<Did> {
        Some(Did::Lapsed)
    }

    fn answers_facts(&self) -> bool {
        true
    }

    fn answers(&self, _: &Fact) -> bool {
        true
    }

    fn decide_facts(
        &self,
        _: &Vec<Did>,
        facts: &[Owing<'_>],
        _: &FactsMoment<'_>,
    ) -> Option<FactsRuling<Did>> {
        if self.waits.load(Ordering::Relaxed) {
            return Some(FactsRuling::Waits);
        }
        let quantities = quantities(facts);
        assert!(!quantities.contains(&FELLS), "felled");
        Some(FactsRuling::Decided {
            decision: Did::Answered(quantities),
            views: Vec::new(),
        })
    }

    fn give_up(&self, _: &Vec<Did>, facts: &[Owing<'_>], _: &FactsMoment<'_>) -> Option<Did> {
        quantities(facts).first().copied().map(Did::GivenUp)
    }
}

fn quantities(facts: &[Owing<'_>]) -> Vec<u64> {
    let quantity = |owing: &Owing<'_>| match owing.fact {
        Fact::Usage(fact) => Some(fact.forwarded().quantity),
        _ => None,
    };
    facts.iter().filter_map(quantity).collect()
}

fn scope() -> Scope {
    Scope {
        tenant: TenantId::new(uuid::Uuid::from_u128(1)),
        mode: Mode::Live,
    }
}

fn account(name: &str) -> AccountId {
    name.parse().unwrap()
}

fn id(stream: &str) -> StreamId {
    (scope(), Stream::account(&account(stream)))
}

fn position(offset: u64) -> Position {
    Position {
        partition: Partition {
            family: Family::Billing,
            number: 0,
        },
        incarnation: Incarnation::new(uuid::Uuid::from_u128(9)),
        offset,
    }
}

fn record(stream: &str, offset: u64, type_name: &str) -> Record {
    let command = type_name == "command";
    Record {
        id: RecordId::new(uuid::Uuid::from_u128(u128::from(offset) + 1)),
        scope: scope(),
        stream: Stream::account(&account(stream)),
        kind: if command {
            runledger_domain::log::Kind::Command
        } else {
            runledger_domain::log::Kind::Fact
        },
        type_name: type_name.into(),
        occurred_at: Timestamp::UNIX_EPOCH,
        recorded_at: Timestamp::UNIX_EPOCH,
        author: crate::judging::decider(),
        cause: None,
        request_digest: [0; 32],
        key: None,
        payload: Vec::new(),
        terms: command.then(|| {
            Terms::Asked(Asked {
                deadline: Timestamp::MAX_UTC,
                expected_version: None,
                at_least: Vec::new(),
            })
        }),
    }
}

fn fact(stream: &str, offset: u64, quantity: u64) -> OwedFact {
    OwedFact {
        position: position(offset),
        record: record(stream, offset, "fact"),
        fact: Fact::Usage(usage::Fact::Forwarded(Forwarded {
            account_id: account(stream),
            meter: "m".parse().unwrap(),
            quantity,
            dimensions: BTreeMap::new(),
            spender: runledger_domain::credit::Spender::default(),
        })),
        attempts: 0,
    }
}

fn command(stream: &str, offset: u64) -> Undecided {
    Undecided {
        position: position(offset),
        record: record(stream, offset, "command"),
        attempts: 0,
    }
}

/// Judges work on the streams `a` and `b`; what became of both, and of the round.
fn judged(rules: &Counting, work: &Work) -> ([Vec<Did>; 2], Judged) {
    let mut states = States::unheard(rules, [id("a"), id("b")], position(0).partition);
    let suspended = BTreeMap::new();
    let desk = Desk {
        partition: position(0).partition,
        read_to: 1_000_000,
        head: [7; 32],
        at: Timestamp::UNIX_EPOCH,
        now: Timestamp::UNIX_EPOCH,
        suspended: &suspended,
    };
    let judged = judge(rules, desk, &mut states, work);
    let state = |name| states.get(&id(name)).unwrap().state.clone();
    assert_eq!(judged.entries.len(), state("a").len() + state("b").len());
    ([state("a"), state("b")], judged)
}

#[test]
fn facts_are_answered_together_and_never_past_the_next_command_of_their_stream() {
    let work = Work {
        commands: vec![command("a", 3), command("a", 4), command("b", 6)],
        facts: vec![
            fact("a", 1, 1),
            fact("b", 2, 2),
            fact("a", 5, 5),
            fact("a", 7, 7),
            fact("b", 8, 8),
        ],
        owed: Vec::new(),
    };
    let ([a, b], _) = judged(&Counting::default(), &work);
    let answered = |all: &[u64]| Did::Answered(all.to_vec());
    assert_eq!(
        a,
        [
            answered(&[1]),
            Did::Commanded,
            Did::Commanded,
            answered(&[5, 7])
        ]
    );
    assert_eq!(b, [answered(&[2]), Did::Commanded, answered(&[8])]);
}

#[test]
fn one_decision_answers_so_many_facts_and_no_more() {
    let facts: Vec<OwedFact> = (0..1_001)
        .map(|offset| fact("a", offset, 1_000 + offset))
        .collect();
    let work = Work {
        facts,
        ..Work::default()
    };
    let ([a, _], _) = judged(&Counting::default(), &work);
    let counts: Vec<usize> = a
        .iter()
        .map(|did| match did {
            Did::Answered(all) => all.len(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(counts, [FACTS_MAX, FACTS_MAX, 1]);
    let in_order: Vec<u64> = a
        .into_iter()
        .flat_map(|did| match did {
            Did::Answered(all) => all,
            _ => Vec::new(),
        })
        .collect();
    assert!(in_order.is_sorted());
}

#[test]
fn what_lies_behind_a_gap_in_what_was_read_is_left_for_later() {
    let mut work = Work {
        commands: vec![command("a", 3), command("a", 9)],
        facts: vec![fact("a", 1, 1), fact("b", 5, 5), fact("a", 7, 7)],
        owed: Vec::new(),
    };
    assert_eq!(work.first_offset(), Some(1));
    work.cut_behind(5);
    let ([a, b], _) = judged(&Counting::default(), &work);
    assert_eq!(a, [Did::Answered(vec![1]), Did::Commanded]);
    assert_eq!(b, [Did::Answered(vec![5])]);
}

#[test]
fn nothing_of_a_stream_is_decided_before_facts_that_wait() {
    let rules = Counting::default();
    rules.waits.store(true, Ordering::Relaxed);
    let work = Work {
        commands: vec![command("a", 3), command("b", 4)],
        facts: vec![fact("a", 1, 1), fact("a", 5, 5)],
        owed: Vec::new(),
    };
    let ([a, b], judged) = judged(&rules, &work);
    assert!(judged.waits && a.is_empty(), "{a:?}");
    assert_eq!(b, [Did::Commanded]);
}

#[test]
fn a_fact_that_fells_its_decider_is_given_up_alone() {
    let mut tried = fact("a", 5, 5);
    tried.attempts = ATTEMPTS_MAX + 1;
    let facts = vec![fact("a", 1, 1), fact("a", 2, FELLS), fact("a", 3, 3), tried];
    let work = Work {
        facts,
        ..Work::default()
    };
    let ([mut a, _], _) = judged(&Counting::default(), &work);
    assert!(
        a.contains(&Did::GivenUp(FELLS)) && a.contains(&Did::GivenUp(5)),
        "{a:?}"
    );
    a.retain(|did| !matches!(did, Did::GivenUp(_)));
    let answered: Vec<u64> = a
        .into_iter()
        .flat_map(|did| match did {
            Did::Answered(all) => all,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(answered, [1, 3]);
}

#[test]
fn what_no_log_takes_or_nothing_fits_is_halved_until_it_does() {
    for bad in [IS_LARGE, IS_MISFIT] {
        let facts = vec![
            fact("a", 1, 1),
            fact("a", 2, bad),
            fact("a", 3, 3),
            fact("a", 4, 4),
        ];
        let work = Work {
            facts,
            ..Work::default()
        };
        let ([a, _], judged) = judged(&Counting::default(), &work);
        let expected = [
            Did::Answered(vec![1]),
            Did::GivenUp(bad),
            Did::Answered(vec![3, 4]),
        ];
        assert_eq!(a, expected);
        let versions = judged
            .entries
            .iter()
            .map(|entry| match &entry.record.terms {
                Some(Terms::Decided(decided)) => decided.stream_version,
                _ => 0,
            });
        assert_eq!(versions.collect::<Vec<_>>(), [1, 2, 3]);
    }
}

#[test]
fn a_stream_lapses_before_anything_is_asked_of_it() {
    let work = Work {
        commands: vec![command("a", 3)],
        facts: vec![fact("a", 1, 1)],
        owed: vec![Owed {
            id: id("a"),
            part: String::new(),
        }],
    };
    let ([a, _], _) = judged(&Counting::default(), &work);
    assert_eq!(a, [Did::Lapsed, Did::Answered(vec![1]), Did::Commanded]);
}

#[test]
fn a_suspended_stream_owes_nothing_now() {
    let rules = Counting::default();
    let mut states = States::unheard(&rules, [id("a")], position(0).partition);
    let suspended = [(id("a"), 1_i64)].into();
    let desk = Desk {
        partition: position(0).partition,
        read_to: 9,
        head: [7; 32],
        at: Timestamp::UNIX_EPOCH,
        now: Timestamp::UNIX_EPOCH,
        suspended: &suspended,
    };
    let work = Work {
        facts: vec![fact("a", 1, 1)],
        ..Work::default()
    };
    assert!(judge(&rules, desk, &mut states, &work).entries.is_empty());
}

#[test]
fn a_command_of_another_type_waits_for_a_later_version() {
    let mut later = command("a", 1);
    later.record.type_name = "later".into();
    let work = Work {
        commands: vec![later],
        facts: vec![fact("a", 2, 2)],
        owed: Vec::new(),
    };
    let ([a, _], judged) = judged(&Counting::default(), &work);
    assert!(judged.waits && a.is_empty(), "{a:?}");
}
