//! P8: a poisoned record delays only its own stream.

use std::sync::Arc;
use std::time::Duration;

use rand::rngs::StdRng;
use rdkafka::consumer::{Consumer as _, StreamConsumer};
use rdkafka::message::Message as _;
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use runledger_domain::ids::{PrincipalId, RecordId, RunId, TenantId};
use runledger_domain::log::{Kind as RecordKind, Position, Record, Stream};
use runledger_domain::scope::{Actor, Mode, PrincipalKind, Role, Scope};
use runledger_domain::time::{Clock, SystemClock};
use runledger_eventlog::kafka::{Config, Kafka};
use runledger_eventlog::{Entry, Log, Outcome};
use runledger_proto::common::v1::ReadOptions;
use runledger_proto::run::v1::run_fact::Fact;
use runledger_proto::run::v1::{
    GetRunRequest, Run, RunEnded, RunFact, RunIngestServiceAppendRequest, RunOutcome, RunPhase,
    RunProgressed, RunStatus, UsageRecorded,
};
use runledger_proto::types;
use runledger_service::status::reason;
use runledger_testkit::eventually;
use runledger_tests::{Clients, Installation, Kind, Tenant, facts, is_proof, patiently, seed};
use tokio::time::{Instant, timeout};
use tonic::{Code, Status};

/// How long the others may take to be complete, from the last acknowledgement on.
const ON_TIME: Duration = Duration::from_secs(30);
/// Most facts of one request.
const BATCH: usize = 1_000;

struct Scene {
    installation: Installation,
    tenant: Tenant,
    clients: Clients,
    rng: StdRng,
    commands: u32,
}

#[tokio::test(flavor = "multi_thread")]
async fn one_poisoned_stream_delays_no_other_and_goes_on_in_order() {
    let rng = seed("dead letters");
    let installation = Installation::start("dead-letters").await;
    let tenant = Tenant::create(&installation, "story").await;
    let clients = installation.clients(tenant.key(Role::Agent));
    let mut scene = Scene {
        installation,
        tenant,
        clients,
        rng,
        commands: 0,
    };
    let runs = if is_proof() { 10_000 } else { 500 };
    scene.bytes_that_are_broken(runs).await;
    scene.a_record_that_the_tables_refuse().await;
    scene.a_record_in_another_partition(runs).await;
    scene.installation.assert_unharmed();
}

impl Scene {
    /// Broken bytes among `runs` runs: the others are complete on time; after a skip the one is too.
    async fn bytes_that_are_broken(&mut self, runs: usize) {
        let sick = format!("run-{}", runs / 2);
        let names: Vec<String> = (0..runs).map(|number| format!("run-{number}")).collect();
        self.report(&names, facts::run_started).await;
        let poison = self.append_broken(&sick).await;
        for word in ["first", "second", "third"] {
            self.report(&names, |rng, run| progressed(rng, run, word))
                .await;
        }
        // A projector that dies takes nothing along.
        self.installation.take(Kind::Projector, 0).kill().await;
        self.installation.run(Kind::Projector, 0);
        let token = self.report(&names, ended).await;
        self.others_are_complete(runs).await;

        // The one stands still where it was poisoned, and whoever wrote to it is told.
        let run = self.read(&sick, "").await.expect("the run");
        assert_eq!(run.status, i32::from(RunStatus::Running));
        assert_eq!(run.note, "");
        let refused = self.read(&sick, &token).await.expect_err("it is parked");
        assert_parked(&refused, &sick);
        self.elsewhere_nobody_notices(&token).await;

        let at = format!("{}/{}", poison.partition, poison.offset);
        let listed = self.says(&["list", "--json"]).await;
        assert_eq!(listed.lines().count(), 1, "{listed}");
        assert!(
            listed.contains(&format!("\"position\":\"{at}\"")),
            "{listed}"
        );
        assert!(listed.contains("\"records\":5"), "{listed}");
        let shown = self.says(&["show", &format!("run/{sick}")]).await;
        assert!(
            shown.contains("RunProgressed") && shown.contains("RunEnded"),
            "{shown}"
        );
        let (redriven, said) = self
            .dead_letters(&["redrive", &format!("run/{sick}")])
            .await;
        assert!(!redriven && said.contains("still parked"), "{said}");

        let token = self.skip(&at).await;
        let run = self.read_patiently(&sick, &token).await;
        assert_eq!(run.status, i32::from(RunStatus::Completed));
        assert_eq!(run.note, "third", "the order of the log");
        assert_eq!(self.says(&["list", "--json"]).await, "");
    }

