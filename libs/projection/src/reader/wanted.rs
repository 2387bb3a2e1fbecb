use std::collections::BTreeMap;

use runledger_domain::fault::{Fault, Kind};
use runledger_domain::log::{Partition, Position};

use super::Cursors;

/// The positions that a read must not be older than; at most one a partition.
#[derive(Clone, Debug, Default)]
pub(super) struct Wanted(BTreeMap<Partition, Position>);

/// Whether cursors are there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    Reached,
    /// The first position that is not reached.
    Behind(Position),
}

impl Wanted {
    /// Takes in one more position: of each partition the later one counts.
    ///
    /// # Errors
    /// Tokens of two incarnations of one partition: one of them means nothing here.
    pub(super) fn add(&mut self, position: Position) -> Result<(), Fault> {
        let latest = self.0.entry(position.partition).or_insert(position);
        if latest.incarnation != position.incarnation {
            return Err(other_incarnation(position.partition));
        }
        latest.offset = latest.offset.max(position.offset);
        Ok(())
    }

    /// The positions in those partitions.
    pub(super) fn within(&self, partitions: impl Fn(Partition) -> bool) -> Vec<Position> {
        let wanted = self.0.values();
        wanted
            .filter(|position| partitions(position.partition))
            .copied()
            .collect()
    }

    /// # Errors
    /// A token of another incarnation: waiting will not make it mean anything here.
    pub(super) fn compare(&self, cursors: &Cursors) -> Result<Wish, Fault> {
        let mut behind = None;
        for position in self.0.values() {
            let cursor = cursors.get(&position.partition);
            match cursor.and_then(|cursor| cursor.incarnation) {
                Some(incarnation) if incarnation != position.incarnation => {
                    return Err(other_incarnation(position.partition));
                }
                Some(_) | None => {}
            }
            if cursor.is_none_or(|cursor| cursor.next_offset <= position.offset) {
                behind.get_or_insert(*position);
            }
        }
        Ok(behind.map_or(Wish::Reached, Wish::Behind))
    }
}

fn other_incarnation(partition: Partition) -> Fault {
    Fault::new(
        Kind::Invalid,
        "TOKEN_INCARNATION",
        format!(
            "the token comes from another incarnation of {partition}: the log was replaced since; \
             forget the tokens from before"
        ),
    )
}

#[cfg(test)]
mod tests {
    use runledger_domain::ids::Incarnation;
    use runledger_domain::log::Family;
    use uuid::Uuid;

    use super::*;
    use crate::cursor::Cursor;

    fn position(number: u32, offset: u64, incarnation: u128) -> Position {
        Position {
            partition: Partition {
                family: Family::Run,
                number,
            },
            incarnation: Incarnation::new(Uuid::from_u128(incarnation)),
            offset,
        }
    }

    fn wanted(positions: impl IntoIterator<Item = Position>) -> Wanted {
        let mut wanted = Wanted::default();
        for position in positions {
            wanted.add(position).unwrap();
        }
        wanted
    }

    #[test]
    fn of_each_partition_the_later_position_counts_and_two_incarnations_are_refused() {
        let mut wish = wanted([position(0, 7, 1), position(0, 9, 1), position(0, 8, 1)]);
        let behind = Wish::Behind(position(0, 9, 1));
        assert_eq!(wish.compare(&cursors(9)).unwrap(), behind);
        let refused = wish.add(position(0, 1, 2)).unwrap_err();
        assert_eq!(refused.reason, "TOKEN_INCARNATION");
    }

    fn cursors(next_offset: u64) -> Cursors {
        let at = position(0, 0, 1);
        let cursor = Cursor {
            next_offset,
            incarnation: Some(at.incarnation),
            ..Cursor::new(at.partition)
        };
        Cursors::from([(at.partition, cursor)])
    }

    #[test]
    fn a_position_is_reached_when_the_cursor_is_past_it() {
        let wish = wanted([position(0, 7, 1)]);
        assert_eq!(wish.compare(&cursors(8)).unwrap(), Wish::Reached);
        assert_eq!(
            wish.compare(&cursors(7)).unwrap(),
            Wish::Behind(position(0, 7, 1))
        );
        assert_eq!(
            wish.compare(&Cursors::new()).unwrap(),
            Wish::Behind(position(0, 7, 1))
        );
    }

    #[test]
    fn another_incarnation_is_refused_even_when_another_partition_is_behind() {
        let wish = wanted([position(1, 7, 1), position(0, 7, 2)]);
        assert_eq!(
            wish.compare(&cursors(8)).unwrap_err().reason,
            "TOKEN_INCARNATION"
        );
    }

    #[test]
    fn nothing_wanted_is_always_reached() {
        assert_eq!(
            Wanted::default().compare(&Cursors::new()).unwrap(),
            Wish::Reached
        );
    }
}
