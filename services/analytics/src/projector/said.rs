//! What a record says, as far as it is counted.

use runledger_domain::Fact;
use runledger_domain::approval::Decision;
use runledger_domain::credit::{Change, Line};
use runledger_domain::log::{Family, Kind};
use runledger_domain::message::MessageRecorded;
use runledger_domain::run::{self, Moment};
use runledger_domain::schedule::OccurrenceRecorded;
use runledger_domain::scope::Scope;
use runledger_domain::time::storable;
use runledger_projection::{Applied, ApplyError};
use runledger_proto::decode;

/// One thing that a record says.
#[derive(Debug)]
pub(super) struct Said<'a> {
    pub(super) scope: Scope,
    pub(super) moment: Moment,
    pub(super) what: What<'a>,
}

#[derive(Debug)]
pub(super) enum What<'a> {
    Run(&'a run::Fact),
    /// In the run of its stream.
    Decided {
        run_id: &'a str,
        decision: Decision,
    },
    Message(&'a MessageRecorded),
    Occurrence(&'a OccurrenceRecorded),
    Charged(Vec<Line>),
}

/// Adds what a record says to `said`. Facts count only in the stream to which they belong, and what is
/// sealed or of a type that is not known does not count.
///
/// # Errors
/// When a decision cannot be decoded.
pub(super) fn read<'a>(applied: &'a Applied, said: &mut Vec<Said<'a>>) -> Result<(), ApplyError> {
    let record = &applied.record;
    let moment = Moment {
        record: record.id,
        at: storable(record.occurred_at),
    };
    let mut say = |what| {
        said.push(Said {
            scope: record.scope,
            moment,
            what,
        });
    };
    match applied
        .fact
        .as_ref()
        .filter(|fact| fact.stream() == record.stream)
    {
        Some(Fact::Run(fact)) => say(What::Run(fact)),
        Some(Fact::Message(fact)) => say(What::Message(fact.message())),
        Some(Fact::Schedule(fact)) => say(What::Occurrence(fact.occurrence())),
        Some(Fact::Usage(_)) | None => {}
    }
    if record.kind != Kind::Decision || record.key.is_some() {
        return Ok(());
    }
    let (type_name, payload) = (&record.type_name, &record.payload);
    match record.stream.family() {
        Family::Run => {
            let decision = decode::stored_approval_decision(type_name, payload);
            let run_id = record.stream.as_str().strip_prefix("run/");
            if let Some((decision, run_id)) = decision.map_err(ApplyError::payload)?.zip(run_id) {
                say(What::Decided { run_id, decision });
            }
        }
        Family::Billing => {
            let posted = decode::stored_account_posted(type_name, payload);
            if let Some(posted) = posted.map_err(ApplyError::payload)?
                && let Change::Charged(lines) = posted.change
            {
                say(What::Charged(lines));
            }
        }
        Family::Schedule | Family::Message | Family::Policy | Family::Price | Family::Directory => {
        }
    }
    Ok(())
}
