//! P5: nobody calls what is not his to call, and no scope sees or changes another's data.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::future::join_all;
use runledger_domain::scope::Role;
use runledger_proto::directory::v1::{DisablePrincipalRequest, ListKeysRequest, RevokeKeyRequest};
use runledger_service::access::{Access, TABLE};
use runledger_service::status::reason;
use runledger_tests::{Asking, Clients, Installation, Rpc, Tenant};
use tonic::{Code, Status};

mod goods;
mod leaks;

const MODE: &str = "x-runledger-mode";
/// A revoked key opens nothing anywhere after this long.
const REVOKED_WITHIN: Duration = Duration::from_secs(1);

/// Every rpc, without a good key, in a role that may not, in a mode that may not.
#[tokio::test(flavor = "multi_thread")]
async fn every_rpc_is_closed_to_those_it_does_not_name() {
    let mut installation = Installation::start("access").await;
    installation.govern(1, 1).await;
    installation.audit().await;
    installation.bill(0, 0).await;
    installation.analytics().await;
    let tenant = Tenant::create(&installation, "story").await;
    let disabled = Tenant::create(&installation, "disabled").await;
    let others = close(&installation, &tenant, &disabled).await;
    let rpcs = Rpc::all();
    for rpc in &rpcs {
        assert_closed(&installation, &tenant, &others, rpc).await;
    }
    let walked: BTreeSet<&str> = rpcs.iter().map(|rpc| rpc.path.as_str()).collect();
    let ruled: BTreeSet<&str> = TABLE
        .iter()
        .filter(|rule| rule.access != Access::Public)
        .map(|rule| rule.path)
        .collect();
    assert_eq!(walked, ruled);
    installation.assert_unharmed();
}

/// Keys that once were good: one revoked, one of a disabled principal. Both are known to every
/// process, which must forget them in time.
async fn close(installation: &Installation, tenant: &Tenant, disabled: &Tenant) -> [String; 2] {
    let keys = [
        tenant.sandbox_keys[&Role::Viewer].clone(),
        disabled.key(Role::Agent).to_owned(),
    ];
    let opens = |code: Option<Code>| {
        let tried = keys.iter().flat_map(|key| {
            let reads = Rpc::all()
                .into_iter()
                .filter(|rpc| rpc.path.ends_with("/WhoAmI") || rpc.path.ends_with("/ListRuns"));
            reads.map(|rpc| Asking::new(installation, &rpc).key(key).call())
        });
        async move {
            for answer in join_all(tried).await {
                assert_eq!(answer.err().map(|status| status.code()), code);
            }
        }
    };
    opens(None).await;
    let clients = installation.clients(tenant.key(Role::Admin));
    let revoked = key_id(&clients, &tenant.principals[&Role::Viewer], "rl_test_").await;
    let mut directory = clients.directory;
    directory
        .revoke_key(RevokeKeyRequest { key_id: revoked })
        .await
        .expect("revoked");
    let clients = installation.clients(disabled.key(Role::Admin));
    let mut directory = clients.directory;
    directory
        .disable_principal(DisablePrincipalRequest {
            principal_id: disabled.principals[&Role::Agent].clone(),
        })
        .await
        .expect("disabled");
    // The promise is a time.
    tokio::time::sleep(REVOKED_WITHIN).await;
    opens(Some(Code::Unauthenticated)).await;
    keys
}

/// The id of a principal's key that begins like this.
pub(crate) async fn key_id(clients: &Clients, principal_id: &str, begins: &str) -> String {
    let request = ListKeysRequest {
        principal_id: principal_id.into(),
        ..ListKeysRequest::default()
    };
    let listed = clients.directory.clone().list_keys(request).await;
    let keys = listed.expect("the keys").into_inner().keys;
    keys.into_iter()
        .find(|key| key.masked.starts_with(begins))
        .expect("the key")
        .key_id
}

async fn assert_closed(installation: &Installation, tenant: &Tenant, once: &[String], rpc: &Rpc) {
    let mut asking = Asking::new(installation, rpc);
    if rpc.path.ends_with("/WatchQueue") {
        asking = asking.take(0); // open is open: it would stay so
    }
    let unauthenticated = [
        (asking.clone(), "KEY_MISSING"),
        (asking.clone().key("rl_live_0"), "KEY_MALFORMED"),
        (
            asking.clone().with("authorization", "Basic eDp5"),
            "KEY_MALFORMED",
        ),
        (
            asking.clone().key(&format!("rl_live_{:064x}", 7)),
            "KEY_UNKNOWN",
        ),
        (asking.clone().key(&once[0]), "KEY_UNKNOWN"),
        (asking.clone().key(&once[1]), "KEY_UNKNOWN"),
    ];
    for (asking, why) in unauthenticated {
        assert_refused(rpc, asking.call().await.err(), Code::Unauthenticated, why);
    }
    for role in Role::ALL {
        let key = match role {
            Role::Operator => &installation.operator,
            role => tenant.key(*role),
        };
        // A tail of no run is refused; a tail of a run would stay open.
        let answered = asking.clone().key(key).call().await.err();
        if rpc.roles.contains(role) {
            assert_let_in(rpc, *role, answered);
            let asking = asking.clone().key(key).with(MODE, "elsewhere");
            let answered = asking.call().await.err();
            assert_refused(rpc, answered, Code::InvalidArgument, "MODE_UNKNOWN");
        } else {
            assert_refused(rpc, answered, Code::PermissionDenied, "ROLE_NOT_ALLOWED");
        }
    }
    let asking = asking
        .key(&tenant.sandbox_keys[&Role::Agent])
        .with(MODE, "live");
    let answered = asking.call().await.err();
    assert_refused(rpc, answered, Code::PermissionDenied, "MODE_NOT_ALLOWED");
}

fn assert_refused(rpc: &Rpc, answered: Option<Status>, code: Code, why: &str) {
    let path = &rpc.path;
    let status = answered.unwrap_or_else(|| panic!("{path} answers in place of {why}"));
    assert_eq!(
        (status.code(), reason(&status).as_deref()),
        (code, Some(why)),
        "{path}: {status:?}"
    );
}

/// Whoever may call gets an answer, or hears what is wrong with an empty request.
fn assert_let_in(rpc: &Rpc, role: Role, answered: Option<Status>) {
    let path = &rpc.path;
    if let Some(status) = answered {
        let wrong = [
            Code::InvalidArgument,
            Code::NotFound,
            Code::PermissionDenied,
        ];
        assert!(
            wrong.contains(&status.code()),
            "{path} as {role}: {status:?}"
        );
        assert_ne!(
            reason(&status).as_deref(),
            Some("ROLE_NOT_ALLOWED"),
            "{path} as {role}"
        );
    }
}
