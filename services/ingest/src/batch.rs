//! A batch, from the facts of a request to what goes into the log and what is answered. Pure.

use std::collections::HashMap;
use std::collections::hash_map::Entry as Slot;

use runledger_domain::fault::{Fault, Kind, Violation};
use runledger_domain::ids::RecordId;
use runledger_domain::log::{Kind as RecordKind, Position, Record};
use runledger_domain::scope::{Actor, Scope};
use runledger_domain::time::Timestamp;
use runledger_eventlog::token::Token;
use runledger_eventlog::{Entry, Outcome};
use runledger_proto::common::v1::{AppendResult, FieldViolation, append_result};
use runledger_proto::decode::fields::Path;
use runledger_proto::decode::{Bounds, Reported};
use runledger_proto::encode;

use crate::facts::WireFact;

/// Most facts in a batch.
pub(crate) const FACTS_MAX: usize = 1_000;
/// Largest record from outside, encoded.
pub(crate) const RECORD_BYTES_MAX: usize = 256 * 1024;
/// How many bytes of faults one answer lists; what is beyond is only counted. Without it a request
/// of 1 MiB could ask for an answer many times its size.
const FAULT_BYTES_MAX: usize = 1024 * 1024;

/// Who reports, and when: what the batch's records take from the call.
pub(crate) struct Context {
    pub(crate) scope: Scope,
    pub(crate) actor: Actor,
    pub(crate) now: Timestamp,
    pub(crate) trace: Option<String>,
}

/// A batch that was judged.
#[derive(Debug)]
pub(crate) struct Judged {
    /// A fact each: its id as sent, and what becomes of it.
    facts: Vec<(String, Verdict)>,
    /// What goes into the log.
    pub(crate) entries: Vec<Entry>,
}

#[derive(Debug)]
enum Verdict {
    /// Its fate is that of this entry. Copies in one batch share theirs.
    Entry(usize),
    Refused(Vec<Violation>),
}

/// What is answered.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    pub(crate) results: Vec<AppendResult>,
    pub(crate) token: String,
    pub(crate) tally: Tally,
}

/// What became of a batch's facts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) accepted: u64,
    pub(crate) refused: u64,
    pub(crate) unknown: u64,
}

/// Refuses a batch that is no batch.
///
/// # Errors
/// Invalid: `EMPTY_BATCH`, `BATCH_TOO_LARGE`.
pub(crate) fn check_size(facts: usize) -> Result<(), Fault> {
    match facts {
        0 => Err(Fault::new(
            Kind::Invalid,
            "EMPTY_BATCH",
            format!("the batch has no facts; send 1 to {FACTS_MAX}"),
        )),
        1..=FACTS_MAX => Ok(()),
        _ => Err(Fault::new(
            Kind::Invalid,
            "BATCH_TOO_LARGE",
            format!("the batch has {facts} facts and may have {FACTS_MAX}; send it in parts"),
        )),
    }
}

/// Parses every fact; the good ones become entries, the others keep all their faults.
pub(crate) fn judge<F: WireFact>(facts: Vec<F>, context: &Context) -> Judged {
    let bounds = Bounds::at(context.now);
    let path = Path::ROOT.field("facts");
    let mut judged = Judged {
        facts: Vec::with_capacity(facts.len()),
        entries: Vec::with_capacity(facts.len()),
    };
    let mut copies = Copies::new(facts.len());
    for (index, fact) in facts.into_iter().enumerate() {
        let at = path.item(index);
        let id = fact.id().to_owned();
        let verdict = match fact.parse(&bounds, at) {
            Ok(reported) => judged.admit(record(reported, context), context, at, &mut copies),
            Err(violations) => Verdict::Refused(violations),
        };
        judged.facts.push((id, verdict));
    }
    judged
}

/// The record of a fact. What is stored is our own encoding of it.
fn record(reported: Reported, context: &Context) -> Record {
    let Reported {
        id,
        occurred_at,
        cause,
        fact,
    } = reported;
    let (type_name, payload) = encode::payload(&fact);
    Record {
        id,
        scope: context.scope,
        stream: fact.stream(),
        kind: RecordKind::Fact,
        type_name: type_name.into(),
        occurred_at,
        recorded_at: context.now,
        author: context.actor.into(),
        request_digest: Record::digest_request(type_name, occurred_at, cause.as_ref(), &payload),
        cause,
        key: None,
        payload,
        terms: None,
    }
}

impl Judged {
    fn admit(
        &mut self,
        record: Record,
        context: &Context,
        at: Path<'_>,
        copies: &mut Copies,
    ) -> Verdict {
        let bytes = encode::record_bytes(&record);
        if bytes > RECORD_BYTES_MAX {
            return Verdict::Refused(vec![too_large(
                &at,
                format_args!("has {bytes} bytes as a record"),
            )]);
        }
        let index = self.entries.len();
        if let Some(first) = copies.find(&self.entries, &record, index) {
            return Verdict::Entry(first);
        }
        self.entries.push(Entry {
            record,
            prev: None,
            trace: context.trace.clone(),
        });
        Verdict::Entry(index)
    }

