//! Forged histories and read models: one for each way in which a promise can be broken.

use runledger_domain::ids::TenantId;
use runledger_domain::scope::Mode;

use super::*;
use crate::history::{Reads, Tail, Writer, part_id};

const NONCE: u32 = 0xfeed;
const RUN: RunKey = RunKey {
    writer: 0,
    number: 3,
};

fn scope(tenant: u128) -> Scope {
    Scope {
        tenant: TenantId::new(Uuid::from_u128(tenant)),
        mode: Mode::Live,
    }
}

fn id(number: u32) -> Uuid {
    RecordKey { writer: 0, number }.uuid(NONCE)
}

/// What was sent, and the read model that holds exactly that.
struct World {
    history: History,
    records: Vec<RecordRow>,
    calls: Vec<CallRow>,
    messages: Vec<PartRow>,
    occurrences: Vec<PartRow>,
    runs: Vec<RunRow>,
}

/// One run, all of it acknowledged.
const SENT: [(Kind, u16); 9] = [
    (Kind::Started, 0),
    (Kind::Used, 0),
    (Kind::Used, 1),
    (Kind::CallStarted, 0),
    (Kind::CallEnded, 0),
    (Kind::Message, 0),
    (Kind::Message, 1),
    (Kind::Occurrence, 0),
    (Kind::Ended, 0),
];

fn records() -> Vec<RecordRow> {
    let record = |(number, (kind, _)): (usize, &(Kind, u16))| RecordRow {
        scope: scope(1),
        stream: stream(RUN, *kind),
        id: id(u32::try_from(number).unwrap()),
        run_id: Some(RUN.to_string()),
        place: (stream(RUN, *kind)[..3].to_owned(), 0),
        offset: number as u64,
        late: false,
        conflicts: 0,
    };
    SENT.iter().enumerate().map(record).collect()
}

/// The run, followed by a tail.
fn world() -> World {
    let mut writer = Writer::new(0);
    for (kind, part) in SENT {
        let number = writer.add(RUN.number, kind, part);
        writer.told(number, Fate::Acknowledged);
    }
    let records = records();
    let part = |belongs_to: String, part: Option<u16>, number| PartRow {
        scope: scope(1),
        belongs_to,
        part_id: part.map(part_id),
        record: id(number),
    };
    let mut tail = Tail::new(RUN);
    for row in &records {
        tail.show(row.id, row.place.clone(), row.offset);
    }
    tail.complete = true;
    World {
        calls: vec![CallRow {
            scope: scope(1),
            run_id: RUN.to_string(),
            tool_call_id: part_id(0),
            started: Some(id(3)),
            ended: Some(id(4)),
        }],
        messages: vec![
            part(RUN.conversation(), Some(0), 5),
            part(RUN.conversation(), Some(1), 6),
        ],
        occurrences: vec![part(RUN.schedule(), None, 7)],
        runs: vec![RunRow {
            scope: scope(1),
            run_id: RUN.to_string(),
            started: Some(id(0)),
            ended: Some(id(8)),
            conflicts: 0,
            counts: Counts {
                calls: 1,
                failed: 1,
                messages: 2,
                late: 0,
                uses: 2,
                used: quantity(0) + quantity(1),
            },
        }],
        records,
        history: History {
            nonce: NONCE,
            scopes: vec![scope(1), scope(2)],
            writers: vec![writer, Writer::new(1)],
            reads: Reads::default(),
            tails: vec![tail],
            surprises: Vec::new(),
        },
    }
}

impl World {
    fn verdict(&self) -> Verdict {
        let mut checker = Checker::new(&self.history);
        self.records.iter().for_each(|row| checker.record(row));
        self.calls.iter().for_each(|row| checker.call(row));
        self.messages.iter().for_each(|row| checker.message(row));
        self.occurrences
            .iter()
            .for_each(|row| checker.occurrence(row));
        self.runs.iter().for_each(|row| checker.run(row));
        checker.verdict()
    }

    fn fate(&mut self, number: usize, fate: Fate) {
        self.history.writers[0].sent[number].fate = fate;
    }

    /// Takes the first message out of all tables, and of what was tailed.
    fn without_a_message(&mut self) {
        self.records.remove(5);
        self.messages.remove(0);
        self.runs[0].counts.messages -= 1;
        self.history.tails[0].items.remove(&id(5));
    }
}

