//! What the way in can take, while nobody reads.

use std::time::Duration;

use runledger_domain::log::{Family, Partition};
use runledger_eventlog::kafka::Kafka;
use runledger_eventlog::{Log as _, Stored};

use super::cpu::Watch;
use super::row::{Is, OURS, Row, Sample};
use super::{Figures, HALF, ROUNDS, WARM};
use crate::load::bare;
use crate::load::driver::{Measured, drive};
use crate::load::ground::Ground;
use crate::load::pacing::{Job, Pace};
use crate::remote::Remote;
use crate::say;

/// How long a broker that has just started is kept busy: its code is compiled while it runs, which
/// halves every figure until it is done.
const BROKER_WARM: Duration = Duration::from_secs(40);
const CALLERS: u16 = 64;
const BATCH: u16 = 100;
/// Callers of batches: enough to keep the server busy.
const BATCH_CALLERS: u16 = 16;
/// Appends a second of the open loop, for every side the same.
const PACED: u64 = 5_000;

pub(super) async fn measure(ground: &Ground, figures: &Figures) -> anyhow::Result<()> {
    append(&ground.remote, Pace::Callers(CALLERS), 1, BROKER_WARM).await?;
    figures.push(one_by_one(ground, figures).await?)?;
    figures.push(cross_checked(ground, figures).await?)?;
    figures.push(paced(ground, figures).await?)?;
    figures.push(by_the_hundred(ground, figures).await?)
}

async fn one_by_one(ground: &Ground, figures: &Figures) -> anyhow::Result<Row> {
    say::aside("Single appends, the rpc that does nothing, and UmaDB …");
    let (nothing, idle_remote) = ground.nothing().await?;
    let callers = Pace::Callers(CALLERS);
    append(&idle_remote, callers, 1, WARM).await?;
    let (mut ours, mut idle, mut peer) = (Vec::new(), Vec::new(), Vec::new());
    let before = written(ground).await?;
    for _ in 0..ROUNDS {
        ours.push(sample(OURS, &ground.remote, callers, 1, HALF).await?);
        idle.push(sample("an rpc that does nothing", &idle_remote, callers, 1, HALF).await?);
        peer.extend(umadb(figures, "ingest_one", None).await?);
    }
    nothing.end().await?;
    let found = written(ground).await? - before;
    let acknowledged = ours.iter().map(|sample| sample.events).sum();
    Ok(
        Row::new("ingest_one", "single appends, 64 callers", "events")
            .side(Is::Ours, ours)
            .side(Is::Limit, idle)
            .side(Is::Peer, peer)
            .rate_at_least(Is::Limit, 0.5)
            .rate_at_least(Is::Peer, 1.2)
            .found(acknowledged, found),
    )
}

/// The same server, called by our callers and by those of another tool.
async fn cross_checked(ground: &Ground, figures: &Figures) -> anyhow::Result<Row> {
    say::aside("The same, called by ghz …");
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    let credentials = ground.file("credentials.toml");
    for _ in 0..ROUNDS {
        ours.push(sample(OURS, &ground.remote, Pace::Callers(CALLERS), 1, HALF).await?);
        let arguments = ["ghz", "--credentials", &credentials];
        theirs.extend(figures.peers.measure(&arguments).await?);
    }
    let row = Row::new(
        "ingest_ghz",
        "the same, our callers beside those of another load tool",
        "events",
    );
    Ok(row.side(Is::Ours, ours).side(Is::Peer, theirs))
}

async fn paced(ground: &Ground, figures: &Figures) -> anyhow::Result<Row> {
    say::aside("Single appends at their moments, whatever the answers take …");
    let (mut ours, mut peer) = (Vec::new(), Vec::new());
    let before = written(ground).await?;
    for _ in 0..ROUNDS {
        ours.push(sample(OURS, &ground.remote, Pace::Rate(PACED), 1, HALF).await?);
        peer.extend(umadb(figures, "ingest_one", Some(PACED)).await?);
    }
    let found = written(ground).await? - before;
    let acknowledged = ours.iter().map(|sample| sample.events).sum();
    Ok(Row::new(
        "ingest_paced",
        "single appends at 5,000/s, open loop",
        "events",
    )
    .side(Is::Ours, ours)
    .side(Is::Peer, peer)
    .found(acknowledged, found))
}