    /// A table that refuses one value, until it is mended: a trial, then the records, in order.
    async fn a_record_that_the_tables_refuse(&mut self) {
        let admin = self.installation.database.admin();
        sqlx::query(
            "ALTER TABLE runs.usage_totals ADD CONSTRAINT no_poison CHECK (meter <> 'poison') NOT VALID",
        )
        .execute(&admin)
        .await
        .expect("a constraint");
        let names = ["refused".to_owned(), "welcome".to_owned()];
        self.report(&names, facts::run_started).await;
        let one = &names[..1];
        self.report(one, |rng, run| progressed(rng, run, "before"))
            .await;
        self.report(one, used).await;
        self.report(one, |rng, run| progressed(rng, run, "after"))
            .await;
        let token = self
            .report(one, |rng, run| progressed(rng, run, "last"))
            .await;
        let welcome = self
            .report(&names[1..], |rng, run| progressed(rng, run, "all is well"))
            .await;
        let refused = eventually(ON_TIME, async || {
            let answer = self.read("refused", &token).await;
            let refused = answer.err().ok_or("it is not parked")?;
            match refused.code() {
                Code::Unavailable => Err("it is behind"),
                _ => Ok(refused),
            }
        });
        assert_parked(&refused.await, "refused");
        let run = eventually(ON_TIME, async || {
            let run = self.read("welcome", "").await.map_err(|_| "unknown")?;
            (run.note == "all is well").then_some(run).ok_or("not yet")
        });
        assert_eq!(run.await.status, i32::from(RunStatus::Running), "{welcome}");
        assert_eq!(
            self.read("refused", "").await.expect("a run").note,
            "before"
        );

        sqlx::query("ALTER TABLE runs.usage_totals DROP CONSTRAINT no_poison")
            .execute(&admin)
            .await
            .expect("mended");
        let said = self
            .says(&["redrive", "run/refused", "--dry-run", "--json"])
            .await;
        assert!(said.contains("\"applied\":3"), "{said}");
        assert_eq!(
            self.read("refused", "").await.expect("a run").note,
            "before"
        );
        let said = self.says(&["redrive", "--all", "--mode", "live"]).await;
        assert!(said.contains("3 of 3 records applied"), "{said}");
        let run = self.read_patiently("refused", &token).await;
        assert_eq!(run.note, "last", "the order of the log");
        assert_eq!(run.usage[0].quantity, 7);
        admin.close().await;
    }

    /// A record copied into a partition that is not its stream's: nobody takes it in, nobody is kept
    /// from reading, and it is shown as what it is.
    async fn a_record_in_another_partition(&mut self, runs: usize) {
        self.copy_elsewhere().await;
        let names: Vec<String> = (0..runs).map(|number| format!("after-{number}")).collect();
        let token = self.report(&names, facts::run_started).await;
        for run in &names[..10] {
            self.read_patiently(run, &token).await;
        }
        let listed = self.says(&["list", "--json"]).await;
        assert_eq!(listed.lines().count(), 1, "{listed}");
        assert!(listed.contains("the key belongs to partition"), "{listed}");
        assert!(listed.contains("\"records\":1"), "{listed}");
        let (redriven, said) = self.dead_letters(&["redrive", "--all"]).await;
        assert!(!redriven && said.contains("still parked"), "{said}");
    }

