//! Questions over rollups.

use chrono::TimeDelta;
use runledger_domain::analytics::{Dimension, Filters, Measure, POINTS_MAX, Question, Range};
use runledger_domain::calendar::Zone;

use super::fields::{Fields, reason};
use crate::analytics::v1 as wire;
use crate::words;

/// Longest range: ten years.
const RANGE_MAX: TimeDelta = TimeDelta::days(3_653);
const GROUP_BY_MAX: usize = 4;
const VALUES_MAX: usize = 100;
const VALUE_CHARS_MAX: usize = 1_024;

/// A question, in the field `question`.
pub fn question(wire: Option<wire::Question>, see: &mut Fields<'_>) -> Option<Question> {
    let wire = see.required("question", wire)?;
    see.within("question", |see| {
        let subject = see.word::<wire::Subject>("subject", wire.subject);
        let range = range("range", wire.range, see);
        let group_by = group_by(&wire.group_by, see);
        let filters = filters("filters", wire.filters, see);
        let granularity = match wire.granularity {
            0 => None,
            number => see.word::<wire::Granularity>("granularity", number),
        };
        let zone = match wire.time_zone.as_str() {
            "" => Some(Zone::default()),
            name => zone(name, see),
        };
        let order_by = match wire.order_by {
            0 => Some(Measure::Count),
            number => see.word::<wire::Measure>("order_by", number),
        };
        let question = Question {
            subject: subject?,
            range: range?,
            group_by: group_by?,
            filters: filters?,
            granularity,
            zone: zone?,
            order_by: order_by?,
            durations: wire.durations,
        };
        if question.periods_max() > POINTS_MAX {
            let why = format_args!(
                "would cut the range into more than {POINTS_MAX} pieces; ask for a shorter range or a coarser granularity"
            );
            see.fault("granularity", "TOO_MANY_POINTS", why);
        }
        Some(question)
    })
}

/// A range, in whole minutes.
pub fn range(name: &'static str, wire: Option<wire::Range>, see: &mut Fields<'_>) -> Option<Range> {
    let wire = see.required(name, wire)?;
    see.within(name, |see| {
        let (from, to) = (see.time("from", wire.from), see.time("to", wire.to));
        let (from, to) = (from?, to?);
        if to <= from {
            see.fault("to", "RANGE_UPSIDE_DOWN", "must be behind from");
        } else if to - from > RANGE_MAX {
            let why = "must be at most ten years behind from";
            see.fault("to", "RANGE_TOO_LONG", why);
        }
        Some(Range::of(from, to))
    })
}

/// Filters, each dimension once.
pub fn filters(
    name: &'static str,
    wire: Vec<wire::Filter>,
    see: &mut Fields<'_>,
) -> Option<Filters> {
    let mut filters = Filters::new();
    for (index, filter) in wire.into_iter().enumerate() {
        let (dimension, values) = see.item(name, index, |see| {
            let dimension = see.word::<wire::Dimension>("dimension", filter.dimension);
            if filter.values.is_empty() || filter.values.len() > VALUES_MAX {
                let why = format_args!("must have 1 to {VALUES_MAX} entries");
                see.fault("values", reason::TOO_MANY, why);
                return None;
            }
            let values = filter.values.into_iter();
            let values = values
                .map(|value| see.text("values", value, VALUE_CHARS_MAX))
                .collect();
            Some((dimension?, values))
        })?;
        if filters.insert(dimension, values).is_some() {
            let why = "must name each dimension once; give all values in one filter";
            see.fault(name, "DIMENSION_TWICE", why);
        }
    }
    Some(filters)
}

fn group_by(numbers: &[i32], see: &mut Fields<'_>) -> Option<Vec<Dimension>> {
    let known = numbers
        .iter()
        .map(|number| words::known::<wire::Dimension>(*number));
    let dimensions: Option<Vec<Dimension>> = known.collect();
    let Some(dimensions) = dimensions else {
        let why = "must name dimensions that this version knows, for example DIMENSION_AGENT";
        see.fault("group_by", reason::UNKNOWN_VALUE, why);
        return None;
    };
    let mut once = dimensions.clone();
    once.sort_unstable();
    once.dedup();
    if dimensions.len() > GROUP_BY_MAX || once.len() < dimensions.len() {
        let why = format_args!("must be at most {GROUP_BY_MAX} dimensions, each once");
        see.fault("group_by", reason::TOO_MANY, why);
        return None;
    }
    Some(dimensions)
}

fn zone(name: &str, see: &mut Fields<'_>) -> Option<Zone> {
    let zone = name.parse();
    if let Err(unknown) = &zone {
        see.fault("time_zone", reason::UNKNOWN_VALUE, unknown);
    }
    zone.ok()
}
