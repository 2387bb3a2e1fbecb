//! Finding the records of a batch that are to blame, by halving it. Pure: whoever uses it does the
//! trying.

use std::ops::Range;

/// Pieces of a batch that are to be tried, the first of them next.
#[derive(Debug)]
pub(crate) struct Halving {
    /// Later pieces lie deeper.
    pieces: Vec<Range<usize>>,
}

impl Halving {
    /// Of a batch of `records`, whole at first.
    pub(crate) fn new(records: usize) -> Self {
        let whole = (records > 0).then_some(0..records);
        Self {
            pieces: whole.into_iter().collect(),
        }
    }

    /// The next piece to be tried; pieces come in order, and none is empty.
    pub(crate) fn next(&mut self) -> Option<Range<usize>> {
        self.pieces.pop()
    }

    /// The piece that came last was refused and is undone. The record to blame, when it was alone;
    /// otherwise its halves come next.
    pub(crate) fn refused(&mut self, piece: Range<usize>) -> Option<usize> {
        if piece.len() <= 1 {
            return Some(piece.start);
        }
        let middle = piece.start + piece.len() / 2;
        self.pieces.push(middle..piece.end);
        self.pieces.push(piece.start..middle);
        None
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    /// Which were taken, which blamed, and how many tries it took. A piece is refused when it holds
    /// any of `poison`.
    fn sift(records: usize, poison: &BTreeSet<usize>) -> (Vec<usize>, Vec<usize>, usize) {
        let (mut halving, mut taken, mut blamed, mut tries) =
            (Halving::new(records), Vec::new(), Vec::new(), 0);
        while let Some(piece) = halving.next() {
            tries += 1;
            if poison.range(piece.clone()).next().is_some() {
                blamed.extend(halving.refused(piece));
            } else {
                taken.extend(piece);
            }
        }
        (taken, blamed, tries)
    }

    proptest! {
        #[test]
        fn exactly_the_poison_is_blamed_and_the_rest_is_taken_in_order(
            records in 0..300_usize,
            poison in prop::collection::btree_set(0..300_usize, 0..12),
        ) {
            let poison: BTreeSet<usize> = poison.into_iter().filter(|one| *one < records).collect();
            let (taken, blamed, _) = sift(records, &poison);
            prop_assert_eq!(blamed, poison.iter().copied().collect::<Vec<_>>());
            let rest: Vec<usize> = (0..records).filter(|one| !poison.contains(one)).collect();
            prop_assert_eq!(taken, rest);
        }
    }

    #[test]
    fn one_among_thousands_is_found_in_a_few_tries() {
        for poison in [0, 777, 1_999] {
            let (taken, blamed, tries) = sift(2_000, &BTreeSet::from([poison]));
            assert_eq!((taken.len(), blamed), (1_999, vec![poison]));
            assert!(tries <= 2 * 11 + 1, "{tries} tries");
        }
    }
}