    /// Appends the first record of one partition to the next, as a writer that chooses partitions in
    /// another way would.
    async fn copy_elsewhere(&self) {
        let (brokers, prefix) = self.installation.kafka();
        let topic = format!("{prefix}.run.v1");
        let mut client = ClientConfig::new();
        client
            .set("bootstrap.servers", brokers)
            .set("group.id", "story");
        let consumer: StreamConsumer = client.create().expect("a consumer");
        let mut first = TopicPartitionList::new();
        first
            .add_partition_offset(&topic, 0, Offset::Offset(1))
            .expect("a place");
        consumer.assign(&first).expect("an assignment");
        let record = timeout(ON_TIME, consumer.recv()).await;
        let record = record.expect("in time").expect("a record").detach();
        let producer: FutureProducer = client.create().expect("a producer");
        let copy = FutureRecord::to(&topic)
            .partition(1)
            .key(record.key().expect("a key"))
            .payload(record.payload().expect("a value"))
            .headers(record.headers().expect("headers").clone());
        producer.send(copy, ON_TIME).await.expect("an append");
    }

    /// One fact of each run, in batches; the token of the last.
    async fn report(
        &mut self,
        runs: &[String],
        fact: impl Fn(&mut StdRng, &str) -> RunFact,
    ) -> String {
        let mut token = String::new();
        for runs in runs.chunks(BATCH) {
            let facts = runs.iter().map(|run| fact(&mut self.rng, run)).collect();
            let request = RunIngestServiceAppendRequest { facts };
            let send = async || self.clients.runs_in.clone().append(request.clone()).await;
            token = patiently(send).await.token;
        }
        token
    }

    /// A record that only a broken writer would append: ingest would not.
    async fn append_broken(&self, run: &str) -> Position {
        let (brokers, prefix) = self.installation.kafka();
        let log: Arc<dyn Log> = Kafka::connect(&Config {
            brokers: brokers.to_owned(),
            prefix: prefix.to_owned(),
            ..Config::default()
        })
        .expect("Kafka");
        let payload = b"\xff\xff\xff".to_vec();
        let now = SystemClock.now();
        let record = Record {
            id: RecordId::new(uuid::Uuid::from_u128(rand::random())),
            scope: Scope {
                tenant: TenantId::new(self.tenant.id.parse().expect("a uuid")),
                mode: Mode::Live,
            },
            stream: Stream::run(&RunId::parse(run.to_owned()).expect("an id")),
            kind: RecordKind::Fact,
            type_name: types::RUN_PROGRESSED.into(),
            occurred_at: now,
            recorded_at: now,
            author: Actor {
                principal: PrincipalId::new(uuid::Uuid::nil()),
                kind: PrincipalKind::Service,
                role: Role::Agent,
            }
            .into(),
            cause: None,
            request_digest: Record::digest_request(types::RUN_PROGRESSED, now, None, &payload),
            key: None,
            payload,
            terms: None,
        };
        let entry = Entry {
            record,
            prev: None,
            trace: None,
        };
        let outcomes = log.append(vec![entry], Instant::now() + ON_TIME).await;
        match outcomes.expect("an answer").first() {
            Some(Outcome::Accepted(position)) => *position,
            other => panic!("{other:?}"),
        }
    }

    async fn others_are_complete(&self, runs: usize) {
        let database = self.installation.database.admin();
        eventually(ON_TIME, async || {
            let complete: i64 = sqlx::query_scalar(
                "SELECT count(*) FROM runs.runs WHERE status = 'completed' AND note = 'third'",
            )
            .fetch_one(&database)
            .await
            .expect("a count");
            if usize::try_from(complete) == Ok(runs - 1) {
                Ok(())
            } else {
                Err(format!("{complete} of {} runs", runs - 1))
            }
        })
        .await;
        database.close().await;
    }

