use futures::future::join_all;
use runledger_directory::{BootstrapError, bootstrap};
use runledger_domain::time::SystemClock;
use runledger_proto::common::v1::{Mode, Role};
use runledger_proto::directory::v1::directory_service_server::DirectoryService as _;
use runledger_proto::directory::v1::*;
use runledger_testkit::Database;
use secrecy::ExposeSecret as _;
use tonic::Code;

use crate::world::{World, ok, refused, wrong_fields};

#[tokio::test]
async fn of_many_bootstraps_at_once_one_makes_the_operator() {
    let database = Database::fresh().await;
    let pool = database.pool("runledger_directory", "directory");
    let all = join_all((0..16).map(|_| bootstrap(&pool, &SystemClock))).await;
    let (made, refused): (Vec<_>, Vec<_>) = all.into_iter().partition(Result::is_ok);
    assert_eq!(made.len(), 1);
    for refusal in refused {
        assert!(matches!(refusal, Err(BootstrapError::AlreadyBootstrapped)));
    }
    assert!(matches!(
        bootstrap(&pool, &SystemClock).await,
        Err(BootstrapError::AlreadyBootstrapped)
    ));
    let stored: (i64, i64, i64) = sqlx::query_as(
        "SELECT (SELECT count(*) FROM directory.principals), (SELECT count(*) FROM directory.api_keys),
                (SELECT count(*) FROM directory.outbox)",
    )
    .fetch_one(&pool)
    .await
    .unwrap();
    assert_eq!(stored, (1, 1, 2));
    let secret = made.into_iter().next().unwrap().unwrap();
    assert!(secret.expose_secret().starts_with("rl_live_"));
}

#[tokio::test]
async fn an_operator_makes_tenants_and_finds_them() {
    let world = World::new().await;
    let limits = Limits {
        records_per_second: 1,
        bytes_per_second: 1_024,
        commands_per_second: 1,
    };
    let request = CreateTenantRequest {
        name: "Zoë & Söhne".into(),
        limits: Some(limits),
    };
    let request = world.by(&world.operator, request).await;
    let made = ok(world.directory.create_tenant(request).await)
        .tenant
        .unwrap();
    assert_eq!(
        (made.name.as_str(), made.limits),
        ("Zoë & Söhne", Some(limits))
    );

    let get = GetTenantRequest {
        tenant_id: made.tenant_id.clone(),
    };
    let request = world.by(&world.operator, get).await;
    assert_eq!(
        ok(world.directory.get_tenant(request).await).tenant,
        Some(made)
    );

    let home = world.home("Acme").await;
    let request = world.by(&home.admin, GetTenantRequest::default()).await;
    let own = ok(world.directory.get_tenant(request).await)
        .tenant
        .unwrap();
    assert_eq!(own.tenant_id, home.tenant_id);
    assert_eq!(own.limits.unwrap().records_per_second, 100);

    let request = world.by(&world.operator, GetTenantRequest::default()).await;
    assert_eq!(
        wrong_fields(world.directory.get_tenant(request).await),
        ["tenant_id"]
    );
    let unknown = GetTenantRequest {
        tenant_id: "00000000-0000-0000-0000-000000000000".into(),
    };
    let request = world.by(&world.operator, unknown).await;
    let reply = world.directory.get_tenant(request).await;
    refused(reply, Code::NotFound, "TENANT_NOT_FOUND");
}

#[tokio::test]
async fn a_tenants_name_is_taken_once() {
    let world = World::new().await;
    world.home("Acme").await;
    let before = world.dump().await;
    let again = CreateTenantRequest {
        name: "Acme".into(),
        limits: None,
    };
    let request = world.by(&world.operator, again).await;
    let reply = world.directory.create_tenant(request).await;
    refused(reply, Code::AlreadyExists, "TENANT_NAME_TAKEN");
    assert_eq!(world.dump().await, before);
}

