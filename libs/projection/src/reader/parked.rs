use runledger_domain::fault::{Fault, Kind};
use runledger_domain::scope::Scope;
use sqlx::PgConnection;

use super::wanted::Wanted;
use super::{Cursors, database_fault};
use crate::store::parked;

/// Refuses a read whose token reaches past a parked record of its scope: what the caller wrote is
/// not in the data, and waiting will not bring it in. Asks the same snapshot as the data come from,
/// and only where the cursors say that something is parked.
pub(super) async fn refuse(
    snapshot: &mut PgConnection,
    scope: Scope,
    wanted: &Wanted,
    cursors: &Cursors,
) -> Result<(), Fault> {
    let positions = wanted.within(|partition| {
        cursors
            .get(&partition)
            .is_some_and(|cursor| cursor.parked > 0)
    });
    if positions.is_empty() {
        return Ok(());
    }
    let found = parked::before(snapshot, scope, &positions)
        .await
        .map_err(database_fault)?;
    match found {
        None => Ok(()),
        Some((stream, partition, offset)) => Err(Fault::new(
            Kind::Precondition,
            "READ_MODEL_PARKED",
            format!(
                "the token reaches past offset {offset} of {partition}, which the read model cannot apply: \
                 stream {stream} is parked from there on. Waiting does not help: have it redriven or skipped, \
                 or read without the token for what is there now"
            ),
        )),
    }
}
