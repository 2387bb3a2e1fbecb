//! The refusal of a command.

use runledger_domain::decision::Rejection;
use runledger_domain::fault::Violation;

use super::stored::{Error, message};
use crate::words::known;
use crate::{log, types};

/// The refusal in a stored payload, and the type of the command that it refuses. `Ok(None)`: it is
/// none, or of a kind that this version does not know.
///
/// # Errors
/// When the bytes are no message of that type.
pub fn stored_rejection(
    type_name: &str,
    bytes: &[u8],
) -> Result<Option<(Rejection, String)>, Error> {
    if type_name != types::COMMAND_REJECTED {
        return Ok(None);
    }
    let wire: log::v1::CommandRejected = message(type_name, bytes)?;
    let kind = known::<log::v1::RejectionKind>(wire.kind);
    let violations = wire.violations.into_iter();
    let violations = violations.map(|violation| Violation {
        field: violation.field,
        reason: violation.reason.into(),
        description: violation.description,
    });
    Ok(kind.map(|kind| {
        let rejection = Rejection {
            violations: violations.collect(),
            ..Rejection::new(kind, wire.reason, wire.message)
        };
        (rejection, wire.command_type)
    }))
}
