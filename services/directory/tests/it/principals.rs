use futures::future::join_all;
use runledger_proto::common::v1::{Mode, PrincipalKind, Role};
use runledger_proto::directory::v1::directory_service_server::DirectoryService as _;
use runledger_proto::directory::v1::*;
use tonic::Code;

use crate::world::{World, as_caller, ok, refusal, refused, wrong_fields};

fn create(tenant_id: &str, name: &str, role: Role) -> CreatePrincipalRequest {
    CreatePrincipalRequest {
        tenant_id: tenant_id.into(),
        name: name.into(),
        kind: PrincipalKind::Service.into(),
        role: role.into(),
    }
}

fn set_role(principal_id: &str, role: Role) -> SetRoleRequest {
    SetRoleRequest {
        principal_id: principal_id.into(),
        role: role.into(),
    }
}

fn disable(principal_id: &str) -> DisablePrincipalRequest {
    DisablePrincipalRequest {
        principal_id: principal_id.into(),
    }
}

#[tokio::test]
async fn an_admin_makes_principals_of_its_tenant() {
    let world = World::new().await;
    let home = world.home("Acme").await;
    let request = world.by(&home.admin, create("", "bot", Role::Agent)).await;
    let made = ok(world.directory.create_principal(request).await)
        .principal
        .unwrap();
    assert_eq!(made.tenant_id, home.tenant_id);
    assert_eq!(
        (made.kind(), made.role()),
        (PrincipalKind::Service, Role::Agent)
    );

    let request = world.by(&home.admin, create("", "bot", Role::Viewer)).await;
    let reply = world.directory.create_principal(request).await;
    refused(reply, Code::AlreadyExists, "PRINCIPAL_NAME_TAKEN");
    // The name is free elsewhere.
    let other = world.home("Other").await;
    world.principal(&other.admin, "", "bot", Role::Agent).await;

    let request = world
        .by(
            &home.admin,
            ListPrincipalsRequest {
                page_size: 1,
                ..Default::default()
            },
        )
        .await;
    let first = ok(world.directory.list_principals(request).await);
    assert_eq!(first.principals, [made]);
    let next = ListPrincipalsRequest {
        page_token: first.next_page_token.clone(),
        ..Default::default()
    };
    let request = world.by(&home.admin, next).await;
    let second = ok(world.directory.list_principals(request).await);
    assert_eq!(second.principals[0].name, "first admin");
    assert_eq!(second.next_page_token, "");
    let foreign = ListPrincipalsRequest {
        page_token: first.next_page_token,
        ..Default::default()
    };
    let request = world.by(&other.admin, foreign).await;
    let reply = world.directory.list_principals(request).await;
    refused(reply, Code::InvalidArgument, "PAGE_TOKEN_INVALID");
}

#[tokio::test]
async fn only_operators_make_operators_and_those_without_a_tenant() {
    let world = World::new().await;
    let home = world.home("Acme").await;
    let before = world.dump().await;
    let request = world.by(&home.admin, create("", "x", Role::Operator)).await;
    let reply = world.directory.create_principal(request).await;
    refused(reply, Code::PermissionDenied, "OPERATORS_ONLY");
    let request = world
        .by(&home.admin, set_role(&home.admin_id, Role::Operator))
        .await;
    let reply = world.directory.set_role(request).await;
    refused(reply, Code::PermissionDenied, "OPERATORS_ONLY");
    for (tenant_id, role) in [(home.tenant_id.as_str(), Role::Operator), ("", Role::Admin)] {
        let request = world
            .by(&world.operator, create(tenant_id, "x", role))
            .await;
        let fields = wrong_fields(world.directory.create_principal(request).await);
        assert_eq!(fields, ["role"]);
    }
    let request = world
        .by(&world.operator, set_role(&home.admin_id, Role::Operator))
        .await;
    assert_eq!(
        wrong_fields(world.directory.set_role(request).await),
        ["role"]
    );
    let nobody = "00000000-0000-0000-0000-000000000009";
    let request = world
        .by(&world.operator, create(nobody, "x", Role::Admin))
        .await;
    let reply = world.directory.create_principal(request).await;
    refused(reply, Code::NotFound, "TENANT_NOT_FOUND");
    assert_eq!(world.dump().await, before);

    let second = world
        .principal(&world.operator, "", "second", Role::Operator)
        .await;
    let request = world
        .by(&world.operator, ListPrincipalsRequest::default())
        .await;
    let operators = ok(world.directory.list_principals(request).await).principals;
    let names: Vec<&str> = operators.iter().map(|one| one.name.as_str()).collect();
    assert_eq!(names, ["operator", "second"]);
    assert_eq!(operators[1].principal_id, second);
    assert_eq!(operators[1].tenant_id, "");
}

