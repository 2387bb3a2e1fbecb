//! Under which origin a batch's sums are counted. Pure.
//!
//! What happens in a run counts under what its start says. Until that is reported it counts under what is
//! known by then, and is kept aside (`unreported`), so that the start, whenever it comes, takes it from
//! there and puts it where it belongs.

use std::collections::BTreeMap;

use runledger_domain::analytics::{Cell, Grain, Measures, Origin, Sums};
use runledger_domain::scope::Scope;
use runledger_domain::time::Timestamp;

use super::fold::{Fold, RunChange, RunKey};

/// What was kept aside, by run.
pub(super) type Unreported<'a> = BTreeMap<RunKey<'a>, Vec<(Cell, Measures)>>;

/// Where a rollup lies. The order in which every process locks them.
pub(super) type Place = (Scope, Grain, Timestamp, [u8; 16]);

/// What is added to one rollup.
#[derive(Debug)]
pub(super) struct Rollup {
    pub(super) cell: Cell,
    pub(super) origin: Origin,
    pub(super) measures: Measures,
}

/// What a batch changes besides states.
#[derive(Debug, Default)]
pub(super) struct Changes<'a> {
    pub(super) rollups: BTreeMap<Place, Rollup>,
    /// Kept aside.
    pub(super) unreported: Vec<(RunKey<'a>, Sums)>,
}

pub(super) fn changes<'a>(fold: &Fold<'a>, mut unreported: Unreported<'a>) -> Changes<'a> {
    let mut calls: BTreeMap<RunKey<'a>, Sums> = BTreeMap::new();
    for ((scope, run_id, _), call) in &fold.calls {
        let sums = calls.entry((*scope, run_id)).or_default();
        sums.change(call.before.contributions(), call.now.contributions());
    }
    let mut changes = Changes::default();
    for (key, run) in &fold.runs {
        let mut sums = calls.remove(key).unwrap_or_default();
        for (cell, measures) in run.sums.iter() {
            sums.add(cell.clone(), measures);
        }
        changes.of_run(*key, run, sums, unreported.remove(key).unwrap_or_default());
    }
    for ((scope, origin), sums) in &fold.others {
        for (cell, measures) in sums.iter() {
            changes.add(*scope, origin, cell, measures);
        }
    }
    changes
        .rollups
        .retain(|_, rollup| !rollup.measures.is_zero());
    changes
}

impl<'a> Changes<'a> {
    fn of_run(
        &mut self,
        key: RunKey<'a>,
        run: &RunChange,
        sums: Sums,
        aside: Vec<(Cell, Measures)>,
    ) {
        let (scope, before, now) = (key.0, &run.state.before, &run.state.now);
        if let Some((cell, measures)) = before.contribution() {
            self.add(scope, &before.origin, &cell, &measures.negated());
        }
        if let Some((cell, measures)) = now.contribution() {
            self.add(scope, &now.origin, &cell, &measures);
        }
        for (cell, measures) in &aside {
            self.add(scope, &before.origin, cell, &measures.negated());
            self.add(scope, &now.origin, cell, measures);
        }
        for (cell, measures) in sums.iter() {
            self.add(scope, &now.origin, cell, measures);
        }
        if !now.is_reported {
            self.unreported.push((key, sums));
        }
    }

    fn add(&mut self, scope: Scope, origin: &Origin, cell: &Cell, measures: &Measures) {
        let series = cell.series(origin);
        for grain in Grain::ALL {
            let place = (scope, *grain, grain.floor(cell.minute), series);
            let rollup = self.rollups.entry(place).or_insert_with(|| Rollup {
                cell: cell.clone(),
                origin: origin.clone(),
                measures: Measures::default(),
            });
            rollup.measures.add(measures);
        }
    }
}
