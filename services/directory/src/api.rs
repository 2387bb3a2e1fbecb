//! The gRPC face: parse, do, reply.

use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use runledger_domain::fault::Fault;
use runledger_domain::ids::{KeyId, PrincipalId, TenantId};
use runledger_domain::time::{Clock, Timestamp};
use runledger_proto::common::v1 as common;
use runledger_proto::directory::v1 as wire;
use runledger_proto::directory::v1::directory_service_server::DirectoryService;
use runledger_service::auth::{Caller, Limits, caller};
use runledger_service::status;
use secrecy::{ExposeSecret as _, SecretString};
use sqlx::PgPool;
use tonic::{Request, Response, Status};

use crate::audit::{By, Open};
use crate::config::Rules;
use crate::encode;
use crate::error::{self, Error};
use crate::keys::{KeyFilter, NewKey};
use crate::kill_switches::{Target, Turn};
use crate::page::Wanted;
use crate::parse::{Fields, REASON_CHARS_MAX};
use crate::principals::NewPrincipal;
use crate::reach::Reach;

/// How long a replaced key may go on.
pub const OVERLAP_MAX: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// The service `runledger.directory.v1.DirectoryService`. Cheap to clone.
#[derive(Clone)]
pub struct Directory {
    pub(crate) pool: PgPool,
    clock: Arc<dyn Clock>,
    pub(crate) limits_default: Limits,
    overlap_default: TimeDelta,
}

impl Directory {
    /// `pool` belongs to the role that writes the schema.
    ///
    /// # Errors
    /// When a rule is out of its bounds.
    pub fn new(pool: PgPool, clock: Arc<dyn Clock>, rules: &Rules) -> Result<Self, RulesError> {
        let mut fields = Fields::default();
        let limits = fields.limits("default_limits", rules.default_limits.into());
        let limits_default = fields.finish(limits).map_err(RulesError::Limits)?;
        if rules.rotation_overlap > OVERLAP_MAX {
            return Err(RulesError::Overlap);
        }
        let overlap_default =
            TimeDelta::from_std(rules.rotation_overlap).map_err(|_| RulesError::Overlap)?;
        Ok(Self {
            pool,
            clock,
            limits_default,
            overlap_default,
        })
    }

    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Begins a change by `caller`.
    pub(crate) async fn begin(&self, caller: &Caller) -> Result<Open, sqlx::Error> {
        Open::begin(&self.pool, By::caller(caller, self.now())).await
    }
}

/// Why the rules of the configuration are refused.
#[derive(Debug, thiserror::Error)]
pub enum RulesError {
    #[error("directory.default_limits are out of bounds")]
    Limits(#[source] Fault),
    #[error("directory.rotation_overlap must be at most 30 days")]
    Overlap,
}

type Reply<T> = Result<Response<T>, Status>;

fn refused(error: impl Into<Error>) -> Status {
    status::from_fault(error.into().into())
}

fn key_and_secret(key: crate::model::Key, secret: &SecretString) -> (Option<wire::Key>, String) {
    (Some(encode::key(key)), secret.expose_secret().to_owned())
}

#[tonic::async_trait]
impl DirectoryService for Directory {
    async fn who_am_i(&self, request: Request<wire::WhoAmIRequest>) -> Reply<wire::WhoAmIResponse> {
        let caller = caller(&request)?;
        let response = self.describe(caller).await.map_err(refused)?;
        Ok(Response::new(response))
    }

    async fn create_tenant(
        &self,
        request: Request<wire::CreateTenantRequest>,
    ) -> Reply<wire::CreateTenantResponse> {
        let caller = Arc::clone(caller(&request)?);
        let request = request.into_inner();
        let mut fields = Fields::default();
        let name = fields.name("name", request.name);
        let limits = request.limits.map(|limits| fields.limits("limits", limits));
        let name = fields.finish(name).map_err(refused)?;
        let tenant = self
            .create_tenant(&caller, &name, limits.flatten())
            .await
            .map_err(refused)?;
        let tenant = Some(encode::tenant(tenant));
        Ok(Response::new(wire::CreateTenantResponse { tenant }))
    }

