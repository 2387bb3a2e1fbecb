use chrono::TimeDelta;
use runledger_domain::time::{Clock as _, Timestamp};
use runledger_proto::common::v1::{Mode, PrincipalKind, Role};
use runledger_proto::decode;
use runledger_proto::directory::v1::directory_service_server::DirectoryService as _;
use runledger_proto::directory::v1::*;
use runledger_proto::encode::timestamp;
use tonic::Code;

use crate::world::{World, as_caller, ok, refused, wrong_fields};

fn create(principal_id: &str, mode: Mode, expires_at: Option<Timestamp>) -> CreateKeyRequest {
    CreateKeyRequest {
        principal_id: principal_id.into(),
        mode: mode.into(),
        label: "deploys".into(),
        expires_at: expires_at.map(timestamp),
    }
}

fn rotate(key_id: &str, seconds: Option<i64>) -> RotateKeyRequest {
    RotateKeyRequest {
        key_id: key_id.into(),
        overlap: seconds.map(|seconds| prost_types::Duration { seconds, nanos: 0 }),
    }
}

fn revoke(key_id: &str) -> RevokeKeyRequest {
    RevokeKeyRequest {
        key_id: key_id.into(),
    }
}

fn end(key: &Key) -> Timestamp {
    decode::timestamp(key.expires_at.as_ref().unwrap()).unwrap()
}

fn ids(keys: &[Key]) -> Vec<&str> {
    keys.iter().map(|key| key.key_id.as_str()).collect()
}

#[tokio::test]
async fn a_key_is_shown_once_and_listed_masked() {
    let world = World::new().await;
    let home = world.home("Acme").await;
    let agent = world.principal(&home.admin, "", "agent", Role::Agent).await;
    for (mode, prefix) in [(Mode::Live, "rl_live_"), (Mode::Sandbox, "rl_test_")] {
        let request = world.by(&home.admin, create(&agent, mode, None)).await;
        let made = ok(world.directory.create_key(request).await);
        let digits = made.secret.strip_prefix(prefix).unwrap();
        assert_eq!(digits.len(), 64);
        let masked = format!("{prefix}{}…{}", &digits[..4], &digits[60..]);
        let key = made.key.unwrap();
        assert_eq!((key.masked.as_str(), key.mode()), (masked.as_str(), mode));
        assert_eq!(
            (key.label.as_str(), key.principal_id.as_str()),
            ("deploys", agent.as_str())
        );
        let caller = world.enter(&made.secret, None).await.unwrap();
        assert_eq!(caller.principal.principal.to_string(), agent);
        assert_eq!(caller.key.to_string(), key.key_id);
        let list = ListKeysRequest {
            principal_id: agent.clone(),
            page_size: 1,
            ..Default::default()
        };
        let request = world.by(&home.admin, list).await;
        let listed = ok(world.directory.list_keys(request).await);
        assert_eq!(listed.keys, [key]);
    }
    let dump = world.dump().await;
    assert!(dump.contains("deploys"));
}

