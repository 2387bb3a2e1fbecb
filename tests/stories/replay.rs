//! Recorded facts are told again as they were, once each, and only where they are meant to go.

use std::fs;
use std::path::Path;
use std::time::Duration;

use runledger_domain::scope::Role;
use runledger_proto::common::v1::ReadOptions;
use runledger_proto::recording::v1::Header;
use runledger_proto::run::v1 as run;
use runledger_recording::{VERSION, Writer};
use runledger_testkit::eventually;
use runledger_tests::{Installation, Tenant};
use serde_json::Value;
use tempfile::TempDir;

const SOON: Duration = Duration::from_secs(60);
const RUNS: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../deploy/demo/airline-agent-runs.jsonl"
);
/// Of 200 real runs: a start, an end, two for each of 1,164 calls, and 2,870 messages.
const FACTS: u64 = 200 + 200 + 2 * 1_164 + 2_870;

#[tokio::test(flavor = "multi_thread")]
async fn what_was_recorded_is_told_again_once_and_only_where_it_is_meant_to_go() {
    let mut installation = Installation::start("replay").await;
    let ours = Tenant::create(&installation, "ours").await;
    let theirs = Tenant::create(&installation, "theirs").await;
    let agent = ours.key(Role::Agent);
    let mut people = People::new(&installation);
    people.can(&["import", RUNS], agent).await;
    let folder = TempDir::new().expect("a folder");
    let file = folder.path().join("ours.recording");
    let file = file.to_str().expect("a name");

    let said = people
        .can(&["record", file, "--tenant", &ours.id], agent)
        .await;
    assert!(
        said.contains(&format!("{} facts", thousands(FACTS))),
        "{said}"
    );
    goes_on_where_it_was_cut(&mut people, file, &ours).await;
    is_refused(&mut people, folder.path(), file, &ours, &theirs).await;
    assert_eq!(
        runs(&installation, &theirs.sandbox_keys[&Role::Viewer]).await,
        0
    );
    assert_eq!(runs(&installation, theirs.key(Role::Viewer)).await, 0);

    is_told_again(&installation, &mut people, file, &theirs).await;

    // Into live, said twice.
    let live = [
        "replay",
        file,
        "--into-live",
        "--tenant",
        &theirs.id,
        "--json",
    ];
    let told = people.told(&live, theirs.key(Role::Agent)).await;
    assert_eq!(told["told"].as_u64(), Some(FACTS));
    has(&installation, theirs.key(Role::Viewer), 200).await;
    has(&installation, ours.key(Role::Viewer), 200).await;
    installation.assert_unharmed();
}

/// With its own ids, which count once however often they are told; then with new ones.
async fn is_told_again(
    installation: &Installation,
    people: &mut People<'_>,
    file: &str,
    theirs: &Tenant,
) {
    let sandbox = &theirs.sandbox_keys[&Role::Agent];
    let told = people.told(&["replay", file, "--json"], sandbox).await;
    assert_eq!(
        (told["told"].as_u64(), &told["arrived"]["hash"]),
        (Some(FACTS), &told["hash"])
    );
    has(installation, &theirs.sandbox_keys[&Role::Viewer], 200).await;
    // Once more: the same facts, which count once.
    let again = people.told(&["replay", file, "--json"], sandbox).await;
    assert_eq!(again["hash"], told["hash"]);
    has(installation, &theirs.sandbox_keys[&Role::Viewer], 200).await;

    // From the log itself, as if it happened now, a million times as fast: each fact stands there twice, and is told once.
    let from_log = [
        "replay",
        "--of",
        &theirs.id,
        "--of-mode",
        "sandbox",
        "--prefix",
        "again-",
    ];
    let shifted = ["--speed", "1000000", "--times", "shift", "--json"];
    let told = people
        .told(&[&from_log[..], &shifted].concat(), sandbox)
        .await;
    assert_eq!(
        (told["told"].as_u64(), told["copies"].as_u64()),
        (Some(FACTS), Some(FACTS))
    );
    has(installation, &theirs.sandbox_keys[&Role::Viewer], 400).await;
    let moved = one(
        installation,
        &theirs.sandbox_keys[&Role::Viewer],
        "again-airline-0-0",
    )
    .await;
    let kept = one(
        installation,
        &theirs.sandbox_keys[&Role::Viewer],
        "airline-0-0",
    )
    .await;
    let began = |run: &run::Run| run.started_at.map(|at| at.seconds).expect("a start");
    // As much later as it was told later.
    assert!(began(&moved) > began(&kept), "{moved:?} {kept:?}");
    assert_eq!(moved.totals, kept.totals);
}

/// However it was cut, going on makes the recording that never stopped.
async fn goes_on_where_it_was_cut(people: &mut People<'_>, file: &str, ours: &Tenant) {
    let whole = fs::read(file).expect("the recording");
    let cut = format!("{file}.cut");
    let resume = ["record", &cut, "--tenant", &ours.id, "--resume"];
    for length in [whole.len() - 1, whole.len() / 2, whole.len() / 3] {
        fs::write(&cut, &whole[..length]).expect("a recording that was cut");
        let refused = people
            .cannot(&["replay", &cut], &ours.sandbox_keys[&Role::Agent])
            .await;
        assert!(refused.contains("CUT_SHORT"), "{refused}");
        people.can(&resume, ours.key(Role::Agent)).await;
        assert!(
            fs::read(&cut).expect("the recording") == whole,
            "cut at {length}"
        );
    }
    let said = people.can(&resume, ours.key(Role::Agent)).await;
    assert!(said.contains("whole already"), "{said}");
    let others = [
        "record",
        &cut,
        "--tenant",
        &ours.id,
        "--of-mode",
        "sandbox",
        "--resume",
    ];
    let refused = people.cannot(&others, ours.key(Role::Agent)).await;
    assert!(refused.contains("OTHER_RECORDING"), "{refused}");
    let refused = people
        .cannot(
            &["record", &cut, "--tenant", &ours.id],
            ours.key(Role::Agent),
        )
        .await;
    assert!(refused.contains("--resume"), "{refused}");
}

