//! Bytes of the past: records of every type ever written, byte for byte, and what they are read as.
//!
//! A new type, or a new field in one: add it to `samples::facts`, run this test, and commit the files
//! that it writes and names. A new field gives its type one more golden file, `<type>.2.bin` and so
//! on: those written before stand for records that lie in logs for ever, and are never touched. When
//! one no longer matches, the code is wrong, not the file.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use prost::Message as _;
use runledger_domain::ids::Incarnation;
use runledger_domain::log::{Family, Genesis, HASH_VERSION, Record};
use runledger_domain::run::{self, Moment, Part, Run, ToolCall, Work, evolve};
use runledger_domain::{Fact, digest};
use runledger_proto::decode::{self, Stored};
use runledger_proto::{DESCRIPTORS, encode, types};
use uuid::Uuid;

use crate::samples::{
    facts, moment, policy_changed, policy_commands, record, record_of_skipped, records_of_policies,
    rejection, skipped,
};
use crate::{approval, billing, directory};

/// Type, bytes, and what they must decode to, as this version writes them.
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
    let others = [record_of_skipped(), directory::record()]
        .into_iter()
        .chain(records_of_policies())
        .chain(approval::records())
        .chain(billing::records());
    for record in records.into_iter().chain(others) {
        samples.push((
            record.type_name.to_string(),
            encode::record(record.clone()),
            Stored::Record(record),
        ));
    }
    samples
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

/// One golden file.
struct Golden {
    /// Its file's name without `.bin`.
    name: String,
    type_name: String,
    /// 1, or the number behind the type.
    number: u32,
    bytes: Vec<u8>,
}

/// Every golden file, those of a type in the order in which they came to be.
fn golden() -> Vec<Golden> {
    let mut all: Vec<Golden> = fs::read_dir(folder())
        .expect("the golden files")
        .map(|entry| entry.expect("an entry").file_name())
        .map(|file| file.into_string().expect("a name in UTF-8"))
        .filter_map(|file| {
            let name = file.strip_suffix(".bin")?;
            let (type_name, number) = match name.rsplit_once('.') {
                Some((type_name, last)) if last.parse::<u32>().is_ok() => (type_name, last),
                _ => (name, "1"),
            };
            Some(Golden {
                name: name.into(),
                type_name: type_name.into(),
                number: number.parse().expect("a number"),
                bytes: fs::read(folder().join(&file)).expect("a golden file"),
            })
        })
        .collect();
    all.sort_by(|a, b| (&a.type_name, a.number).cmp(&(&b.type_name, b.number)));
    all
}

/// Writes what ought to be committed out of the way, and says how to commit it.
fn afresh(file: &str, content: &[u8]) -> String {
    let fresh = Path::new(env!("CARGO_TARGET_TMPDIR")).join(file);
    fs::write(&fresh, content).expect("a file that is written afresh");
    format!("cp {} {}", fresh.display(), folder().join(file).display())
}

fn assert_none(missing: &[String], what: &str) {
    assert!(
        missing.is_empty(),
        "{what}; if they are meant, once:\n{}",
        missing.join("\n")
    );
}

#[test]
fn records_are_written_as_they_always_were() {
    let golden = golden();
    let mut missing = Vec::new();
    for (type_name, bytes, _) in samples() {
        let last = golden.iter().rfind(|one| one.type_name == type_name);
        if last.is_none_or(|last| last.bytes != bytes) {
            let file = match last {
                Some(last) => format!("{type_name}.{}.bin", last.number + 1),
                None => format!("{type_name}.bin"),
            };
            missing.push(afresh(&file, &bytes));
        }
    }
    let what = "the bytes of these have changed, or they are new: only a sample that says more than \
                before may be written otherwise";
    assert_none(&missing, what);
}

#[test]
fn what_this_version_writes_it_reads() {
    for (type_name, bytes, meaning) in samples() {
        let stored = match &meaning {
            Stored::Record(record) => decode::record(record.stream.family(), &bytes).unwrap(),
            Stored::Genesis(_) => Stored::Genesis(decode::genesis(&bytes).unwrap()),
        };
        if type_name == types::RECORD_SKIPPED {
            let Stored::Record(record) = &stored else {
                panic!("{stored:?}")
            };
            assert_eq!(decode::skipped(record).unwrap(), Some(skipped()));
            assert_eq!(decode::fact(record).unwrap(), None);
        } else if let Stored::Record(record) = &stored
            && said_of_policies(record).is_some()
        {
            assert_eq!(decode::fact(record).unwrap(), None);
        } else if let Stored::Record(record) = &stored
            && approval::reading(record).is_none()
            && directory::reading(record).is_none()
            && billing::reading(record).is_none()
        {
            let fact = decode::fact(record).unwrap().unwrap();
            assert_eq!(encode::payload(&fact).1, record.payload, "{type_name}");
        }
        assert_eq!(stored, meaning, "{type_name}");
    }
}

