//! A log that is not the one that was read, or not whole: the projector stops, `verify` and `rebuild`
//! refuse, and each says where and what to do. Nothing is skipped.

use std::time::Duration;

use rand::rngs::StdRng;
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use runledger_domain::scope::Role;
use runledger_testkit::eventually;
use runledger_tests::{Installation, Kind, Ledger, RunPlan, Tenant, seed};
use sqlx::PgPool;

const SOON: Duration = Duration::from_secs(30);
const PROJECTOR: &[&str] = &["runs", "projector"];
const VERIFY: &[&str] = &["verify", "runs"];
const REBUILD: &[&str] = &["rebuild", "runs"];

struct Scene {
    installation: Installation,
    admin: PgPool,
    kafka: AdminClient<DefaultClientContext>,
    commands: u32,
    /// How much the projectors have said before.
    heard: usize,
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_is_another_or_not_whole_stops_everybody_with_what_to_do() {
    let mut rng = seed("bad log");
    let mut installation = Installation::start("bad-log").await;
    let tenant = Tenant::create(&installation, "story").await;
    let kafka = ClientConfig::new()
        .set("bootstrap.servers", installation.kafka().0)
        .create()
        .expect("an admin of Kafka");
    report(&installation, &tenant, &mut rng).await;
    installation.take(Kind::Projector, 0).stop().await;
    let said = std::fs::read(installation.folder.path().join("projector-0.log"));
    let mut scene = Scene {
        admin: installation.database.admin(),
        installation,
        kafka,
        commands: 0,
        heard: said.expect("its log").len(),
    };
    scene.a_cursor_ahead_of_the_log().await;
    scene.another_record_where_one_was_applied().await;
    scene.a_verify_while_the_projector_is_away().await;
    scene.a_log_cut_short().await;
    scene.a_topic_made_anew().await;
    scene.a_partition_without_its_genesis().await;
}

/// A few runs, seen in the read model.
async fn report(installation: &Installation, tenant: &Tenant, rng: &mut StdRng) {
    let clients = installation.clients(tenant.key(Role::Agent));
    let mut ledger = Ledger::default();
    for _ in 0..20 {
        RunPlan::random(rng)
            .report(&clients, rng, &mut ledger)
            .await;
    }
    let admin = installation.database.admin();
    eventually(SOON, async || {
        let there: i64 = sqlx::query_scalar("SELECT count(*) FROM runs.records")
            .fetch_one(&admin)
            .await
            .expect("a count");
        (usize::try_from(there) == Ok(ledger.acknowledged.len()))
            .then_some(())
            .ok_or_else(|| format!("{there} records"))
    })
    .await;
    admin.close().await;
}

impl Scene {
    async fn a_cursor_ahead_of_the_log(&mut self) {
        let next = self.next_offset().await;
        self.execute("UPDATE runs.cursors SET next_offset = next_offset + 1000 WHERE family = 'run' AND partition = 0")
            .await;
        let ahead = next + 1000;
        let at = format!("offset {}", ahead - 1);
        self.refuses(
            PROJECTOR,
            &[&at, "partition 0", &self.topic(), "do not reset the cursor"],
        )
        .await;
        let at = format!("offset {ahead}");
        let end = format!("the log ends before offset {next}");
        self.refuses(VERIFY, &["run/0", &at, &end, "find out which"])
            .await;
        let end = format!("the log ends before {next}");
        self.refuses(REBUILD, &["run/0", &at, &end, "find out which"])
            .await;
        self.execute("UPDATE runs.cursors SET next_offset = next_offset - 1000 WHERE family = 'run' AND partition = 0;
                      DELETE FROM runs.checkpoints c USING runs.cursors r
                       WHERE (c.family, c.partition) = (r.family, r.partition) AND c.next_offset > r.next_offset")
            .await;
    }

    /// The database belongs to another log: its last record there was another one.
    async fn another_record_where_one_was_applied(&mut self) {
        let next = self.next_offset().await;
        self.execute("CREATE TABLE aside AS SELECT last_digest, rolling_hash FROM runs.cursors WHERE family = 'run' AND partition = 0;
                      UPDATE runs.cursors SET last_digest = sha256(last_digest), rolling_hash = sha256(rolling_hash)
                       WHERE family = 'run' AND partition = 0")
            .await;
        let at = format!("offset {}", next - 1);
        self.refuses(PROJECTOR, &["LOG_DIVERGED", "run/0", &at, "find out which"])
            .await;
        let at = format!("next offset {next}");
        self.refuses(
            VERIFY,
            &["run/0", &at, "the cursor has another rolling hash"],
        )
        .await;
        self.refuses(REBUILD, &["LOG_DIVERGED", "run/0", "runledger verify"])
            .await;
        self.execute("UPDATE runs.cursors SET last_digest = aside.last_digest, rolling_hash = aside.rolling_hash
                        FROM aside WHERE family = 'run' AND partition = 0")
            .await;
    }

    /// What the projector has yet to read is nobody's difference.
    async fn a_verify_while_the_projector_is_away(&mut self) {
        let (succeeded, said) = self.ends(&["rebuild", "runs", "--fresh"]).await;
        assert!(succeeded, "{said}");
        let (succeeded, said) = self.ends(&["rebuild", "runs", "--finish"]).await;
        assert!(succeeded, "{said}");
        let tenant = Tenant::create(&self.installation, "late").await;
        let clients = self.installation.clients(tenant.key(Role::Agent));
        let mut rng = seed("bad log, late");
        RunPlan::random(&mut rng)
            .report(&clients, &mut rng, &mut Ledger::default())
            .await;
        let (succeeded, said) = self.ends(VERIFY).await;
        assert!(
            succeeded && said.contains("All is as the log says"),
            "{said}"
        );
    }

    /// By a retention that somebody set: the first records are gone, Genesis among them.
    async fn a_log_cut_short(&mut self) {
        let mut cut = TopicPartitionList::new();
        let topic = self.topic();
        cut.add_partition_offset(&topic, 0, Offset::Offset(2))
            .expect("an offset");
        let done = self.kafka.delete_records(&cut, &AdminOptions::new()).await;
        done.expect("a log cut short");
        for command in [PROJECTOR, VERIFY, REBUILD] {
            self.refuses(
                command,
                &[&topic, "partition 0", "offset 0 is gone", "restore it"],
            )
            .await;
        }
    }

    async fn a_topic_made_anew(&mut self) {
        let topic = self.topic();
        let options = AdminOptions::new();
        let deleted = self.kafka.delete_topics(&[&topic], &options).await;
        deleted.expect("an answer");
        let migrated = async || {
            let made = self.installation.migrate().await;
            made.0.then_some(()).ok_or(made.1)
        };
        eventually(SOON, migrated).await;
        let next = self.next_offset().await;
        let at = format!("offset {}", next - 1);
        self.refuses(
            PROJECTOR,
            &[&at, "partition", &topic, "trimmed or replaced"],
        )
        .await;
        self.refuses(
            VERIFY,
            &["run/", "the log ends before offset 1", "replaced"],
        )
        .await;
        self.refuses(
            REBUILD,
            &["LOG_DIVERGED", "run/", "the log ends before 1", "replaced"],
        )
        .await;
    }

    async fn a_partition_without_its_genesis(&mut self) {
        let topic = self.topic();
        let options = AdminOptions::new();
        let deleted = self.kafka.delete_topics(&[&topic], &options).await;
        deleted.expect("an answer");
        let made = async || {
            let new = rdkafka::admin::NewTopic::new(
                &topic,
                4,
                rdkafka::admin::TopicReplication::Fixed(1),
            );
            let made = self.kafka.create_topics([&new], &options).await;
            let made = made.map_err(|error| error.to_string())?;
            made.into_iter()
                .collect::<Result<Vec<_>, _>>()
                .map_err(|(_, code)| code.to_string())
        };
        eventually(SOON, made).await;
        for command in [VERIFY, REBUILD] {
            self.refuses(
                command,
                &[&topic, "partition ", "is empty", "runledger migrate"],
            )
            .await;
        }
    }

    /// It fails within reasonable time, and says all of this.
    async fn refuses(&mut self, command: &[&str], words: &[&str]) {
        let (succeeded, said) = self.ends(command).await;
        assert!(!succeeded, "{command:?} went on: {said}");
        for word in words {
            assert!(
                said.contains(word),
                "{command:?} does not say {word:?}:\n{said}"
            );
        }
    }

    async fn ends(&mut self, command: &[&str]) -> (bool, String) {
        let process = if command == PROJECTOR {
            self.installation.run(Kind::Projector, 0);
            self.installation.take(Kind::Projector, 0)
        } else {
            self.commands += 1;
            self.installation.begin(self.commands, command)
        };
        let ended = tokio::time::timeout(SOON, process.end()).await;
        let (succeeded, said) = ended.unwrap_or_else(|_| panic!("{command:?} does not end"));
        if command != PROJECTOR {
            return (succeeded, said);
        }
        // Its log goes on where the last one ended.
        let news = said[self.heard..].to_owned();
        self.heard = said.len();
        (succeeded, news)
    }

    async fn next_offset(&self) -> i64 {
        sqlx::query_scalar(
            "SELECT next_offset FROM runs.active_generation JOIN runs.cursors USING (generation)
              WHERE family = 'run' AND partition = 0",
        )
        .fetch_one(&self.admin)
        .await
        .expect("a cursor")
    }

    fn topic(&self) -> String {
        format!("{}.run.v1", self.installation.prefix())
    }

    async fn execute(&self, sql: &'static str) {
        sqlx::raw_sql(sql)
            .execute(&self.admin)
            .await
            .expect("a deed");
    }
}
