//! Who is not let near what: other tenants' admins, and those who administer nothing.

use std::sync::Arc;

use runledger_proto::common::v1::{Mode, PrincipalKind, Role};
use runledger_proto::directory::v1::directory_service_server::DirectoryService as _;
use runledger_proto::directory::v1::set_kill_switch_request::Target;
use runledger_proto::directory::v1::*;
use runledger_service::auth::Caller;
use tonic::{Code, Response, Status};

use crate::world::{Home, World, as_caller, ok, refusal};

/// What a tenant has that others must not touch.
struct Goods {
    tenant_id: String,
    principal_id: String,
    key_id: String,
}

type Answer = (&'static str, Result<(), Status>);

fn hide<T>(reply: Result<Response<T>, Status>) -> Result<(), Status> {
    reply.map(drop)
}

/// Every rpc that touches `goods`, tried by `caller`.
#[expect(clippy::too_many_lines, reason = "a list: every rpc with its fields")]
async fn touch(world: &World, caller: &Arc<Caller>, goods: &Goods) -> Vec<Answer> {
    let d = &world.directory;
    let (tenant_id, principal_id) = (&goods.tenant_id, &goods.principal_id);
    macro_rules! tried {
        ($($rpc:ident($message:expr)),+ $(,)?) => {
            vec![$((stringify!($rpc), hide(d.$rpc(as_caller(caller.clone(), $message)).await))),+]
        };
    }
    tried![
        create_tenant(CreateTenantRequest {
            name: "mine".into(),
            limits: None
        }),
        get_tenant(GetTenantRequest {
            tenant_id: tenant_id.clone()
        }),
        list_tenants(ListTenantsRequest::default()),
        set_limits(SetLimitsRequest {
            tenant_id: tenant_id.clone(),
            limits: Some(Limits {
                records_per_second: 1,
                bytes_per_second: 1_024,
                commands_per_second: 1
            }),
        }),
        create_principal(CreatePrincipalRequest {
            tenant_id: tenant_id.clone(),
            name: "intruder".into(),
            kind: PrincipalKind::User.into(),
            role: Role::Admin.into(),
        }),
        list_principals(ListPrincipalsRequest {
            tenant_id: tenant_id.clone(),
            ..Default::default()
        }),
        set_role(SetRoleRequest {
            principal_id: principal_id.clone(),
            role: Role::Admin.into()
        }),
        disable_principal(DisablePrincipalRequest {
            principal_id: principal_id.clone()
        }),
        create_key(CreateKeyRequest {
            principal_id: principal_id.clone(),
            mode: Mode::Live.into(),
            ..Default::default()
        }),
        list_keys(ListKeysRequest {
            tenant_id: tenant_id.clone(),
            ..Default::default()
        }),
        list_keys(ListKeysRequest {
            principal_id: principal_id.clone(),
            ..Default::default()
        }),
        rotate_key(RotateKeyRequest {
            key_id: goods.key_id.clone(),
            overlap: None
        }),
        revoke_key(RevokeKeyRequest {
            key_id: goods.key_id.clone()
        }),
        set_kill_switch(SetKillSwitchRequest {
            target: Some(Target::TenantId(tenant_id.clone())),
            on: true,
            reason: "mine".into(),
        }),
        set_kill_switch(SetKillSwitchRequest {
            target: Some(Target::Everyone(true)),
            on: true,
            reason: "mine".into(),
        }),
        list_kill_switches(ListKillSwitchesRequest {
            tenant_id: tenant_id.clone()
        }),
    ]
}

async fn goods(world: &World, home: &Home) -> Goods {
    let principal_id = world.principal(&home.admin, "", "agent", Role::Agent).await;
    Goods {
        tenant_id: home.tenant_id.clone(),
        key_id: world.key(&home.admin, &principal_id, Mode::Live).await.0,
        principal_id,
    }
}

#[tokio::test]
async fn another_tenants_admin_finds_nothing_and_changes_nothing() {
    let world = World::new().await;
    let (home, other) = (world.home("Acme").await, world.home("Other").await);
    let goods = goods(&world, &home).await;
    let before = world.dump().await;
    for mode in [None, Some("sandbox")] {
        let intruder = world.enter(&other.admin, mode).await.unwrap();
        for (rpc, answer) in touch(&world, &intruder, &goods).await {
            let status = answer.expect_err(rpc);
            let (code, reason) = refusal(&status);
            let expected = match rpc {
                "create_tenant" | "list_tenants" | "set_limits" => Code::PermissionDenied,
                "set_kill_switch" if reason == "OPERATORS_ONLY" => Code::PermissionDenied,
                "create_key" if mode.is_some() => Code::PermissionDenied,
                _ => Code::NotFound,
            };
            assert_eq!(code, expected, "{rpc}: {status:?}");
            assert!(!status.message().contains("Acme"), "{rpc}: {status:?}");
        }
    }
    assert_eq!(world.dump().await, before);
    // What does not exist at all is refused in the very same words.
    let nothing = Goods {
        tenant_id: "00000000-0000-0000-0000-000000000001".into(),
        principal_id: "00000000-0000-0000-0000-000000000002".into(),
        key_id: "00000000-0000-0000-0000-000000000003".into(),
    };
    let intruder = world.enter(&other.admin, None).await.unwrap();
    let there = touch(&world, &intruder, &goods).await;
    let not_there = touch(&world, &intruder, &nothing).await;
    for ((rpc, one), (_, two)) in there.into_iter().zip(not_there) {
        let (one, two) = (one.unwrap_err(), two.unwrap_err());
        assert_eq!(
            (one.code(), one.message()),
            (two.code(), two.message()),
            "{rpc}"
        );
        assert_eq!(one.details(), two.details(), "{rpc}");
    }
}

#[tokio::test]
async fn the_operators_are_out_of_a_tenants_reach() {
    let world = World::new().await;
    let home = world.home("Acme").await;
    let operator = world.enter(&world.operator, None).await.unwrap();
    let goods = Goods {
        tenant_id: "00000000-0000-0000-0000-000000000000".into(),
        principal_id: operator.principal.principal.to_string(),
        key_id: operator.key.to_string(),
    };
    let before = world.dump().await;
    let intruder = world.enter(&home.admin, None).await.unwrap();
    for (rpc, answer) in touch(&world, &intruder, &goods).await {
        assert!(answer.is_err(), "{rpc}");
    }
    assert_eq!(world.dump().await, before);
}

#[tokio::test]
async fn whoever_administers_nothing_is_refused_everywhere() {
    let world = World::new().await;
    let home = world.home("Acme").await;
    let goods = goods(&world, &home).await;
    for role in [Role::Reviewer, Role::Viewer, Role::Agent] {
        let id = world
            .principal(&home.admin, "", role.as_str_name(), role)
            .await;
        let key = world.key(&home.admin, &id, Mode::Live).await.1;
        let caller = world.enter(&key, None).await.unwrap();
        let before = world.dump().await;
        for (rpc, answer) in touch(&world, &caller, &goods).await {
            let status = answer.expect_err(rpc);
            assert_eq!(
                refusal(&status),
                (Code::PermissionDenied, "ROLE_NOT_ALLOWED".into()),
                "{rpc}"
            );
        }
        assert_eq!(world.dump().await, before);
    }
}

#[tokio::test]
async fn an_operator_reaches_the_tenant_it_names() {
    let world = World::new().await;
    let home = world.home("Acme").await;
    let goods = goods(&world, &home).await;
    let operator = world.enter(&world.operator, None).await.unwrap();
    for (rpc, answer) in touch(&world, &operator, &goods).await {
        let expected = match (rpc, &answer) {
            // Of the tenant's principal, asked for among the operators; and of a principal disabled just before.
            ("list_keys", Err(status)) => Some((Code::NotFound, status)),
            ("create_key" | "rotate_key", Err(status)) => Some((Code::FailedPrecondition, status)),
            (_, Ok(())) => None,
            (_, Err(status)) => panic!("{rpc}: {status:?}"),
        };
        if let Some((code, status)) = expected {
            assert_eq!(status.code(), code, "{rpc}");
        }
    }
    let request = world.by(&home.admin, WhoAmIRequest {}).await;
    assert_eq!(
        ok(world.directory.who_am_i(request).await)
            .kill_switches
            .len(),
        2
    );
}
