//! What a quantity costs.

use serde::{Deserialize, Serialize};

use super::Rule;
use crate::money::{Credits, Overflow};

/// What a quantity costs, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Priced {
    pub amount: Credits,
    /// Units that the month includes.
    pub free: u64,
    pub billable: u64,
    /// The billable units, tier by tier. Those without any are left out.
    pub portions: Vec<Portion>,
}

/// So many units at the price of one tier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Portion {
    /// Which of the rule's tiers, from 0.
    pub tier: u32,
    pub quantity: u64,
    pub price: Credits,
    pub unit: u64,
}

/// What `quantity` more units cost where the account has had `used_before` units of this rule in this
/// calendar month. Exact over all tiers, then rounded half to even, once; then the minimum.
///
/// Of a month that is charged in `n` pieces the sum is at most `(n + 1) / 2` micros away from the price
/// of the whole, each rounding being at most half a micro off, and the portions are the same.
///
/// # Errors
/// [`Overflow`]: the amount or the month's count has no place; also when the rule, which [`check`]
/// would have refused, has no price for a unit.
///
/// [`check`]: super::check
pub fn price(rule: &Rule, used_before: u64, quantity: u64) -> Result<Priced, Overflow> {
    let used = used_before.checked_add(quantity).ok_or(Overflow)?;
    // Where the billable units lie among those of the month.
    let start = used_before.saturating_sub(rule.included);
    let end = used.saturating_sub(rule.included);
    let billable = end.saturating_sub(start);
    let (mut reached, mut micros, mut portions) = (start, 0_i128, Vec::new());
    for (index, tier) in (0_u32..).zip(&rule.tiers) {
        let tier_end = tier.up_to.map_or(end, |up_to| up_to.min(end));
        let quantity = tier_end.saturating_sub(reached);
        if quantity == 0 {
            continue;
        }
        reached = tier_end;
        let cost = i128::from(quantity).checked_mul(i128::from(tier.price.as_micros()));
        let sum = cost.and_then(|cost| micros.checked_add(cost));
        micros = sum.ok_or(Overflow)?;
        portions.push(Portion {
            tier: index,
            quantity,
            price: tier.price,
            unit: rule.unit,
        });
    }
    if reached != end {
        return Err(Overflow);
    }
    let exact = Credits::of_fraction(micros, i128::from(rule.unit))?;
    Ok(Priced {
        amount: if billable == 0 {
            exact
        } else {
            exact.max(rule.minimum)
        },
        free: quantity.saturating_sub(billable),
        billable,
        portions,
    })
}
