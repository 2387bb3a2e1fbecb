//! The policies of a scope: commands that change them, and what they are and were.

use prost::Message as _;
use runledger_decider::{Answer, Command};
use runledger_domain::fault::{Fault, Kind};
use runledger_domain::ids::{PolicyId, RecordId};
use runledger_domain::log::Stream;
use runledger_domain::policy::{self, ApproverSet, Book};
use runledger_domain::scope::{Role, Scope};
use runledger_domain::time::Timestamp;
use runledger_projection::ReadOptions;
use runledger_proto::decode::fields::{Fields, Path};
use runledger_proto::policy::v1 as wire;
use runledger_proto::policy::v1::policy_service_server::PolicyService;
use runledger_proto::{decode, encode, types};
use runledger_service::{page, trace};
use tonic::{Request, Response, Status};
use uuid::Uuid;

use super::{Api, Call, View, answer, database, decided, only, parse};
use crate::statements;

/// The policy as it is then, and the token of the decision; none: it is not decided yet.
type Changed = (Option<wire::Policy>, String);

/// What switching a policy on and off have in common.
struct Enabling {
    id: String,
    policy_id: String,
    expected_version: Option<u64>,
    enabled: bool,
}

impl From<wire::EnablePolicyRequest> for Enabling {
    fn from(wire: wire::EnablePolicyRequest) -> Self {
        Self {
            id: wire.id,
            policy_id: wire.policy_id,
            expected_version: wire.expected_version,
            enabled: true,
        }
    }
}

impl From<wire::DisablePolicyRequest> for Enabling {
    fn from(wire: wire::DisablePolicyRequest) -> Self {
        Self {
            id: wire.id,
            policy_id: wire.policy_id,
            expected_version: wire.expected_version,
            enabled: false,
        }
    }
}

fn policy_id(see: &mut Fields<'_>, value: String) -> Option<PolicyId> {
    see.id("policy_id", value, PolicyId::parse)
}

fn spec_of(see: &mut Fields<'_>, spec: Option<wire::PolicySpec>) -> Option<policy::Spec> {
    let spec = see.required("spec", spec)?;
    decode::policy(spec, Path::ROOT.field("spec"))
        .map_err(|faults| see.take_over(faults))
        .ok()
}

fn not_found() -> Fault {
    let message =
        "there is no such policy; right after making it, pass the answer's token as read.at_least";
    Fault::new(Kind::NotFound, "POLICY_NOT_FOUND", message)
}

#[tonic::async_trait]
impl PolicyService for Api {
    async fn create_policy(
        &self,
        request: Request<wire::CreatePolicyRequest>,
    ) -> Result<Response<wire::CreatePolicyResponse>, Status> {
        let call = self.call(request)?;
        let answered = self.create_policy_(call).await;
        answer(answered.map(|(policy, token)| wire::CreatePolicyResponse { policy, token }))
    }

    async fn update_policy(
        &self,
        request: Request<wire::UpdatePolicyRequest>,
    ) -> Result<Response<wire::UpdatePolicyResponse>, Status> {
        let call = self.call(request)?;
        let answered = self.update_policy_(call).await;
        answer(answered.map(|(policy, token)| wire::UpdatePolicyResponse { policy, token }))
    }

    async fn enable_policy(
        &self,
        request: Request<wire::EnablePolicyRequest>,
    ) -> Result<Response<wire::EnablePolicyResponse>, Status> {
        let call = self.call(request)?;
        let answered = self.set_policy_enabled(call.map(Enabling::from)).await;
        answer(answered.map(|(policy, token)| wire::EnablePolicyResponse { policy, token }))
    }

    async fn disable_policy(
        &self,
        request: Request<wire::DisablePolicyRequest>,
    ) -> Result<Response<wire::DisablePolicyResponse>, Status> {
        let call = self.call(request)?;
        let answered = self.set_policy_enabled(call.map(Enabling::from)).await;
        answer(answered.map(|(policy, token)| wire::DisablePolicyResponse { policy, token }))
    }

    async fn delete_policy(
        &self,
        request: Request<wire::DeletePolicyRequest>,
    ) -> Result<Response<wire::DeletePolicyResponse>, Status> {
        let call = self.call(request)?;
        let answered = self.delete_policy_(call).await;
        answer(answered.map(|(policy, token)| wire::DeletePolicyResponse { policy, token }))
    }

    async fn get_policy(
        &self,
        request: Request<wire::GetPolicyRequest>,
    ) -> Result<Response<wire::GetPolicyResponse>, Status> {
        let call = self.call(request)?;
        answer(self.policy(call).await)
    }

    async fn list_policies(
        &self,
        request: Request<wire::ListPoliciesRequest>,
    ) -> Result<Response<wire::ListPoliciesResponse>, Status> {
        let call = self.call(request)?;
        answer(self.policies(call).await)
    }

    async fn list_policy_versions(
        &self,
        request: Request<wire::ListPolicyVersionsRequest>,
    ) -> Result<Response<wire::ListPolicyVersionsResponse>, Status> {
        let call = self.call(request)?;
        answer(self.policy_versions(call).await)
    }
}