#[tokio::test]
async fn every_fault_of_a_new_principal_is_named() {
    let world = World::new().await;
    let wrong = CreatePrincipalRequest {
        tenant_id: "acme".into(),
        name: "a\u{202e}b".into(),
        kind: 0,
        role: 99,
    };
    let request = world.by(&world.operator, wrong).await;
    let fields = wrong_fields(world.directory.create_principal(request).await);
    assert_eq!(fields, ["tenant_id", "name", "kind", "role"]);
}

#[tokio::test]
async fn a_role_changes_but_never_ones_own() {
    let world = World::new().await;
    let home = world.home("Acme").await;
    let viewer = world
        .principal(&home.admin, "", "viewer", Role::Viewer)
        .await;
    let request = world.by(&home.admin, set_role(&viewer, Role::Admin)).await;
    let changed = ok(world.directory.set_role(request).await)
        .principal
        .unwrap();
    assert_eq!(changed.role(), Role::Admin);

    let request = world
        .by(&home.admin, set_role(&home.admin_id, Role::Viewer))
        .await;
    let reply = world.directory.set_role(request).await;
    refused(reply, Code::PermissionDenied, "NOT_ONESELF");
    let request = world.by(&home.admin, disable(&home.admin_id)).await;
    let reply = world.directory.disable_principal(request).await;
    refused(reply, Code::PermissionDenied, "NOT_ONESELF");

    let changes = world.changes().await;
    let request = world.by(&home.admin, set_role(&viewer, Role::Admin)).await;
    ok(world.directory.set_role(request).await);
    assert_eq!(
        world.changes().await,
        changes,
        "the same again is no change"
    );
}

#[tokio::test]
async fn a_disabled_principal_and_its_keys_are_ended_for_good() {
    let world = World::new().await;
    let home = world.home("Acme").await;
    let agent = world.principal(&home.admin, "", "agent", Role::Agent).await;
    let (key_id, key) = world.key(&home.admin, &agent, Mode::Live).await;
    assert!(world.opens(&key).await);
    let request = world.by(&home.admin, disable(&agent)).await;
    let first = ok(world.directory.disable_principal(request).await);
    assert!(first.principal.as_ref().unwrap().disabled_at.is_some());
    assert!(!world.opens(&key).await);

    let changes = world.changes().await;
    let request = world.by(&home.admin, disable(&agent)).await;
    let again = ok(world.directory.disable_principal(request).await);
    assert_eq!(again, first);
    assert_eq!(
        world.changes().await,
        changes,
        "the same again is no change"
    );

    let request = world.by(&home.admin, set_role(&agent, Role::Viewer)).await;
    let reply = world.directory.set_role(request).await;
    refused(reply, Code::FailedPrecondition, "PRINCIPAL_DISABLED");
    let new = CreateKeyRequest {
        principal_id: agent,
        mode: Mode::Live.into(),
        ..Default::default()
    };
    let request = world.by(&home.admin, new).await;
    let reply = world.directory.create_key(request).await;
    refused(reply, Code::FailedPrecondition, "PRINCIPAL_DISABLED");
    let rotate = RotateKeyRequest {
        key_id,
        overlap: None,
    };
    let request = world.by(&home.admin, rotate).await;
    let reply = world.directory.rotate_key(request).await;
    refused(reply, Code::FailedPrecondition, "PRINCIPAL_DISABLED");
}