/// Lost, doubled, stale, and broken otherwise, after the world was changed like this.
fn counts(change: impl FnOnce(&mut World)) -> [u64; 4] {
    let mut world = world();
    change(&mut world);
    let verdict = world.verdict();
    let counts = [
        verdict.lost,
        verdict.doubled,
        verdict.stale,
        verdict.otherwise,
    ];
    assert_eq!(verdict.is_kept(), counts == [0; 4]);
    assert_eq!(verdict.broken.is_empty(), counts == [0; 4], "{verdict:?}");
    counts
}

const KEPT: [u64; 4] = [0, 0, 0, 0];
const LOST: [u64; 4] = [1, 0, 0, 0];
const DOUBLED: [u64; 4] = [0, 1, 0, 0];
const OTHERWISE: [u64; 4] = [0, 0, 0, 1];

#[test]
fn what_was_promised_and_is_there_once_is_kept() {
    assert_eq!(counts(|_| {}), KEPT);
    let verdict = world().verdict();
    assert_eq!((verdict.acknowledged, verdict.unknown), (9, 0));
}

#[test]
fn an_acknowledged_record_that_is_nowhere_is_lost() {
    assert_eq!(counts(World::without_a_message), LOST);
}

#[test]
fn an_acknowledged_record_that_is_not_in_the_table_of_its_kind_is_lost() {
    assert_eq!(counts(|world| drop(world.messages.remove(1))), LOST);
    assert_eq!(counts(|world| drop(world.occurrences.remove(0))), LOST);
    assert_eq!(counts(|world| world.calls[0].ended = None), LOST);
    assert_eq!(counts(|world| drop(world.runs.remove(0))), LOST);
}

#[test]
fn a_record_that_is_there_twice_is_doubled() {
    let again = |world: &mut World| world.records.push(world.records[1].clone());
    assert_eq!(counts(again), DOUBLED);
    let again = |world: &mut World| world.messages.push(world.messages[0].clone());
    assert_eq!(counts(again), DOUBLED);
    let again = |world: &mut World| world.occurrences.push(world.occurrences[0].clone());
    assert_eq!(counts(again), DOUBLED);
    let again = |world: &mut World| world.runs.push(world.runs[0].clone());
    assert_eq!(counts(again), DOUBLED);
    let again = |world: &mut World| world.calls.push(world.calls[0].clone());
    assert_eq!(counts(again), [0, 2, 0, 0], "its start and its end");
}

#[test]
fn a_run_that_counts_more_or_less_than_its_records_is_found() {
    let counted: [fn(&mut Counts) -> &mut i64; 6] = [
        |counts| &mut counts.calls,
        |counts| &mut counts.failed,
        |counts| &mut counts.messages,
        |counts| &mut counts.late,
        |counts| &mut counts.uses,
        |counts| &mut counts.used,
    ];
    for count in counted {
        let more = |world: &mut World| *count(&mut world.runs[0].counts) += 1;
        assert_eq!(counts(more), DOUBLED);
        let less = |world: &mut World| *count(&mut world.runs[0].counts) -= 1;
        assert_eq!(counts(less), LOST);
    }
}

#[test]
fn an_unknown_record_may_be_there_or_not_but_everywhere_alike() {
    assert_eq!(counts(|world| world.fate(5, Fate::Unknown)), KEPT);
    let absent = |world: &mut World| {
        world.fate(5, Fate::Unknown);
        world.without_a_message();
    };
    assert_eq!(counts(absent), KEPT);
    let half = |world: &mut World| {
        world.fate(5, Fate::Unknown);
        world.messages.remove(0);
    };
    assert_eq!(counts(half), OTHERWISE);
    let other_half = |world: &mut World| {
        world.fate(5, Fate::Unknown);
        world.records.remove(5);
        world.runs[0].counts.messages -= 1;
        world.history.tails[0].items.remove(&id(5));
    };
    assert_eq!(counts(other_half), OTHERWISE);
    let mut world = world();
    world.fate(5, Fate::Unknown);
    let verdict = world.verdict();
    assert_eq!((verdict.unknown, verdict.unknown_present), (1, 1));
}

#[test]
fn a_record_of_which_nothing_was_appended_must_not_be_there() {
    assert_eq!(counts(|world| world.fate(5, Fate::Denied)), OTHERWISE);
    let absent = |world: &mut World| {
        world.fate(5, Fate::Denied);
        world.without_a_message();
    };
    assert_eq!(counts(absent), KEPT);
}

