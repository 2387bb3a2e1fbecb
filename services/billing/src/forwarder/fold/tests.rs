//! Whatever the order in which a run is told, however often, and in whatever batches: what it has used
//! is forwarded once.

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::sample::Index;
use runledger_domain::Fact as AnyFact;
use runledger_domain::ids::{Incarnation, PrincipalId, TenantId};
use runledger_domain::log::{Author, Family, Kind, Partition, Record};
use runledger_domain::run::{Ended, Limits, Started, ToolCallEnded, ToolCallStarted, Trigger};
use runledger_domain::scope::Mode;
use runledger_domain::usage::forwarded_id;
use runledger_testkit::Database;
use uuid::Uuid;

use super::*;

fn at(second: i64) -> Timestamp {
    Timestamp::from_timestamp(second, 0).unwrap()
}

fn scope() -> Scope {
    Scope {
        tenant: TenantId::new(Uuid::from_u128(1)),
        mode: Mode::Live,
    }
}

fn call(number: usize) -> ToolCallId {
    format!("call-{number}").parse().unwrap()
}

/// A run with three calls, one of which never ends, and three reports, told in order.
fn facts() -> Vec<Fact> {
    let run_id: RunId = "r".parse().unwrap();
    let started = Fact::Started(Box::new(Started {
        run_id: run_id.clone(),
        agent_id: "a".parse().unwrap(),
        agent_version: String::new(),
        parent_run_id: None,
        conversation_id: None,
        space_id: None,
        account_id: Some("account".parse().unwrap()),
        trigger: Trigger::Api,
        task: String::new(),
        reason: String::new(),
        agent_context: None,
        model: "m".into(),
        input: None,
        labels: BTreeMap::new(),
        limits: Limits::default(),
    }));
    let begins = |number| {
        Fact::ToolCallStarted(ToolCallStarted {
            run_id: run_id.clone(),
            tool_call_id: call(number),
            step_id: None,
            tool: format!("tool-{number}").parse().unwrap(),
            arguments: None,
            action_hint: String::new(),
            reason: String::new(),
            agent_context: None,
        })
    };
    let ends = |number, status| {
        Fact::ToolCallEnded(ToolCallEnded {
            run_id: run_id.clone(),
            tool_call_id: call(number),
            status,
            result: None,
            error: None,
        })
    };
    let used = |quantity| {
        Fact::UsageRecorded(UsageRecorded {
            run_id: run_id.clone(),
            meter: "tokens_output".parse().unwrap(),
            quantity,
            tool_call_id: None,
            dimensions: BTreeMap::new(),
        })
    };
    let ended = Fact::Ended(Ended {
        run_id: run_id.clone(),
        outcome: Outcome::Succeeded,
        error: None,
        result: None,
        counters: BTreeMap::new(),
    });
    vec![
        started,
        begins(1),
        used(5),
        ends(1, WorkStatus::Succeeded),
        begins(2),
        begins(3),
        ends(2, WorkStatus::Failed),
        used(6),
        used(7),
        ended,
    ]
}

/// The fact that lies at an offset; its moment and its id are its own, however often it is told.
fn applied(number: usize, offset: u64, fact: Fact) -> Applied {
    let fact = AnyFact::Run(fact);
    Applied {
        position: Position {
            partition: Partition {
                family: Family::Run,
                number: 0,
            },
            incarnation: Incarnation::new(Uuid::from_u128(2)),
            offset,
        },
        record: Record {
            id: RecordId::new(Uuid::from_u128(100 + number as u128)),
            scope: scope(),
            stream: fact.stream(),
            kind: Kind::Fact,
            type_name: "a fact".into(),
            occurred_at: at(i64::try_from(number).unwrap()),
            recorded_at: at(0),
            author: Author {
                principal: PrincipalId::new(Uuid::from_u128(3)),
                kind: None,
                role: None,
            },
            cause: None,
            request_digest: [0; 32],
            key: None,
            payload: Vec::new(),
            terms: None,
        },
        fact: Some(fact),
    }
}

/// Tells facts, by their numbers, in batches: each finds what those before it have left. What is
/// forwarded, by its id, and how many records that took.
fn told(order: &[usize], batch: usize) -> (BTreeMap<RecordId, Forwarded>, usize) {
    let facts = facts();
    let mut known = Fold::default();
    let (mut forwarded, mut count) = (BTreeMap::new(), 0);
    for (place, numbers) in order.chunks(batch).enumerate() {
        let mut fold = Fold {
            runs: known.runs.clone(),
            calls: known.calls.clone(),
            waiting: known.waiting.clone(),
            ..Fold::default()
        };
        for (offset, number) in numbers.iter().enumerate() {
            let offset = u64::try_from(place * batch + offset).unwrap();
            let fact = facts[*number].clone();
            fold.take_in(&applied(*number, offset, fact.clone()), &fact);
        }
        for derived in std::mem::take(&mut fold.derived) {
            count += 1;
            let id = forwarded_id(derived.scope, &derived.run, derived.of());
            let first = forwarded.entry(id).or_insert_with(|| derived.usage.clone());
            assert_eq!(*first, derived.usage, "one id, one usage");
        }
        known = fold;
    }
    (forwarded, count)
}

