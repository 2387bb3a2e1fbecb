//! Streams that are parked, redriven and skipped, over the twin of the log and a real Postgres.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by a panic")]

mod probe;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use probe::{PARTITIONS, Probe, World, fact, scope, stream};
use runledger_domain::log::{Position, Record, Skipped, partition_of};
use runledger_domain::scope::Mode;
use runledger_domain::time::SystemClock;
use runledger_eventlog::memory::Fault;
use runledger_eventlog::token::Token;
use runledger_eventlog::{Entry, Log, Outcome};
use runledger_projection::dead_letters::{DeadLetters, DeadStream, Filter, Redriven};
use runledger_projection::{ApplyError, Error, ReadOptions, Reader};
use runledger_proto::encode;
use runledger_testkit::eventually;
use sqlx::{AssertSqlSafe, Executor as _};
use uuid::Uuid;

const SOON: Duration = Duration::from_secs(20);
/// The run whose stream is poisoned.
const SICK: usize = 7;

fn id(entry: &Entry) -> Uuid {
    entry.record.id.as_uuid()
}

fn ids(entries: &[Entry]) -> Vec<Uuid> {
    entries.iter().map(id).collect()
}

/// Facts of the sick run, each among facts of others.
fn story(length: usize) -> (Vec<Entry>, Vec<Entry>) {
    let (mut all, mut sick) = (Vec::new(), Vec::new());
    for index in 0..length {
        all.extend((0..20).filter(|run| *run != SICK).map(fact));
        let one = fact(SICK);
        sick.push(one.clone());
        all.push(one);
        all.extend((20..24 + index % 3).map(fact));
    }
    (all, sick)
}

fn healthy(all: &[Entry]) -> BTreeSet<Uuid> {
    let others = all
        .iter()
        .filter(|entry| entry.record.stream != stream(SICK));
    others.map(id).collect()
}

fn broken(run: usize) -> Entry {
    let mut entry = fact(run);
    entry.record.payload = b"\xff\xff\xff".to_vec();
    entry
}

fn position(outcome: &Outcome) -> Position {
    match outcome {
        Outcome::Accepted(position) => *position,
        other => panic!("{other:?}"),
    }
}

/// The fact in a run's stream that tells `projection` to leave `position` out.
fn skip(run: usize, projection: &str, position: Position) -> Entry {
    let mut entry = fact(run);
    let (type_name, payload) = encode::skipped(&Skipped {
        projection: projection.into(),
        position,
        reason: "it never was a record".into(),
    });
    entry.record.request_digest =
        Record::digest_request(type_name, entry.record.occurred_at, None, &payload);
    (entry.record.type_name, entry.record.payload) = (type_name.into(), payload);
    entry
}

async fn dead(world: &World) -> (DeadLetters, Vec<DeadStream>) {
    let letters = DeadLetters::open(world.writer.clone()).await.unwrap();
    let streams = letters.streams(&Filter::default(), 100).await.unwrap();
    (letters, streams)
}

async fn redrive(world: &World, trial: bool) -> Redriven {
    let (letters, streams) = dead(world).await;
    let [stream] = streams.as_slice() else {
        panic!("{streams:?}")
    };
    letters
        .redrive(&world.log, &mut Probe, &SystemClock, stream, trial)
        .await
        .unwrap()
}

/// The sick run's stream among those that are parked.
async fn sick(world: &World) -> DeadStream {
    let (_, streams) = dead(world).await;
    let is_it = |one: &DeadStream| one.head.stream == stream(SICK).as_str();
    streams.into_iter().find(is_it).expect("it is parked")
}