#[tokio::test]
async fn tenants_are_listed_by_name_page_by_page() {
    let world = World::new().await;
    for name in ["b", "a", "d", "c", "e"] {
        let request = CreateTenantRequest {
            name: name.into(),
            limits: None,
        };
        let request = world.by(&world.operator, request).await;
        ok(world.directory.create_tenant(request).await);
    }
    let mut seen = Vec::new();
    let mut page_token = String::new();
    loop {
        let list = ListTenantsRequest {
            page_size: 2,
            page_token,
        };
        let request = world.by(&world.operator, list).await;
        let page = ok(world.directory.list_tenants(request).await);
        assert!(page.tenants.len() <= 2);
        seen.extend(page.tenants.into_iter().map(|tenant| tenant.name));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!(seen, ["a", "b", "c", "d", "e"]);

    let list = ListTenantsRequest {
        page_size: 5,
        page_token: "AQ".into(),
    };
    let request = world.by(&world.operator, list).await;
    let reply = world.directory.list_tenants(request).await;
    refused(reply, Code::InvalidArgument, "PAGE_TOKEN_INVALID");
    let request = world
        .by(
            &world.operator,
            ListTenantsRequest {
                page_size: 5,
                ..Default::default()
            },
        )
        .await;
    let page = ok(world.directory.list_tenants(request).await);
    assert_eq!((page.tenants.len(), page.next_page_token.as_str()), (5, ""));
}

#[tokio::test]
async fn limits_are_set_whole_and_within_bounds() {
    let world = World::new().await;
    let home = world.home("Acme").await;
    let limits = Limits {
        records_per_second: 7,
        bytes_per_second: 7_000,
        commands_per_second: 70,
    };
    let set = |limits| SetLimitsRequest {
        tenant_id: home.tenant_id.clone(),
        limits,
    };
    let request = world.by(&world.operator, set(Some(limits))).await;
    let tenant = ok(world.directory.set_limits(request).await)
        .tenant
        .unwrap();
    assert_eq!(tenant.limits, Some(limits));
    let caller = world.enter(&home.admin, None).await.unwrap();
    assert_eq!(caller.limits.records_per_second, 7);
    assert_eq!(caller.limits.commands_per_second, 70);

    let changes = world.changes().await;
    let request = world.by(&world.operator, set(Some(limits))).await;
    ok(world.directory.set_limits(request).await);
    assert_eq!(
        world.changes().await,
        changes,
        "the same again is no change"
    );

    let wrong = Limits {
        records_per_second: 10_000_001,
        bytes_per_second: 1,
        commands_per_second: 0,
    };
    let request = SetLimitsRequest {
        tenant_id: "x".into(),
        limits: Some(wrong),
    };
    let request = world.by(&world.operator, request).await;
    let fields = wrong_fields(world.directory.set_limits(request).await);
    let expected = [
        "tenant_id",
        "limits.records_per_second",
        "limits.bytes_per_second",
        "limits.commands_per_second",
    ];
    assert_eq!(fields, expected);
    let request = world.by(&world.operator, SetLimitsRequest::default()).await;
    let fields = wrong_fields(world.directory.set_limits(request).await);
    assert_eq!(fields, ["tenant_id", "limits"]);
}

#[tokio::test]
async fn whoever_has_a_key_learns_who_it_is() {
    let world = World::new().await;
    let home = world.home("Acme").await;
    let request = world.by(&world.operator, WhoAmIRequest {}).await;
    let me = ok(world.directory.who_am_i(request).await);
    assert_eq!(me.principal.unwrap().role(), Role::Operator);
    assert_eq!((me.mode, me.tenant), (Mode::Live.into(), None));

    let viewer = world
        .principal(&home.admin, "", "viewer", Role::Viewer)
        .await;
    let (key_id, key) = world.key(&home.admin, &viewer, Mode::Sandbox).await;
    let request = world.by(&key, WhoAmIRequest {}).await;
    let me = ok(world.directory.who_am_i(request).await);
    let principal = me.principal.unwrap();
    assert_eq!(principal.principal_id, viewer);
    assert_eq!(principal.tenant_id, home.tenant_id);
    assert_eq!((me.mode, me.key_id), (Mode::Sandbox.into(), key_id));
    assert_eq!(me.tenant.unwrap().tenant_id, home.tenant_id);

    let request = world.in_sandbox(&home.admin, WhoAmIRequest {}).await;
    let me = ok(world.directory.who_am_i(request).await);
    assert_eq!(me.mode, i32::from(Mode::Sandbox));
}
