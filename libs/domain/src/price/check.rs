//! What a price list must be to be published. Lists every fault.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Display;

use super::{Meter, Rule, Tier};
use crate::fault::Violation;
use crate::ids::Name;
use crate::money::Credits;
use crate::text::{self, InvalidText};

/// Most rules of one list.
pub const RULES_MAX: usize = 500;
/// Most meters that a list declares.
pub const METERS_MAX: usize = 100;
/// Most dimensions of one rule.
pub const DIMENSIONS_MAX: usize = 8;
/// Longest value of a dimension: as long as a usage may have it.
pub const DIMENSION_CHARS_MAX: usize = 128;
/// Most tiers of one rule.
pub const TIERS_MAX: usize = 32;
/// Most units that one price can be of.
pub const UNIT_MAX: u64 = 1_000_000_000_000;
/// Most units that a rule includes, and highest end of a tier: far more than a month has seen.
pub const UNITS_MAX: u64 = 1_000_000_000_000_000_000;
/// Highest price, and highest minimum: a thousand million credits.
pub const PRICE_MAX: Credits = Credits::from_micros(1_000_000_000_000_000);
/// Most bytes that a list takes as it is recorded, so that a decision has room for it several times.
pub const LIST_BYTES_MAX: usize = 256 << 10;
/// Most faults that are listed: more of them could outgrow any answer.
pub const VIOLATIONS_MAX: usize = 100;

/// Every fault of a price list that is to be published, the first [`VIOLATIONS_MAX`] of them.
pub fn check(rules: &[Rule], meters: &BTreeSet<Name>) -> Vec<Violation> {
    let mut faults = Faults(Vec::new());
    faults.meters(meters);
    if rules.len() > RULES_MAX {
        // Those that are too many are not looked at.
        let why = format_args!("must have at most {RULES_MAX} rules");
        faults.note("rules", "TOO_MANY", why);
        return faults.0;
    }
    if bytes(rules, meters) > LIST_BYTES_MAX {
        let why = format_args!(
            "must take at most {LIST_BYTES_MAX} bytes with all names, dimensions and tiers"
        );
        faults.note("rules", "TOO_LARGE", why);
    }
    let mut ids = HashMap::new();
    for (index, rule) in rules.iter().enumerate() {
        let at = format!("rules[{index}]");
        let first = *ids.entry(&rule.id).or_insert(index);
        if first != index {
            let why = format_args!("is the id of rules[{first}] already");
            faults.note(format!("{at}.id"), "DUPLICATE", why);
        }
        let is_known = is_built_in(&rule.meter) || meters.contains(&rule.meter);
        if !is_known {
            let why = "is neither built in nor among the meters of the list: declare it there";
            faults.note(format!("{at}.meter"), "UNKNOWN_METER", why);
        }
        faults.rule(&at, rule);
    }
    faults.0
}

fn is_built_in(meter: &Name) -> bool {
    meter.as_str().parse::<Meter>().is_ok()
}

/// At least as many bytes as a list takes in the log: its texts, and what numbers and lengths take at
/// most.
pub(super) fn bytes(rules: &[Rule], meters: &BTreeSet<Name>) -> usize {
    const OF_METER: usize = 8;
    const OF_RULE: usize = 80;
    const OF_DIMENSION: usize = 16;
    const OF_TIER: usize = 32;
    let meters = meters.iter().map(|meter| OF_METER + meter.as_str().len());
    let rules = rules.iter().map(|rule| {
        let dimensions = rule.dimensions.iter();
        let dimensions =
            dimensions.map(|(key, value)| OF_DIMENSION + key.as_str().len() + value.len());
        OF_RULE
            + rule.id.as_str().len()
            + rule.meter.as_str().len()
            + dimensions.sum::<usize>()
            + OF_TIER * rule.tiers.len()
    });
    meters.chain(rules).sum()
}

struct Faults(Vec<Violation>);

impl Faults {
    fn note(&mut self, field: impl Into<String>, reason: &'static str, description: impl Display) {
        if self.0.len() < VIOLATIONS_MAX {
            self.0.push(Violation {
                field: field.into(),
                reason: reason.into(),
                description: description.to_string(),
            });
        }
    }