/// Another run whose stream lies in the same partition.
fn neighbour() -> usize {
    let partition = |run| partition_of(&stream(run).key(scope()), PARTITIONS);
    (SICK + 1..)
        .find(|run| partition(*run) == partition(SICK))
        .expect("one of many")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_the_tables_refuse_delays_its_own_stream_only() {
    let world = World::new().await;
    let (all, sick) = story(12);
    world.refuse(id(&sick[4])).await;
    let worker = world.spawn("worker");
    world.append(all.clone()).await;
    world.caught_up(SOON).await;
    assert_eq!(world.seen_of(SICK).await, ids(&sick[..4]));
    let seen = world.seen().await;
    assert!(seen.is_superset(&healthy(&all)));
    assert_eq!(seen.len(), healthy(&all).len() + 4);
    // In order, the first with its reason, and found again after a restart.
    worker.stop().await.expect("a clean stop");
    let worker = world.spawn("worker");
    let later = fact(SICK);
    world.append(vec![later.clone()]).await;
    world.caught_up(SOON).await;
    let parked = world.parked().await;
    let says_why: Vec<bool> = parked.iter().map(|(_, says_why)| *says_why).collect();
    assert_eq!(says_why, [&[true][..], &[false; 8]].concat());
    assert_eq!(world.parked_by_the_cursors().await, 9);
    let (letters, streams) = dead(&world).await;
    let head = &streams[0].head;
    assert_eq!(
        (head.scope, head.stream.as_str()),
        (Some(scope()), stream(SICK).as_str())
    );
    assert_eq!(
        (head.record, streams[0].records),
        (Some(sick[4].record.id), 9)
    );
    let shown = letters.records(&streams[0], 100).await.unwrap();
    let shown: Vec<i64> = shown
        .iter()
        .map(|letter| i64::try_from(letter.position.offset).unwrap())
        .collect();
    let offsets: Vec<i64> = parked.iter().map(|(offset, _)| *offset).collect();
    assert_eq!(shown, offsets);

    // A trial changes nothing; nor does redriving before the cause is mended, but for the count.
    assert_eq!(redrive(&world, true).await.applied, 0);
    assert_eq!(dead(&world).await.1[0].head.attempts, 0);
    let again = redrive(&world, false).await;
    assert_eq!(
        (again.applied, again.stopped.map(|(at, _)| at)),
        (0, Some(head.position))
    );
    assert_eq!(dead(&world).await.1[0].head.attempts, 1);
    world.accept(id(&sick[4])).await;
    world.refuse(id(&sick[9])).await;
    assert_eq!(redrive(&world, true).await.applied, 5);
    assert_eq!(world.seen_of(SICK).await, ids(&sick[..4]));
    // Up to the next that is refused, then to the end.
    assert_eq!(redrive(&world, false).await.applied, 5);
    assert_eq!(world.seen_of(SICK).await, ids(&sick[..9]));
    assert_eq!(world.parked_by_the_cursors().await, 4);
    world.accept(id(&sick[9])).await;
    let all_of_it = Redriven {
        applied: 4,
        stopped: None,
    };
    assert_eq!(redrive(&world, false).await, all_of_it);
    assert_eq!(world.parked_by_the_cursors().await, 0);
    let last = fact(SICK);
    world.append(vec![last.clone()]).await;
    world.caught_up(SOON).await;
    let order = [ids(&sick), vec![id(&later), id(&last)]].concat();
    assert_eq!(world.seen_of(SICK).await, order);
    assert_eq!(world.parked().await, []);
    worker.stop().await.expect("a clean stop");
    world.continuity_holds().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_cannot_be_decoded_are_skipped_by_a_fact_that_every_rebuild_obeys() {
    let world = World::new().await;
    let (before, between, after) = (fact(SICK), fact(SICK), fact(SICK));
    let payload = broken(SICK);
    world.append(vec![before.clone()]).await;
    let first = world.append(vec![payload.clone()]).await;
    world.append(vec![between.clone()]).await;
    // The next lands under its key as bytes that are no record at all.
    world.log.inject(Fault::Garble);
    let second = world.append(vec![fact(SICK)]).await;
    world.append(vec![after.clone(), fact(1)]).await;
    // A stream of the same partition that is parked as well.
    let neighbour = neighbour();
    let theirs = world.append(vec![broken(neighbour)]).await;
    let worker = world.spawn("worker");
    world.caught_up(SOON).await;
    assert_eq!(world.seen_of(SICK).await, [id(&before)]);
    assert_eq!(world.parked().await.len(), 5);
    assert_eq!(sick(&world).await.head.position, position(&first[0]));

    let skips = [
        // None of these is obeyed: for another, of another's stream, of nothing that is parked.
        skip(SICK, "another", position(&first[0])),
        skip(neighbour, "probe", position(&first[0])),
        skip(
            SICK,
            "probe",
            Position {
                offset: 0,
                ..position(&first[0])
            },
        ),
    ];
    world.append(skips.to_vec()).await;
    world.caught_up(SOON).await;
    assert_eq!(world.seen_of(SICK).await, [id(&before)]);

    let obeyed = skip(SICK, "probe", position(&first[0]));
    // Twice, and once more with another content under the same id, which says nothing.
    let mut other = skip(SICK, "probe", position(&second[0]));
    other.record.id = obeyed.record.id;
    world
        .append(vec![obeyed.clone(), obeyed.clone(), other])
        .await;
    world.caught_up(SOON).await;
    let mut order = vec![id(&before), id(&between)];
    assert_eq!(world.seen_of(SICK).await, order);
    assert_eq!(
        sick(&world).await.head.position,
        position(&second[0]),
        "it stands still at the next"
    );
    let last = skip(SICK, "probe", position(&second[0]));
    let tail = fact(SICK);
    let theirs = skip(neighbour, "probe", position(&theirs[0]));
    world.append(vec![last.clone(), tail.clone(), theirs]).await;
    world.caught_up(SOON).await;
    worker.stop().await.expect("a clean stop");
    order.extend([
        id(&after),
        id(&skips[0]),
        id(&skips[2]),
        id(&obeyed),
        id(&last),
        id(&tail),
    ]);
    assert_eq!(world.seen_of(SICK).await, order);
    assert_eq!(world.parked().await, []);

    // Another read model reads the same facts, in batches of its own.
    let rebuilt = World::over(world.log.clone()).await;
    let worker = rebuilt.spawn("rebuilt");
    rebuilt.caught_up(SOON).await;
    worker.stop().await.expect("a clean stop");
    assert_eq!(rebuilt.seen_of(SICK).await, order);
    assert_eq!(rebuilt.parked().await, []);
    rebuilt.continuity_holds().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_skipped_stays_out_of_a_generation_that_could_apply_it() {
    let world = World::new().await;
    let facts: Vec<Entry> = (0..4).map(|_| fact(SICK)).collect();
    world.refuse(id(&facts[1])).await;
    let outcomes = world.append(facts.clone()).await;
    let order = skip(SICK, "probe", position(&outcomes[1]));
    world.append(vec![order.clone()]).await;
    let worker = world.spawn("worker");
    world.caught_up(SOON).await;
    worker.stop().await.expect("a clean stop");
    let expected = [id(&facts[0]), id(&facts[2]), id(&facts[3]), id(&order)];
    assert_eq!(world.seen_of(SICK).await, expected);
    // The same tables from offset zero, with the cause mended.
    world.accept(id(&facts[1])).await;
    world
        .execute("TRUNCATE probe.seen, probe.kept, probe.cursors, probe.checkpoints".into())
        .await;
    let worker = world.spawn("worker");
    world.caught_up(SOON).await;
    worker.stop().await.expect("a clean stop");
    assert_eq!(world.seen_of(SICK).await, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn redriving_waits_for_the_batch_that_parks_one_more() {
    let world = World::new().await;
    let facts: Vec<Entry> = (0..4).map(|_| fact(SICK)).collect();
    world.refuse(id(&facts[0])).await;
    let worker = world.spawn("worker");
    world.append(facts[..3].to_vec()).await;
    world.caught_up(SOON).await;
    worker.stop().await.expect("a clean stop");
    world.accept(id(&facts[0])).await;
    let last = position(&world.append(facts[3..].to_vec()).await[0]);
    // What a batch with the last of them does, held just before its end.
    let mut batch = world.writer.begin().await.unwrap();
    let statements = [
        format!(
            "UPDATE cursors SET next_offset = next_offset + 1, parked_records = parked_records + 1 WHERE partition = {}",
            last.partition.number
        ),
        format!("INSERT INTO kept VALUES ('{}')", id(&facts[3])),
        format!(
            "INSERT INTO parked (generation, family, partition, log_offset, incarnation, stream_digest, stream_key,
                                 type_name, standing, parked_at)
             SELECT generation, family, partition, {}, incarnation, stream_digest, stream_key, type_name, 'first', now()
               FROM parked LIMIT 1",
            last.offset
        ),
    ];
    for statement in statements {
        batch.execute(AssertSqlSafe(statement)).await.unwrap();
    }
    // It waits for the cursor, before it looks at what is parked: afterwards would be too late.
    let ending = async {
        eventually(SOON, || async {
            let waits: bool = sqlx::query_scalar(
                "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'
                 AND query LIKE '%FROM cursors%FOR UPDATE%')",
            )
            .fetch_one(&world.writer)
            .await
            .unwrap();
            if waits { Ok(()) } else { Err("nobody waits") }
        })
        .await;
        batch.commit().await.unwrap();
    };
    let (redriven, ()) = tokio::join!(redrive(&world, false), ending);
    assert_eq!(redriven.applied, 4);
    assert_eq!(world.seen_of(SICK).await, ids(&facts));
    assert_eq!(world.parked_by_the_cursors().await, 0);
    assert_eq!(world.parked().await, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn redriving_and_following_do_not_overtake_each_other() {
    let world = World::new().await;
    let facts: Vec<Entry> = (0..400).map(|_| fact(SICK)).collect();
    world.refuse(id(&facts[0])).await;
    let worker = world.spawn("worker");
    let (early, late) = facts.split_at(100);
    world.append(early.to_vec()).await;
    world.caught_up(SOON).await;
    assert_eq!(world.parked().await.len(), 100);
    world.accept(id(&facts[0])).await;
    // Facts come in while others redrive, from several sides at once.
    let appending = async {
        for some in late.chunks(7) {
            world.append(some.to_vec()).await;
            tokio::task::yield_now().await;
        }
    };
    let redriving = || async {
        let (letters, streams) = dead(&world).await;
        for stream in streams {
            let outcome = letters
                .redrive(&world.log, &mut Probe, &SystemClock, &stream, false)
                .await
                .unwrap();
            assert_eq!(outcome.stopped, None);
        }
    };
    tokio::join!(appending, redriving(), redriving(), redriving());
    eventually(SOON, || async {
        redriving().await;
        match world.seen_of(SICK).await.len() {
            400 => Ok(()),
            some => Err(format!("{some} of 400")),
        }
    })
    .await;
    worker.stop().await.expect("a clean stop");
    assert_eq!(world.seen_of(SICK).await, ids(&facts));
    assert_eq!(world.parked().await, []);
    assert_eq!(world.parked_by_the_cursors().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_whose_identity_is_refused_keeps_it_when_it_is_redriven() {
    let world = World::new().await;
    let (all, sick) = story(5);
    let refused = id(&sick[2]);
    world
        .execute(format!(
            "ALTER TABLE probe.kept ADD CONSTRAINT refuse CHECK (record_id <> '{refused}')"
        ))
        .await;
    let worker = world.spawn("worker");
    world.append(all.clone()).await;
    world.caught_up(SOON).await;
    assert_eq!(world.seen_of(SICK).await, ids(&sick[..2]));
    assert!(world.seen().await.is_superset(&healthy(&all)));
    world
        .execute("ALTER TABLE probe.kept DROP CONSTRAINT refuse".into())
        .await;
    assert_eq!(redrive(&world, false).await.applied, 3);
    worker.stop().await.expect("a clean stop");
    assert_eq!(world.seen_of(SICK).await, ids(&sick));
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_stop_the_projection_and_lose_nothing() {
    let world = World::new().await;
    let facts: Vec<Entry> = (0..8).map(broken).collect();
    world.append(facts).await;
    world.append_facts(100).await;
    let few = |options: &mut runledger_projection::Options| options.parked_streams_max = 3;
    let stopped = world.spawn_with("probe", "worker", few).ended(SOON).await;
    let Err(Error::Apply { source, .. }) = &stopped else {
        panic!("{stopped:?}")
    };
    assert!(
        matches!(source, ApplyError::TooManyParked { streams_max: 3, .. }),
        "{source:?}"
    );
    assert!(source.to_string().contains("runledger dead-letters"));
    assert!(world.parked().await.len() <= 3 * 20);
    let worker = world.spawn("worker");
    world.caught_up(SOON).await;
    worker.stop().await.expect("a clean stop");
    assert_eq!(dead(&world).await.1.len(), 8);
    world.continuity_holds().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_reaches_past_a_parked_record_is_refused_and_nothing_else_is() {
    let world = World::new().await;
    let facts: Vec<Entry> = (0..3).map(|_| fact(SICK)).collect();
    world.refuse(id(&facts[1])).await;
    let worker = world.spawn("worker");
    let outcomes = world.append(facts.clone()).await;
    world.append_facts(60).await;
    world.caught_up(SOON).await;
    let log: Arc<dyn Log> = Arc::new(world.log.clone());
    let reader = Reader::new(
        world.reader.clone(),
        log,
        &[runledger_domain::log::Family::Run],
    );
    let read = async |whose, token: Option<&Outcome>| {
        let token = token.map(|outcome| Token::from_positions([position(outcome)]).to_string());
        let options = ReadOptions {
            at_least: token.into_iter().collect(),
            max_wait: Some(Duration::from_secs(1)),
        };
        let snapshot = reader.read(whose, &options).await;
        snapshot
            .map(drop)
            .map_err(|fault| (fault.reason, fault.kind, fault.message))
    };
    let sandbox = runledger_domain::scope::Scope {
        mode: Mode::Sandbox,
        ..scope()
    };
    for outcome in &outcomes[1..] {
        let (reason, kind, message) = read(scope(), Some(outcome)).await.unwrap_err();
        assert_eq!(
            (reason, kind),
            (
                "READ_MODEL_PARKED".into(),
                runledger_domain::fault::Kind::Precondition
            )
        );
        assert!(message.contains(stream(SICK).as_str()), "{message}");
    }
    read(scope(), Some(&outcomes[0])).await.unwrap();
    read(scope(), None).await.unwrap();
    read(sandbox, Some(&outcomes[2])).await.unwrap();
    world.accept(id(&facts[1])).await;
    redrive(&world, false).await;
    read(scope(), Some(&outcomes[2])).await.unwrap();
    worker.stop().await.expect("a clean stop");
}