impl Api {
    async fn create_policy_(
        &self,
        call: Call<wire::CreatePolicyRequest>,
    ) -> Result<Changed, Fault> {
        let call = call.map(|request| {
            let named = !request.policy_id.is_empty();
            let policy_id = if named {
                request.policy_id
            } else {
                request.id.clone()
            };
            (request.id, policy_id, request.spec)
        });
        self.change(call, |(id, name, spec), see| {
            let id = see.uuid("id", &id).map(RecordId::new);
            let name = policy_id(see, name);
            let spec = spec_of(see, spec);
            let command = policy::Command::Create {
                id: name?,
                spec: spec?,
            };
            Some((id?, command))
        })
        .await
    }

    async fn update_policy_(
        &self,
        call: Call<wire::UpdatePolicyRequest>,
    ) -> Result<Changed, Fault> {
        self.change(call, |request, see| {
            let id = see.uuid("id", &request.id).map(RecordId::new);
            let name = policy_id(see, request.policy_id);
            let spec = spec_of(see, request.spec);
            let command = policy::Command::Update {
                id: name?,
                spec: spec?,
                expected_version: request.expected_version,
            };
            Some((id?, command))
        })
        .await
    }

    async fn set_policy_enabled(&self, call: Call<Enabling>) -> Result<Changed, Fault> {
        self.change(call, |request, see| {
            let id = see.uuid("id", &request.id).map(RecordId::new);
            let command = policy::Command::SetEnabled {
                id: policy_id(see, request.policy_id)?,
                enabled: request.enabled,
                expected_version: request.expected_version,
            };
            Some((id?, command))
        })
        .await
    }

    async fn delete_policy_(
        &self,
        call: Call<wire::DeletePolicyRequest>,
    ) -> Result<Changed, Fault> {
        self.change(call, |request, see| {
            let id = see.uuid("id", &request.id).map(RecordId::new);
            let command = policy::Command::Delete {
                id: policy_id(see, request.policy_id)?,
                expected_version: request.expected_version,
            };
            Some((id?, command))
        })
        .await
    }

