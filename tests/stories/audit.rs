//! Who did what is told to those who may know, of their own scope alone, and the same when it is told
//! anew.

mod range;

use std::collections::BTreeSet;
use std::time::Duration;

use runledger_domain::scope::Role;
use runledger_proto::audit::v1 as wire;
use runledger_proto::audit::v1::audit_service_client::AuditServiceClient;
use runledger_proto::common::v1::ReadOptions;
use runledger_proto::directory::v1::RevokeKeyRequest;
use runledger_proto::policy::v1 as policy;
use runledger_service::client::Connection;
use runledger_service::status;
use runledger_testkit::eventually;
use runledger_tests::{Installation, Kind, Tenant};
use tonic::Code;

use crate::access::key_id;
use crate::approvals::desk::{Desk, call, decided, new_id, on_tool};

type Audit = AuditServiceClient<Connection>;

const SOON: Duration = Duration::from_secs(20);

fn audit(installation: &Installation, key: &str) -> Audit {
    AuditServiceClient::new(installation.connection(Kind::Audit, 0, key))
}

async fn list(audit: &Audit, request: wire::ListEntriesRequest) -> wire::ListEntriesResponse {
    let listed = audit.clone().list_entries(request).await;
    listed.expect("entries").into_inner()
}

/// All entries, two a page.
async fn all(audit: &Audit, mut request: wire::ListEntriesRequest) -> Vec<wire::Entry> {
    let mut entries = Vec::new();
    request.page_size = 2;
    loop {
        let page = list(audit, request.clone()).await;
        entries.extend(page.entries);
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() {
            return entries;
        }
    }
}

fn told(entries: &[wire::Entry]) -> BTreeSet<(&str, &str, &str)> {
    let words = |one| -> (&str, &str, &str) {
        let one: &wire::Entry = one;
        (&one.actor, &one.entity_type, &one.action)
    };
    entries.iter().map(words).collect()
}

fn read(token: &str) -> Option<ReadOptions> {
    Some(ReadOptions {
        at_least: vec![token.to_owned()],
        max_wait: Some(prost_types::Duration {
            seconds: 10,
            nanos: 0,
        }),
    })
}

/// A policy, a call that it holds, a vote and the call; the token of the last of it.
async fn one_cycle(installation: &Installation, tenant: &Tenant) -> String {
    let mut admin = Desk::role(installation, tenant, Role::Admin);
    let people = tenant.reviewers(installation, 1).await;
    let pay = on_tool("pay", policy::Action::RequireApproval);
    let token = admin.create("pay", pay).await;
    one_call(installation, tenant, &people[0], 1, &[token]).await
}

/// A call that is held, a vote and the call; the token of the last of it.
async fn one_call(
    installation: &Installation,
    tenant: &Tenant,
    reviewer: &str,
    number: usize,
    at_least: &[String],
) -> String {
    let mut agent = Desk::role(installation, tenant, Role::Agent);
    let mut reviewer = Desk::of(installation, 0, reviewer);
    let asked = call("run-1", number, "pay", "{\"amount\":\"hushed\"}");
    let answer = agent.request(&new_id(), asked.clone(), at_least).await;
    let held = decided(answer.expect("an answer"));
    let early = agent.confirm(&asked, "{\"amount\":\"hushed\"}").await;
    assert!(early.is_err(), "{early:?}");
    let voted = reviewer.approve(&new_id(), &held.approval_id).await;
    voted.expect("a vote");
    let confirmed = agent.confirm(&asked, "{\"amount\":\"hushed\"}").await;
    confirmed.expect("confirmed").token
}

#[tokio::test(flavor = "multi_thread")]
async fn who_did_what_is_told_once_and_in_its_scope_alone() {
    let mut installation = Installation::start("audit").await;
    installation.govern(1, 1).await;
    installation.audit().await;
    let ours = Tenant::create(&installation, "ours").await;
    let theirs = Tenant::create(&installation, "theirs").await;
    let token = one_cycle(&installation, &ours).await;
    let viewer = audit(&installation, ours.key(Role::Viewer));

    let request = wire::ListEntriesRequest {
        run_id: "run-1".into(),
        read: read(&token),
        ..Default::default()
    };
    let of_run = all(&viewer, request.clone()).await;
    let kinds: BTreeSet<i32> = of_run.iter().map(|one| one.actor_type).collect();
    assert_eq!(kinds, BTreeSet::from([1, 2, 3]), "{of_run:#?}");
    let found = told(&of_run);
    for expected in [
        ("system:policy:pay", "policy", "matched"),
        ("system:policy:pay", "tool_call", "awaiting_approval"),
        ("system:policy:pay", "approval", "requested"),
        ("system:decider", "command", "use_refused"),
    ] {
        assert!(found.contains(&expected), "{expected:?} in {found:#?}");
    }
    assert!(!format!("{of_run:?}").contains("hushed"), "arguments");
    let moments: Vec<_> = of_run.iter().map(at).collect();
    assert!(moments.is_sorted_by(|one, next| one >= next), "{moments:?}");
    let ids: BTreeSet<&str> = of_run.iter().map(|one| &*one.audit_id).collect();
    assert_eq!(ids.len(), of_run.len());

    assert_filters(&viewer, &of_run, &token).await;
    revoke(&installation, &ours, &viewer).await;
    assert_walls(&installation, &ours, &theirs, &of_run[0].audit_id).await;

    let before = all(&viewer, wire::ListEntriesRequest::default()).await;
    let (whole, said) = installation.audit_command(1, &["verify", "audit"]).await;
    assert!(whole, "{said}");
    let (whole, said) = installation.audit_command(3, &["audit", "verify"]).await;
    assert!(whole, "{said}");
    let (built, said) = installation.audit_command(2, &["rebuild", "audit"]).await;
    assert!(built, "{said}");
    let after = all(&viewer, wire::ListEntriesRequest::default()).await;
    assert_eq!(before, after);
    installation.assert_unharmed();
}