#[test]
fn what_no_client_sent_there_is_found() {
    let foreign: [fn(&mut RecordRow); 5] = [
        |row| row.id = id(9),
        |row| {
            row.id = RecordKey {
                writer: 0,
                number: 1,
            }
            .uuid(NONCE + 1)
        },
        |row| row.scope = scope(2),
        |row| row.stream = "run/elsewhere".into(),
        |row| row.run_id = None,
    ];
    for change in foreign {
        let add = |world: &mut World| {
            let mut row = world.records[1].clone();
            change(&mut row);
            world.records.push(row);
        };
        assert_eq!(counts(add), OTHERWISE);
    }
    let add = |world: &mut World| {
        let mut row = world.messages[0].clone();
        row.part_id = Some(part_id(1));
        world.messages[0] = row;
    };
    assert_eq!(counts(add), [1, 0, 0, 1], "a message under another id");
    let add = |world: &mut World| {
        let mut row = world.runs[0].clone();
        row.scope = scope(2);
        world.runs.push(row);
    };
    assert_eq!(counts(add), OTHERWISE);
}

#[test]
fn a_tool_call_or_a_run_made_of_the_wrong_records_is_found() {
    let swap = |world: &mut World| {
        let call = &mut world.calls[0];
        std::mem::swap(&mut call.started, &mut call.ended);
    };
    assert_eq!(counts(swap), OTHERWISE);
    let other = |world: &mut World| world.runs[0].ended = Some(id(0));
    assert_eq!(counts(other), OTHERWISE);
    let unended = |world: &mut World| world.runs[0].ended = None;
    assert_eq!(counts(unended), OTHERWISE);
}

#[test]
fn a_retry_that_passes_for_another_content_is_found() {
    assert_eq!(counts(|world| world.records[2].conflicts = 1), OTHERWISE);
    assert_eq!(counts(|world| world.runs[0].conflicts = 1), OTHERWISE);
}

#[test]
fn a_tail_with_a_gap_a_repeat_or_a_turn_is_found() {
    let gap = |world: &mut World| drop(world.history.tails[0].items.remove(&id(1)));
    assert_eq!(counts(gap), LOST);
    let repeat = |world: &mut World| {
        let row = world.records[1].clone();
        world.history.tails[0].show(row.id, row.place, row.offset);
    };
    assert_eq!(counts(repeat), DOUBLED);
    let unfinished = |world: &mut World| world.history.tails[0].complete = false;
    assert_eq!(counts(unfinished), LOST);
    let moved = |world: &mut World| world.records[8].offset += 1;
    assert_eq!(counts(moved), OTHERWISE);
    let turned = |world: &mut World| {
        let tail = &mut world.history.tails[0];
        let (place, offset) = tail.items.remove(&id(1)).unwrap();
        tail.show(id(1), place, offset);
    };
    assert_eq!(counts(turned), OTHERWISE);
}

#[test]
fn what_readers_saw_and_what_nobody_expected_counts() {
    let read = |world: &mut World| {
        world.history.reads.stale = 1;
        world.history.reads.examples.push("a stale read".into());
    };
    assert_eq!(counts(read), [0, 0, 1, 0]);
    let read = |world: &mut World| {
        world.history.reads.wrong = 1;
        world.history.reads.examples.push("a wrong read".into());
    };
    assert_eq!(counts(read), OTHERWISE);
    assert_eq!(
        counts(|world| world.history.surprises.push("a refusal".into())),
        OTHERWISE
    );
}

#[test]
fn many_broken_promises_are_all_counted_and_some_are_told() {
    let mut world = world();
    for _ in 0..100 {
        let number = world.history.writers[0].add(RUN.number, Kind::Used, 2);
        world.history.writers[0].told(number, Fate::Acknowledged);
    }
    let verdict = world.verdict();
    assert_eq!(verdict.lost, 100);
    assert_eq!(verdict.broken.len(), TOLD_MAX);
}

#[test]
fn an_id_tells_writer_and_number_and_no_other_id_does() {
    let key = RecordKey {
        writer: u16::MAX,
        number: u32::MAX - 1,
    };
    assert_eq!(RecordKey::parse(key.uuid(NONCE), NONCE), Some(key));
    assert_eq!(RecordKey::parse(key.uuid(NONCE), NONCE + 1), None);
    assert_eq!(RecordKey::parse(Uuid::from_u128(7), 0), None);
    assert_eq!(RunKey::parse(&RUN.to_string()), Some(RUN));
    assert_eq!(RunKey::parse("run-0-03"), None);
    assert_eq!(parse_part(&part_id(7)), Some(7));
    assert_eq!(parse_part("p07"), None);
}
