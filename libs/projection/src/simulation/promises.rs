//! What must hold of the store at every commit, and in the end.

use runledger_domain::log::Partition;
use tokio::time::Instant;

use super::book;
use super::database::{Database, Staged, State};
use super::log::partitions;
use crate::cursor::Cursor;

impl Database {
    /// At every commit: cursors move from where they are, over exactly the records of the log.
    pub(super) fn check(&self, state: &State, generation: i32, staged: &Staged) {
        let broke = |promise: String| self.chance.broke(|| promise);
        let Some(now) = state.generations.get(&generation) else {
            return broke(format!(
                "generation {generation} is written and does not exist"
            ));
        };
        if now.frozen {
            broke(format!("generation {generation} is frozen and was written"));
        }
        for (before, after) in staged.before.iter().zip(&staged.after) {
            let partition = after.partition;
            let stands = now.cursors.get(&partition);
            let stands = stands.map(|cursor| (cursor.next_offset, cursor.rolling_hash));
            if stands != Some((before.next_offset, before.rolling_hash)) {
                broke(format!(
                    "{partition}: moved from {} to {}, but it stands at {stands:?}",
                    before.next_offset, after.next_offset
                ));
            }
        }
        self.check_cursors(&staged.after.iter().collect::<Vec<_>>());
        for partition in partitions() {
            let span = staged.before.iter().zip(&staged.after);
            let mut span = span.filter(|(_, after)| after.partition == partition);
            let span = span.next().map_or(0..0, |(before, after)| {
                before.next_offset..after.next_offset
            });
            let of_it = staged.rows.iter().filter(|row| row.partition == partition);
            let rows: Vec<_> = of_it
                .map(|row| (row.offset, row.identity.clone(), row.left_out))
                .collect();
            let due: Vec<_> = self.broker.with_book(partition, |book| {
                span.clone()
                    .filter_map(|offset| {
                        let line = book.lines.get(offset as usize)?;
                        let identity = line.applies.clone()?;
                        Some((
                            offset,
                            Some(identity),
                            self.skips.contains(&(partition, offset)),
                        ))
                    })
                    .collect()
            });
            if rows != due {
                let offsets = |rows: &[(u64, Option<book::Identity>, bool)]| {
                    rows.iter().map(|(offset, ..)| *offset).collect::<Vec<_>>()
                };
                broke(format!(
                    "{partition}: the cursor moves over {span:?}; due are {:?}, written are {:?}",
                    offsets(&due),
                    offsets(&rows)
                ));
            }
        }
    }

    /// A client that has looked after its own transaction went through must not take it for another's.
    pub(super) fn check_refusal(
        &self,
        generation: i32,
        client: u64,
        looked_at: Option<Instant>,
        after: &[Cursor],
    ) {
        let state = self.lock();
        let Some(generation) = state.generations.get(&generation) else {
            return;
        };
        let is_own = |cursor: &Cursor| {
            let stands = generation.cursors.get(&cursor.partition);
            let (by, at) = generation.moved.get(&cursor.partition)?;
            let own = *by == client && looked_at.is_some_and(|looked_at| *at < looked_at);
            let same = stands.is_some_and(|one| one.rolling_hash == cursor.rolling_hash);
            (own && same).then_some(())
        };
        if after.iter().all(|cursor| is_own(cursor).is_some()) {
            self.chance
                .broke(|| "a process took its own transaction for another's".to_owned());
        }
    }

    /// A checkpoint is a place that was reached and committed.
    pub(super) fn check_checkpoints(&self, generation: i32, cursors: &[&Cursor]) {
        self.check_cursors(cursors);
        // What was put back may lie behind.
        if self.restored() > 0 {
            return;
        }
        let committed = self.cursors(generation);
        for cursor in cursors {
            let at = committed
                .get(&cursor.partition)
                .map_or(0, |one| one.next_offset);
            if at < cursor.next_offset {
                self.chance.broke(|| {
                    let next = cursor.next_offset;
                    format!(
                        "{}: a checkpoint of {next}, committed is {at}",
                        cursor.partition
                    )
                });
            }
        }
    }

    pub(super) fn check_cursors(&self, cursors: &[&Cursor]) {
        for cursor in cursors {
            let fault = |book: &book::Book| book.fault(cursor);
            if let Some(fault) = self.broker.with_book(cursor.partition, fault) {
                self.chance
                    .broke(|| format!("a cursor is not what the log makes of it: {fault}"));
            }
        }
    }

    /// Whether the generation that is served has read all there is; where it lags, if it does.
    pub(super) fn behind(&self) -> Option<String> {
        let cursors = self.cursors(self.served());
        partitions().into_iter().find_map(|partition| {
            let end = self.broker.with_book(partition, book::Book::len);
            let at = cursors
                .get(&partition)
                .map_or(0, |cursor| cursor.next_offset);
            (at != end).then(|| format!("{partition} is at {at} of {end}"))
        })
    }

    /// Every generation holds what a plain reading of the log up to its cursors makes.
    pub(super) fn check_rows(&self) {
        let state = self.lock();
        for (number, generation) in &state.generations {
            for (partition, cursor) in &generation.cursors {
                self.check_cursors(&[cursor]);
                let mut due = self.broker.with_book(*partition, book::Book::rows);
                due.retain(|offset| {
                    *offset < cursor.next_offset && !self.skips.contains(&(*partition, *offset))
                });
                let rows = generation.rows.get(partition).cloned().unwrap_or_default();
                if rows != due {
                    self.chance.broke(|| {
                        format!("generation {number}: {partition} holds {rows:?}, due are {due:?}")
                    });
                }
            }
        }
    }

    /// Whether the generation that is served has kept this record.
    pub(super) fn has_kept(&self, partition: Partition, identity: &book::Identity) -> bool {
        let state = self.lock();
        let served = state.generations.get(&state.served);
        served.is_some_and(|one| one.kept.contains(&(partition, identity.clone())))
    }
}
