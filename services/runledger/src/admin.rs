//! `runledger keys|tenants|kill-switch`: the directory, from a terminal.

use anyhow::Context as _;
use chrono::{DateTime, Utc};
use runledger_domain::scope;
use runledger_proto::common::v1::{Mode, PrincipalKind, Role};
use runledger_proto::directory::v1::{
    CreateKeyRequest, CreatePrincipalRequest, CreateTenantRequest, Key, KillSwitch,
    ListKeysRequest, ListKillSwitchesRequest, ListPrincipalsRequest, ListTenantsRequest, Principal,
    RevokeKeyRequest, RotateKeyRequest, SetKillSwitchRequest, Tenant, set_kill_switch_request,
};
use runledger_proto::encode;
use runledger_proto::words::known;
use uuid::Uuid;

use crate::cli::{self, KeysCommand, Server, TenantsCommand, Turn, WhichTenant};
use crate::reading::PAGE;
use crate::remote::{Directory, For, Refusal, Remote};
use crate::runs::moment;
use crate::say::{self, Columns, Tone, cell, count, toned};

/// An operator names a tenant; without one an admin speaks for its own.
async fn connect(server: &Server, which: &WhichTenant) -> anyhow::Result<(Directory, String)> {
    let what = if which.tenant.is_some() {
        For::Operating
    } else {
        For::Administering
    };
    let tenant = which
        .tenant
        .as_ref()
        .map(Uuid::to_string)
        .unwrap_or_default();
    Ok((Remote::resolve(server)?.directory(what).await?, tenant))
}

pub(crate) async fn keys(args: &cli::Keys) -> anyhow::Result<()> {
    match &args.command {
        KeysCommand::List { which, server } => {
            let (mut directory, tenant_id) = connect(server, which).await?;
            list_keys(&mut directory, &tenant_id).await
        }
        KeysCommand::Create {
            principal,
            role,
            kind,
            mode,
            label,
            which,
            server,
        } => {
            let (mut directory, tenant_id) = connect(server, which).await?;
            let principal =
                principal_named(&mut directory, &tenant_id, principal, *kind, *role).await?;
            let (key, secret) = create_key(&mut directory, &principal, *mode, label).await?;
            show_secret(&key, &secret)
        }
        KeysCommand::Rotate {
            key_id,
            overlap,
            server,
        } => {
            let (mut directory, _) = connect(server, &WhichTenant::default()).await?;
            let request = RotateKeyRequest {
                key_id: key_id.to_string(),
                overlap: overlap.map(encode::duration),
            };
            let rotated = directory
                .rotate_key(request)
                .await
                .map_err(Refusal::from)?
                .into_inner();
            if let Some(end) = rotated
                .replaced
                .and_then(|old| moment(old.expires_at.as_ref()))
            {
                say::aside(format_args!("The old key opens until {}.", day(end)));
            }
            show_secret(&rotated.key.unwrap_or_default(), &rotated.secret)
        }
        KeysCommand::Revoke { key_id, server } => {
            let (mut directory, _) = connect(server, &WhichTenant::default()).await?;
            let request = RevokeKeyRequest {
                key_id: key_id.to_string(),
            };
            let key = directory
                .revoke_key(request)
                .await
                .map_err(Refusal::from)?
                .into_inner()
                .key
                .unwrap_or_default();
            say::line(format_args!(
                "{} is revoked; within a second it opens nothing.",
                key.masked
            ))?;
            Ok(())
        }
    }
}