    async fn get_tenant(
        &self,
        request: Request<wire::GetTenantRequest>,
    ) -> Reply<wire::GetTenantResponse> {
        let caller = caller(&request)?;
        let mut fields = Fields::default();
        let named = fields.optional_id("tenant_id", &request.get_ref().tenant_id, TenantId::new);
        let named = fields.finish(named).map_err(refused)?;
        let tenant = self.tenant(caller, named).await.map_err(refused)?;
        let tenant = Some(encode::tenant(tenant));
        Ok(Response::new(wire::GetTenantResponse { tenant }))
    }

    async fn list_tenants(
        &self,
        request: Request<wire::ListTenantsRequest>,
    ) -> Reply<wire::ListTenantsResponse> {
        let caller = Arc::clone(caller(&request)?);
        let request = request.into_inner();
        let wanted = Wanted::new(request.page_size, request.page_token);
        let page = self.tenants(&caller, &wanted).await.map_err(refused)?;
        Ok(Response::new(wire::ListTenantsResponse {
            tenants: page.entries.into_iter().map(encode::tenant).collect(),
            next_page_token: page.next,
        }))
    }

    async fn set_limits(
        &self,
        request: Request<wire::SetLimitsRequest>,
    ) -> Reply<wire::SetLimitsResponse> {
        let caller = Arc::clone(caller(&request)?);
        let request = request.into_inner();
        let mut fields = Fields::default();
        let tenant = fields.id("tenant_id", &request.tenant_id, TenantId::new);
        let limits = match request.limits {
            Some(limits) => fields.limits("limits", limits),
            None => {
                fields.wrong("limits", "REQUIRED", "must be set, all three of them");
                None
            }
        };
        let (tenant, limits) = fields.finish(tenant.zip(limits)).map_err(refused)?;
        let tenant = self
            .set_limits(&caller, tenant, limits)
            .await
            .map_err(refused)?;
        let tenant = Some(encode::tenant(tenant));
        Ok(Response::new(wire::SetLimitsResponse { tenant }))
    }

    async fn create_principal(
        &self,
        request: Request<wire::CreatePrincipalRequest>,
    ) -> Reply<wire::CreatePrincipalResponse> {
        let caller = Arc::clone(caller(&request)?);
        let new = new_principal(request.into_inner()).map_err(refused)?;
        let made = self.create_principal(&caller, new).await.map_err(refused)?;
        let principal = Some(encode::principal(made));
        Ok(Response::new(wire::CreatePrincipalResponse { principal }))
    }

    async fn list_principals(
        &self,
        request: Request<wire::ListPrincipalsRequest>,
    ) -> Reply<wire::ListPrincipalsResponse> {
        let caller = Arc::clone(caller(&request)?);
        let request = request.into_inner();
        let mut fields = Fields::default();
        let tenant = fields.optional_id("tenant_id", &request.tenant_id, TenantId::new);
        let tenant = fields.finish(tenant).map_err(refused)?;
        let wanted = Wanted::new(request.page_size, request.page_token);
        let page = self
            .principals(&caller, tenant, &wanted)
            .await
            .map_err(refused)?;
        Ok(Response::new(wire::ListPrincipalsResponse {
            principals: page.entries.into_iter().map(encode::principal).collect(),
            next_page_token: page.next,
        }))
    }

    async fn set_role(
        &self,
        request: Request<wire::SetRoleRequest>,
    ) -> Reply<wire::SetRoleResponse> {
        let caller = caller(&request)?;
        let wire::SetRoleRequest { principal_id, role } = request.get_ref();
        let mut fields = Fields::default();
        let principal = fields.id("principal_id", principal_id, PrincipalId::new);
        let role = fields.word::<common::Role>("role", *role);
        let (principal, role) = fields.finish(principal.zip(role)).map_err(refused)?;
        let principal = self
            .set_role(caller, principal, role)
            .await
            .map_err(refused)?;
        let principal = Some(encode::principal(principal));
        Ok(Response::new(wire::SetRoleResponse { principal }))
    }

