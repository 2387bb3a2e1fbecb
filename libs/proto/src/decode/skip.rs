//! The request to leave a record out.

use runledger_domain::fault::Violation;
use runledger_domain::ids::{Incarnation, RecordId};
use runledger_domain::log::{Partition, Skipped};

use super::fields::{Fields, Path, reason};
use crate::log;

/// What a caller asks to be left out, and by whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skip {
    pub id: RecordId,
    pub projection: Box<str>,
    pub partition: Partition,
    /// `None`: the partition as it is now.
    pub incarnation: Option<Incarnation>,
    pub offset: u64,
    pub reason: Box<str>,
}

/// # Errors
/// Every field that is not as it must be.
pub fn skip(wire: log::v1::SkipRequest, at: Path<'_>) -> Result<Skip, Vec<Violation>> {
    let mut faults = Vec::new();
    let mut see = Fields::new(at, &mut faults);
    let id = see.uuid("id", &wire.id).map(RecordId::new);
    let projection = wire.projection;
    let is_name = (1..=Skipped::PROJECTION_BYTES_MAX).contains(&projection.len())
        && projection.bytes().all(|byte| byte.is_ascii_graphic());
    if !is_name {
        let why = "must be the name of a projection, for example runledger.runs";
        see.fault("projection", reason::REQUIRED, why);
    }
    let position = see.required("position", wire.position);
    let place = position.and_then(|position| {
        see.within("position", |see| {
            let incarnation = see
                .optional_uuid("incarnation", &position.incarnation)
                .map(Incarnation::new);
            let Ok(family) = position.family.parse() else {
                let why = "must be the family of a topic, for example run";
                see.fault("family", reason::UNKNOWN_VALUE, why);
                return None;
            };
            let number = position.partition;
            Some((Partition { family, number }, incarnation, position.offset))
        })
    });
    let why = see.text("reason", wire.reason, Skipped::REASON_CHARS_MAX);
    if why.trim().is_empty() {
        see.fault("reason", reason::REQUIRED, "must say why");
    }
    match (id, place) {
        (Some(id), Some((partition, incarnation, offset))) if faults.is_empty() => Ok(Skip {
            id,
            projection: projection.into(),
            partition,
            incarnation,
            offset,
            reason: why.into(),
        }),
        _ => Err(faults),
    }
}
