//! `runledger policies`: what agents may do alone, and what people approve first.

use runledger_domain::policy::{Action, Severity};
use runledger_proto::common::v1 as common;
use runledger_proto::policy::v1 as wire;
use runledger_service::ids;
use tonic::{Response, Status};

use crate::cli::{
    NewPolicy, Policies, PolicyChange, PolicyCreate, PolicyList, PolicyShow, PolicyUpdate,
};
use crate::json;
use crate::reading::PAGE;
use crate::remote::{self, For, Refusal, Remote};
use crate::runs::read_options;
use crate::say;

mod file;
mod simulate;
pub(crate) mod view;

pub(crate) use file::EXAMPLE;

/// How often a change that is in the log and not decided yet is asked for again; each time waits for
/// seconds.
const ASKS_MAX: u32 = 3;

/// The command.
pub(crate) async fn run(command: &Policies) -> anyhow::Result<()> {
    match command {
        Policies::List(args) => list(args).await,
        Policies::Show(args) => show(args).await,
        Policies::Versions(args) => versions(args).await,
        Policies::Create(args) => create(args).await,
        Policies::Update(args) => update(args).await,
        Policies::Enable(args) => enable(args).await,
        Policies::Disable(args) => disable(args).await,
        Policies::Delete(args) => delete(args).await,
        Policies::Simulate(args) => simulate::run(args).await,
    }
}

async fn list(args: &PolicyList) -> anyhow::Result<()> {
    let remote = Remote::resolve(&args.reading.server)?;
    let mut policies = remote.policies(For::Reading).await?;
    let request = wire::ListPoliciesRequest {
        with_deleted: args.deleted,
        read: read_options(&args.reading),
    };
    let found = policies
        .list_policies(request)
        .await
        .map_err(Refusal::from)?
        .into_inner();
    if args.reading.json {
        for policy in &found.policies {
            say::line(json::of("runledger.policy.v1.Policy", policy)?)?;
        }
        return Ok(());
    }
    if found.policies.is_empty() {
        say::line("There is no policy: every call is allowed.")?;
        return Ok(());
    }
    view::policies(&found.policies).print()?;
    Ok(())
}

async fn show(args: &PolicyShow) -> anyhow::Result<()> {
    let remote = Remote::resolve(&args.reading.server)?;
    let mut policies = remote.policies(For::Reading).await?;
    let request = wire::GetPolicyRequest {
        policy_id: args.policy.clone(),
        read: read_options(&args.reading),
    };
    let found = policies
        .get_policy(request)
        .await
        .map_err(Refusal::from)?
        .into_inner();
    let Some(policy) = found.policy else {
        anyhow::bail!("the answer lacks the policy")
    };
    if args.reading.json {
        say::line(json::of("runledger.policy.v1.Policy", &policy)?)?;
    } else {
        view::policy(&policy).print()?;
    }
    Ok(())
}

async fn versions(args: &PolicyShow) -> anyhow::Result<()> {
    let remote = Remote::resolve(&args.reading.server)?;
    let mut policies = remote.policies(For::Reading).await?;
    let mut request = wire::ListPolicyVersionsRequest {
        policy_id: args.policy.clone(),
        page_size: PAGE,
        page_token: String::new(),
        read: read_options(&args.reading),
    };
    let (mut earlier, mut current) = (Vec::new(), 0);
    loop {
        let page = policies
            .list_policy_versions(request.clone())
            .await
            .map_err(Refusal::from)?
            .into_inner();
        current = current.max(page.current_version);
        earlier.extend(page.versions);
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() {
            break;
        }
    }
    if args.reading.json {
        let name = "runledger.policy.v1.ListPolicyVersionsResponse.Version";
        for version in &earlier {
            say::line(json::of(name, version)?)?;
        }
        return Ok(());
    }
    say::line(format_args!(
        "{} is at version {current}.",
        say::short(&args.policy, 128)
    ))?;
    if !earlier.is_empty() {
        view::versions(&earlier).print()?;
    }
    Ok(())
}

async fn create(args: &PolicyCreate) -> anyhow::Result<()> {
    let spec = match &args.file {
        Some(path) => file::read(path)?,
        None => spec(&args.new),
    };
    let remote = Remote::resolve(&args.server)?;
    let policies = remote.policies(For::Administering).await?;
    let request = wire::CreatePolicyRequest {
        id: ids::fresh().to_string(),
        policy_id: args.id.clone().unwrap_or_default(),
        spec: Some(spec),
    };
    let made = decided(|| {
        let (mut policies, request) = (policies.clone(), request.clone());
        async move { policies.create_policy(request).await }
    })
    .await?;
    tell("made", made, args.json)
}

async fn update(args: &PolicyUpdate) -> anyhow::Result<()> {
    let spec = file::read(&args.file)?;
    let remote = Remote::resolve(&args.server)?;
    let policies = remote.policies(For::Administering).await?;
    let request = wire::UpdatePolicyRequest {
        id: ids::fresh().to_string(),
        policy_id: args.policy.clone(),
        spec: Some(spec),
        expected_version: args.expected_version,
    };
    let changed = decided(|| {
        let (mut policies, request) = (policies.clone(), request.clone());
        async move { policies.update_policy(request).await }
    })
    .await?;
    tell("updated", changed, args.json)
}

async fn enable(args: &PolicyChange) -> anyhow::Result<()> {
    let policies = changing(args).await?;
    let request = wire::EnablePolicyRequest {
        id: ids::fresh().to_string(),
        policy_id: args.policy.clone(),
        expected_version: args.expected_version,
    };
    let changed = decided(|| {
        let (mut policies, request) = (policies.clone(), request.clone());
        async move { policies.enable_policy(request).await }
    })
    .await?;
    tell("enabled", changed, args.json)
}