/// What a record says of policies, or of the refusal of a command.
fn said_of_policies(record: &Record) -> Option<String> {
    let (type_name, bytes) = (&*record.type_name, &*record.payload);
    let command = decode::stored_policy_command(type_name, bytes).expect("a command");
    let changed = decode::stored_policy_changed(type_name, bytes).expect("a change");
    let rejected = decode::stored_rejection(type_name, bytes).expect("a refusal");
    command
        .map(|command| format!("{command:#?}"))
        .or_else(|| changed.map(|changed| format!("{changed:#?}")))
        .or_else(|| rejected.map(|rejected| format!("{rejected:#?}")))
}

#[test]
fn what_is_said_of_policies_comes_back_as_it_was_stored() {
    for command in policy_commands() {
        let (type_name, bytes) = encode::policy_command(&command);
        let read = decode::stored_policy_command(type_name, &bytes).unwrap();
        assert_eq!(read, Some(command));
        let other = decode::stored_policy_changed(type_name, &bytes).unwrap();
        assert_eq!(other, None);
    }
    let (type_name, bytes) = encode::policy_changed(&policy_changed());
    let read = decode::stored_policy_changed(type_name, &bytes).unwrap();
    assert_eq!(read, Some(policy_changed()));
    let (type_name, bytes) = encode::rejected(&rejection(), types::UPDATE_POLICY);
    let read = decode::stored_rejection(type_name, &bytes).unwrap();
    assert_eq!(read, Some((rejection(), types::UPDATE_POLICY.into())));
}

#[test]
fn records_of_the_past_are_read_and_folded_as_ever() {
    let mut missing = Vec::new();
    for golden in golden() {
        let file = format!("{}.txt", golden.name);
        let found = reading(&golden);
        match fs::read_to_string(folder().join(&file)) {
            Ok(expected) => assert_eq!(found, expected, "{file}"),
            Err(_) => missing.push(afresh(&file, found.as_bytes())),
        }
    }
    assert_none(&missing, "golden files that nobody has read");
}

/// What a golden record is read as, and what folding it alone makes.
fn reading(golden: &Golden) -> String {
    // Genesis records are alike in every family; the others lie in the family of their stream.
    let stored = Family::ALL
        .iter()
        .find_map(|family| decode::record(*family, &golden.bytes).ok());
    match stored.expect(&golden.name) {
        Stored::Genesis(genesis) => {
            assert_eq!(golden.type_name, types::GENESIS);
            format!("{genesis:#?}\n")
        }
        Stored::Record(record) => {
            assert_eq!(golden.type_name, *record.type_name);
            if golden.type_name == types::RECORD_SKIPPED {
                let skipped = decode::skipped(&record).expect(&golden.name);
                let skipped = skipped.expect("a skip, as ever since it was written");
                return format!("{}\n{skipped:#?}\n", envelope(record));
            }
            if let Some(said) = said_of_policies(&record) {
                return format!("{}\n{said}\n", envelope(record));
            }
            if let Some(reading) = approval::reading(&record)
                .or_else(|| directory::reading(&record))
                .or_else(|| billing::reading(&record))
            {
                return format!("{}\n{reading}", envelope(record));
            }
            let fact = decode::fact(&record).expect(&golden.name);
            let fact = fact.expect("a fact, as ever since it was written");
            let folded = folded(&fact, &record);
            format!("{}\n{fact:#?}\n\nfolded: {folded}\n", envelope(record))
        }
    }
}

fn envelope(record: Record) -> String {
    // Every field by name: a new one is a reason to look here.
    let Record {
        id,
        scope,
        stream,
        kind,
        type_name,
        occurred_at,
        recorded_at,
        author,
        cause,
        request_digest,
        key,
        payload,
        terms,
    } = record;
    // Only commands and decisions have any.
    let terms = terms.map_or_else(String::new, |terms| format!("terms {terms:?}\n"));
    format!(
        "{kind} {type_name}\nid {id}\nscope {scope}\nstream {stream} of {}\noccurred at {occurred_at:?}\n\
         recorded at {recorded_at:?}\nauthor {author:?}\ncause {cause:?}\nrequest digest {}\nkey {key:?}\n\
         payload of {} bytes, {}\n{terms}",
        stream.family(),
        hex(&request_digest),
        payload.len(),
        hex(&digest::of(&payload)),
    )
}

