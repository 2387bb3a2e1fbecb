//! What is written is read; what is cut, damaged or of a later version never passes for whole.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read as _, Seek as _, Write as _};

use proptest::prelude::*;
use runledger_proto::recording::v1::{Block, Header, RecordedFact, Span};

use crate::{Error, MAGIC, Reader, VERSION, Writer};

fn header() -> Header {
    Header {
        version: VERSION,
        tenant_id: vec![7; 16],
        mode: 1,
        spans: vec![
            Span {
                family: "run".into(),
                partition: 0,
                incarnation: vec![1; 16],
                from_offset: 1,
                to_offset: 900,
            };
            2
        ],
        recorded_from: None,
        recorded_before: None,
    }
}

fn blocks() -> impl Strategy<Value = Vec<Block>> {
    let fact = (
        0..2_u32,
        0..900_u64,
        prop::collection::vec(any::<u8>(), 0..200),
    )
        .prop_map(|(span, offset, record)| RecordedFact {
            span,
            offset,
            record,
        });
    let block = (
        prop::collection::vec(fact, 0..20),
        prop::array::uniform2(0..900_u64),
        prop::collection::btree_map("[a-z]{1,8}", 0..9_u64, 0..3),
    );
    let block = block.prop_map(|(facts, looked_to, left_out)| Block {
        facts,
        looked_to: looked_to.into(),
        left_out,
    });
    prop::collection::vec(block, 0..6)
}

fn written(blocks: &[Block]) -> Vec<u8> {
    let mut writer = Writer::create(Vec::new(), &header()).unwrap();
    for block in blocks {
        writer.block(block).unwrap();
    }
    writer.finish(BTreeMap::from([("left".into(), 3)])).unwrap()
}

fn read(file: &[u8]) -> Result<Vec<Block>, Error> {
    let mut reader = Reader::open(file)?;
    let mut blocks = Vec::new();
    while let Some(block) = reader.block()? {
        blocks.push(block);
    }
    assert_eq!(reader.header(), &header());
    Ok(blocks)
}

fn holding(bytes: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file.rewind().unwrap();
    file
}

proptest! {
    #[test]
    fn what_was_written_is_read(blocks in blocks()) {
        prop_assert_eq!(read(&written(&blocks)).unwrap(), blocks);
    }

    #[test]
    fn a_recording_that_was_cut_is_never_whole(blocks in blocks(), cut in any::<prop::sample::Index>()) {
        let file = written(&blocks);
        let cut = cut.index(file.len());
        match read(&file[..cut]) {
            Err(Error::CutShort { blocks: whole }) => prop_assert!(whole <= blocks.len() as u64),
            Err(Error::NotARecording) => prop_assert!(cut < MAGIC.len()),
            other => prop_assert!(false, "{other:?}"),
        }
    }

    #[test]
    fn a_byte_that_was_changed_is_noticed(
        blocks in blocks(), place in any::<prop::sample::Index>(), by in 1..=255_u8,
    ) {
        let mut file = written(&blocks);
        let place = place.index(file.len());
        file[place] ^= by;
        prop_assert!(read(&file).is_err());
    }

    /// Whoever looks on from where the last whole block ended writes the rest to the byte.
    #[test]
    fn a_recording_that_goes_on_is_the_one_that_never_stopped(
        blocks in blocks(), cut in any::<prop::sample::Index>(),
    ) {
        let whole = written(&blocks);
        let mut first = Vec::new();
        Writer::create(&mut first, &header()).unwrap();
        let cut = first.len() + cut.index(whole.len() - first.len());
        let before = read_as_far(&whole[..cut]);
        let (mut writer, standing) = Writer::resume(holding(&whole[..cut])).unwrap();
        prop_assert_eq!(&standing.header, &header());
        prop_assert!(!standing.is_whole);
        if let Some(last) = before.last() {
            prop_assert_eq!(&standing.looked_to, &last.looked_to);
            prop_assert_eq!(&standing.left_out, &last.left_out);
        }
        for block in &blocks[before.len()..] {
            writer.block(block).unwrap();
        }
        let mut file = writer.finish(BTreeMap::from([("left".into(), 3)])).unwrap();
        let mut now = Vec::new();
        file.rewind().unwrap();
        file.read_to_end(&mut now).unwrap();
        prop_assert!(now == whole);
    }

    #[test]
    fn no_bytes_make_it_panic(bytes: Vec<u8>, is_marked: bool) {
        let mut file = if is_marked { MAGIC.to_vec() } else { Vec::new() };
        file.extend(bytes);
        drop(read(&file));
    }
}

fn read_as_far(file: &[u8]) -> Vec<Block> {
    let mut reader = Reader::open(file).unwrap();
    let mut blocks = Vec::new();
    while let Ok(Some(block)) = reader.block() {
        blocks.push(block);
    }
    blocks
}

#[test]
fn a_later_version_is_refused() {
    let later = Header {
        version: VERSION + 1,
        ..header()
    };
    let writer = Writer::create(Vec::new(), &later).unwrap();
    let file = writer.finish(BTreeMap::new()).unwrap();
    assert!(matches!(read(&file), Err(Error::VersionTooNew(2))));
}

#[test]
fn another_file_is_no_recording() {
    assert!(matches!(read(b"{\"run\":1}"), Err(Error::NotARecording)));
    assert!(matches!(read(b""), Err(Error::NotARecording)));
}

#[test]
fn a_whole_recording_has_nothing_left_to_do() {
    let (_, standing) = Writer::resume(holding(&written(&[]))).unwrap();
    assert!(standing.is_whole);
}