#[tokio::test]
async fn the_last_admin_and_the_last_operator_stay() {
    let world = World::new().await;
    let home = world.home("Acme").await;
    let before = world.dump().await;
    let request = world
        .by(&world.operator, set_role(&home.admin_id, Role::Viewer))
        .await;
    let reply = world.directory.set_role(request).await;
    refused(reply, Code::FailedPrecondition, "LAST_ADMIN");
    let request = world.by(&world.operator, disable(&home.admin_id)).await;
    let reply = world.directory.disable_principal(request).await;
    refused(reply, Code::FailedPrecondition, "LAST_ADMIN");
    assert_eq!(world.dump().await, before);

    // A disabled admin is none.
    let second = world
        .principal(&home.admin, "", "second", Role::Admin)
        .await;
    let request = world.by(&world.operator, disable(&second)).await;
    ok(world.directory.disable_principal(request).await);
    let request = world.by(&world.operator, disable(&home.admin_id)).await;
    let reply = world.directory.disable_principal(request).await;
    refused(reply, Code::FailedPrecondition, "LAST_ADMIN");

    // Two operators disable each other at once.
    let operator = world.operator.clone();
    let first_id = world
        .enter(&operator, None)
        .await
        .unwrap()
        .principal
        .principal;
    let second_id = world
        .principal(&operator, "", "second", Role::Operator)
        .await;
    let second = world.key(&operator, &second_id, Mode::Live).await.1;
    let one = world.by(&operator, disable(&second_id)).await;
    let other = world.by(&second, disable(&first_id.to_string())).await;
    let (one, other) = tokio::join!(
        world.directory.disable_principal(one),
        world.directory.disable_principal(other)
    );
    let lost = match (one, other) {
        (Ok(_), Err(lost)) | (Err(lost), Ok(_)) => lost,
        both => panic!("{both:?}"),
    };
    assert_eq!(
        refusal(&lost),
        (Code::FailedPrecondition, "LAST_OPERATOR".into())
    );
}

#[tokio::test]
async fn of_admins_taken_away_at_once_one_stays() {
    let world = World::new().await;
    let caller = world.enter(&world.operator, None).await.unwrap();
    for round in 0..8 {
        let home = world.home(&format!("tenant {round}")).await;
        let mut admins = vec![home.admin_id.clone()];
        for number in 0..4 {
            let name = format!("admin {number}");
            admins.push(world.principal(&home.admin, "", &name, Role::Admin).await);
        }
        let attempts = admins.iter().enumerate().map(|(number, admin)| {
            let (directory, caller) = (world.directory.clone(), caller.clone());
            async move {
                if number % 2 == 0 {
                    let request = as_caller(caller, disable(admin));
                    directory.disable_principal(request).await.map(drop)
                } else {
                    let request = as_caller(caller, set_role(admin, Role::Agent));
                    directory.set_role(request).await.map(drop)
                }
            }
        });
        let refusals: Vec<_> = join_all(attempts)
            .await
            .into_iter()
            .filter_map(Result::err)
            .collect();
        let refusals: Vec<_> = refusals.iter().map(refusal).collect();
        assert_eq!(
            refusals,
            [(Code::FailedPrecondition, "LAST_ADMIN".to_owned())]
        );
        let admins: i64 = sqlx::query_scalar(
            "SELECT count(*) FROM directory.principals
              WHERE tenant_id = $1::uuid AND role = 'admin' AND disabled_at IS NULL",
        )
        .bind(home.tenant_id)
        .fetch_one(&world.admin)
        .await
        .unwrap();
        assert_eq!(admins, 1);
    }
}
