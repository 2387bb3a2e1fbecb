use prost::Message as _;
use runledger_domain::directory::Changed;

use super::text;
use crate::directory::v1 as wire;
use crate::types;

/// The type name and the encoded payload of a change in the directory, as they are stored.
pub fn directory_changed(changed: &Changed) -> (&'static str, Vec<u8>) {
    let message = wire::Changed {
        change: changed.change.to_string(),
        subject_id: text(changed.subject.as_ref()),
        detail_json: changed.detail.to_string(),
        key_id: text(changed.key.as_ref()),
    };
    (types::DIRECTORY_CHANGED, message.encode_to_vec())
}