    async fn disable_principal(
        &self,
        request: Request<wire::DisablePrincipalRequest>,
    ) -> Reply<wire::DisablePrincipalResponse> {
        let caller = caller(&request)?;
        let mut fields = Fields::default();
        let named = &request.get_ref().principal_id;
        let principal = fields.id("principal_id", named, PrincipalId::new);
        let principal = fields.finish(principal).map_err(refused)?;
        let principal = self
            .disable_principal(caller, principal)
            .await
            .map_err(refused)?;
        let principal = Some(encode::principal(principal));
        Ok(Response::new(wire::DisablePrincipalResponse { principal }))
    }

    async fn create_key(
        &self,
        request: Request<wire::CreateKeyRequest>,
    ) -> Reply<wire::CreateKeyResponse> {
        let caller = Arc::clone(caller(&request)?);
        let new = new_key(request.into_inner(), self.now()).map_err(refused)?;
        let (key, secret) = self.create_key(&caller, &new).await.map_err(refused)?;
        let (key, secret) = key_and_secret(key, &secret);
        Ok(Response::new(wire::CreateKeyResponse { key, secret }))
    }

    async fn list_keys(
        &self,
        request: Request<wire::ListKeysRequest>,
    ) -> Reply<wire::ListKeysResponse> {
        let caller = Arc::clone(caller(&request)?);
        let request = request.into_inner();
        let mut fields = Fields::default();
        let tenant = fields.optional_id("tenant_id", &request.tenant_id, TenantId::new);
        let principal = fields.optional_id("principal_id", &request.principal_id, PrincipalId::new);
        let (tenant, principal) = fields.finish(tenant.zip(principal)).map_err(refused)?;
        let wanted = Wanted::new(request.page_size, request.page_token);
        let page = self
            .keys(&caller, &KeyFilter { tenant, principal }, &wanted)
            .await
            .map_err(refused)?;
        Ok(Response::new(wire::ListKeysResponse {
            keys: page.entries.into_iter().map(encode::key).collect(),
            next_page_token: page.next,
        }))
    }

    async fn rotate_key(
        &self,
        request: Request<wire::RotateKeyRequest>,
    ) -> Reply<wire::RotateKeyResponse> {
        let caller = Arc::clone(caller(&request)?);
        let request = request.into_inner();
        let mut fields = Fields::default();
        let key = fields.id("key_id", &request.key_id, KeyId::new);
        let overlap = fields.span("overlap", request.overlap, OVERLAP_MAX);
        let (key, overlap) = fields.finish(key.zip(overlap)).map_err(refused)?;
        let overlap = overlap.unwrap_or(self.overlap_default);
        let (key, secret, replaced) = self
            .rotate_key(&caller, key, overlap)
            .await
            .map_err(refused)?;
        let (key, secret) = key_and_secret(key, &secret);
        Ok(Response::new(wire::RotateKeyResponse {
            key,
            secret,
            replaced: Some(encode::key(replaced)),
        }))
    }

    async fn revoke_key(
        &self,
        request: Request<wire::RevokeKeyRequest>,
    ) -> Reply<wire::RevokeKeyResponse> {
        let caller = caller(&request)?;
        let mut fields = Fields::default();
        let key = fields.id("key_id", &request.get_ref().key_id, KeyId::new);
        let key = fields.finish(key).map_err(refused)?;
        let key = self.revoke_key(caller, key).await.map_err(refused)?;
        let key = Some(encode::key(key));
        Ok(Response::new(wire::RevokeKeyResponse { key }))
    }

    async fn set_kill_switch(
        &self,
        request: Request<wire::SetKillSwitchRequest>,
    ) -> Reply<wire::SetKillSwitchResponse> {
        let caller = Arc::clone(caller(&request)?);
        let (target, turn) = kill_switch(request.into_inner()).map_err(refused)?;
        let on = self
            .set_kill_switch(&caller, target, turn)
            .await
            .map_err(refused)?;
        let kill_switches = encode::kill_switches(&caller, on);
        Ok(Response::new(wire::SetKillSwitchResponse { kill_switches }))
    }