#[test]
fn a_run_in_order_is_forwarded_as_it_goes() {
    let order: Vec<usize> = (0..facts().len()).collect();
    let (forwarded, count) = told(&order, 1);
    // Two calls with their times, three reports, the run.
    assert_eq!((forwarded.len(), count), (8, 8));
    let meters: Vec<&str> = forwarded.values().map(|one| one.meter.as_str()).collect();
    let of = |meter: &str| meters.iter().filter(|one| **one == meter).count();
    let counts = [
        "tool_calls",
        "tool_call_milliseconds",
        "tokens_output",
        "run_seconds",
    ]
    .map(of);
    assert_eq!(counts, [2, 2, 3, 1]);
}

proptest! {
    #[test]
    fn the_order_and_the_batches_do_not_show(
        mut order in Just((0..10_usize).collect::<Vec<_>>()).prop_shuffle(),
        again in prop::collection::vec((any::<Index>(), any::<Index>()), 0..12),
        batch in 1..6_usize,
    ) {
        let (expected, _) = told(&(0..10).collect::<Vec<_>>(), 1);
        for (which, place) in again {
            let number = order[which.index(order.len())];
            order.insert(place.index(order.len() + 1), number);
        }
        let (forwarded, _) = told(&order, batch);
        prop_assert_eq!(forwarded, expected);
    }

    #[test]
    fn without_its_start_nothing_of_a_run_is_forwarded(
        order in Just((1..10_usize).collect::<Vec<_>>()).prop_shuffle(), batch in 1..6_usize,
    ) {
        prop_assert_eq!(told(&order, batch).1, 0);
    }
}

/// Takes facts in, and writes them; what is forwarded, piece by piece.
async fn taken_in(tx: &mut PgConnection, told: &[Applied]) -> Vec<Vec<Derived>> {
    let of_run = |applied: &Applied| match &applied.fact {
        Some(AnyFact::Run(fact)) => fact.clone(),
        _ => unreachable!("only facts of runs are told"),
    };
    let facts: Vec<(&Applied, Fact)> = told.iter().map(|one| (one, of_run(one))).collect();
    let facts: Vec<(&Applied, &Fact)> = facts.iter().map(|(one, fact)| (*one, fact)).collect();
    let mut fold = Fold::load(tx, &facts).await.unwrap();
    for (applied, fact) in facts {
        fold.take_in(applied, fact);
    }
    let rests = fold.rests();
    let mut pieces = vec![fold.write(tx).await.unwrap()];
    for mut rest in rests {
        while let Some(piece) = rest.piece(tx).await.unwrap() {
            pieces.push(piece.write(tx).await.unwrap());
        }
    }
    pieces
}

#[tokio::test]
async fn however_much_waits_for_a_start_goes_in_pieces_and_once() {
    let database = Database::fresh().await;
    let pool = database.pool("runledger_billing_writer", super::super::SCHEMA);
    let mut tx = pool.begin().await.unwrap();
    let [started, begins, used, ends, ..] = &facts()[..] else {
        unreachable!("a run has more facts")
    };
    let named = |fact: &Fact, number: usize| {
        let mut fact = fact.clone();
        match &mut fact {
            Fact::ToolCallStarted(fact) => fact.tool_call_id = call(number),
            Fact::ToolCallEnded(fact) => fact.tool_call_id = call(number),
            Fact::UsageRecorded(fact) => fact.tool_call_id = Some(call(number)),
            _ => unreachable!("only calls are named"),
        }
        fact
    };
    let (reports, calls) = (2 * usize::from(PIECE) + 5, usize::from(PIECE) + 3);
    let told = (0..reports).map(|number| named(used, number % calls));
    let told = told.chain((0..calls).map(|number| named(begins, number)));
    let told = told.chain((0..calls).map(|number| named(ends, number)));
    let told: Vec<Applied> = told
        .enumerate()
        .map(|(number, fact)| applied(number, number as u64, fact))
        .collect();
    for batch in told.chunks(500) {
        assert_eq!(taken_in(&mut tx, batch).await.concat().len(), 0);
    }
    let start = applied(told.len(), told.len() as u64, started.clone());
    let pieces = taken_in(&mut tx, &[start]).await;
    assert!(pieces.len() > 2, "{} pieces", pieces.len());
    let largest = pieces.iter().map(Vec::len).max().unwrap();
    assert!(largest <= 5 * usize::from(PIECE), "{largest} in one piece");
    let ids: BTreeSet<RecordId> = pieces
        .iter()
        .flatten()
        .map(|one| forwarded_id(one.scope, &one.run, one.of()))
        .collect();
    let count: usize = pieces.iter().map(Vec::len).sum();
    assert_eq!((ids.len(), count), (reports + 2 * calls, ids.len()));
    let left: i64 = sqlx::query_scalar("SELECT count(*) FROM waiting")
        .fetch_one(&mut *tx)
        .await
        .unwrap();
    assert_eq!(left, 0);
}
