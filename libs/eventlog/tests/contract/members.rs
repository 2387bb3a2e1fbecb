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
