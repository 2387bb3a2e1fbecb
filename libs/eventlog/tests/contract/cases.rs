//! What every log must do.

use std::collections::BTreeSet;

use runledger_domain::digest;
use runledger_domain::log::{Family, Kind, Partition, partition_of};
use runledger_domain::time::SystemClock;
use runledger_eventlog::token::Token;
use runledger_eventlog::{Error, Event, Outcome};
use runledger_testkit::eventually;
use tokio::time::Instant;

use crate::given::{
    PARTITIONS, PATIENCE, Reader, Shared, accepted, decoded, entry, group, is_of, number, numbered,
    options, scope, soon, watermarks,
};

pub(crate) async fn an_empty_append_is_nothing(log: Shared) {
    assert_eq!(log.append(Vec::new(), soon()).await.unwrap(), []);
}

pub(crate) async fn a_stream_keeps_its_order(log: Shared) {
    let scope = scope();
    let entries = numbered(scope, 3, 300);
    let mut positions = Vec::new();
    for batch in entries.chunks(100) {
        positions.extend(accepted(log.append(batch.to_vec(), soon()).await.unwrap()));
    }
    for (earlier, later) in positions.iter().zip(positions.iter().skip(3)) {
        assert_eq!(earlier.partition, later.partition);
        assert!(earlier.offset < later.offset, "{earlier:?} {later:?}");
    }
}

pub(crate) async fn a_position_is_where_the_record_lies(log: Shared) {
    let scope = scope();
    let mut entries = numbered(scope, 7, 20);
    entries[3].trace = Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".into());
    entries[4].record.kind = Kind::Decision;
    entries[4].prev = Some([7; 32]);
    let positions = accepted(log.append(entries.clone(), soon()).await.unwrap());
    let genesis = log.genesis(Family::Run).await.unwrap();
    for (entry, position) in entries.iter().zip(positions) {
        let key = entry.record.stream.key(scope);
        assert_eq!(position.partition.number, partition_of(&key, PARTITIONS));
        assert_eq!(
            position.incarnation,
            genesis[position.partition.number as usize].incarnation
        );
        let found = log
            .read(position.partition, position.offset, 1)
            .await
            .unwrap();
        let [stored] = found.as_slice() else {
            panic!("{found:?}")
        };
        assert_eq!(stored.position, position);
        assert_eq!(stored.key, key.as_bytes());
        assert_eq!(decoded(stored), entry.record);
        let headers = stored.headers.clone().unwrap();
        assert_eq!(
            (headers.kind, headers.type_name),
            (entry.record.kind, entry.record.type_name.clone())
        );
        assert_eq!((headers.scope, headers.prev), (Some(scope), entry.prev));
        assert_eq!(headers.trace.as_deref(), entry.trace.as_deref());
        let recorded = stored.log_timestamp.unwrap().timestamp_millis();
        assert_eq!(recorded, entry.record.recorded_at.timestamp_millis());
        assert_eq!(
            stored.digest(),
            digest::of_parts(&[&stored.key, &stored.value])
        );
    }
}

pub(crate) async fn a_record_too_large_is_refused_alone(log: Shared) {
    let scope = scope();
    let large = vec![b'x'; 1_048_588];
    let largest = vec![b'x'; 960 << 10];
    let batch = vec![
        entry(scope, "a", b"1"),
        entry(scope, "a", &large),
        entry(scope, "a", &largest),
    ];
    let outcomes = log.append(batch, soon()).await.unwrap();
    let [
        Outcome::Accepted(first),
        Outcome::TooLarge,
        Outcome::Accepted(third),
    ] = outcomes.as_slice()
    else {
        panic!("{outcomes:?}")
    };
    assert!(first.offset < third.offset);
    let found = log.read(third.partition, third.offset, 1).await.unwrap();
    assert_eq!(decoded(&found[0]).payload.len(), largest.len());
}

pub(crate) async fn the_watermark_is_behind_what_was_accepted(log: Shared) {
    let [position] = accepted(
        log.append(vec![entry(scope(), "w", b"1")], soon())
            .await
            .unwrap(),
    )[..] else {
        panic!()
    };
    let watermark = log.watermark(position.partition).await.unwrap();
    assert!(watermark > position.offset);
    assert_eq!(
        log.read(position.partition, watermark + 1_000_000, 10)
            .await
            .unwrap(),
        []
    );
    let nowhere = Partition {
        family: Family::Run,
        number: PARTITIONS,
    };
    assert!(log.watermark(nowhere).await.is_err());
    assert!(log.read(nowhere, 0, 1).await.is_err());
}