/// With its reason, and nothing of it is told.
async fn is_refused(
    people: &mut People<'_>,
    folder: &Path,
    file: &str,
    ours: &Tenant,
    theirs: &Tenant,
) {
    let (damaged, later) = (folder.join("damaged"), folder.join("later"));
    let mut bytes = fs::read(file).expect("the recording");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&damaged, bytes).expect("a damaged recording");
    let header = Header {
        version: VERSION + 1,
        ..Header::default()
    };
    let writer = Writer::create(Vec::new(), &header).expect("a recording");
    let bytes = writer.finish(Default::default()).expect("a recording");
    fs::write(&later, bytes).expect("a later recording");
    let [damaged, later] = [&damaged, &later].map(|path| path.to_str().expect("a name"));
    let (live, sandbox) = (
        theirs.key(Role::Agent),
        theirs.sandbox_keys[&Role::Agent].as_str(),
    );
    let into_live = ["replay", file, "--into-live", "--tenant", &ours.id];
    let other = ["replay", file, "--tenant", &ours.id];
    for (arguments, key, reason) in [
        (&["replay", damaged][..], sandbox, "CORRUPTED"),
        (&["replay", later], sandbox, "VERSION_TOO_NEW"),
        (&["replay", RUNS], sandbox, "NOT_A_RECORDING"),
        (&["replay", "nowhere"], sandbox, "cannot open nowhere"),
        (&["replay", file], live, "LIVE_NOT_CONFIRMED"),
        (&["replay", file, "--into-live"], live, "--tenant"),
        (&into_live, live, "LIVE_NOT_CONFIRMED"),
        (&other, sandbox, "OTHER_TENANT"),
        (
            &["replay", file],
            &theirs.sandbox_keys[&Role::Viewer],
            "ROLE_NOT_ALLOWED",
        ),
        (&["replay", file], "rl_test_0", "KEY_MALFORMED"),
        (&["replay", file, "--speed", "0"], sandbox, "0.001"),
        (&["replay"], sandbox, "--of"),
        (
            &["replay", file, "--into-live", "--tenant", &ours.id],
            ours.key(Role::Agent),
            "SAME_SCOPE",
        ),
    ] {
        let said = people.cannot(arguments, key).await;
        assert!(said.contains(reason), "{arguments:?}: {said}");
    }
}

/// Commands at the terminal, one after another.
struct People<'a> {
    installation: &'a Installation,
    number: u32,
}

impl<'a> People<'a> {
    fn new(installation: &'a Installation) -> Self {
        Self {
            installation,
            number: 0,
        }
    }

    async fn run(&mut self, arguments: &[&str], key: &str) -> (bool, String) {
        self.number += 1;
        self.installation.people(self.number, arguments, key).await
    }

    async fn can(&mut self, arguments: &[&str], key: &str) -> String {
        let (succeeded, said) = self.run(arguments, key).await;
        assert!(succeeded, "{arguments:?}: {said}");
        said
    }

    async fn cannot(&mut self, arguments: &[&str], key: &str) -> String {
        let (succeeded, said) = self.run(arguments, key).await;
        assert!(!succeeded, "{arguments:?}: {said}");
        said
    }

    /// What the one line of JSON says.
    async fn told(&mut self, arguments: &[&str], key: &str) -> Value {
        let said = self.can(arguments, key).await;
        let line = said.lines().find(|line| line.starts_with('{'));
        let line = line.unwrap_or_else(|| panic!("no JSON: {said}"));
        serde_json::from_str(line).expect("JSON")
    }
}

fn thousands(number: u64) -> String {
    format!("{},{:03}", number / 1_000, number % 1_000)
}

async fn runs(installation: &Installation, key: &str) -> usize {
    let mut clients = installation.clients(key);
    let (mut found, mut page_token) = (0, String::new());
    loop {
        let request = run::ListRunsRequest {
            page_size: 1_000,
            page_token,
            ..Default::default()
        };
        let page = clients
            .runs
            .list_runs(request)
            .await
            .expect("runs")
            .into_inner();
        found += page.runs.len();
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return found;
        }
    }
}

async fn has(installation: &Installation, key: &str, many: usize) {
    eventually(SOON, || async {
        let found = runs(installation, key).await;
        if found == many {
            Ok(())
        } else {
            Err(format!("{found} runs"))
        }
    })
    .await;
}

/// Once all of it is there.
async fn one(installation: &Installation, key: &str, run_id: &str) -> run::Run {
    eventually(SOON, || async {
        let request = run::GetRunRequest {
            run_id: run_id.to_owned(),
            read: None::<ReadOptions>,
        };
        let found = installation.clients(key).runs.get_run(request).await;
        let found = found.map_err(|status| status.to_string())?.into_inner().run;
        let is_over = |run: &run::Run| run.ended_at.is_some();
        found
            .filter(is_over)
            .ok_or_else(|| "it is not over".to_owned())
    })
    .await
}
