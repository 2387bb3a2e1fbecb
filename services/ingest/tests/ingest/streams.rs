//! Many batches over one call.

use std::sync::Arc;
use std::time::Duration;

use futures::{FutureExt as _, StreamExt as _};
use runledger_domain::digest;
use runledger_eventlog::Log;
use runledger_eventlog::memory::Fault;
use runledger_eventlog::token::Token;
use runledger_proto::run::v1::{
    RunFact, RunIngestServiceAppendStreamRequest, RunIngestServiceAppendStreamResponse,
};
use runledger_service::auth::{Credential, KillSwitch, Limits};
use runledger_testkit::eventually;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};

use crate::world::{Doors, Held, World, credential, expect, memory, progressed, words};

/// Both ends of an open stream.
struct Open {
    send: mpsc::Sender<RunIngestServiceAppendStreamRequest>,
    acknowledgements: Streaming<RunIngestServiceAppendStreamResponse>,
}

impl Open {
    async fn new<L: Log>(world: &World<L>, key: String) -> Self {
        let (send, batches) = mpsc::channel(64);
        let mut client = world.runs(key).await;
        let acknowledgements = client
            .append_stream(ReceiverStream::new(batches))
            .await
            .expect("it is open")
            .into_inner();
        Self {
            send,
            acknowledgements,
        }
    }

    async fn send(&self, batch: u64, facts: Vec<RunFact>) {
        self.send
            .send(RunIngestServiceAppendStreamRequest { batch, facts })
            .await
            .expect("it is open");
    }

    async fn next(&mut self) -> Result<Option<RunIngestServiceAppendStreamResponse>, Status> {
        self.acknowledgements.message().await
    }
}

fn facts(from: u128, count: u128) -> Vec<RunFact> {
    (from..from + count)
        .map(|number| progressed(number, "r-1", "x"))
        .collect()
}

#[tokio::test]
async fn every_batch_is_acknowledged_in_order() {
    let world = World::new().await;
    let mut open = Open::new(&world, world.agent()).await;
    for batch in 0..50 {
        let mut facts = facts(u128::from(batch) * 10, 10);
        facts[3].id.clear();
        open.send(batch + 7, facts).await;
    }
    for batch in 0..50 {
        let acknowledged = open.next().await.unwrap().unwrap();
        assert_eq!(acknowledged.batch, batch + 7);
        assert_eq!(words(&acknowledged.results)[3], "facts[3].id REQUIRED");
        assert!(!Token::parse(&acknowledged.token).unwrap().is_empty());
    }
    drop(open.send);
    assert!(open.acknowledgements.message().await.unwrap().is_none());
    let ids: Vec<_> = world
        .records(runledger_domain::log::Family::Run)
        .await
        .iter()
        .map(|record| record.id)
        .collect();
    assert_eq!(ids.len(), 450);
    assert!(ids.is_sorted());
}

#[tokio::test]
async fn a_few_batches_are_on_their_way_at_once_and_no_more_are_read() {
    let doors = Arc::new(Doors::default());
    let world = World::over(Arc::new(Held::new(memory().await, &doors))).await;
    let mut open = Open::new(&world, world.agent()).await;
    for batch in 0..10 {
        open.send(batch, facts(u128::from(batch), 1)).await;
    }
    let came = |count: usize| {
        let doors = &doors;
        eventually(Duration::from_secs(10), move || async move {
            if doors.came() == count {
                Ok(())
            } else {
                Err(format!("{} have come", doors.came()))
            }
        })
    };
    came(4).await;
    // The third is done first, but its acknowledgement waits for those before it.
    doors.open(2);
    doors.open(1);
    assert!(open.acknowledgements.next().now_or_never().is_none());
    assert_eq!(doors.came(), 4);
    doors.open(0);
    for batch in 0..3 {
        assert_eq!(open.next().await.unwrap().unwrap().batch, batch);
    }
    came(7).await;
    for door in 3..7 {
        doors.open(door);
    }
    came(10).await;
    for door in 7..10 {
        doors.open(door);
    }
    for batch in 3..10 {
        assert_eq!(open.next().await.unwrap().unwrap().batch, batch);
    }
}

#[tokio::test]
async fn a_batch_that_is_held_up_holds_up_those_behind_it() {
    let doors = Arc::new(Doors::default());
    let held = Held::before_landing(memory().await, &doors);
    let world = World::over(Arc::new(held)).await;
    let mut open = Open::new(&world, world.agent()).await;
    open.send(0, facts(0, 1)).await;
    open.send(1, facts(1, 1)).await;
    for batch in 0..2 {
        eventually(Duration::from_secs(10), || async {
            if doors.came() > batch {
                Ok(())
            } else {
                Err("it has not come")
            }
        })
        .await;
        assert_eq!(doors.came(), batch + 1, "they are handed over at once");
        doors.open(batch);
        assert_eq!(open.next().await.unwrap().unwrap().batch, batch as u64);
    }
}

