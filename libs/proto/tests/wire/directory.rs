//! Changes in the directory: a sample, its round trip, and what later versions may make of it.

use proptest::option;
use proptest::prelude::*;
use prost::Message as _;
use runledger_domain::directory::{Changed, OPERATORS};
use runledger_domain::ids::{KeyId, TenantId};
use runledger_domain::log::{Record, Stream};
use runledger_domain::scope::Mode;
use runledger_proto::directory::v1 as wire;
use runledger_proto::{decode, encode, types};
use uuid::Uuid;

use crate::any::any_json;
use crate::samples::{carry, id, json};

/// A change with every field set.
fn changed() -> Changed {
    Changed {
        change: id("KeyRevoked"),
        subject: Some(Uuid::from_u128(11)),
        detail: json(r#"{"label":"nightly","masked":"rl_live_1a2b…c3d4","mode":"live"}"#),
        key: Some(KeyId::new(Uuid::from_u128(12))),
    }
}

pub(crate) fn record() -> Record {
    carry(Stream::directory(), encode::directory_changed(&changed()))
}

/// What a stored record of this type says. `None`: of another type.
pub(crate) fn reading(record: &Record) -> Option<String> {
    let read = decode::stored_directory_changed(&record.type_name, &record.payload);
    let changed = read.expect("a message of its type")?;
    Some(format!("{changed:#?}\n"))
}

#[test]
fn the_scope_of_the_operators_is_no_tenants() {
    let tenant = TenantId::new(Uuid::from_u128(7));
    let scope = Changed::scope(Some(tenant), Mode::Sandbox);
    assert_eq!((scope.tenant, scope.mode), (tenant, Mode::Sandbox));
    assert_eq!(Changed::scope(None, Mode::Live), OPERATORS);
    // The key is for ever.
    assert_eq!(
        Stream::directory().key(OPERATORS),
        "00000000-0000-0000-0000-000000000000/live/directory"
    );
}

#[test]
fn what_a_later_version_says_of_the_directory_stops_no_reader() {
    let (type_name, bytes) = encode::directory_changed(&changed());
    let later = |change: fn(&mut wire::Changed)| {
        let mut wire = wire::Changed::decode(bytes.as_slice()).unwrap();
        change(&mut wire);
        decode::stored_directory_changed(type_name, &wire.encode_to_vec()).unwrap()
    };
    assert_eq!(later(|_| ()), Some(changed()));
    let dreamt = later(|wire| wire.change = "KeyDreamt".into()).unwrap();
    assert_eq!(dreamt.change.as_str(), "KeyDreamt");
    assert_eq!(later(|wire| wire.change.clear()), None);
    assert_eq!(later(|wire| wire.subject_id = "nobody".into()), None);
    assert_eq!(later(|wire| wire.key_id = "nobody".into()), None);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn any_change_comes_back_as_it_was_stored(
        change in "[!-~]{1,128}",
        subject in option::of(1..u128::MAX),
        detail in any_json(),
        key in option::of(1..u128::MAX),
    ) {
        let changed = Changed {
            change: id(&change),
            subject: subject.map(Uuid::from_u128),
            detail,
            key: key.map(|key| KeyId::new(Uuid::from_u128(key))),
        };
        let (type_name, bytes) = encode::directory_changed(&changed);
        prop_assert_eq!(type_name, types::DIRECTORY_CHANGED);
        prop_assert_eq!(decode::stored_directory_changed(type_name, &bytes).unwrap(), Some(changed));
    }

    #[test]
    fn bytes_that_say_anything_of_the_directory_are_a_value_or_an_error(bytes: Vec<u8>) {
        for type_name in types::ALL {
            let _either = decode::stored_directory_changed(type_name, &bytes);
        }
    }
}
