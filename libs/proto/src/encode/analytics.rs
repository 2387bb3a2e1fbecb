//! Answers to questions over rollups.

use std::time::Duration;

use runledger_domain::analytics::{Durations, Measures, Range};

use super::{duration, timestamp};
use crate::analytics::v1 as wire;

/// What was added up, with quantiles where something has ended.
pub fn measures(measures: &Measures) -> wire::Measures {
    wire::Measures {
        count: u64::try_from(measures.count).unwrap_or_default(),
        quantity: within(measures.quantity),
        durations: durations(&measures.durations),
    }
}

/// Quantiles; `None`: there are none.
pub fn durations(durations: &Durations) -> Option<wire::Durations> {
    let count = u64::try_from(durations.count())
        .ok()
        .filter(|count| *count > 0)?;
    let quantile = |thousandths| durations.quantile(thousandths).map(duration);
    let mean = durations.micros() / i128::from(count);
    Some(wire::Durations {
        count,
        mean: Some(duration(Duration::from_micros(
            u64::try_from(mean).unwrap_or_default(),
        ))),
        p50: quantile(500),
        p90: quantile(900),
        p99: quantile(990),
    })
}

/// A range as it was taken.
pub fn range(range: Range) -> wire::Range {
    wire::Range {
        from: Some(timestamp(range.from)),
        to: Some(timestamp(range.to)),
    }
}

/// A quantity as far as the wire goes.
pub fn within(quantity: i128) -> i64 {
    let least = quantity.max(i64::MIN.into());
    i64::try_from(least).unwrap_or(i64::MAX)
}