#[tokio::test]
async fn keys_are_listed_newest_first_page_by_page() {
    let world = World::new().await;
    let home = world.home("Acme").await;
    let mut made = Vec::new();
    for mode in [Mode::Live, Mode::Sandbox, Mode::Live] {
        made.insert(0, world.key(&home.admin, &home.admin_id, mode).await.0);
    }
    let mut seen = Vec::new();
    let mut page_token = String::new();
    loop {
        let list = ListKeysRequest {
            page_size: 3,
            page_token,
            ..Default::default()
        };
        let request = world.by(&home.admin, list).await;
        let page = ok(world.directory.list_keys(request).await);
        seen.extend(page.keys);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!(seen.len(), 4);
    assert_eq!(ids(&seen)[..3], made);
}

#[tokio::test]
async fn every_fault_of_a_new_key_is_named() {
    let world = World::new().await;
    let home = world.home("Acme").await;
    let wrong = CreateKeyRequest {
        principal_id: String::new(),
        mode: 7,
        label: "x".repeat(129),
        expires_at: Some(prost_types::Timestamp {
            seconds: 1,
            nanos: 0,
        }),
    };
    let request = world.by(&home.admin, wrong).await;
    let fields = wrong_fields(world.directory.create_key(request).await);
    assert_eq!(fields, ["principal_id", "mode", "label", "expires_at"]);
    let operator = world
        .enter(&world.operator, None)
        .await
        .unwrap()
        .principal
        .principal;
    let request = world
        .by(
            &world.operator,
            create(&operator.to_string(), Mode::Sandbox, None),
        )
        .await;
    assert_eq!(
        wrong_fields(world.directory.create_key(request).await),
        ["mode"]
    );
    let request = world
        .by(&home.admin, rotate("x", Some(30 * 24 * 60 * 60 + 1)))
        .await;
    let fields = wrong_fields(world.directory.rotate_key(request).await);
    assert_eq!(fields, ["key_id", "overlap"]);
}

#[tokio::test]
async fn an_expired_key_opens_nothing() {
    let world = World::new().await;
    let home = world.home("Acme").await;
    // Made two hours ago, for one hour and for three.
    world.clock.by(TimeDelta::hours(-2));
    let mut keys = Vec::new();
    for hours in [1, 3] {
        let end = world.clock.now() + TimeDelta::hours(hours);
        let request = create(&home.admin_id, Mode::Live, Some(end));
        let request = world.by(&home.admin, request).await;
        keys.push(ok(world.directory.create_key(request).await));
    }
    world.clock.by(TimeDelta::zero());
    assert!(!world.opens(&keys[0].secret).await);
    assert!(world.opens(&keys[1].secret).await);

    let id = |number: usize| keys[number].key.clone().unwrap().key_id;
    let request = world.by(&home.admin, rotate(&id(0), None)).await;
    let reply = world.directory.rotate_key(request).await;
    refused(reply, Code::FailedPrecondition, "KEY_EXPIRED");
    // The successor of a key for three hours lives three hours; the old one not longer than it would have.
    let now = world.clock.now();
    let request = world.by(&home.admin, rotate(&id(1), None)).await;
    let rotated = ok(world.directory.rotate_key(request).await);
    let lives = end(&rotated.key.unwrap()) - now;
    assert!(
        (lives - TimeDelta::hours(3)).abs() < TimeDelta::minutes(1),
        "{lives}"
    );
    assert_eq!(
        end(&rotated.replaced.unwrap()),
        end(keys[1].key.as_ref().unwrap())
    );
}

#[tokio::test]
async fn a_rotated_key_goes_on_for_its_overlap() {
    let world = World::new().await;
    let home = world.home("Acme").await;
    let (old_id, old) = world.key(&home.admin, &home.admin_id, Mode::Live).await;
    let now = world.clock.now();
    let request = world.by(&home.admin, rotate(&old_id, None)).await;
    let rotated = ok(world.directory.rotate_key(request).await);
    let (made, replaced) = (rotated.key.unwrap(), rotated.replaced.unwrap());
    assert_eq!(replaced.replaced_by_key_id, made.key_id);
    assert_eq!((made.label.as_str(), made.expires_at), ("a key", None));
    let lives = end(&replaced) - now;
    assert!(
        (lives - TimeDelta::hours(24)).abs() < TimeDelta::minutes(1),
        "{lives}"
    );
    assert!(world.opens(&old).await && world.opens(&rotated.secret).await);

    let request = world.by(&home.admin, rotate(&old_id, None)).await;
    let reply = world.directory.rotate_key(request).await;
    refused(reply, Code::FailedPrecondition, "KEY_REPLACED");

    // An overlap that has passed.
    world.clock.by(TimeDelta::hours(-1));
    let request = world.by(&home.admin, rotate(&made.key_id, Some(60))).await;
    let last = ok(world.directory.rotate_key(request).await);
    assert!(!world.opens(&rotated.secret).await && world.opens(&last.secret).await);
    assert!(world.opens(&old).await, "its own overlap goes on");
}

#[tokio::test]
async fn without_an_overlap_the_old_key_ends_at_once() {
    let world = World::new().await;
    let home = world.home("Acme").await;
    let (old_id, old) = world.key(&home.admin, &home.admin_id, Mode::Sandbox).await;
    // Whatever the clocks say.
    world.clock.by(TimeDelta::hours(1));
    let request = world.by(&home.admin, rotate(&old_id, Some(0))).await;
    let rotated = ok(world.directory.rotate_key(request).await);
    assert!(rotated.replaced.unwrap().revoked_at.is_some());
    assert!(!world.opens(&old).await && world.opens(&rotated.secret).await);
    assert!(rotated.secret.starts_with("rl_test_"));
    let request = world.by(&home.admin, rotate(&old_id, None)).await;
    let reply = world.directory.rotate_key(request).await;
    refused(reply, Code::FailedPrecondition, "KEY_REVOKED");
}

#[tokio::test]
async fn of_rotations_at_once_one_finds_the_key() {
    let world = World::new().await;
    let home = world.home("Acme").await;
    let old = world.key(&home.admin, &home.admin_id, Mode::Live).await.0;
    let caller = world.enter(&home.admin, None).await.unwrap();
    let all = futures::future::join_all((0..8).map(|_| {
        let request = as_caller(caller.clone(), rotate(&old, None));
        world.directory.rotate_key(request)
    }))
    .await;
    let (made, lost): (Vec<_>, Vec<_>) = all.into_iter().partition(Result::is_ok);
    assert_eq!((made.len(), lost.len()), (1, 7));
    for reply in lost {
        refused(reply, Code::FailedPrecondition, "KEY_REPLACED");
    }
}

#[tokio::test]
async fn a_revoked_key_is_revoked_once() {
    let world = World::new().await;
    let home = world.home("Acme").await;
    let (id, key) = world.key(&home.admin, &home.admin_id, Mode::Live).await;
    let request = world.by(&home.admin, revoke(&id)).await;
    let first = ok(world.directory.revoke_key(request).await);
    assert!(first.key.as_ref().unwrap().revoked_at.is_some());
    assert!(!world.opens(&key).await);
    let changes = world.changes().await;
    let request = world.by(&home.admin, revoke(&id)).await;
    assert_eq!(ok(world.directory.revoke_key(request).await), first);
    assert_eq!(world.changes().await, changes);
    let request = world
        .by(&home.admin, revoke("00000000-0000-0000-0000-000000000009"))
        .await;
    let reply = world.directory.revoke_key(request).await;
    refused(reply, Code::NotFound, "KEY_NOT_FOUND");
    assert!(!world.opens(&key.replace("rl_live_", "rl_test_")).await);
}

#[tokio::test]
async fn from_the_sandbox_only_test_keys_are_administered() {
    let world = World::new().await;
    let home = world.home("Acme").await;
    let test = world
        .key(&home.admin, &home.admin_id, Mode::Sandbox)
        .await
        .1;
    world.key(&home.admin, &home.admin_id, Mode::Live).await;
    let agent = world.principal(&home.admin, "", "agent", Role::Agent).await;

    let (made_id, made) = world.key(&test, &agent, Mode::Sandbox).await;
    let request = world.by(&test, ListKeysRequest::default()).await;
    let seen = ok(world.directory.list_keys(request).await).keys;
    assert!(seen.iter().all(|key| key.mode() == Mode::Sandbox));
    assert!(ids(&seen).contains(&made_id.as_str()));
    let request = world.by(&test, rotate(&made_id, Some(0))).await;
    let next_id = ok(world.directory.rotate_key(request).await)
        .key
        .unwrap()
        .key_id;
    assert!(!world.opens(&made).await);
    let request = world.by(&test, revoke(&next_id)).await;
    ok(world.directory.revoke_key(request).await);
    let request = world.by(&test, ListPrincipalsRequest::default()).await;
    assert_eq!(
        ok(world.directory.list_principals(request).await)
            .principals
            .len(),
        2
    );
}

#[tokio::test]
async fn from_the_sandbox_nothing_live_is_changed() {
    let world = World::new().await;
    let home = world.home("Acme").await;
    let test = world
        .key(&home.admin, &home.admin_id, Mode::Sandbox)
        .await
        .1;
    let live_id = world.key(&home.admin, &home.admin_id, Mode::Live).await.0;
    let agent = world.principal(&home.admin, "", "agent", Role::Agent).await;
    let test = world.enter(&test, None).await.unwrap();
    let admin = world.enter(&home.admin, Some("sandbox")).await.unwrap();
    let operator = world.enter(&world.operator, Some("sandbox")).await.unwrap();
    let before = world.dump().await;
    macro_rules! no {
        ($($rpc:ident($caller:expr, $message:expr)),+ $(,)?) => {$(
            let reply = world.directory.$rpc(as_caller($caller.clone(), $message)).await;
            refused(reply, Code::PermissionDenied, "MODE_NOT_ALLOWED");
        )+};
    }
    for caller in [&test, &admin] {
        no![
            create_key(caller, create(&agent, Mode::Live, None)),
            revoke_key(caller, revoke(&live_id)),
            rotate_key(caller, rotate(&live_id, None)),
            create_principal(caller, new_principal()),
            set_role(
                caller,
                SetRoleRequest {
                    principal_id: agent.clone(),
                    role: Role::Viewer.into()
                }
            ),
            disable_principal(
                caller,
                DisablePrincipalRequest {
                    principal_id: agent.clone()
                }
            ),
            set_kill_switch(
                caller,
                SetKillSwitchRequest {
                    target: None,
                    on: true,
                    reason: "x".into()
                }
            ),
            set_kill_switch(caller, SetKillSwitchRequest::default()),
        ];
    }
    let tenant = CreateTenantRequest {
        name: "x".into(),
        limits: None,
    };
    no![create_tenant(operator, tenant)];
    assert_eq!(world.dump().await, before);
}

fn new_principal() -> CreatePrincipalRequest {
    CreatePrincipalRequest {
        name: "x".into(),
        kind: PrincipalKind::User.into(),
        role: Role::Viewer.into(),
        ..Default::default()
    }
}
