//! Changes in the directory.

use runledger_domain::directory::Changed;
use runledger_domain::ids::{KeyId, Name};

use super::fields::Fields;
use super::stored::{Error, message};
use crate::directory::v1 as wire;
use crate::types;

/// The change of the directory in a stored payload. `Ok(None)`: it is none, or it says what this
/// version does not understand.
///
/// # Errors
/// When the bytes are no message of that type.
pub fn stored_directory_changed(type_name: &str, bytes: &[u8]) -> Result<Option<Changed>, Error> {
    if type_name != types::DIRECTORY_CHANGED {
        return Ok(None);
    }
    let wire: wire::Changed = message(type_name, bytes)?;
    let mut faults = Vec::new();
    let mut see = Fields::of_stored(&mut faults);
    let change = see.id("change", wire.change, Name::parse);
    let subject = see.optional_uuid("subject_id", &wire.subject_id);
    let detail = see.json("detail_json", wire.detail_json);
    let key = see.optional_uuid("key_id", &wire.key_id).map(KeyId::new);
    let (Some(change), Some(detail), []) = (change, detail, faults.as_slice()) else {
        return Ok(None);
    };
    Ok(Some(Changed {
        change,
        subject,
        detail,
        key,
    }))
}
