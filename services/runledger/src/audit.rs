//! `runledger audit list|show`: who did what, as people and programs look at it.

mod verify;

pub(crate) use verify::verify;

use runledger_proto::audit::v1::{ActorType, Entry, GetEntryRequest, ListEntriesRequest};
use runledger_proto::encode;

use crate::cli::{AuditList, AuditShow};
use crate::json;
use crate::reading::PAGE;
use crate::remote::{Refusal, Remote};
use crate::runs::{moment, read_options};
use crate::say::{self, Columns, cell};

const ENTRY: &str = "runledger.audit.v1.Entry";

pub(crate) async fn list(args: &AuditList) -> anyhow::Result<()> {
    let mut audit = Remote::resolve(&args.reading.server)?.audit().await?;
    let mut request = request(args);
    let mut left = args.limit;
    let mut found = Vec::new();
    while left > 0 {
        request.page_size = left.min(PAGE);
        let page = audit
            .list_entries(request.clone())
            .await
            .map_err(Refusal::from)?
            .into_inner();
        left = left.saturating_sub(u32::try_from(page.entries.len()).unwrap_or(u32::MAX));
        found.extend(page.entries);
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() {
            break;
        }
    }
    if args.reading.json {
        for entry in &found {
            say::line(json::of(ENTRY, entry)?)?;
        }
        return Ok(());
    }
    if found.is_empty() {
        say::line("No entry is like that.")?;
        return Ok(());
    }
    table(&found).print()?;
    if !request.page_token.is_empty() {
        say::line(format_args!(
            "There are more; --limit shows more than {}.",
            args.limit
        ))?;
    }
    Ok(())
}

pub(crate) async fn show(args: &AuditShow) -> anyhow::Result<()> {
    let mut audit = Remote::resolve(&args.reading.server)?.audit().await?;
    let request = GetEntryRequest {
        audit_id: args.id.clone(),
        read: read_options(&args.reading),
    };
    let found = audit.get_entry(request).await.map_err(Refusal::from)?;
    let Some(entry) = found.into_inner().entry else {
        anyhow::bail!("the answer lacks the entry")
    };
    if args.reading.json {
        return Ok(say::line(json::of(ENTRY, &entry)?)?);
    }
    table(std::slice::from_ref(&entry)).print()?;
    say::line(format_args!("stream   {}", entry.stream))?;
    say::line(format_args!("details  {}", entry.details_json))?;
    Ok(())
}

fn request(args: &AuditList) -> ListEntriesRequest {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    ListEntriesRequest {
        run_id: text(&args.run),
        entity_type: text(&args.entity_type),
        action: text(&args.action),
        actor_type: args.actor_type.map_or(0, |one| ActorType::from(one).into()),
        from: args.from.map(encode::timestamp),
        to: args.to.map(encode::timestamp),
        search: text(&args.search),
        read: read_options(&args.reading),
        ..ListEntriesRequest::default()
    }
}

fn table(entries: &[Entry]) -> Columns {
    let mut table = Columns::new(&["at", "actor", "action", "entity", "run", "id"]);
    for entry in entries {
        let at = moment(entry.at.as_ref());
        let at = at.map(|at| at.format("%Y-%m-%d %H:%M:%S").to_string());
        table.row([
            cell(at.unwrap_or_default()),
            cell(&entry.actor),
            cell(&entry.action),
            cell(format!("{} {}", entry.entity_type, entry.entity_id)),
            cell(&entry.run_id),
            cell(&entry.audit_id),
        ]);
    }
    table
}