    /// The same token in another tenant's hands: nothing of his is parked.
    async fn elsewhere_nobody_notices(&self, token: &str) {
        let other = Tenant::create(&self.installation, "other").await;
        let clients = self.installation.clients(other.key(Role::Viewer));
        let request = runledger_proto::run::v1::ListRunsRequest {
            read: at_least(token),
            ..Default::default()
        };
        let page = clients.runs.clone().list_runs(request).await;
        assert!(page.expect("a page").into_inner().runs.is_empty());
    }

    /// As an admin of the tenant, from the terminal; the token of the fact.
    async fn skip(&mut self, at: &str) -> String {
        let (key, url) = (
            self.tenant.key(Role::Admin).to_owned(),
            self.installation.url(Kind::Ingest, 0),
        );
        let projection = self.installation.projection();
        let arguments = [
            "skip",
            at,
            "--reason",
            "cut short",
            "--projection",
            &projection,
            "--json",
            "--key",
            &key,
            "--ingest-url",
            &url,
        ];
        let said = self.says(&arguments).await;
        let token = said.split("\"token\":\"").nth(1);
        let token = token.and_then(|rest| rest.split('"').next());
        token.expect("a token").to_owned()
    }

    async fn says(&mut self, arguments: &[&str]) -> String {
        let (succeeded, said) = self.dead_letters(arguments).await;
        assert!(succeeded, "{arguments:?}: {said}");
        said
    }

    async fn dead_letters(&mut self, arguments: &[&str]) -> (bool, String) {
        self.commands += 1;
        let arguments = [&["dead-letters"], arguments].concat();
        self.installation.command(self.commands, &arguments).await
    }

    async fn read(&self, run: &str, token: &str) -> Result<Run, Status> {
        let request = GetRunRequest {
            run_id: run.to_owned(),
            read: at_least(token),
        };
        let answer = self.clients.runs.clone().get_run(request).await?;
        Ok(answer.into_inner().run.expect("a run"))
    }

    /// A read with a token, again while the read model is behind.
    async fn read_patiently(&self, run: &str, token: &str) -> Run {
        let request = GetRunRequest {
            run_id: run.to_owned(),
            read: at_least(token),
        };
        let read = async || self.clients.runs.clone().get_run(request.clone()).await;
        patiently(read).await.run.expect("a run")
    }
}

fn at_least(token: &str) -> Option<ReadOptions> {
    (!token.is_empty()).then(|| ReadOptions {
        at_least: vec![token.to_owned()],
        max_wait: Some(prost_types::Duration {
            seconds: 10,
            nanos: 0,
        }),
    })
}

fn progressed(rng: &mut StdRng, run: &str, note: &str) -> RunFact {
    let progressed = RunProgressed {
        run_id: run.to_owned(),
        phase: RunPhase::Running.into(),
        note: note.to_owned(),
    };
    facts::run_fact(rng, Fact::RunProgressed(progressed))
}

fn used(rng: &mut StdRng, run: &str) -> RunFact {
    let used = UsageRecorded {
        run_id: run.to_owned(),
        meter: "poison".to_owned(),
        quantity: 7,
        ..UsageRecorded::default()
    };
    facts::run_fact(rng, Fact::UsageRecorded(used))
}

fn ended(rng: &mut StdRng, run: &str) -> RunFact {
    let ended = RunEnded {
        run_id: run.to_owned(),
        outcome: RunOutcome::Completed.into(),
        ..RunEnded::default()
    };
    facts::run_fact(rng, Fact::RunEnded(ended))
}

/// A retry does not help, and it says which stream.
fn assert_parked(refused: &Status, run: &str) {
    assert_eq!(
        (refused.code(), reason(refused).as_deref()),
        (Code::FailedPrecondition, Some("READ_MODEL_PARKED")),
        "{refused:?}"
    );
    assert!(
        refused.message().contains(&format!("run/{run}")),
        "{refused:?}"
    );
}
