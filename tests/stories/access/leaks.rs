//! Strangers ask for everything that a scope has, by every rpc, with its own tokens.

use std::collections::BTreeSet;

use futures::future::join_all;
use futures::stream::{self, StreamExt as _};
use prost::Message as _;
use prost::bytes::Bytes;
use runledger_domain::scope::Role;
use runledger_tests::{Asking, Installation, Rpc, Tenant, seed};
use tonic::{Code, Status};

use super::MODE;
use super::goods::{Ask, Goods};

/// How many ask at once.
const AT_ONCE: usize = 48;

/// Somebody who asks, and what he must not be shown.
#[derive(Clone)]
struct Stranger<'a> {
    who: String,
    key: &'a str,
    /// Asked for with the call; empty: the key's own.
    mode: &'a str,
    secrets: Vec<&'a str>,
}

#[tokio::test(flavor = "multi_thread")]
async fn no_scope_sees_or_changes_anothers_data() {
    let mut rng = seed("leaks");
    let mut installation = Installation::start("leaks").await;
    installation.govern(1, 1).await;
    installation.audit().await;
    installation.bill(1, 1).await;
    installation.analytics().await;
    let ours = Tenant::create(&installation, "ours").await;
    let theirs = Tenant::create(&installation, "theirs").await;
    let live = installation.clients(ours.key(Role::Agent));
    let sandbox = installation.clients(&ours.sandbox_keys[&Role::Agent]);
    let other = installation.clients(theirs.key(Role::Agent));
    let mut in_live = Goods::report(&installation, &ours, &live, &mut rng).await;
    let mut in_sandbox = Goods::report(&installation, &ours, &sandbox, &mut rng).await;
    let mut strange = Goods::report(&installation, &theirs, &other, &mut rng).await;
    in_live
        .govern(&installation, &ours, ours.key(Role::Agent))
        .await;
    let sandboxed = &ours.sandbox_keys[&Role::Agent];
    in_sandbox.govern(&installation, &ours, sandboxed).await;
    strange
        .govern(&installation, &theirs, theirs.key(Role::Agent))
        .await;

    in_live
        .bill(&installation, &ours, ours.key(Role::Agent), &live)
        .await;
    in_sandbox
        .bill(&installation, &ours, sandboxed, &sandbox)
        .await;
    strange
        .bill(&installation, &theirs, theirs.key(Role::Agent), &other)
        .await;
    in_live.count(&live).await;
    in_sandbox.count(&sandbox).await;
    strange.count(&other).await;

    let owners = [
        (ours.key(Role::Admin), &in_live),
        (ours.sandbox_keys[&Role::Viewer].as_str(), &in_sandbox),
        (theirs.key(Role::Viewer), &strange),
    ];
    for (key, goods) in owners {
        assert_shown(&installation, key, goods).await;
    }
    assert_shown_to_admin(&installation, ours.key(Role::Admin), &in_live).await;

    let mut asks = Vec::new();
    for goods in [&in_live, &in_sandbox] {
        asks.extend(ask_for_everything(&installation, &theirs, goods));
    }
    asks.extend(ask_across_modes(&ours, &in_live, &in_sandbox));
    let asked = ask_all(&installation, asks).await;
    let every: BTreeSet<String> = Rpc::all()
        .into_iter()
        .map(|rpc| rpc.path)
        .filter(|path| !path.contains("IngestService/"))
        .collect();
    assert_eq!(asked, every, "an rpc that no stranger asked");

    assert_tails_are_silent(&installation, &theirs, &mut in_live, &live, &mut rng).await;
    let before = in_live.seen(&live).await;
    in_live.retell(&other, &mut rng).await;
    in_live.retell(&sandbox, &mut rng).await;
    assert_eq!(
        in_live.seen(&live).await,
        before,
        "changed by another scope"
    );
    installation.assert_unharmed();
}

/// Everybody of another tenant, and the operator, by every rpc but those that append.
fn ask_for_everything<'a>(
    installation: &'a Installation,
    tenant: &'a Tenant,
    goods: &'a Goods,
) -> Vec<(Stranger<'a>, Ask)> {
    let mut strangers = Vec::new();
    for role in tenant.principals.keys() {
        let keys = [
            ("live", tenant.key(*role)),
            ("the sandbox", tenant.sandbox_keys[role].as_str()),
        ];
        strangers.extend(keys.map(|(mode, key)| Stranger {
            who: format!("another's {role} in {mode}"),
            key,
            mode: "",
            secrets: goods.secrets().chain(goods.secrets_of_tenant()).collect(),
        }));
    }
    let operator = Stranger {
        who: "an operator".into(),
        key: &installation.operator,
        mode: "",
        // By its office it sees tenants and keys, but no records.
        secrets: goods.secrets().collect(),
    };
    let mut asks = Vec::new();
    for ask in reads(goods).into_iter().chain(goods.directory_reads()) {
        asks.push((operator.clone(), ask.clone()));
        asks.extend(
            strangers
                .iter()
                .map(|stranger| (stranger.clone(), ask.clone())),
        );
    }
    let changes = goods.directory_changes().into_iter().chain(goods.skips());
    for ask in changes.chain(goods.decided_commands()) {
        asks.extend(
            strangers
                .iter()
                .map(|stranger| (stranger.clone(), ask.clone())),
        );
    }
    asks
}