    async fn list_kill_switches(
        &self,
        request: Request<wire::ListKillSwitchesRequest>,
    ) -> Reply<wire::ListKillSwitchesResponse> {
        let caller = caller(&request)?;
        let mut fields = Fields::default();
        let named = fields.optional_id("tenant_id", &request.get_ref().tenant_id, TenantId::new);
        let named = fields.finish(named).map_err(refused)?;
        let on = self.kill_switches(caller, named).await.map_err(refused)?;
        let kill_switches = encode::kill_switches(caller, on);
        Ok(Response::new(wire::ListKillSwitchesResponse {
            kill_switches,
        }))
    }
}

impl Directory {
    /// Who the caller is. Open to every role, so it reads what is the caller's own and no more.
    async fn describe(&self, caller: &Caller) -> error::Result<wire::WhoAmIResponse> {
        let tenant = caller.scope.map(|scope| scope.tenant);
        let own = tenant.map_or(Reach::Everything, Reach::Tenant);
        let principal = self.find_principal(own, caller.principal.principal).await?;
        let (described, on) = match tenant {
            Some(tenant) => (
                Some(self.find_tenant(tenant).await?),
                self.switches_on(Some(tenant)).await?,
            ),
            None => (None, self.switch_of_everyone().await?),
        };
        Ok(wire::WhoAmIResponse {
            principal: Some(encode::principal(principal)),
            mode: common::Mode::from(caller.mode).into(),
            tenant: described.map(encode::tenant),
            key_id: caller.key.to_string(),
            kill_switches: encode::kill_switches(caller, on),
        })
    }
}

fn new_principal(request: wire::CreatePrincipalRequest) -> Result<NewPrincipal, Fault> {
    let mut fields = Fields::default();
    let tenant = fields.optional_id("tenant_id", &request.tenant_id, TenantId::new);
    let name = fields.name("name", request.name);
    let kind = fields.word::<common::PrincipalKind>("kind", request.kind);
    let role = fields.word::<common::Role>("role", request.role);
    let parsed = tenant.zip(name).zip(kind.zip(role));
    let ((tenant, name), (kind, role)) = fields.finish(parsed)?;
    Ok(NewPrincipal {
        tenant,
        name,
        kind,
        role,
    })
}

fn new_key(request: wire::CreateKeyRequest, now: Timestamp) -> Result<NewKey, Fault> {
    let mut fields = Fields::default();
    let principal = fields.id("principal_id", &request.principal_id, PrincipalId::new);
    let mode = fields.word::<common::Mode>("mode", request.mode);
    let label = fields.label("label", request.label);
    let expires_at = fields.future("expires_at", request.expires_at, now);
    let parsed = principal.zip(mode).zip(label.zip(expires_at));
    let ((principal, mode), (label, expires_at)) = fields.finish(parsed)?;
    Ok(NewKey {
        principal,
        mode,
        label,
        expires_at,
    })
}

fn kill_switch(request: wire::SetKillSwitchRequest) -> Result<(Target, Turn), Fault> {
    use wire::set_kill_switch_request::Target as Wire;
    let mut fields = Fields::default();
    let target = match request.target {
        None => Some(Target::Own),
        Some(Wire::TenantId(id)) => fields
            .id("tenant_id", &id, TenantId::new)
            .map(Target::Tenant),
        Some(Wire::Everyone(true)) => Some(Target::Everyone),
        Some(Wire::Everyone(false)) => {
            let description = "must be true; to mean one tenant, name it instead";
            fields.wrong("everyone", "OUT_OF_RANGE", description);
            None
        }
    };
    let reason = fields.text("reason", request.reason, REASON_CHARS_MAX);
    let turn = match (request.on, reason) {
        (_, None) => None,
        (true, Some(reason)) if reason.trim().is_empty() => {
            fields.wrong("reason", "REQUIRED", "must say why, to turn the switch on");
            None
        }
        (true, Some(reason)) => Some(Turn::On(reason)),
        (false, Some(reason)) => Some(Turn::Off(Some(reason).filter(|text| !text.is_empty()))),
    };
    fields.finish(target.zip(turn))
}