    /// What is answered when the log has said what became of the entries.
    pub(crate) fn answer(self, outcomes: &[Outcome]) -> Answer {
        let mut answer = Answer {
            results: Vec::with_capacity(self.facts.len()),
            ..Answer::default()
        };
        let mut room = FAULT_BYTES_MAX;
        for (index, (id, verdict)) in self.facts.into_iter().enumerate() {
            let at = Path::ROOT.field("facts");
            let at = at.item(index);
            let outcome = match verdict {
                Verdict::Refused(violations) => refused(violations, &at, &mut room),
                // No outcome is none of which we know.
                Verdict::Entry(entry) => match outcomes.get(entry).unwrap_or(&Outcome::Unknown) {
                    Outcome::Accepted(position) => accepted(position),
                    Outcome::TooLarge => {
                        let violation = too_large(&at, "is larger than the log takes");
                        refused(vec![violation], &at, &mut room)
                    }
                    Outcome::Unknown => unknown(),
                },
            };
            answer.tally.count(&outcome);
            answer.results.push(AppendResult {
                id,
                outcome: Some(outcome),
            });
        }
        let positions = outcomes.iter().filter_map(|outcome| match outcome {
            Outcome::Accepted(position) => Some(*position),
            Outcome::TooLarge | Outcome::Unknown => None,
        });
        answer.token = Token::from_positions(positions).to_string();
        answer
    }
}

/// Which entries of a batch carry which id: an id may come again, in another stream as another
/// record, in its own as a copy. One that says something else is no copy: it goes into the log as it
/// would in a batch of its own, where the first stands and the conflict is shown.
struct Copies {
    /// The latest entry of an id.
    latest: HashMap<RecordId, usize>,
    /// The entry of the same id before this one.
    earlier: HashMap<usize, usize>,
}

impl Copies {
    fn new(facts: usize) -> Self {
        Self {
            latest: HashMap::with_capacity(facts),
            earlier: HashMap::new(),
        }
    }

    /// The entry that `record` is a copy of; none: it is the first, and is noted as `index`.
    fn find(&mut self, entries: &[Entry], record: &Record, index: usize) -> Option<usize> {
        let latest = match self.latest.entry(record.id) {
            Slot::Vacant(slot) => {
                slot.insert(index);
                return None;
            }
            Slot::Occupied(slot) => slot.into_mut(),
        };
        let mut known = Some(*latest);
        while let Some(candidate) = known {
            if entries.get(candidate).is_some_and(|entry| {
                entry.record.request_digest == record.request_digest
                    && entry.record.stream == record.stream
            }) {
                return Some(candidate);
            }
            known = self.earlier.get(&candidate).copied();
        }
        self.earlier.insert(index, std::mem::replace(latest, index));
        None
    }
}

impl Tally {
    fn count(&mut self, outcome: &append_result::Outcome) {
        match outcome {
            append_result::Outcome::Accepted(_) => self.accepted += 1,
            append_result::Outcome::Refused(_) => self.refused += 1,
            append_result::Outcome::Unknown(_) => self.unknown += 1,
        }
    }

    /// Nothing is known of any fact.
    pub(crate) fn is_all_unknown(self) -> bool {
        self.unknown > 0 && self.accepted == 0 && self.refused == 0
    }
}

fn accepted(position: &Position) -> append_result::Outcome {
    let position = Some(encode::position(position));
    append_result::Outcome::Accepted(append_result::Accepted { position })
}

fn unknown() -> append_result::Outcome {
    append_result::Outcome::Unknown(append_result::Unknown {
        reason: UNKNOWN.to_owned(),
        message: UNKNOWN_SAYS.to_owned(),
    })
}

/// The reason of a fate that is not known.
pub(crate) const UNKNOWN: &str = "APPEND_UNKNOWN";
pub(crate) const UNKNOWN_SAYS: &str = "no delivery report came in time; it may or may not be in the log: send it again with the same id, which is always safe";

fn refused(violations: Vec<Violation>, at: &Path<'_>, room: &mut usize) -> append_result::Outcome {
    let size = |one: &Violation| one.field.len() + one.reason.len() + one.description.len();
    let violations = match room.checked_sub(violations.iter().map(size).sum()) {
        Some(left) => {
            *room = left;
            violations.into_iter().map(violation).collect()
        }
        None => vec![violation(Violation {
            field: at.to_string(),
            reason: "FAULTS_NOT_LISTED".into(),
            description: format!(
                "has {} faults, but this batch has more than one answer can list; mend those listed, then send this again",
                violations.len()
            ),
        })],
    };
    append_result::Outcome::Refused(append_result::Refused { violations })
}

fn violation(violation: Violation) -> FieldViolation {
    FieldViolation {
        field: violation.field,
        description: violation.description,
        reason: violation.reason.into_owned(),
    }
}

fn too_large(at: &Path<'_>, what: impl std::fmt::Display) -> Violation {
    Violation {
        field: at.to_string(),
        reason: "RECORD_TOO_LARGE".into(),
        description: format!(
            "{what} and may have {RECORD_BYTES_MAX}; keep large texts elsewhere and send their length"
        ),
    }
}