fn folded(fact: &Fact, record: &Record) -> String {
    let fact = match fact {
        Fact::Run(fact) => fact,
        Fact::Schedule(_) | Fact::Message(_) | Fact::Usage(_) => {
            return "as it is, a row of its own".into();
        }
    };
    let (mut run, mut step, mut call) = (Run::default(), Work::default(), ToolCall::default());
    let part = match fact {
        run::Fact::StepStarted(_) | run::Fact::StepEnded(_) => Part::Step(&mut step),
        run::Fact::ToolCallStarted(_) | run::Fact::ToolCallEnded(_) => Part::ToolCall(&mut call),
        run::Fact::Started(_)
        | run::Fact::Progressed(_)
        | run::Fact::Ended(_)
        | run::Fact::UsageRecorded(_) => Part::None,
    };
    let moment = Moment {
        record: record.id,
        at: record.occurred_at,
    };
    let late = evolve(&mut run, part, fact, moment);
    let status = run.status();
    format!("{status}, late {late}\n{run:#?}\n{step:#?}\n{call:#?}")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _written = write!(text, "{byte:02x}");
        text
    })
}

#[test]
fn no_golden_file_was_ever_changed_or_taken_away() {
    let written = fs::read_to_string(folder().join("written.sha256")).unwrap_or_default();
    let line =
        |golden: &Golden| format!("{}  {}.bin", hex(&digest::of(&golden.bytes)), golden.name);
    let found: Vec<String> = golden().iter().map(line).collect();
    let gone: Vec<&str> = written
        .lines()
        .filter(|line| !found.iter().any(|one| one == line))
        .collect();
    assert!(
        gone.is_empty(),
        "records like these lie in logs for ever, but their golden files were changed or are gone: {gone:#?}"
    );
    let new: Vec<String> = found
        .into_iter()
        .filter(|line| !written.lines().any(|one| one == line))
        .collect();
    if !new.is_empty() {
        // Only ever added to.
        let all = format!("{written}{}\n", new.join("\n"));
        let missing = [afresh("written.sha256", all.as_bytes())];
        assert_none(&missing, "golden files that are not listed");
    }
}

#[test]
fn every_type_has_a_sample_and_a_golden_file_and_every_golden_file_a_type() {
    let count = |names: Vec<String>| {
        names.into_iter().fold(BTreeMap::new(), |mut count, name| {
            *count.entry(name).or_insert(0) += 1;
            count
        })
    };
    let sampled = count(samples().into_iter().map(|(name, ..)| name).collect());
    let known = count(types::ALL.iter().map(ToString::to_string).collect());
    let golden = count(golden().into_iter().map(|one| one.type_name).collect());
    assert_eq!(sampled, known, "every type needs a sample");
    assert!(
        golden.keys().eq(known.keys()),
        "a type that was written once is kept for ever: {:?}",
        golden.keys()
    );
}

#[test]
fn every_fact_that_the_protos_know_is_a_type_and_every_type_is_in_the_protos() {
    let set = prost_types::FileDescriptorSet::decode(DESCRIPTORS).unwrap();
    let mut messages = BTreeSet::new();
    let mut facts = BTreeSet::new();
    for file in &set.file {
        for message in &file.message_type {
            messages.insert(format!("{}.{}", file.package(), message.name()));
            let Some(oneof) = message
                .oneof_decl
                .iter()
                .position(|oneof| oneof.name() == "fact")
            else {
                continue;
            };
            let index = i32::try_from(oneof).ok();
            facts.extend(
                message
                    .field
                    .iter()
                    .filter(|field| field.oneof_index == index)
                    // Decisions come as bytes.
                    .filter(|field| !field.type_name().is_empty())
                    .map(|field| field.type_name().trim_start_matches('.').to_owned()),
            );
        }
    }
    let known: BTreeSet<String> = types::ALL.iter().map(ToString::to_string).collect();
    let gone: Vec<_> = known.difference(&messages).collect();
    assert!(gone.is_empty(), "types without a message: {gone:?}");
    let forgotten: Vec<_> = facts.difference(&known).collect();
    assert!(
        forgotten.is_empty(),
        "facts that are no type: {forgotten:?}"
    );
    let others: Vec<_> = known.difference(&facts).collect();
    // Families of commands and decisions; of billing one fact, which no caller reports.
    let deciding = ["approval", "billing", "price"].map(|family| format!("runledger.{family}."));
    let is_decided = |name: &str| deciding.iter().any(|family| name.starts_with(family));
    let others: Vec<_> = others
        .into_iter()
        .filter(|name| !is_decided(name))
        .collect();
    let meant = BTreeSet::from([
        types::GENESIS,
        types::COMMAND_REJECTED,
        types::RECORD_SKIPPED,
        types::CREATE_POLICY,
        types::UPDATE_POLICY,
        types::SET_POLICY_ENABLED,
        types::DELETE_POLICY,
        types::POLICY_CHANGED,
        types::DIRECTORY_CHANGED,
    ]);
    let meant: Vec<&str> = meant.into_iter().collect();
    assert_eq!(others, meant, "all others are facts of a family");
}