    /// Asks for one change and waits for its decision.
    async fn change<T>(
        &self,
        call: Call<T>,
        read: impl FnOnce(T, &mut Fields<'_>) -> Option<(RecordId, policy::Command)>,
    ) -> Result<Changed, Fault> {
        let scope = self.admit(&call.caller, 1)?;
        let ((id, command), _) = parse(None, |see| read(call.message, see))?;
        self.check_quorum(scope, &command).await?;
        let (type_name, payload) = encode::policy_command(&command);
        let command = Command {
            id,
            scope,
            stream: Stream::policies(),
            actor: call.caller.principal,
            type_name,
            payload,
            expected_version: None,
            at_least: Vec::new(),
            trace: trace::current(),
        };
        let answers = self.0.parts.callers.ask(vec![command], call.until).await?;
        let answer: Answer = only(answers)?;
        let changed = decided::<wire::PolicyChanged>(answer, types::POLICY_CHANGED)?;
        Ok(match changed {
            Some((changed, token)) => (changed.policy, token),
            None => (None, String::new()),
        })
    }

    /// A policy that nobody could ever satisfy is refused before it is asked for. People come and
    /// go: what is possible now need not be when a call is held, which the queue shows.
    async fn check_quorum(&self, scope: Scope, command: &policy::Command) -> Result<(), Fault> {
        let rule = match command {
            policy::Command::Create { spec, .. } | policy::Command::Update { spec, .. } => {
                spec.approval.clone().unwrap_or_default()
            }
            policy::Command::SetEnabled { .. } | policy::Command::Delete { .. } => return Ok(()),
        };
        // One is the least there can be, and a tenant has an admin.
        if rule.quorum <= 1 {
            return Ok(());
        }
        let usual = [Role::Admin, Role::Reviewer];
        let names_nobody = rule.approvers == ApproverSet::default();
        let roles: Vec<&str> = if names_nobody {
            usual.iter().map(|role| role.as_str()).collect()
        } else {
            rule.approvers
                .roles
                .iter()
                .map(|role| role.as_str())
                .collect()
        };
        let principals: Vec<Uuid> = rule
            .approvers
            .principals
            .iter()
            .map(|one| one.as_uuid())
            .collect();
        let mut view = self.read(scope, &ReadOptions::default(), None).await?;
        let tenant = view.tenant();
        let count: i64 = sqlx::query_scalar(statements::SELECT_APPROVER_COUNT)
            .bind(tenant)
            .bind(roles)
            .bind(principals)
            .fetch_one(&mut **view.tx())
            .await
            .map_err(database)?;
        view.close().await?;
        if count >= i64::from(rule.quorum) {
            return Ok(());
        }
        let message = format!(
            "the policy asks for {} approvers, and the tenant has {count} who could be one; ask for fewer, name others, or make principals first",
            rule.quorum
        );
        Err(Fault::new(
            Kind::Precondition,
            "QUORUM_UNREACHABLE",
            message,
        ))
    }

    async fn policy(
        &self,
        call: Call<wire::GetPolicyRequest>,
    ) -> Result<wire::GetPolicyResponse, Fault> {
        let scope = call.caller.require_scope()?;
        let request = call.message;
        let (id, options) = parse(request.read, |see| policy_id(see, request.policy_id))?;
        let stream = Stream::policies();
        let mut view = self.read(scope, &options, Some(&stream)).await?;
        let book = book(&mut view).await?;
        let policy = book.get(&id).map(Into::into).ok_or_else(not_found)?;
        Ok(wire::GetPolicyResponse {
            policy: Some(policy),
            as_of: Some(view.close().await?),
        })
    }

    async fn policies(
        &self,
        call: Call<wire::ListPoliciesRequest>,
    ) -> Result<wire::ListPoliciesResponse, Fault> {
        let scope = call.caller.require_scope()?;
        let ((), options) = parse(call.message.read, |_| Some(()))?;
        let stream = Stream::policies();
        let mut view = self.read(scope, &options, Some(&stream)).await?;
        let book = book(&mut view).await?;
        let shown = book
            .policies()
            .filter(|policy| call.message.with_deleted || !policy.deleted);
        Ok(wire::ListPoliciesResponse {
            policies: shown.map(Into::into).collect(),
            as_of: Some(view.close().await?),
        })
    }

    async fn policy_versions(
        &self,
        call: Call<wire::ListPolicyVersionsRequest>,
    ) -> Result<wire::ListPolicyVersionsResponse, Fault> {
        let scope = call.caller.require_scope()?;
        let request = call.message;
        let size = page::size(request.page_size);
        let token = request.page_token;
        let (id, options) = parse(request.read, |see| policy_id(see, request.policy_id))?;
        let list = page::List::of(&["ListPolicyVersions", &scope.to_string(), id.as_str()]);
        let before: Option<i64> = list.place(&token)?;
        let stream = Stream::policies();
        let mut view = self.read(scope, &options, Some(&stream)).await?;
        let book = book(&mut view).await?;
        let current = book.get(&id).ok_or_else(not_found)?.version;
        let (tenant, mode) = (view.tenant(), view.mode());
        // The version in force too, since it says when and by whom the one before was superseded.
        let rows: Vec<(i64, Timestamp, Vec<u8>)> =
            sqlx::query_as(statements::SELECT_POLICY_VERSIONS)
                .bind(tenant)
                .bind(mode)
                .bind(id.as_str())
                .bind(before.unwrap_or(i64::MAX))
                .bind(i64::from(size) + 1)
                .fetch_all(&mut **view.tx())
                .await
                .map_err(database)?;
        let superseded = superseded(&id, rows)?;
        let more = superseded.len() >= size as usize;
        let last = superseded
            .last()
            .and_then(|one| Some(one.policy.as_ref()?.version));
        let next_page_token = last
            .filter(|_| more)
            .map(|version| list.token(&i64::try_from(version + 1).unwrap_or(i64::MAX)))
            .transpose()?
            .unwrap_or_default();
        Ok(wire::ListPolicyVersionsResponse {
            policy_id: id.to_string(),
            current_version: current,
            versions: superseded,
            next_page_token,
            as_of: Some(view.close().await?),
        })
    }
}

/// From versions, the newest first, to those that another has superseded. A default was version 0.
fn superseded(
    id: &PolicyId,
    rows: Vec<(i64, Timestamp, Vec<u8>)>,
) -> Result<Vec<wire::list_policy_versions_response::Version>, Fault> {
    let mut policies: Vec<wire::Policy> = Vec::with_capacity(rows.len() + 1);
    for (_, _, payload) in rows {
        let changed = wire::PolicyChanged::decode(payload.as_slice()).map_err(Fault::internal)?;
        policies.extend(changed.policy);
    }
    let is_first = policies.last().is_some_and(|policy| policy.version == 1);
    let defaults = Book::default();
    let default = defaults.get(id).filter(|_| is_first);
    policies.extend(default.map(Into::into));
    let pairs = policies.windows(2).filter_map(|pair| match pair {
        [later, earlier] => Some((later, earlier)),
        _ => None,
    });
    Ok(pairs
        .map(
            |(later, earlier)| wire::list_policy_versions_response::Version {
                policy: Some(earlier.clone()),
                archived_at: later.updated.as_ref().and_then(|change| change.at),
                archived_by: later.updated.as_ref().and_then(|change| change.by.clone()),
            },
        )
        .collect())
}

/// The policies of the view's scope.
pub(super) async fn book(view: &mut View) -> Result<Book, Fault> {
    let (tenant, mode) = (view.tenant(), view.mode());
    let state: Option<Vec<u8>> = sqlx::query_scalar(statements::SELECT_POLICIES)
        .bind(tenant)
        .bind(mode)
        .fetch_optional(&mut **view.tx())
        .await
        .map_err(database)?;
    match state {
        None => Ok(Book::default()),
        Some(state) => decode::stored_policy_book(&state).map_err(Fault::internal),
    }
}
