//! Members that die and come back under their names, on real Kafka.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rand::Rng;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use runledger_domain::log::Partition;
use runledger_eventlog::Event;
use runledger_testkit::eventually;
use tokio::task::{AbortHandle, JoinSet};

use crate::given::{self, PARTITIONS, PATIENCE, Reader, Shared, options, watermarks};

/// Who reads what now.
type Owned = Arc<Mutex<BTreeMap<&'static str, BTreeSet<Partition>>>>;

/// Aborting it is a death: a member by name says nothing when it goes.
fn member(
    all: &mut JoinSet<()>,
    log: &Shared,
    group: &str,
    name: &'static str,
    owned: &Owned,
) -> AbortHandle {
    let mut subscription = log.subscribe(options(group, name)).unwrap();
    let (log, owned) = (Arc::clone(log), Arc::clone(owned));
    owned.lock().unwrap().insert(name, BTreeSet::new());
    all.spawn(async move {
        loop {
            match subscription.next().await {
                Event::Assigned(partitions) => {
                    let cursors = watermarks(&log).await;
                    let start = partitions.iter().map(|one| (*one, cursors[one])).collect();
                    subscription.start(start);
                    owned
                        .lock()
                        .unwrap()
                        .get_mut(name)
                        .unwrap()
                        .extend(partitions);
                }
                Event::Revoked(partitions) => owned
                    .lock()
                    .unwrap()
                    .get_mut(name)
                    .unwrap()
                    .retain(|one| !partitions.contains(one)),
                Event::Records => drop(subscription.take(1_000, usize::MAX)),
                // The name is taken by one that came later.
                Event::Failed(_) => return,
            }
        }
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_partition_is_left_to_nobody_whenever_a_member_dies() {
    let log = given::kafka().await;
    let (group, owned) = (given::group(), Owned::default());
    let (mut all, mut members) = (JoinSet::new(), BTreeMap::new());
    for name in ["one", "two"] {
        members.insert(name, member(&mut all, &log, &group, name, &owned));
    }
    // Moments of death all over a round of the group, which takes about half a second.
    for turn in 0..12 {
        let name = ["one", "two"][turn % 2];
        let moment = Duration::from_millis(rand::rng().random_range(0..700));
        tokio::time::sleep(moment).await;
        members.remove(name).unwrap().abort();
        members.insert(name, member(&mut all, &log, &group, name, &owned));
    }
    eventually(PATIENCE, || async {
        let owned = owned.lock().unwrap();
        let shared: Vec<&Partition> = owned.values().flatten().collect();
        let all = shared.iter().collect::<BTreeSet<_>>().len() == PARTITIONS as usize;
        if all && shared.len() == PARTITIONS as usize && owned.values().all(|own| own.len() == 2) {
            Ok(())
        } else {
            Err(format!("{owned:?}"))
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hint_is_what_lag_tools_find_under_the_groups_name() {
    let (log, config, group) = (
        given::kafka().await,
        given::shared_config().await,
        given::group(),
    );
    let mut reader = Reader::new(&log, options(&group, "one"));
    let mut cursors = watermarks(&log).await;
    while reader.owned.len() < PARTITIONS as usize {
        reader.step(&mut cursors, 1_000).await;
    }
    reader
        .subscription
        .hint(reader.owned.iter().map(|one| (*one, 7)).collect());
    let tool: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", &config.brokers)
        .set("group.id", &group)
        .create()
        .unwrap();
    let tool = Arc::new(tool);
    eventually(PATIENCE, || async {
        let mut asked = TopicPartitionList::new();
        let topic = format!("{}.run.v1", config.prefix);
        asked.add_partition_range(&topic, 0, PARTITIONS.cast_signed() - 1);
        let tool = Arc::clone(&tool);
        let committed = tokio::task::spawn_blocking(move || {
            tool.committed_offsets(asked, PATIENCE)
                .unwrap()
                .to_topic_map()
        });
        let committed = committed.await.unwrap();
        if committed
            .values()
            .all(|offset| *offset == Offset::Offset(7))
        {
            Ok(())
        } else {
            Err(format!("{committed:?}"))
        }
    })
    .await;
}

/// Once is no double: a broker that comes back may take a join that was sent again for one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_is_fenced_once_joins_again() {
    let (log, group) = (given::kafka().await, given::group());
    let (mut all, owned) = (JoinSet::new(), Owned::default());
    member(&mut all, &log, &group, "one", &owned);
    owns(&owned, "one", PARTITIONS as usize).await;
    join_and_leave_under_the_name(&group, "one").await;
    // Only a member of the group is asked to share.
    member(&mut all, &log, &group, "two", &owned);
    owns(&owned, "one", PARTITIONS as usize / 2).await;
    owns(&owned, "two", PARTITIONS as usize / 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_that_go_on_under_one_name_the_older_ends() {
    let (log, group) = (given::kafka().await, given::group());
    let mut older = log.subscribe(options(&group, "one")).unwrap();
    let first = tokio::time::timeout(PATIENCE, older.next()).await.unwrap();
    assert!(matches!(first, Event::Assigned(_)), "{first:?}");
    let (mut all, owned) = (JoinSet::new(), Owned::default());
    member(&mut all, &log, &group, "one", &owned);
    let failed = async {
        loop {
            match older.next().await {
                Event::Failed(error) => return error.to_string(),
                Event::Assigned(_) | Event::Revoked(_) | Event::Records => {}
            }
        }
    };
    let said = tokio::time::timeout(PATIENCE, failed).await.unwrap();
    assert!(
        said.contains(&group) && said.contains("projection.instance"),
        "{said}"
    );
    owns(&owned, "one", PARTITIONS as usize).await;
    assert!(all.try_join_next().is_none(), "the younger has ended too");
}

async fn owns(owned: &Owned, name: &str, count: usize) {
    eventually(PATIENCE, || async {
        let own = owned.lock().unwrap()[name].len();
        (own == count)
            .then_some(())
            .ok_or_else(|| format!("{name} owns {own} of {count}"))
    })
    .await;
}

/// As a member does whose join is sent twice: it is in the group, and never heard of again.
async fn join_and_leave_under_the_name(group: &str, name: &str) {
    let config = given::shared_config().await;
    let double: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", &config.brokers)
        .set("group.id", format!("{group}.members"))
        .set("group.instance.id", format!("{name}.run"))
        .set("partition.assignment.strategy", "range")
        .set("session.timeout.ms", "6000")
        .create()
        .unwrap();
    let topic = format!("{}.run.v1", config.prefix);
    let joined = tokio::task::spawn_blocking(move || {
        double.subscribe(&[&topic]).unwrap();
        let given_up = std::time::Instant::now() + PATIENCE;
        while double.assignment().unwrap().count() == 0 {
            assert!(std::time::Instant::now() < given_up, "it never joined");
            drop(double.poll(Duration::from_millis(20)));
        }
    });
    joined.await.unwrap();
}
