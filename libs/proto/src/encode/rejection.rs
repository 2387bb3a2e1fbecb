use prost::Message as _;
use runledger_domain::decision::Rejection;
use runledger_domain::fault::Violation;

use crate::{common, log, types};

/// The type name and the encoded payload of the refusal of a command, as they are stored.
pub fn rejected(rejection: &Rejection, command_type: &str) -> (&'static str, Vec<u8>) {
    let wire = log::v1::CommandRejected {
        kind: log::v1::RejectionKind::from(rejection.kind).into(),
        reason: rejection.reason.to_string(),
        message: rejection.message.clone(),
        command_type: command_type.to_owned(),
        violations: rejection.violations.iter().map(Into::into).collect(),
    };
    (types::COMMAND_REJECTED, wire.encode_to_vec())
}

impl From<&Violation> for common::v1::FieldViolation {
    fn from(violation: &Violation) -> Self {
        Self {
            field: violation.field.clone(),
            description: violation.description.clone(),
            reason: violation.reason.to_string(),
        }
    }
}