fn at(entry: &wire::Entry) -> (i64, i32) {
    let at = entry.at.expect("a moment");
    (at.seconds, at.nanos)
}

async fn assert_filters(viewer: &Audit, of_run: &[wire::Entry], token: &str) {
    let ask = |change: fn(&mut wire::ListEntriesRequest)| {
        let mut request = wire::ListEntriesRequest {
            run_id: "run-1".into(),
            read: read(token),
            ..Default::default()
        };
        change(&mut request);
        all(viewer, request)
    };
    let only = |keep: fn(&wire::Entry) -> bool| -> Vec<wire::Entry> {
        of_run.iter().filter(|one| keep(one)).cloned().collect()
    };
    let by_user = ask(|one| one.set_actor_type(wire::ActorType::User)).await;
    assert_eq!(by_user, only(|one| one.actor_type == 3));
    assert!(told(&by_user).iter().any(|one| one.2 == "approved"));
    let matched = ask(|one| one.action = "matched".into()).await;
    assert_eq!(matched, only(|one| one.action == "matched"));
    let approvals = ask(|one| one.entity_type = "approval".into()).await;
    assert_eq!(approvals, only(|one| one.entity_type == "approval"));
    let searched = ask(|one| one.search = "pending APPROVAL".into()).await;
    assert_eq!(searched, only(|one| one.action == "use_refused"));
}

/// What changes in the directory is told too, as soon as it is in the log.
async fn revoke(installation: &Installation, tenant: &Tenant, viewer: &Audit) {
    let clients = installation.clients(tenant.key(Role::Admin));
    let principal = &tenant.principals[&Role::Reviewer];
    let key_id = key_id(&clients, principal, "rl_test_").await;
    let request = RevokeKeyRequest {
        key_id: key_id.clone(),
    };
    let revoked = clients.directory.clone().revoke_key(request).await;
    revoked.expect("revoked");
    eventually(SOON, || async {
        let request = wire::ListEntriesRequest {
            entity_type: "key".into(),
            action: "revoked".into(),
            ..Default::default()
        };
        let found = list(viewer, request).await.entries;
        match found.as_slice() {
            [one] if one.entity_id == key_id && one.actor == "system:service:admin" => Ok(()),
            other => Err(format!("{other:#?}")),
        }
    })
    .await;
    // Names come from the directory's facts, whenever those were read.
    let voted = wire::ListEntriesRequest {
        action: "voted".into(),
        ..Default::default()
    };
    let voted = list(viewer, voted).await.entries;
    let voters: Vec<&str> = voted.iter().map(|one| &*one.actor).collect();
    assert_eq!(voters, ["user:reviewer-0"]);
}

async fn assert_walls(installation: &Installation, ours: &Tenant, theirs: &Tenant, id: &str) {
    let get = |key: &str| {
        let mut audit = audit(installation, key);
        let request = wire::GetEntryRequest {
            audit_id: id.to_owned(),
            read: None,
        };
        async move { audit.get_entry(request).await }
    };
    assert!(get(ours.key(Role::Admin)).await.is_ok());
    let strangers = [
        theirs.key(Role::Admin),
        &ours.sandbox_keys[&Role::Admin],
        &installation.operator,
    ];
    for key in strangers {
        let refused = get(key).await.expect_err("another scope's");
        assert_eq!(refused.code(), Code::NotFound, "{refused:?}");
        let reason = status::reason(&refused);
        assert_eq!(reason.as_deref(), Some("AUDIT_ENTRY_NOT_FOUND"));
        let seen = list(
            &audit(installation, key),
            wire::ListEntriesRequest::default(),
        )
        .await;
        let of_run = seen.entries.iter().find(|one| one.run_id == "run-1");
        assert_eq!(of_run, None);
    }
    let agent = get(ours.key(Role::Agent)).await.expect_err("an agent");
    assert_eq!(agent.code(), Code::PermissionDenied);
}
