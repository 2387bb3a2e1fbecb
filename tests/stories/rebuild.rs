//! P4 and P3 while a read model is built anew: killed at any point, switched, taken back.

mod gates;
mod witness;

use std::time::{Duration, Instant};

use futures::future::join_all;
use rand::rngs::StdRng;
use runledger_domain::scope::Role;
use runledger_proto::message::v1::MessageIngestServiceAppendRequest;
use runledger_proto::schedule::v1::ScheduleIngestServiceAppendRequest;
use runledger_testkit::eventually;
use runledger_tests::{
    Component, Installation, Kind, Ledger, OwnStack, Process, RunPlan, Tenant, facts, patiently,
    seed,
};

use gates::{Gate, Gates, Shut};
use witness::Witness;

const RUNS: usize = 20;
const WITNESSES: usize = 4;
/// How long a projector takes to end while Postgres lets it wait; the server gives up after five seconds.
const ENDS_WITHIN: Duration = Duration::from_secs(3);
const SOON: Duration = Duration::from_secs(30);
const REBUILD: &[&str] = &["rebuild", "runs"];
/// A task for every partition, so that one that is held does not hold the others.
const REBUILD_APART: &[&str] = &["rebuild", "runs", "--workers", "12"];

/// kill -9 in each phase of a rebuild: what is served is as it was, readers notice nothing, nothing
/// stays behind in Postgres, and the next rebuild goes on, to be killed a phase later.
#[tokio::test(flavor = "multi_thread")]
async fn a_rebuild_that_is_killed_leaves_nothing_behind_and_the_next_goes_on() {
    let mut rng = seed("killed rebuild");
    let installation = Installation::start("killed-rebuild").await;
    let tenant = Tenant::create(&installation, "story").await;
    let witness = Witness::new(&installation, &tenant, &[Role::Viewer], &mut rng);
    let mut scene = Scene::open(installation, &tenant, rng).await;
    let keeper = async {
        scene.killed_while_it_builds(&witness).await;
        scene.killed_at(Gate::Indexes, &witness).await;
        scene.killed_at(Gate::Logged, &witness).await;
        scene.killed_while_it_compares(&witness).await;
        scene.killed_at(Gate::Switch, &witness).await;
        scene.what_was_never_served_is_no_way_back().await;
        scene.killed_after_the_switch(&witness).await;
        scene.a_verify_that_is_killed().await;
        witness.stop()
    };
    let (seen, ()) = tokio::join!(keeper, witness.testify());
    eprintln!("{seen} runs written and read");
    scene.installation.assert_unharmed();
}

/// Postgres crashes while a generation is built: its unlogged tables are empty then, and so are its
/// cursors, so that nothing is taken for built that is gone.
#[tokio::test(flavor = "multi_thread")]
async fn a_crash_of_postgres_in_mid_build_costs_nothing_but_time() {
    let rng = seed("crashed rebuild");
    let stack = OwnStack::start("crashed-rebuild").await;
    let installation =
        Installation::start_on(stack.addresses(), "crashed-rebuild", Vec::new()).await;
    let tenant = Tenant::create(&installation, "story").await;
    let mut scene = Scene::open(installation, &tenant, rng).await;
    let shut = scene.gates.shut(Gate::Messages(2)).await;
    let rebuild = scene.begin(REBUILD_APART);
    scene.gates.somebody_waits_at(&shut).await;
    scene.all_runs_are_built(2).await;
    stack.stop(Component::Postgres, "QUIT").await;
    drop(shut);
    stack.up().await;
    // Its lock is gone too, and another may have begun: it must not go on.
    let (succeeded, said) = rebuild.end().await;
    assert!(!succeeded && said.contains("run it again"), "{said}");
    let served: i32 = scene
        .number("SELECT generation FROM runs.active_generation")
        .await;
    assert_eq!(served, 1);
    let built: i64 = scene.number("SELECT count(*) FROM runs_2.records").await;
    assert_eq!(built, 0, "the crash has emptied what was built");
    scene.rebuilds_to_the_end(2).await;
    scene.tidies_up_and_verifies().await;
    drop(scene);
    drop(stack);
}