async fn disable(args: &PolicyChange) -> anyhow::Result<()> {
    let policies = changing(args).await?;
    let request = wire::DisablePolicyRequest {
        id: ids::fresh().to_string(),
        policy_id: args.policy.clone(),
        expected_version: args.expected_version,
    };
    let changed = decided(|| {
        let (mut policies, request) = (policies.clone(), request.clone());
        async move { policies.disable_policy(request).await }
    })
    .await?;
    tell("disabled", changed, args.json)
}

async fn delete(args: &PolicyChange) -> anyhow::Result<()> {
    let policies = changing(args).await?;
    let request = wire::DeletePolicyRequest {
        id: ids::fresh().to_string(),
        policy_id: args.policy.clone(),
        expected_version: args.expected_version,
    };
    let changed = decided(|| {
        let (mut policies, request) = (policies.clone(), request.clone());
        async move { policies.delete_policy(request).await }
    })
    .await?;
    tell("deleted", changed, args.json)
}

async fn changing(args: &PolicyChange) -> anyhow::Result<remote::Policies> {
    let remote = Remote::resolve(&args.server)?;
    remote.policies(For::Administering).await
}

/// What all changes are answered with.
pub(crate) trait Changed {
    fn parts(self) -> (Option<wire::Policy>, String);
}

macro_rules! changed {
    ($($response:ident),+) => {$(
        impl Changed for wire::$response {
            fn parts(self) -> (Option<wire::Policy>, String) {
                (self.policy, self.token)
            }
        }
    )+};
}

changed!(
    CreatePolicyResponse,
    UpdatePolicyResponse,
    EnablePolicyResponse,
    DisablePolicyResponse,
    DeletePolicyResponse
);

/// Asks until it is decided: with the same id the same is answered, so that is safe.
pub(crate) async fn decided<T: Changed, F>(
    mut ask: impl FnMut() -> F,
) -> anyhow::Result<(wire::Policy, String)>
where
    F: Future<Output = Result<Response<T>, Status>>,
{
    for _ in 0..ASKS_MAX {
        let answer = ask().await.map_err(Refusal::from)?.into_inner();
        if let (Some(policy), token) = answer.parts() {
            return Ok((policy, token));
        }
    }
    anyhow::bail!(
        "the change is in the log and not decided yet; does the decider run? `runledger policies list --deleted` \
         shows what became of it"
    )
}

fn tell(what: &str, (policy, token): (wire::Policy, String), as_json: bool) -> anyhow::Result<()> {
    if as_json {
        let answer = wire::CreatePolicyResponse {
            policy: Some(policy),
            token,
        };
        say::line(json::of(
            "runledger.policy.v1.CreatePolicyResponse",
            &answer,
        )?)?;
        return Ok(());
    }
    say::line(format_args!(
        "{} is {what}, version {}. To see it: --wait-for {token}",
        say::short(&policy.policy_id, 128),
        policy.version
    ))?;
    Ok(())
}

/// A policy from flags.
fn spec(new: &NewPolicy) -> wire::PolicySpec {
    let conditions = || {
        let all = new.when.iter();
        let all = all.map(|(field, operator, value)| wire::Condition {
            field: field.clone(),
            operator: wire::Operator::from(*operator).into(),
            value_json: value.as_str().to_owned(),
        });
        wire::Conditions { all: all.collect() }
    };
    let when = match &new.cel {
        Some(cel) => wire::policy_spec::When::Cel(cel.clone()),
        None => wire::policy_spec::When::Conditions(conditions()),
    };
    let has_rule = new.quorum.is_some() || !new.roles.is_empty();
    let approval = has_rule.then(|| wire::ApprovalRule {
        quorum: new.quorum.unwrap_or_default(),
        approvers: Some(wire::ApproverSet {
            roles: new
                .roles
                .iter()
                .map(|role| common::Role::from(*role).into())
                .collect(),
            principals: Vec::new(),
        }),
        ..wire::ApprovalRule::default()
    });
    let action = |one: Action| wire::Action::from(one).into();
    let severity = |one: Severity| wire::Severity::from(one).into();
    wire::PolicySpec {
        name: new.name.clone().unwrap_or_default(),
        description: new.description.clone().unwrap_or_default(),
        when: Some(when),
        action: new.action.map_or(0, action),
        approval,
        severity: new.severity.map_or(0, severity),
        limits: None,
        disabled: false,
    }
}

#[cfg(test)]
mod tests {
    use runledger_domain::json::Json;
    use runledger_domain::policy::Operator;
    use runledger_domain::scope::Role;
    use runledger_proto::decode;
    use runledger_proto::decode::fields::Path;

    use super::*;

    #[test]
    fn flags_make_a_whole_policy() {
        let new = NewPolicy {
            name: Some("n".to_owned()),
            action: Some(Action::RequireApproval),
            when: vec![(
                "arguments.amount".to_owned(),
                Operator::Gte,
                Json::parse("300").unwrap(),
            )],
            quorum: Some(2),
            roles: vec![Role::Admin],
            severity: Some(Severity::Critical),
            ..NewPolicy::default()
        };
        let made = decode::policy(spec(&new), Path::ROOT.field("spec")).unwrap();
        assert_eq!(made.action, Action::RequireApproval);
        assert_eq!(made.severity, Some(Severity::Critical));
        let rule = made.approval.unwrap();
        assert_eq!((rule.quorum, rule.approvers.roles.len()), (2, 1));
        let without_rule = NewPolicy {
            name: Some("n".to_owned()),
            action: Some(Action::Warn),
            cel: Some("true".to_owned()),
            ..NewPolicy::default()
        };
        assert!(decode::policy(spec(&without_rule), Path::ROOT).is_ok());
    }
}
