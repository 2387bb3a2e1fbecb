use runledger_proto::common::v1::{Mode, Role};
use runledger_proto::directory::v1::directory_service_server::DirectoryService as _;
use runledger_proto::directory::v1::set_kill_switch_request::Target;
use runledger_proto::directory::v1::*;
use tonic::Code;

use crate::world::{Home, World, ok, refused, wrong_fields};

fn turn(on: bool, target: Option<Target>, reason: &str) -> SetKillSwitchRequest {
    SetKillSwitchRequest {
        on,
        target,
        reason: reason.into(),
    }
}

fn of(home: &Home) -> Option<Target> {
    Some(Target::TenantId(home.tenant_id.clone()))
}

const EVERYONE: Option<Target> = Some(Target::Everyone(true));

impl World {
    async fn turn(&self, by: &str, request: SetKillSwitchRequest) -> Vec<KillSwitch> {
        let request = self.by(by, request).await;
        ok(self.directory.set_kill_switch(request).await).kill_switches
    }

    /// Why the caller's writes are stopped, as the gate sees it.
    async fn stopped(&self, by: &str) -> Option<String> {
        let caller = self.enter(by, None).await.unwrap();
        caller.kill_switch.as_ref().map(|on| on.reason.to_string())
    }
}

#[tokio::test]
async fn an_admin_stops_its_own_tenant_and_allows_it_again() {
    let world = World::new().await;
    let (home, other) = (world.home("Acme").await, world.home("Other").await);
    let on = world
        .turn(&home.admin, turn(true, None, "leaked key"))
        .await;
    assert_eq!(on.len(), 1);
    assert_eq!(
        (&on[0].tenant_id, &on[0].set_by),
        (&home.tenant_id, &home.admin_id)
    );
    assert_eq!(
        world.stopped(&home.admin).await.as_deref(),
        Some("leaked key")
    );
    assert_eq!(world.stopped(&other.admin).await, None);
    assert_eq!(world.stopped(&world.operator).await, None);

    // Once more: nothing changes. With another reason: that changes, since when does not.
    let changes = world.changes().await;
    assert_eq!(
        world
            .turn(&home.admin, turn(true, of(&home), "leaked key"))
            .await,
        on
    );
    assert_eq!(world.changes().await, changes);
    let again = world
        .turn(&home.admin, turn(true, None, "two leaked keys"))
        .await;
    assert_eq!(
        (again[0].since, again[0].reason.as_str()),
        (on[0].since, "two leaked keys")
    );

    // Administration goes on meanwhile.
    let agent = world.principal(&home.admin, "", "agent", Role::Agent).await;
    let key_id = world.key(&home.admin, &agent, Mode::Live).await.0;
    let request = world.by(&home.admin, RevokeKeyRequest { key_id }).await;
    ok(world.directory.revoke_key(request).await);
    let request = world.by(&home.admin, WhoAmIRequest {}).await;
    assert_eq!(
        ok(world.directory.who_am_i(request).await).kill_switches,
        again
    );

    assert_eq!(world.turn(&home.admin, turn(false, None, "")).await, []);
    assert_eq!(world.stopped(&home.admin).await, None);
    let changes = world.changes().await;
    assert_eq!(world.turn(&home.admin, turn(false, None, "")).await, []);
    assert_eq!(world.changes().await, changes);
}

#[tokio::test]
async fn an_operator_stops_one_or_everybody() {
    let world = World::new().await;
    let (home, other) = (world.home("Acme").await, world.home("Other").await);
    let operator = world.operator.clone();
    let on = world
        .turn(&operator, turn(true, EVERYONE, "maintenance"))
        .await;
    assert_eq!((on.len(), on[0].tenant_id.as_str()), (1, ""));
    world.turn(&operator, turn(true, of(&home), "abuse")).await;
    assert_eq!(
        world.stopped(&other.admin).await.as_deref(),
        Some("maintenance")
    );

    let request = world
        .by(&operator, ListKillSwitchesRequest::default())
        .await;
    let all = ok(world.directory.list_kill_switches(request).await).kill_switches;
    let reasons: Vec<_> = all.iter().map(|one| one.reason.as_str()).collect();
    assert_eq!(reasons, ["maintenance", "abuse"]);
    assert!(all.iter().all(|one| !one.set_by.is_empty()));
    // A tenant sees what stops it, not who the operators are.
    let request = world
        .by(&other.admin, ListKillSwitchesRequest::default())
        .await;
    let seen = ok(world.directory.list_kill_switches(request).await).kill_switches;
    assert_eq!(seen.len(), 1);
    assert_eq!(
        (seen[0].reason.as_str(), seen[0].set_by.as_str()),
        ("maintenance", "")
    );

    assert_eq!(
        world.turn(&operator, turn(false, EVERYONE, "done")).await,
        []
    );
    assert_eq!(world.stopped(&other.admin).await, None);
    assert_eq!(world.stopped(&home.admin).await.as_deref(), Some("abuse"));
    assert_eq!(world.turn(&operator, turn(false, of(&home), "")).await, []);
    assert_eq!(world.stopped(&home.admin).await, None);
}

#[tokio::test]
async fn what_an_operator_turned_on_only_an_operator_turns_off() {
    let world = World::new().await;
    let home = world.home("Acme").await;
    let operator = world.operator.clone();
    world.turn(&home.admin, turn(true, None, "ours")).await;
    world.turn(&operator, turn(true, of(&home), "abuse")).await;
    let before = world.dump().await;
    let request = world.by(&home.admin, turn(false, None, "")).await;
    let reply = world.directory.set_kill_switch(request).await;
    refused(reply, Code::PermissionDenied, "OPERATORS_ONLY");
    let on = world.turn(&home.admin, turn(true, None, "ours")).await;
    assert_eq!(on[0].reason, "abuse");
    let request = world.by(&home.admin, turn(false, EVERYONE, "")).await;
    let reply = world.directory.set_kill_switch(request).await;
    refused(reply, Code::PermissionDenied, "OPERATORS_ONLY");
    assert_eq!(world.dump().await, before);
    assert_eq!(world.turn(&operator, turn(false, of(&home), "")).await, []);
}

#[tokio::test]
async fn a_switch_is_asked_for_in_full() {
    let world = World::new().await;
    let home = world.home("Acme").await;
    let cases = [
        (turn(true, None, " "), vec!["reason"]),
        (turn(true, None, &"x".repeat(1_025)), vec!["reason"]),
        (
            turn(true, Some(Target::Everyone(false)), ""),
            vec!["everyone", "reason"],
        ),
        (
            turn(true, Some(Target::TenantId("x".into())), "a\0"),
            vec!["tenant_id", "reason"],
        ),
    ];
    for (request, fields) in cases {
        let request = world.by(&home.admin, request).await;
        assert_eq!(
            wrong_fields(world.directory.set_kill_switch(request).await),
            fields
        );
    }
    let request = world.by(&world.operator, turn(true, None, "which?")).await;
    assert_eq!(
        wrong_fields(world.directory.set_kill_switch(request).await),
        ["tenant_id"]
    );
    let nobody = Some(Target::TenantId(
        "00000000-0000-0000-0000-000000000009".into(),
    ));
    let request = world.by(&world.operator, turn(true, nobody, "x")).await;
    let reply = world.directory.set_kill_switch(request).await;
    refused(reply, Code::NotFound, "TENANT_NOT_FOUND");
}