/// P3 through every switch: each write is read at once with its token, at two apis, while the read
/// model is built, switched, taken back, built on and tidied up.
#[tokio::test(flavor = "multi_thread")]
async fn tokens_keep_their_meaning_through_every_switch() {
    let mut rng = seed("tokens and switches");
    let mut installation = Installation::start("switches").await;
    installation.run(Kind::Api, 1);
    installation.serves(Kind::Api, 1).await;
    let tenant = Tenant::create(&installation, "story").await;
    let roles = [Role::Agent, Role::Viewer];
    let witnesses: Vec<Witness> = (0..WITNESSES)
        .map(|_| Witness::new(&installation, &tenant, &roles, &mut rng))
        .collect();
    let mut scene = Scene::open(installation, &tenant, rng).await;
    let see_more = || join_all(witnesses.iter().map(Witness::sees_more));
    let keeper = async {
        for (arguments, served) in [
            (REBUILD, 2),
            (&["rebuild", "runs", "--rollback"], 1),
            (REBUILD, 2),
            (&["rebuild", "runs", "--finish"], 2),
        ] {
            see_more().await;
            let (succeeded, said) = scene.command(arguments).await;
            assert!(succeeded, "{said}");
            assert_eq!(scene.served().await, served);
        }
        see_more().await;
        witnesses.iter().map(Witness::stop).sum::<u64>()
    };
    let testimonies = join_all(witnesses.iter().map(Witness::testify));
    let (seen, _) = tokio::join!(keeper, testimonies);
    assert!(seen > 0);
    scene.tidies_up_and_verifies().await;
    scene.installation.assert_unharmed();
}

/// A projector that slept while others switched writes what is served as soon as it wakes, whatever
/// became of the generation that it wrote.
#[tokio::test(flavor = "multi_thread")]
async fn a_projector_that_slept_through_switches_writes_what_is_served() {
    let mut rng = seed("slept through switches");
    let installation = Installation::start("slept").await;
    let tenant = Tenant::create(&installation, "story").await;
    let witness = Witness::new(&installation, &tenant, &[Role::Viewer], &mut rng);
    let mut scene = Scene::open(installation, &tenant, rng).await;
    // What it writes in the last moment before it sleeps is served after the switch, by nobody's help.
    let shut = scene.gates.shut(Gate::Freeze).await;
    let rebuild = scene.begin(REBUILD);
    scene.gates.somebody_waits_at(&shut).await;
    witness.write_and_read().await;
    scene.installation.signal(Kind::Projector, 0, "STOP").await;
    scene.gates.open(shut).await;
    let said = rebuild.output().await;
    assert!(said.contains("Generation 2 is served now"), "{said}");
    witness.still_sees().await;
    scene.installation.signal(Kind::Projector, 0, "CONT").await;
    witness.write_and_read().await;

    // Its generation is kept, and may move again: somebody has begun to go back to it.
    scene.installation.signal(Kind::Projector, 0, "STOP").await;
    let (succeeded, said) = scene.command(&["rebuild", "runs", "--rollback"]).await;
    assert!(succeeded, "{said}");
    witness.still_sees().await;
    let shut = scene.gates.shut(Gate::Switch).await;
    let rebuild = scene.begin(REBUILD);
    scene.gates.somebody_waits_at(&shut).await;
    scene.kill(rebuild, shut).await;
    scene.installation.signal(Kind::Projector, 0, "CONT").await;
    witness.write_and_read().await;

    // Its generation is gone.
    scene.installation.signal(Kind::Projector, 0, "STOP").await;
    scene.rebuilds_to_the_end(2).await;
    let (succeeded, said) = scene.command(&["rebuild", "runs", "--finish"]).await;
    assert!(succeeded, "{said}");
    scene.installation.signal(Kind::Projector, 0, "CONT").await;
    witness.write_and_read().await;
    scene.tidies_up_and_verifies().await;
    scene.installation.assert_unharmed();

    // A database that does not say which generation is served does not keep it from ending.
    let taken = scene.gates.take("runs.active_generation".to_owned()).await;
    scene.gates.waits_for_table("SELECT generation <> ").await;
    let asked = Instant::now();
    scene.installation.take(Kind::Projector, 0).stop().await;
    let took = asked.elapsed();
    assert!(took < ENDS_WITHIN, "it took {took:?} to end");
    taken.rollback().await.expect("an end");
}

/// An installation with something in it.
struct Scene {
    installation: Installation,
    gates: Gates,
    commands: u32,
}