/// The same tenant from its other world.
fn ask_across_modes<'a>(
    tenant: &'a Tenant,
    in_live: &'a Goods,
    in_sandbox: &'a Goods,
) -> Vec<(Stranger<'a>, Ask)> {
    let (live, sandbox) = (tenant.key(Role::Admin), &tenant.sandbox_keys[&Role::Admin]);
    let between = [
        ("its own sandbox key", sandbox.as_str(), "", in_live),
        ("its own live key, in the sandbox", live, "sandbox", in_live),
        ("its own live key", live, "", in_sandbox),
    ];
    let mut asks = Vec::new();
    for (who, key, mode, goods) in between {
        let stranger = Stranger {
            who: who.into(),
            key,
            mode,
            secrets: goods.secrets().collect(),
        };
        let all = reads(goods).into_iter().chain(goods.skips());
        let all = all.chain(goods.decided_commands());
        asks.extend(all.map(|ask| (stranger.clone(), ask)));
    }
    asks
}

fn reads(goods: &Goods) -> Vec<Ask> {
    let runs = goods.reads().into_iter().chain(goods.reads_on());
    runs.chain(goods.decided_reads()).collect()
}

/// Asks and looks through the answers; returns the paths.
async fn ask_all(
    installation: &Installation,
    mut asks: Vec<(Stranger<'_>, Ask)>,
) -> BTreeSet<String> {
    // Stranger by stranger: of some rpcs a tenant may only have so many going on.
    asks.sort_by(|(one, _), (other, _)| one.who.cmp(&other.who));
    let calls = asks.into_iter().map(|(stranger, (path, body))| async move {
        let mut asking = asking(installation, path, body, stranger.key);
        if !stranger.mode.is_empty() {
            asking = asking.with(MODE, stranger.mode);
        }
        assert_hidden(&stranger, path, asking.call().await);
        path.to_owned()
    });
    stream::iter(calls)
        .buffer_unordered(AT_ONCE)
        .collect()
        .await
}

fn asking(installation: &Installation, path: &str, body: Vec<u8>, key: &str) -> Asking {
    let rpc = Rpc::all().into_iter().find(|rpc| rpc.path == path);
    let rpc = rpc.unwrap_or_else(|| panic!("there is no {path}"));
    let asking = Asking::new(installation, &rpc).key(key).body(body);
    if path.ends_with("/TailRun")
        || path.ends_with("/WaitForApproval")
        || path.ends_with("/WatchQueue")
    {
        asking.take(1)
    } else {
        asking
    }
}

/// Whatever the answer, it holds no secret; and a refusal is one that tells nothing.
fn assert_hidden(stranger: &Stranger<'_>, path: &str, answer: Result<Vec<Bytes>, Status>) {
    let who = &stranger.who;
    let said = match answer {
        Ok(messages) => messages.concat(),
        Err(status) => {
            let may = [
                Code::NotFound,
                Code::InvalidArgument,
                Code::PermissionDenied,
            ];
            assert!(may.contains(&status.code()), "{path} to {who}: {status:?}");
            let metadata = format!("{:?}", status.metadata());
            [
                status.message().as_bytes(),
                status.details(),
                metadata.as_bytes(),
            ]
            .concat()
        }
    };
    for secret in &stranger.secrets {
        assert!(!holds(&said, secret), "{path} tells {who} of {secret}");
    }
}

fn holds(bytes: &[u8], text: &str) -> bool {
    bytes
        .windows(text.len())
        .any(|window| window == text.as_bytes())
}

/// What is hidden from strangers is there for its owner: without this the story proves nothing.
async fn assert_shown(installation: &Installation, key: &str, goods: &Goods) {
    for (path, body) in reads(goods) {
        let answer = asking(installation, path, body, key).call().await;
        let said = answer.unwrap_or_else(|status| panic!("{path}: {status:?}"));
        assert!(holds(&said.concat(), goods.marker()), "{path}");
    }
}

async fn assert_shown_to_admin(installation: &Installation, key: &str, goods: &Goods) {
    for (path, body) in goods.directory_reads() {
        let answer = asking(installation, path, body, key).call().await;
        let said = answer
            .unwrap_or_else(|status| panic!("{path}: {status:?}"))
            .concat();
        assert!(
            goods.secrets_of_tenant().any(|secret| holds(&said, secret)),
            "{path}"
        );
    }
}

/// A tail that waits for a run of another scope goes on waiting when that run goes on.
async fn assert_tails_are_silent(
    installation: &Installation,
    tenant: &Tenant,
    goods: &mut Goods,
    owner: &runledger_tests::Clients,
    rng: &mut rand::rngs::StdRng,
) {
    let body = goods.tail("").encode_to_vec();
    let keys = tenant
        .principals
        .keys()
        .map(|role| tenant.key(*role).to_owned());
    let tails = keys.map(|key| {
        asking(
            installation,
            "/runledger.run.v1.RunsService/TailRun",
            body.clone(),
            &key,
        )
        .call()
    });
    let going_on = async {
        goods.go_on(owner, rng).await;
        goods.seen(owner).await
    };
    let (answers, (_, timeline)) = tokio::join!(join_all(tails), going_on);
    assert!(!timeline.is_empty());
    for answer in answers {
        let said = answer.expect("a sign of life").concat();
        for secret in goods.secrets() {
            assert!(!holds(&said, secret), "a tail tells of {secret}");
        }
    }
}