async fn list_keys(directory: &mut Directory, tenant_id: &str) -> anyhow::Result<()> {
    let names = principals(directory, tenant_id).await?;
    let mut table = Columns::new(&[
        "key",
        "shown as",
        "principal",
        "role",
        "mode",
        "label",
        "made (UTC)",
        "state",
    ]);
    let mut page_token = String::new();
    loop {
        let request = ListKeysRequest {
            tenant_id: tenant_id.to_owned(),
            page_size: PAGE,
            page_token,
            ..ListKeysRequest::default()
        };
        let page = directory
            .list_keys(request)
            .await
            .map_err(Refusal::from)?
            .into_inner();
        for key in &page.keys {
            let principal = names
                .iter()
                .find(|one| one.principal_id == key.principal_id);
            let (name, role) = principal.map_or(("?", "?"), |one| {
                (
                    one.name.as_str(),
                    known::<Role>(one.role).map_or("?", scope::Role::as_str),
                )
            });
            table.row([
                cell(&key.key_id),
                cell(&key.masked),
                cell(say::short(name, 32)),
                cell(role),
                cell(known::<Mode>(key.mode).map_or("?", scope::Mode::as_str)),
                cell(say::short(&key.label, 32)),
                cell(moment(key.created_at.as_ref()).map(day).unwrap_or_default()),
                state(key),
            ]);
        }
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    table.print()?;
    Ok(())
}

fn state(key: &Key) -> comfy_table::Cell {
    match (
        moment(key.revoked_at.as_ref()),
        moment(key.expires_at.as_ref()),
    ) {
        (Some(at), _) => toned(format!("revoked {}", day(at)), Tone::Faint),
        (None, Some(at)) => toned(format!("until {}", day(at)), Tone::Busy),
        (None, None) => toned("opens", Tone::Good),
    }
}

fn day(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%d %H:%M").to_string()
}

/// All principals of a tenant.
async fn principals(directory: &mut Directory, tenant_id: &str) -> Result<Vec<Principal>, Refusal> {
    let mut request = ListPrincipalsRequest {
        tenant_id: tenant_id.to_owned(),
        page_size: PAGE,
        page_token: String::new(),
    };
    let mut found = Vec::new();
    loop {
        let page = directory
            .list_principals(request.clone())
            .await?
            .into_inner();
        found.extend(page.principals);
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() {
            return Ok(found);
        }
    }
}

/// The principal of that name, made when there is none.
pub(crate) async fn principal_named(
    directory: &mut Directory,
    tenant_id: &str,
    name: &str,
    kind: scope::PrincipalKind,
    role: scope::Role,
) -> anyhow::Result<Principal> {
    if let Some(found) = principals(directory, tenant_id)
        .await?
        .into_iter()
        .find(|one| one.name == name)
    {
        return Ok(found);
    }
    let request = CreatePrincipalRequest {
        tenant_id: tenant_id.to_owned(),
        name: name.to_owned(),
        kind: PrincipalKind::from(kind).into(),
        role: Role::from(role).into(),
    };
    let made = directory
        .create_principal(request)
        .await
        .map_err(Refusal::from)?
        .into_inner();
    made.principal.context("the answer lacks the principal")
}

/// A new key and the key itself.
pub(crate) async fn create_key(
    directory: &mut Directory,
    principal: &Principal,
    mode: scope::Mode,
    label: &str,
) -> anyhow::Result<(Key, String)> {
    let request = CreateKeyRequest {
        principal_id: principal.principal_id.clone(),
        mode: Mode::from(mode).into(),
        label: label.to_owned(),
        expires_at: None,
    };
    let made = directory
        .create_key(request)
        .await
        .map_err(Refusal::from)?
        .into_inner();
    Ok((made.key.context("the answer lacks the key")?, made.secret))
}

/// The secret alone on standard output, so that it can be piped into where secrets are kept.
fn show_secret(key: &Key, secret: &str) -> anyhow::Result<()> {
    say::aside(format_args!("Key {}. It is shown this once:", key.key_id));
    say::line(secret)?;
    Ok(())
}

pub(crate) async fn tenants(args: &cli::Tenants) -> anyhow::Result<()> {
    match &args.command {
        TenantsCommand::List { server } => {
            let mut directory = Remote::resolve(server)?.directory(For::Operating).await?;
            let mut table = Columns::new(&[
                "tenant",
                "name",
                ">records/s",
                ">bytes/s",
                ">commands/s",
                "made (UTC)",
            ]);
            for tenant in all_tenants(&mut directory).await? {
                let limits = tenant.limits.unwrap_or_default();
                table.row([
                    cell(&tenant.tenant_id),
                    cell(say::short(&tenant.name, 48)),
                    cell(count(limits.records_per_second)),
                    cell(count(limits.bytes_per_second)),
                    cell(count(limits.commands_per_second)),
                    cell(
                        moment(tenant.created_at.as_ref())
                            .map(day)
                            .unwrap_or_default(),
                    ),
                ]);
            }
            table.print()?;
            Ok(())
        }
        TenantsCommand::Create { name, server } => {
            let mut directory = Remote::resolve(server)?.directory(For::Operating).await?;
            let tenant = create_tenant(&mut directory, name).await?;
            say::aside(format_args!(
                "Made. Its first admin: runledger keys create admin --role admin --kind user --tenant {}",
                tenant.tenant_id
            ));
            say::line(tenant.tenant_id)?;
            Ok(())
        }
    }
}

pub(crate) async fn create_tenant(directory: &mut Directory, name: &str) -> anyhow::Result<Tenant> {
    let request = CreateTenantRequest {
        name: name.to_owned(),
        limits: None,
    };
    let made = directory
        .create_tenant(request)
        .await
        .map_err(Refusal::from)?
        .into_inner();
    made.tenant.context("the answer lacks the tenant")
}

pub(crate) async fn all_tenants(directory: &mut Directory) -> Result<Vec<Tenant>, Refusal> {
    let mut request = ListTenantsRequest {
        page_size: PAGE,
        page_token: String::new(),
    };
    let mut found = Vec::new();
    loop {
        let page = directory.list_tenants(request.clone()).await?.into_inner();
        found.extend(page.tenants);
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() {
            return Ok(found);
        }
    }
}

pub(crate) async fn kill_switch(args: &cli::KillSwitch) -> anyhow::Result<()> {
    let what = if args.everyone {
        For::Operating
    } else {
        For::Administering
    };
    let (mut directory, tenant_id) = match args.everyone {
        true => (
            Remote::resolve(&args.server)?.directory(what).await?,
            String::new(),
        ),
        false => connect(&args.server, &args.which).await?,
    };
    let on = match args.turn {
        Turn::Status => {
            let request = ListKillSwitchesRequest { tenant_id };
            let listed = directory
                .list_kill_switches(request)
                .await
                .map_err(Refusal::from)?
                .into_inner();
            return show_switches(&listed.kill_switches);
        }
        Turn::On => true,
        Turn::Off => false,
    };
    let target = match (args.everyone, tenant_id) {
        (true, _) => Some(set_kill_switch_request::Target::Everyone(true)),
        (false, id) if id.is_empty() => None,
        (false, id) => Some(set_kill_switch_request::Target::TenantId(id)),
    };
    let request = SetKillSwitchRequest {
        target,
        on,
        reason: args.reason.clone().unwrap_or_default(),
    };
    let set = directory
        .set_kill_switch(request)
        .await
        .map_err(Refusal::from)?
        .into_inner();
    show_switches(&set.kill_switches)
}

fn show_switches(switches: &[KillSwitch]) -> anyhow::Result<()> {
    if switches.is_empty() {
        say::line("Off: writes are allowed.")?;
        return Ok(());
    }
    let mut table = Columns::new(&["writes stopped of", "since (UTC)", "why", "by"]);
    for switch in switches {
        let whom = if switch.tenant_id.is_empty() {
            "everybody"
        } else {
            &switch.tenant_id
        };
        table.row([
            toned(whom, Tone::Bad),
            cell(moment(switch.since.as_ref()).map(day).unwrap_or_default()),
            cell(say::short(&switch.reason, 80)),
            cell(&switch.set_by),
        ]);
    }
    table.print()?;
    Ok(())
}
