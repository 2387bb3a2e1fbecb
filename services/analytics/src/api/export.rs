//! Questions answered as CSV.

use runledger_domain::analytics::{Dimension, Question};
use runledger_domain::fault::Fault;
use runledger_domain::scope::Scope;
use runledger_proto::analytics::v1 as wire;
use runledger_proto::decode::analytics as read;
use runledger_role::reading::parse;

use super::Api;

/// Most groups of an export.
const GROUPS_MAX: u32 = 100_000;
/// How many bytes a message has, about.
const CHUNK_BYTES: usize = 256 << 10;

impl Api {
    pub(super) async fn export(
        &self,
        scope: Scope,
        request: wire::ExportQueryRequest,
    ) -> Result<Vec<wire::ExportQueryResponse>, Fault> {
        let (question, options) = parse(request.read, |see| read::question(request.question, see))?;
        // Groups by time are bounded by how many lengths of time there are.
        let most = runledger_domain::analytics::POINTS_MAX * 5 / question.periods_max();
        let limit = GROUPS_MAX.min(u32::try_from(most).unwrap_or(u32::MAX).max(1));
        let mut view = self.look(scope, &options).await?;
        let found = view.find(&question, limit).await?;
        let mut chunks = lines(&question, &found.rows);
        if found.top.groups > u64::from(limit) {
            return Err(too_many(found.top.groups, limit));
        }
        let as_of = view.close().await?;
        if let Some(last) = chunks.last_mut() {
            last.as_of = Some(as_of);
        }
        Ok(chunks)
    }
}

fn too_many(groups: u64, limit: u32) -> Fault {
    let message = format!(
        "the question has {groups} groups, of which an export takes {limit}; ask for fewer dimensions, more filters, or a coarser granularity"
    );
    Fault::new(
        runledger_domain::fault::Kind::Exhausted,
        "TOO_MANY_GROUPS",
        message,
    )
}

/// The answer, cut into messages of whole lines. The first names the columns.
fn lines(question: &Question, rows: &[wire::Row]) -> Vec<wire::ExportQueryResponse> {
    let mut chunks = vec![Vec::new()];
    let mut push = |line: Vec<String>| {
        let fields: Vec<String> = line.iter().map(|field| escaped(field)).collect();
        let line = format!("{}\r\n", fields.join(","));
        if chunks
            .last()
            .is_none_or(|chunk: &Vec<u8>| chunk.len() + line.len() > CHUNK_BYTES)
        {
            chunks.push(Vec::new());
        }
        if let Some(chunk) = chunks.last_mut() {
            chunk.extend_from_slice(line.as_bytes());
        }
    };
    push(head(question));
    for row in rows {
        push(fields(question, row));
    }
    let message = |csv| wire::ExportQueryResponse { csv, as_of: None };
    chunks.into_iter().map(message).collect()
}

fn head(question: &Question) -> Vec<String> {
    let groups = question.group_by.iter().copied().map(Dimension::as_str);
    let period = question.granularity.map(|_| "period");
    let durations = [
        "ended",
        "mean_seconds",
        "p50_seconds",
        "p90_seconds",
        "p99_seconds",
    ];
    let durations = durations.into_iter().filter(|_| question.durations);
    let columns = groups
        .chain(period)
        .chain(["count", "quantity"])
        .chain(durations);
    columns.map(str::to_owned).collect()
}

fn fields(question: &Question, row: &wire::Row) -> Vec<String> {
    let measures = row.measures.unwrap_or_default();
    let mut fields = row.group.clone();
    fields.extend(question.granularity.map(|_| row.period.clone()));
    fields.extend([measures.count.to_string(), measures.quantity.to_string()]);
    if question.durations {
        let durations = measures.durations.unwrap_or_default();
        fields.push(durations.count.to_string());
        for one in [durations.mean, durations.p50, durations.p90, durations.p99] {
            let text = one.map(|one| format!("{}.{:06}", one.seconds, one.nanos / 1_000));
            fields.push(text.unwrap_or_default());
        }
    }
    fields
}

/// As RFC 4180 has it; and what a spreadsheet would take for a formula is kept a text.
fn escaped(field: &str) -> String {
    let is_number = field.parse::<i64>().is_ok();
    let is_formula = !is_number && field.starts_with(['=', '+', '-', '@', '\t', '\r']);
    let field = if is_formula {
        format!("'{field}")
    } else {
        field.to_owned()
    };
    if field.contains([',', '"', '\r', '\n']) {
        format!("\"{}\"", field.replace('"', "\"\""))
    } else {
        field
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_spreadsheets_would_take_for_something_else_is_kept_a_text() {
        assert_eq!(escaped("pay"), "pay");
        assert_eq!(escaped("-12"), "-12");
        assert_eq!(escaped("=cmd()"), "'=cmd()");
        assert_eq!(escaped("a,\"b\""), "\"a,\"\"b\"\"\"");
    }
}