impl Scene {
    async fn open(installation: Installation, tenant: &Tenant, mut rng: StdRng) -> Self {
        let clients = installation.clients(tenant.key(Role::Agent));
        let mut ledger = Ledger::default();
        for number in 0..RUNS {
            let plan = RunPlan::random(&mut rng);
            plan.report(&clients, &mut rng, &mut ledger).await;
            let conversation = format!("talk-{number}");
            let message = facts::message(&mut rng, &plan.run_id, &conversation, "m1", "hello");
            let request = MessageIngestServiceAppendRequest {
                facts: vec![message],
            };
            patiently(async || clients.messages_in.clone().append(request.clone()).await).await;
            let occurrence = facts::occurrence(&mut rng, &plan.run_id, "daily", "done");
            let request = ScheduleIngestServiceAppendRequest {
                facts: vec![occurrence],
            };
            patiently(async || clients.schedules_in.clone().append(request.clone()).await).await;
        }
        let gates = Gates::build(installation.database.admin()).await;
        let scene = Self {
            installation,
            gates,
            commands: 0,
        };
        let records = i64::try_from(ledger.acknowledged.len() + 2 * RUNS).expect("a small count");
        eventually(SOON, async || {
            let there: i64 = scene.number("SELECT count(*) FROM runs.records").await;
            (there == records)
                .then_some(())
                .ok_or_else(|| format!("{there} of {records} records"))
        })
        .await;
        scene
    }

    /// The runs and schedules are built, the messages are not: killed in between.
    async fn killed_while_it_builds(&mut self, witness: &Witness) {
        let next = self.next().await;
        let shut = self.gates.shut(Gate::Messages(next)).await;
        let rebuild = self.begin(REBUILD_APART);
        self.gates.somebody_waits_at(&shut).await;
        self.all_runs_are_built(next).await;
        self.kill(rebuild, shut).await;
        self.nothing_has_changed(next, witness).await;
    }

    async fn killed_at(&mut self, gate: Gate, witness: &Witness) {
        let next = self.next().await;
        let shut = self.gates.shut(gate).await;
        let rebuild = self.begin(REBUILD);
        self.gates.somebody_waits_at(&shut).await;
        self.kill(rebuild, shut).await;
        self.nothing_has_changed(next, witness).await;
    }

    /// One table, which is not written any more, is taken from it before it comes to comparing.
    async fn killed_while_it_compares(&mut self, witness: &Witness) {
        let next = self.next().await;
        let shut = self.gates.shut(Gate::Logged).await;
        let rebuild = self.begin(REBUILD);
        self.gates.somebody_waits_at(&shut).await;
        let opening = async {
            self.gates.waits_for_table("LOCK TABLE").await;
            self.gates.open(shut).await;
        };
        let (taken, ()) = tokio::join!(self.gates.take(format!("runs_{next}.messages")), opening);
        self.gates
            .waits_for_table("SELECT (hash_record_extended")
            .await;
        rebuild.kill().await;
        self.gates.nothing_is_left_running().await;
        taken.rollback().await.expect("an end");
        self.nothing_has_changed(next, witness).await;
    }

    /// The new generation is whole, but nobody has compared it with what came since.
    async fn what_was_never_served_is_no_way_back(&mut self) {
        let (succeeded, said) = self.command(&["rebuild", "runs", "--rollback"]).await;
        let none = "there is no generation to go back to";
        assert!(!succeeded && said.contains(none), "{said}");
    }

    /// The switch is made, but whoever made it never heard so.
    async fn killed_after_the_switch(&mut self, witness: &Witness) {
        let (before, next) = (self.served().await, self.next().await);
        let shut = self.gates.shut(Gate::Commit).await;
        let rebuild = self.begin(REBUILD);
        self.gates.somebody_waits_at(&shut).await;
        rebuild.signal("STOP").await;
        self.gates.open(shut).await;
        eventually(SOON, async || {
            let served = self.served().await;
            (served == next).then_some(()).ok_or("not committed yet")
        })
        .await;
        rebuild.kill().await;
        self.gates.nothing_is_left_running().await;
        witness.sees_more().await;
        // What was served is kept, and the next rebuild says so.
        let (succeeded, said) = self.command(REBUILD).await;
        let kept = format!("generation {before} is kept as the way back");
        assert!(!succeeded && said.contains(&kept), "{said}");
        let (succeeded, said) = self.command(&["rebuild", "runs", "--rollback"]).await;
        let back = format!("Generation {before} is served now");
        assert!(succeeded && said.contains(&back), "{said}");
        witness.sees_more().await;
        self.rebuilds_to_the_end(next).await;
        self.tidies_up_and_verifies().await;
    }

    /// What a verify builds and never drops is dropped by the next that comes, never built on.
    async fn a_verify_that_is_killed(&mut self) {
        let next = self.next().await;
        let shut = self.gates.shut(Gate::Messages(next)).await;
        let verify = self.begin(&["verify", "runs"]);
        self.gates.somebody_waits_at(&shut).await;
        self.kill(verify, shut).await;
        let left: i64 = self.number("SELECT count(*) FROM runs.generations").await;
        assert_eq!(left, 2);
        self.rebuilds_to_the_end(next).await;
        let sql = format!(
            "SELECT count(*) FROM pg_tables WHERE schemaname = 'runs_{next}' AND tablename = 'skipped'"
        );
        let built_on: i64 = self.number(&sql).await;
        assert_eq!(built_on, 0, "a rebuild has built on what a verify began");
        self.tidies_up_and_verifies().await;
    }

