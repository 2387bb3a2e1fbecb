//! P7: whatever comes off the wire or off the log is a value or an error. Nothing of it makes a
//! parser panic, hold more than a fixed multiple of what it was given, or work more than in
//! proportion to it.
//!
//! Every parser reads every file of `corpus/`, whatever the file was made for, and changed copies of
//! them. A file that once did harm is put there and stays. A binary of its own, because it counts
//! what is allocated.

mod corpus;
mod effort;
mod growing;
mod parsers;

use std::fs;
use std::panic::{catch_unwind, resume_unwind};
use std::path::Path;

use proptest::prelude::*;
use proptest::sample::Index;

use corpus::corpus;
use parsers::PARSERS;

/// The nasty files, by name.
#[test]
fn every_parser_survives_every_file() {
    let corpus = corpus();
    assert!(corpus.len() >= 40, "the corpus is gone: {}", corpus.len());
    for (name, bytes) in corpus {
        try_all_on(bytes, name);
    }
}

/// Leaves the bytes that did harm, for the corpus, in `hostile.bin` in the target directory's `tmp`.
fn try_all_on(bytes: &[u8], what: &str) {
    for parser in PARSERS {
        let tried = catch_unwind(|| parser.try_on(bytes, what));
        if let Err(panic) = tried {
            let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join("hostile.bin");
            fs::write(file, bytes).expect("a file for what did harm");
            resume_unwind(panic);
        }
    }
}

/// One change to a file.
#[derive(Clone, Debug)]
enum Change {
    Cut(Index),
    Flip(Index, u8),
    Insert(Index, Vec<u8>),
    /// A piece again, in place, up to 64 times.
    Repeat(Index, Index, u8),
    /// A piece of another file.
    Graft(Index, Index, Index),
}

fn any_change() -> impl Strategy<Value = Change> {
    let at = any::<Index>;
    prop_oneof![
        at().prop_map(Change::Cut),
        (at(), any::<u8>()).prop_map(|(at, bits)| Change::Flip(at, bits)),
        (at(), prop::collection::vec(any::<u8>(), 1..9))
            .prop_map(|(at, bytes)| Change::Insert(at, bytes)),
        (at(), at(), 1..64_u8).prop_map(|(from, to, times)| Change::Repeat(from, to, times)),
        (at(), at(), at()).prop_map(|(at, file, from)| Change::Graft(at, file, from)),
    ]
}

/// Longest file that changes make.
const CHANGED_BYTES_MAX: usize = 64 * 1024;

fn changed(mut bytes: Vec<u8>, change: &Change, corpus: &[(String, Vec<u8>)]) -> Vec<u8> {
    // One place more than there are bytes: the end.
    let place = |index: &Index, bytes: &[u8]| index.index(bytes.len() + 1);
    match change {
        Change::Cut(at) => bytes.truncate(place(at, &bytes)),
        Change::Flip(at, bits) => {
            let at = place(at, &bytes);
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= bits;
            }
        }
        Change::Insert(at, piece) => {
            let at = place(at, &bytes);
            bytes.splice(at..at, piece.iter().copied());
        }
        Change::Repeat(from, to, times) => {
            let (one, other) = (place(from, &bytes), place(to, &bytes));
            let (from, to) = (one.min(other), one.max(other));
            let piece = bytes[from..to].repeat(usize::from(*times));
            bytes.splice(to..to, piece);
        }
        Change::Graft(at, file, from) => {
            let at = place(at, &bytes);
            let (_, other) = &corpus[file.index(corpus.len())];
            let from = place(from, other);
            bytes.splice(at.., other[from..].iter().copied());
        }
    }
    bytes.truncate(CHANGED_BYTES_MAX);
    bytes
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_024, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_parser_survives_changed_files(file: Index, changes in prop::collection::vec(any_change(), 1..5)) {
        let corpus = corpus();
        let (name, bytes) = &corpus[file.index(corpus.len())];
        let bytes = changes.iter().fold(bytes.clone(), |bytes, change| changed(bytes, change, corpus));
        try_all_on(&bytes, name);
    }

    #[test]
    fn every_parser_survives_any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..512)) {
        try_all_on(&bytes, "any bytes");
    }

    #[test]
    fn every_parser_survives_any_text(text in "\\PC{0,200}") {
        try_all_on(text.as_bytes(), "any text");
    }
}
