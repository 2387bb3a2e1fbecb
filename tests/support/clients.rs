use std::collections::BTreeMap;
use std::time::Duration;

use runledger_domain::scope::Role;
use runledger_proto::common::v1 as common;
use runledger_proto::directory::v1 as directory;
use runledger_proto::directory::v1::directory_service_client::DirectoryServiceClient;
use runledger_proto::message::v1::message_ingest_service_client::MessageIngestServiceClient;
use runledger_proto::run::v1::run_ingest_service_client::RunIngestServiceClient;
use runledger_proto::run::v1::runs_service_client::RunsServiceClient;
use runledger_proto::run::v1::tool_call_ingest_service_client::ToolCallIngestServiceClient;
use runledger_proto::schedule::v1::schedule_ingest_service_client::ScheduleIngestServiceClient;
use runledger_service::client::{Connection, Options, connect_lazy};

use crate::{Installation, Kind};

/// One caller's clients of all services.
#[derive(Clone)]
pub struct Clients {
    pub runs_in: RunIngestServiceClient<Connection>,
    pub tool_calls_in: ToolCallIngestServiceClient<Connection>,
    pub schedules_in: ScheduleIngestServiceClient<Connection>,
    pub messages_in: MessageIngestServiceClient<Connection>,
    pub runs: RunsServiceClient<Connection>,
    pub directory: DirectoryServiceClient<Connection>,
}

impl Clients {
    pub(crate) fn new(installation: &Installation, key: Option<&str>) -> Self {
        let connect = |kind| {
            let key = key.map(|key| key.to_owned().into());
            let options = Options {
                connect_timeout: Duration::from_secs(2),
                ..Options::new(installation.url(kind, 0), key)
            };
            connect_lazy(&options).expect("an address")
        };
        let ingest = connect(Kind::Ingest);
        Self {
            runs_in: RunIngestServiceClient::new(ingest.clone()),
            tool_calls_in: ToolCallIngestServiceClient::new(ingest.clone()),
            schedules_in: ScheduleIngestServiceClient::new(ingest.clone()),
            messages_in: MessageIngestServiceClient::new(ingest),
            runs: RunsServiceClient::new(connect(Kind::Api)),
            directory: DirectoryServiceClient::new(connect(Kind::Directory)),
        }
    }
}

/// A tenant with one principal a role, each with a live key and a sandbox key.
pub struct Tenant {
    pub id: String,
    /// Ids of the principals.
    pub principals: BTreeMap<Role, String>,
    pub sandbox_keys: BTreeMap<Role, String>,
    keys: BTreeMap<Role, String>,
}

impl Tenant {
    /// Makes a tenant as an operator does, with limits that no story reaches.
    ///
    /// # Panics
    /// When the directory refuses.
    pub async fn create(installation: &Installation, name: &str) -> Self {
        let mut directory = installation.clients(&installation.operator).directory;
        let limits = directory::Limits {
            records_per_second: 1_000_000,
            bytes_per_second: 1_000_000_000,
            commands_per_second: 100_000,
        };
        let request = directory::CreateTenantRequest {
            name: name.into(),
            limits: Some(limits),
        };
        let created = directory
            .create_tenant(request)
            .await
            .expect("a tenant")
            .into_inner();
        let mut tenant = Self {
            id: created.tenant.expect("a tenant").tenant_id,
            principals: BTreeMap::new(),
            sandbox_keys: BTreeMap::new(),
            keys: BTreeMap::new(),
        };
        for role in [Role::Admin, Role::Reviewer, Role::Viewer, Role::Agent] {
            let request = directory::CreatePrincipalRequest {
                tenant_id: tenant.id.clone(),
                name: role.to_string(),
                kind: common::PrincipalKind::Service.into(),
                role: common::Role::from(role).into(),
            };
            let principal = directory
                .create_principal(request)
                .await
                .expect("a principal")
                .into_inner();
            let principal_id = principal.principal.expect("a principal").principal_id;
            let live = key(&mut directory, &principal_id, common::Mode::Live).await;
            let sandbox = key(&mut directory, &principal_id, common::Mode::Sandbox).await;
            tenant.keys.insert(role, live);
            tenant.sandbox_keys.insert(role, sandbox);
            tenant.principals.insert(role, principal_id);
        }
        tenant
    }

    /// Live keys of so many people who review.
    ///
    /// # Panics
    /// When the directory refuses.
    pub async fn reviewers(&self, installation: &Installation, count: usize) -> Vec<String> {
        let mut directory = installation.clients(&installation.operator).directory;
        let mut keys = Vec::with_capacity(count);
        for number in 0..count {
            let request = directory::CreatePrincipalRequest {
                tenant_id: self.id.clone(),
                name: format!("reviewer-{number}"),
                kind: common::PrincipalKind::User.into(),
                role: common::Role::Reviewer.into(),
            };
            let made = directory.create_principal(request).await;
            let made = made.expect("a principal").into_inner().principal;
            let id = made.expect("a principal").principal_id;
            keys.push(key(&mut directory, &id, common::Mode::Live).await);
        }
        keys
    }

    /// The live key of the tenant's principal of this role.
    pub fn key(&self, role: Role) -> &str {
        &self.keys[&role]
    }
}

async fn key(
    directory: &mut DirectoryServiceClient<Connection>,
    principal_id: &str,
    mode: common::Mode,
) -> String {
    let request = directory::CreateKeyRequest {
        principal_id: principal_id.into(),
        mode: mode.into(),
        label: "story".into(),
        expires_at: None,
    };
    directory
        .create_key(request)
        .await
        .expect("a key")
        .into_inner()
        .secret
}