    async fn kill(&self, process: Process, shut: Shut) {
        process.kill().await;
        self.gates.nothing_is_left_running().await;
        self.gates.open(shut).await;
    }

    /// After a kill before the switch: what is served is, and what was begun is built on.
    async fn nothing_has_changed(&self, next: i32, witness: &Witness) {
        assert_eq!(self.served().await, next - 1);
        let frozen: i64 = self
            .number("SELECT count(*) FROM runs.active_generation JOIN runs.cursors USING (generation) WHERE frozen")
            .await;
        assert_eq!(frozen, 0, "cursors that are served are frozen");
        witness.sees_more().await;
    }

    async fn rebuilds_to_the_end(&mut self, next: i32) {
        let (succeeded, said) = self.command(REBUILD).await;
        let served = format!("Generation {next} is served now");
        assert!(succeeded && said.contains(&served), "{said}");
    }

    /// Drops what is not served, finds nothing of it left, and everything as the log says.
    async fn tidies_up_and_verifies(&mut self) {
        let (succeeded, said) = self.command(&["rebuild", "runs", "--finish"]).await;
        assert!(succeeded, "{said}");
        self.nothing_is_left().await;
        let (succeeded, said) = self.command(&["verify", "runs"]).await;
        assert!(
            succeeded && said.contains("All is as the log says"),
            "{said}"
        );
        self.nothing_is_left().await;
    }

    /// No schema, row or lock of a generation that is not served. The relay of the directory keeps a
    /// lock of its own.
    async fn nothing_is_left(&self) {
        self.gates.nothing_is_left_running().await;
        let left: Vec<String> = sqlx::query_scalar(
            r"WITH served AS (SELECT generation, schema_name FROM runs.active_generation JOIN runs.generations USING (generation))
              SELECT 'schema ' || nspname FROM pg_namespace, served WHERE nspname ~ '^runs_\d+$' AND nspname <> schema_name
              UNION ALL SELECT 'generation ' || g.generation FROM runs.generations g, served WHERE g.generation <> served.generation
              UNION ALL SELECT 'cursor ' || c.generation FROM runs.cursors c, served WHERE c.generation <> served.generation
              UNION ALL SELECT 'checkpoint ' || c.generation FROM runs.checkpoints c, served WHERE c.generation <> served.generation
              UNION ALL SELECT 'parked ' || p.generation FROM runs.parked p, served WHERE p.generation <> served.generation
              UNION ALL SELECT 'lock of ' || pid FROM pg_locks JOIN pg_stat_activity USING (pid)
                         WHERE locktype = 'advisory' AND datname = current_database() AND usename <> 'runledger_directory'",
        )
        .fetch_all(&self.gates.admin)
        .await
        .expect("what is there");
        assert_eq!(left, Vec::<String>::new());
    }

    /// Waits until the runs are built in this generation, all partitions.
    async fn all_runs_are_built(&self, generation: i32) {
        let sql = format!(
            "SELECT count(*) FROM runs_{generation}.cursors built JOIN runs.cursors served USING (family, partition)
              WHERE served.generation < {generation} AND family = 'run' AND built.next_offset > 1"
        );
        eventually(SOON, async || {
            let built: i64 = self.number(&sql).await;
            (built == 4)
                .then_some(())
                .ok_or_else(|| format!("{built} of 4"))
        })
        .await;
    }

    async fn served(&self) -> i32 {
        self.number("SELECT generation FROM runs.active_generation")
            .await
    }

    /// The number of the generation that is built or to be built.
    async fn next(&self) -> i32 {
        self.served().await + 1
    }

    async fn number<T>(&self, sql: &str) -> T
    where
        T: for<'r> sqlx::Decode<'r, sqlx::Postgres> + sqlx::Type<sqlx::Postgres> + Send + Unpin,
    {
        sqlx::query_scalar(sqlx::AssertSqlSafe(sql.to_owned()))
            .fetch_one(&self.gates.admin)
            .await
            .expect("a number")
    }

    fn begin(&mut self, arguments: &[&str]) -> Process {
        self.commands += 1;
        self.installation.begin(self.commands, arguments)
    }

    async fn command(&mut self, arguments: &[&str]) -> (bool, String) {
        self.begin(arguments).end().await
    }
}
