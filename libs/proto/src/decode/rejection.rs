use runledger_domain::decision::{Rejection, RejectionKind};
use runledger_domain::fault::Violation;

use super::stored::{Error, message};
use crate::words::known;
use crate::{log, types};

/// A refusal, as it is stored. A kind that a later version knows is taken for a state of things.
///
/// # Errors
/// When the bytes are no such message.
pub fn stored_rejection(bytes: &[u8]) -> Result<Rejection, Error> {
    let wire: log::v1::CommandRejected = message(types::COMMAND_REJECTED, bytes)?;
    let kind = known::<log::v1::RejectionKind>(wire.kind);
    let violations = wire.violations.into_iter();
    Ok(Rejection {
        kind: kind.unwrap_or(RejectionKind::Precondition),
        reason: wire.reason.into(),
        message: wire.message,
        violations: violations
            .map(|one| Violation {
                field: one.field,
                reason: one.reason.into(),
                description: one.description,
            })
            .collect(),
    })
}