async fn by_the_hundred(ground: &Ground, figures: &Figures) -> anyhow::Result<Row> {
    say::aside("Batches, a bare producer loop, and UmaDB …");
    let callers = Pace::Callers(BATCH_CALLERS);
    append(&ground.remote, callers, BATCH, WARM).await?;
    let records = records(ground).await?;
    bare::create_topic(&ground.configs.shared.kafka, &ground.bare_topic()).await?;
    produce(ground, &records, WARM).await?;
    let (mut ours, mut loops, mut peer) = (Vec::new(), Vec::new(), Vec::new());
    let before = written(ground).await?;
    for _ in 0..ROUNDS {
        ours.push(sample(OURS, &ground.remote, callers, BATCH, HALF).await?);
        loops.push(produce(ground, &records, HALF).await?);
        peer.extend(umadb(figures, "ingest_batch", None).await?);
    }
    let found = written(ground).await? - before;
    let acknowledged = ours.iter().map(|sample| sample.events).sum();
    Ok(Row::new(
        "ingest_batch",
        "appends by the hundred, 16 callers",
        "events",
    )
    .side(Is::Ours, ours)
    .side(Is::Limit, loops)
    .side(Is::Peer, peer)
    .rate_at_least(Is::Limit, 0.45)
    .rate_at_least(Is::Peer, 1.5)
    .found(acknowledged, found))
}

/// One round of appends.
pub(super) async fn sample(
    who: &str,
    remote: &Remote,
    pace: Pace,
    batch: u16,
    duration: Duration,
) -> anyhow::Result<Sample> {
    let watch = Watch::begin();
    let measured = append(remote, pace, batch, duration).await?;
    let spent = watch.end();
    let sample = Sample::new(who, measured.accepted, measured.elapsed);
    Ok(sample.spent(&spent).waited(&measured.latency))
}

async fn append(
    remote: &Remote,
    pace: Pace,
    batch: u16,
    duration: Duration,
) -> anyhow::Result<Measured> {
    let job = Job {
        pace,
        duration,
        batch,
        records_max: u64::MAX,
        check_every: 0,
    };
    let measured = drive(remote, &job).await?;
    for (reason, number) in &measured.reasons {
        say::aside(format_args!("  {number} requests failed: {reason}"));
    }
    Ok(measured)
}

async fn umadb(figures: &Figures, row: &str, rate: Option<u64>) -> anyhow::Result<Vec<Sample>> {
    let (seconds, warm) = (HALF.as_secs().to_string(), WARM.as_secs().to_string());
    let mut arguments = vec![
        "umadb",
        "--row",
        row,
        "--seconds",
        &seconds,
        "--warm-up",
        &warm,
    ];
    let rate = rate.map(|rate| rate.to_string());
    if let Some(rate) = &rate {
        arguments.extend(["--rate", rate]);
    }
    figures.peers.measure(&arguments).await
}

/// Records of the families that load appends to.
pub(super) async fn written(ground: &Ground) -> anyhow::Result<u64> {
    let log = Kafka::connect(&ground.configs.ingest.kafka)?;
    let mut sum = 0;
    for family in runledger_runs::FAMILIES {
        for genesis in log.genesis(*family).await?.iter() {
            let partition = Partition {
                family: *family,
                number: genesis.partition,
            };
            sum += log.watermark(partition).await?;
        }
    }
    Ok(sum)
}

/// Records as they lie in the log.
async fn records(ground: &Ground) -> anyhow::Result<Vec<Stored>> {
    let log = Kafka::connect(&ground.configs.ingest.kafka)?;
    let partition = Partition {
        family: Family::Run,
        number: 0,
    };
    Ok(log.read(partition, 1, 1_000).await?)
}

async fn produce(
    ground: &Ground,
    records: &[Stored],
    duration: Duration,
) -> anyhow::Result<Sample> {
    let config = runledger_eventlog::kafka::Config {
        partitions: ground.configs.shared.kafka.partitions,
        ..ground.configs.ingest.kafka.clone()
    };
    let (topic, records) = (ground.bare_topic(), records.to_vec());
    let watch = Watch::begin();
    let produced =
        tokio::task::spawn_blocking(move || bare::produce(&config, &topic, &records, duration));
    let (delivered, took) = produced.await??;
    let spent = watch.end();
    Ok(Sample::new("a bare rdkafka loop", delivered, took).spent(&spent))
}
