//! What metrics count of records, once each: a batch whose transaction was rolled back comes again.

use std::collections::HashMap;

use runledger_domain::ids::Incarnation;
use runledger_domain::log::{Partition, Position};

/// How far each partition was counted. Of a batch nothing is kept but where it ended.
#[derive(Clone, Debug, Default)]
pub(super) struct Counted(HashMap<Partition, (Incarnation, u64)>);

impl Counted {
    /// How many of these were not counted before.
    pub(super) fn of<'p>(&self, positions: impl IntoIterator<Item = &'p Position>) -> u64 {
        let new = |position: &&Position| {
            self.0
                .get(&position.partition)
                .is_none_or(|(log, last)| *log != position.incarnation || *last < position.offset)
        };
        positions.into_iter().filter(new).count() as u64
    }

    /// All up to these have been counted.
    pub(super) fn pass<'p>(&mut self, positions: impl IntoIterator<Item = &'p Position>) {
        for position in positions {
            let (log, last) = self
                .0
                .entry(position.partition)
                .or_insert((position.incarnation, position.offset));
            if *log != position.incarnation || *last < position.offset {
                (*log, *last) = (position.incarnation, position.offset);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use runledger_domain::log::Family;
    use uuid::Uuid;

    use super::*;

    #[test]
    fn what_comes_again_is_not_counted_again() {
        let position = |number, log, offset| Position {
            partition: Partition {
                family: Family::Run,
                number,
            },
            incarnation: Incarnation::new(Uuid::from_u128(log)),
            offset,
        };
        let batch = [position(0, 1, 5), position(0, 1, 6), position(1, 1, 2)];
        let mut counted = Counted::default();
        assert_eq!(counted.of(&batch), 3);
        counted.pass(&batch);
        assert_eq!(counted.of(&batch), 0);
        counted.pass(&batch[..1]);
        let next = [position(0, 1, 6), position(0, 1, 7), position(2, 1, 1)];
        assert_eq!(counted.of(&next), 2);
        // A log that was made anew begins from the front.
        assert_eq!(counted.of(&[position(0, 2, 1)]), 1);
    }
}