pub(crate) async fn making_topics_again_changes_nothing(log: Shared) {
    let before = log.genesis(Family::Run).await.unwrap();
    let (one, two) = tokio::join!(
        log.create(&[Family::Run], &SystemClock),
        log.create(&[Family::Run], &SystemClock)
    );
    one.unwrap();
    two.unwrap();
    assert_eq!(log.genesis(Family::Run).await.unwrap(), before);
    assert_eq!(before.len(), PARTITIONS as usize);
    for genesis in before.iter() {
        let partition = Partition {
            family: Family::Run,
            number: genesis.partition,
        };
        let first = log.read(partition, 0, 1).await.unwrap();
        let headers = first[0].headers.clone().unwrap();
        assert_eq!((headers.kind, headers.scope), (Kind::Genesis, None));
        assert_eq!(first[0].position.incarnation, genesis.incarnation);
    }
}

pub(crate) async fn a_caller_too_late_is_told_unknown_and_the_record_lands(log: Shared) {
    let scope = scope();
    let before = watermarks(&log).await;
    let late = entry(scope, "late", b"1");
    log.genesis(Family::Run).await.unwrap();
    let outcomes = log
        .append(vec![late.clone()], Instant::now())
        .await
        .unwrap();
    assert_eq!(outcomes, [Outcome::Unknown]);
    let partition = Partition {
        family: Family::Run,
        number: partition_of(&late.record.stream.key(scope), PARTITIONS),
    };
    eventually(PATIENCE, || async {
        let found = log
            .read(partition, before[&partition], 10_000)
            .await
            .map_err(|error| error.to_string())?;
        found
            .iter()
            .find(|stored| is_of(stored, scope))
            .map(drop)
            .ok_or_else(|| "not yet there".to_owned())
    })
    .await;
}

pub(crate) async fn a_subscription_begins_where_it_is_told(log: Shared) {
    let scope = scope();
    let mut cursors = watermarks(&log).await;
    accepted(log.append(numbered(scope, 5, 50), soon()).await.unwrap());
    let mut reader = Reader::new(&log, options(&group(), "a"));
    let mut seen = BTreeSet::new();
    while seen.len() < 50 {
        let taken = reader.step(&mut cursors, 1_000).await;
        seen.extend(
            taken
                .iter()
                .filter(|stored| is_of(stored, scope))
                .map(number),
        );
    }
    assert_eq!(reader.owned.len(), PARTITIONS as usize);
}

pub(crate) async fn two_members_share_and_nothing_is_lost_when_one_goes(log: Shared) {
    let (scope, group) = (scope(), group());
    let mut cursors = watermarks(&log).await;
    let mut one = Reader::new(&log, options(&group, "one"));
    while one.owned.len() < PARTITIONS as usize {
        one.step(&mut cursors, 1_000).await;
    }
    let mut two = Reader::new(&log, options(&group, "two"));
    let mut seen = Vec::new();
    accepted(log.append(numbered(scope, 16, 160), soon()).await.unwrap());
    while one.owned.len() != 2 || two.owned.len() != 2 || seen.len() < 160 {
        let (from, taken) = tokio::select! {
            event = one.subscription.next() => (&mut one, event),
            event = two.subscription.next() => (&mut two, event),
        };
        let taken = from.follow(taken, &mut cursors, 1_000);
        seen.extend(
            taken
                .iter()
                .filter(|stored| is_of(stored, scope))
                .map(number),
        );
    }
    drop(one);
    accepted(log.append(numbered(scope, 16, 160), soon()).await.unwrap());
    while two.owned.len() < PARTITIONS as usize || seen.len() < 320 {
        let taken = two.step(&mut cursors, 1_000).await;
        seen.extend(
            taken
                .iter()
                .filter(|stored| is_of(stored, scope))
                .map(number),
        );
    }
    seen.sort_unstable();
    assert_eq!(
        seen,
        (0..160).flat_map(|number| [number; 2]).collect::<Vec<_>>()
    );
}

