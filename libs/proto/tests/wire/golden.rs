//! Bytes of the past: one record of every type ever shipped, byte for byte as it was first written.
//!
//! A new type: add a fact with every field set to `samples::facts`, run this test, and commit the
//! file that it writes and names. An existing file is never written again: it stands for records
//! that lie in logs for ever. When one no longer matches, the encoder is wrong, not the file.

use std::path::{Path, PathBuf};
use std::{fs, io};

use prost::Message as _;
use runledger_domain::ids::Incarnation;
use runledger_domain::log::{Genesis, HASH_VERSION};
use runledger_proto::decode::{self, Stored};
use runledger_proto::{DESCRIPTORS, encode, types};
use uuid::Uuid;

use crate::samples::{facts, moment, record, record_of_skipped, skipped};

/// Type, bytes, and what they must decode to.
fn samples() -> Vec<(String, Vec<u8>, Stored)> {
    let genesis = Genesis {
        incarnation: Incarnation::new(Uuid::from_u128(0x0198_f0c2_5f1e_7b9a_8c55_3f2f_6f0e_8d12)),
        topic: "runledger.dev.run.v1".into(),
        partition: 3,
        partition_count: 4,
        hash_version: HASH_VERSION,
    };
    let bytes = encode::genesis(&genesis, moment(1_767_225_600_123_456));
    let mut samples = vec![(types::GENESIS.to_owned(), bytes, Stored::Genesis(genesis))];
    let records = facts().iter().map(record).collect::<Vec<_>>();
    for record in records.into_iter().chain([record_of_skipped()]) {
        samples.push((
            record.type_name.to_string(),
            encode::record(record.clone()),
            Stored::Record(record),
        ));
    }
    samples
}

fn file(type_name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(format!("{type_name}.bin"))
}

#[test]
fn records_are_written_as_they_always_were() {
    let mut missing = Vec::new();
    for (type_name, bytes, _) in samples() {
        match fs::read(file(&type_name)) {
            Ok(golden) => assert_eq!(bytes, golden, "the bytes of {type_name} have changed"),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let fresh = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{type_name}.bin"));
                fs::write(&fresh, bytes).unwrap();
                missing.push(format!(
                    "cp {} {}",
                    fresh.display(),
                    file(&type_name).display()
                ));
            }
            Err(error) => panic!("{type_name}: {error}"),
        }
    }
    assert!(
        missing.is_empty(),
        "new types without golden bytes; if they are meant, once:\n{}",
        missing.join("\n")
    );
}

#[test]
fn records_of_the_past_are_read_as_what_they_were() {
    for (type_name, _, meaning) in samples() {
        let golden = fs::read(file(&type_name)).unwrap();
        let stored = match &meaning {
            Stored::Record(record) => decode::record(record.stream.family(), &golden).unwrap(),
            Stored::Genesis(_) => Stored::Genesis(decode::genesis(&golden).unwrap()),
        };
        if type_name == types::RECORD_SKIPPED {
            let Stored::Record(record) = &stored else {
                panic!("{stored:?}")
            };
            assert_eq!(decode::skipped(record).unwrap(), Some(skipped()));
            assert_eq!(decode::fact(record).unwrap(), None);
        } else if let Stored::Record(record) = &stored {
            let fact = decode::fact(record).unwrap().unwrap();
            assert_eq!(encode::payload(&fact).1, record.payload, "{type_name}");
        }
        assert_eq!(stored, meaning, "{type_name}");
    }
}

#[test]
fn every_type_has_a_golden_file_and_every_golden_file_a_type() {
    let mut sampled: Vec<_> = samples()
        .into_iter()
        .map(|(type_name, ..)| type_name)
        .collect();
    let mut known: Vec<_> = types::ALL.iter().map(ToString::to_string).collect();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let mut files: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter_map(|name| name.strip_suffix(".bin").map(str::to_owned))
        .collect();
    sampled.sort();
    known.sort();
    files.sort();
    assert_eq!(sampled, known, "every type needs a sample");
    assert_eq!(
        files, known,
        "a type that was shipped once is kept for ever"
    );
}

#[test]
fn type_names_are_those_of_the_protos() {
    let set = prost_types::FileDescriptorSet::decode(DESCRIPTORS).unwrap();
    let messages: Vec<_> = set
        .file
        .iter()
        .flat_map(|file| {
            file.message_type
                .iter()
                .map(move |message| format!("{}.{}", file.package(), message.name()))
        })
        .collect();
    for type_name in types::ALL {
        assert!(messages.iter().any(|name| name == type_name), "{type_name}");
    }
}