    fn meters(&mut self, meters: &BTreeSet<Name>) {
        if meters.len() > METERS_MAX {
            let why = format_args!("must have at most {METERS_MAX} meters");
            return self.note("meters", "TOO_MANY", why);
        }
        for meter in meters.iter().filter(|meter| is_built_in(meter)) {
            let why = "is built in: leave it out";
            self.note(
                format!("meters[{:?}]", meter.as_str()),
                "BUILT_IN_METER",
                why,
            );
        }
    }

    fn rule(&mut self, at: &str, rule: &Rule) {
        self.dimensions(&format!("{at}.dimensions"), &rule.dimensions);
        if rule.unit == 0 || rule.unit > UNIT_MAX {
            let why = format_args!("must be 1 to {UNIT_MAX}");
            self.note(format!("{at}.unit"), "OUT_OF_RANGE", why);
        }
        if rule.included > UNITS_MAX {
            let why = format_args!("must be at most {UNITS_MAX}");
            self.note(format!("{at}.included"), "OUT_OF_RANGE", why);
        }
        self.tiers(&format!("{at}.tiers"), &rule.tiers);
        self.credits(format!("{at}.minimum"), rule.minimum);
    }

    fn dimensions(&mut self, at: &str, dimensions: &BTreeMap<Name, String>) {
        if dimensions.len() > DIMENSIONS_MAX {
            let why = format_args!("must have at most {DIMENSIONS_MAX} entries");
            return self.note(at, "TOO_MANY", why);
        }
        for (key, value) in dimensions {
            if let Err(why) = text::check(value, DIMENSION_CHARS_MAX) {
                let reason = match why {
                    InvalidText::TooLong(_) => "TOO_LONG",
                    InvalidText::Nul => "NUL_CHARACTER",
                };
                self.note(format!("{at}[{:?}]", key.as_str()), reason, why);
            }
        }
    }

    fn tiers(&mut self, at: &str, tiers: &[Tier]) {
        if tiers.len() > TIERS_MAX {
            let why = format_args!("must have at most {TIERS_MAX} tiers");
            return self.note(at, "TOO_MANY", why);
        }
        let Some(last) = tiers.len().checked_sub(1) else {
            return self.note(at, "REQUIRED", "must have at least one tier");
        };
        // Where the tier begins.
        let mut start = 0;
        for (index, tier) in tiers.iter().enumerate() {
            let at = format!("{at}[{index}]");
            self.end(format!("{at}.up_to"), *tier, start, index == last);
            self.credits(format!("{at}.price"), tier.price);
            start = start.max(tier.up_to.unwrap_or(start));
        }
    }

    fn end(&mut self, at: String, tier: Tier, start: u64, is_last: bool) {
        match (tier.up_to, is_last) {
            (None, true) => {}
            (None, false) => {
                let why = "must be given: only the last tier has no end";
                self.note(at, "TIERS_OVERLAP", why);
            }
            (Some(_), true) => {
                let why = "must be left out: units beyond it would have no price";
                self.note(at, "TIERS_GAP", why);
            }
            (Some(up_to), false) if up_to < start => {
                let why = format_args!("must be more than {start}, where a tier before it ends");
                self.note(at, "TIERS_OVERLAP", why);
            }
            (Some(up_to), false) if up_to == start => {
                let why = format_args!("must be more than {start}: it would have no units");
                self.note(at, "TIER_EMPTY", why);
            }
            (Some(up_to), false) if up_to > UNITS_MAX => {
                let why = format_args!("must be at most {UNITS_MAX}");
                self.note(at, "OUT_OF_RANGE", why);
            }
            (Some(_), false) => {}
        }
    }

    fn credits(&mut self, at: String, amount: Credits) {
        if amount.is_negative() || amount > PRICE_MAX {
            let why = format_args!("must be 0 to {PRICE_MAX} credits");
            self.note(at, "OUT_OF_RANGE", why);
        }
    }
}