pub(crate) async fn a_slow_taker_loses_nothing(log: Shared) {
    let scope = scope();
    let mut cursors = watermarks(&log).await;
    let mut options = options(&group(), "a");
    options.queue_records = 16;
    let mut reader = Reader::new(&log, options);
    for batch in numbered(scope, 9, 3_000).chunks(1_000) {
        accepted(log.append(batch.to_vec(), soon()).await.unwrap());
    }
    let mut seen = Vec::new();
    while seen.len() < 3_000 {
        // `step` checks that every record is the next of its partition.
        let taken = reader.step(&mut cursors, 7).await;
        assert!(taken.len() <= 7);
        seen.extend(
            taken
                .iter()
                .filter(|stored| is_of(stored, scope))
                .map(number),
        );
    }
    seen.sort_unstable();
    assert_eq!(seen, (0..3_000).collect::<Vec<_>>());
}

pub(crate) async fn what_was_given_up_comes_back(log: Shared) {
    let scope = scope();
    let mut cursors = watermarks(&log).await;
    let mut reader = Reader::new(&log, options(&group(), "a"));
    while reader.owned.len() < PARTITIONS as usize {
        reader.step(&mut cursors, 1_000).await;
    }
    let all: BTreeSet<_> = reader.owned.iter().copied().collect();
    let lost = reader.owned[0];
    reader.subscription.give_up(lost);
    while reader.owned.contains(&lost) {
        reader.step(&mut cursors, 1_000).await;
    }
    accepted(log.append(numbered(scope, 16, 160), soon()).await.unwrap());
    let mut seen = BTreeSet::new();
    while seen.len() < 160 {
        let taken = reader.step(&mut cursors, 1_000).await;
        seen.extend(
            taken
                .iter()
                .filter(|stored| is_of(stored, scope))
                .map(number),
        );
    }
    assert_eq!(reader.owned.iter().copied().collect::<BTreeSet<_>>(), all);
}

pub(crate) async fn what_was_given_up_with_a_full_queue_comes_back_and_is_read_on(log: Shared) {
    let scope = scope();
    let mut cursors = watermarks(&log).await;
    let mut options = options(&group(), "a");
    // Full with its first record, and no longer fetched.
    options.queue_records = 1;
    let mut reader = Reader::new(&log, options);
    accepted(log.append(numbered(scope, 16, 160), soon()).await.unwrap());
    let lost = loop {
        match reader.event().await {
            Event::Records => break reader.subscription.head_recorded()[0].0,
            event => drop(reader.follow(event, &mut cursors, 0)),
        }
    };
    reader.subscription.give_up(lost);
    while reader.owned.contains(&lost) {
        let event = reader.event().await;
        reader.follow(event, &mut cursors, 0);
    }
    let mut seen = BTreeSet::new();
    while seen.len() < 160 {
        let taken = reader.step(&mut cursors, 1_000).await;
        let ours = taken.iter().filter(|stored| is_of(stored, scope));
        seen.extend(ours.map(number));
    }
}

pub(crate) async fn a_cursor_beyond_the_end_is_a_failure(log: Shared) {
    let mut reader = Reader::new(&log, options(&group(), "a"));
    loop {
        match reader.event().await {
            Event::Assigned(partitions) => {
                reader
                    .subscription
                    .start(partitions.into_iter().map(|one| (one, 1 << 40)).collect());
            }
            Event::Failed(Error::OffsetOutOfRange { offset, .. }) => {
                assert_eq!(offset, 1 << 40);
                return;
            }
            other => panic!("{other:?}"),
        }
    }
}

pub(crate) async fn a_read_is_bounded(log: Shared) {
    let positions = accepted(log.append(numbered(scope(), 1, 30), soon()).await.unwrap());
    let first = positions[0];
    let found = log.read(first.partition, first.offset, 10).await.unwrap();
    assert_eq!(found.len(), 10);
    for (stored, offset) in found.iter().zip(first.offset..) {
        assert_eq!(stored.position.offset, offset);
    }
    assert_eq!(
        log.read(first.partition, first.offset, 0).await.unwrap(),
        []
    );
}

pub(crate) async fn a_token_survives_its_text(log: Shared) {
    let positions = accepted(log.append(numbered(scope(), 9, 40), soon()).await.unwrap());
    let token = Token::from_positions(positions.iter().copied());
    let read = Token::parse(&token.to_string()).unwrap();
    assert_eq!(read, token);
    for position in positions {
        let named = read
            .positions()
            .find(|named| named.partition == position.partition)
            .unwrap();
        assert!(named.offset >= position.offset);
        assert_eq!(named.incarnation, position.incarnation);
    }
}