#[tokio::test]
async fn nothing_behind_a_batch_that_was_shed_goes_into_the_log() {
    let doors = Arc::new(Doors::default());
    let world = World::over(Arc::new(Held::new(memory().await, &doors))).await;
    let mut open = Open::new(&world, world.agent()).await;
    world.log.inject(Fault::Shed);
    open.send(1, facts(0, 1)).await;
    open.send(2, facts(1, 1)).await;
    expect(open.next().await, Code::ResourceExhausted, "LOG_BUSY");
    assert_eq!((doors.came(), world.count().await), (1, 0));
}

#[tokio::test]
async fn a_batch_that_is_none_ends_the_stream_by_name_after_those_before_it() {
    let world = World::new().await;
    let mut open = Open::new(&world, world.agent()).await;
    open.send(1, facts(0, 1)).await;
    open.send(2, vec![]).await;
    open.send(3, facts(1, 1)).await;
    assert_eq!(open.next().await.unwrap().unwrap().batch, 1);
    let refused = expect(open.next().await, Code::InvalidArgument, "EMPTY_BATCH");
    assert!(
        refused.message().starts_with("batch 2: "),
        "{}",
        refused.message()
    );
    assert_eq!(world.count().await, 1);
}

#[tokio::test]
async fn an_oversized_batch_ends_the_stream() {
    let world = World::new().await;
    let mut open = Open::new(&world, world.agent()).await;
    let large = (0..300)
        .map(|number| progressed(number, "r", &"x".repeat(4_000)))
        .collect();
    open.send(1, large).await;
    expect(
        open.next().await,
        Code::InvalidArgument,
        "REQUEST_TOO_LARGE",
    );
    assert_eq!(world.count().await, 0);
}

#[tokio::test]
async fn a_log_that_is_away_ends_the_stream_and_says_so() {
    let world = World::new().await;
    let mut open = Open::new(&world, world.agent()).await;
    open.send(1, facts(0, 1)).await;
    assert_eq!(open.next().await.unwrap().unwrap().batch, 1);
    world.log.inject(Fault::Unavailable);
    open.send(2, facts(1, 1)).await;
    expect(open.next().await, Code::Unavailable, "LOG_UNAVAILABLE");
    assert_eq!(world.count().await, 1);
}

#[tokio::test]
async fn a_stream_over_its_rate_is_slowed_not_refused() {
    let world = World::new().await;
    let limits = Limits {
        records_per_second: 1_000,
        bytes_per_second: 1_000_000_000,
        commands_per_second: 1,
    };
    let mut open = Open::new(
        &world,
        world.key(&Credential {
            limits,
            ..credential()
        }),
    )
    .await;
    let begun = Instant::now();
    for batch in 0..3 {
        open.send(batch, facts(u128::from(batch) * 1_000, 800))
            .await;
    }
    for batch in 0..3 {
        assert_eq!(open.next().await.unwrap().unwrap().batch, batch);
    }
    // 2,000 at once, and 400 more at 1,000 a second.
    assert!(
        begun.elapsed() >= Duration::from_millis(350),
        "{:?}",
        begun.elapsed()
    );
    open.send(3, facts(9_000, 1_000)).await;
    assert_eq!(open.next().await.unwrap().unwrap().batch, 3);
}

#[tokio::test]
async fn an_open_stream_hears_of_the_kill_switch_and_of_a_revoked_key() {
    let world = World::new().await;
    let stopped = Credential {
        kill_switch: Some(KillSwitch {
            reason: "stop".into(),
            global: true,
        }),
        ..credential()
    };
    let key = world.agent();
    for (code, reason) in [
        (Code::FailedPrecondition, "KILL_SWITCH"),
        (Code::Unauthenticated, "KEY_UNKNOWN"),
    ] {
        world.key(&credential());
        let open = eventually(Duration::from_secs(5), || async {
            let mut open = Open::new(&world, key.clone()).await;
            open.send(0, facts(0, 1)).await;
            open.next().await.map(|_| open)
        });
        let mut open = open.await;
        if reason == "KILL_SWITCH" {
            world.key(&stopped);
        } else {
            world.directory.remove(&digest::of(key.as_bytes()));
        }
        let changed = Instant::now();
        let refused = loop {
            open.send(1, facts(1, 1)).await;
            match open.next().await {
                Ok(_) => assert!(changed.elapsed() < Duration::from_secs(2), "it goes on"),
                Err(refused) => break refused,
            }
        };
        expect(Err::<(), _>(refused), code, reason);
    }
}

#[tokio::test]
async fn a_process_that_stops_acknowledges_what_it_took_and_says_goodbye() {
    let doors = Arc::new(Doors::default());
    let mut world = World::over(Arc::new(Held::new(memory().await, &doors))).await;
    let mut open = Open::new(&world, world.agent()).await;
    open.send(1, facts(0, 1)).await;
    eventually(Duration::from_secs(10), || async {
        if doors.came() == 1 {
            Ok(())
        } else {
            Err("it has not come")
        }
    })
    .await;
    world.stopper.cancel();
    doors.open(0);
    assert_eq!(open.next().await.unwrap().unwrap().batch, 1);
    expect(open.next().await, Code::Unavailable, "STOPPING");
    drop(open);
    world.process.join_next().await.unwrap().unwrap().unwrap();
}
