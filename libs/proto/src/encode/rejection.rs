use prost::Message as _;
use runledger_domain::decision::Rejection;

use crate::{common, log, types};

/// The type name and the encoded payload of a refusal, as they are stored.
pub fn rejected(rejection: &Rejection, command_type: &str) -> (&'static str, Vec<u8>) {
    let violations = rejection.violations.iter();
    let wire = log::v1::CommandRejected {
        kind: log::v1::RejectionKind::from(rejection.kind).into(),
        reason: rejection.reason.to_string(),
        message: rejection.message.clone(),
        command_type: command_type.to_owned(),
        violations: violations
            .map(|one| common::v1::FieldViolation {
                field: one.field.clone(),
                description: one.description.clone(),
                reason: one.reason.to_string(),
            })
            .collect(),
    };
    (types::COMMAND_REJECTED, wire.encode_to_vec())
}
