//! From what was used to what it costs, and who pays.

use std::collections::BTreeMap;

use super::account::{crossing, micros};
use super::draw::{Reach, draw, taken};
use super::limits::passed;
use super::{
    Account, Beyond, COUNTS_MAX, Change, EntryKind, Lapsed, Ledger, Line, MONTHS_COUNTED, Posted,
    Posting, Pricing, Transaction, Usage, lapse,
};
use crate::calendar::Month;
use crate::ids::Name;
use crate::money::Credits;
use crate::price::{PriceSet, price};
use crate::time::Timestamp;

/// The prices that were in force at a moment.
pub type Prices<'a> = &'a dyn Fn(Timestamp) -> Option<&'a PriceSet>;

/// Charges for what was used, in its order and at the prices of its own time, whatever there is to pay
/// it: grants, then the overdraft, then debt. Nothing is changed: it is a quote as long as nobody
/// records it.
pub fn charge(account: &Account, prices: Prices<'_>, usages: &[Usage], at: Timestamp) -> Posted {
    let lapsed = lapse(account, at);
    let mut now = account.clone();
    now.pass(&lapsed, at);
    let Lapsed {
        opened,
        mut transactions,
    } = lapsed;
    let mut lines = Vec::with_capacity(usages.len());
    for usage in usages {
        let line = priced(&now, prices, usage, at);
        now.count(&line, at);
        transactions.extend(debit(&mut now, &line, at));
        now.spend(&line.spender, line.amount, at);
        lines.push(line);
    }
    let posted = Posted {
        before: account.balance(),
        opened,
        transactions,
        change: Change::Charged(lines),
        crossed: Vec::new(),
        by: None,
        reason: String::new(),
    };
    crossing(account, posted, at)
}

/// Says of usage that charging it failed: it is charged nothing, and nobody tries again.
pub fn give_up(account: &Account, usages: &[Usage], at: Timestamp) -> Posted {
    let lines = usages.iter().map(|usage| {
        let nothing = (Pricing::Undecidable, Credits::ZERO);
        line(account, usage, nothing, at)
    });
    Posted {
        before: account.balance(),
        opened: Vec::new(),
        transactions: Vec::new(),
        change: Change::Charged(lines.collect()),
        crossed: Vec::new(),
        by: None,
        reason: String::new(),
    }
}

fn priced(account: &Account, prices: Prices<'_>, usage: &Usage, at: Timestamp) -> Line {
    let (pricing, amount) = pricing(account, prices, usage, at);
    let over = if amount.is_positive() {
        passed(account, amount, &usage.spender, at)
    } else {
        Vec::new()
    };
    let is_rejected = !over.is_empty() && account.limits.beyond == Beyond::Reject;
    let priced = if is_rejected {
        (Pricing::Rejected, Credits::ZERO)
    } else {
        (pricing, amount)
    };
    Line {
        over,
        ..line(account, usage, priced, at)
    }
}

fn line(
    account: &Account,
    usage: &Usage,
    (pricing, amount): (Pricing, Credits),
    at: Timestamp,
) -> Line {
    let zone = account.zone;
    Line {
        source: usage.source,
        meter: usage.meter.clone(),
        quantity: usage.quantity,
        spender: usage.spender.clone(),
        used_at: usage.used_at,
        pricing,
        amount,
        late: zone.month(usage.used_at) < zone.month(at),
        over: Vec::new(),
    }
}

fn pricing(
    account: &Account,
    prices: Prices<'_>,
    usage: &Usage,
    at: Timestamp,
) -> (Pricing, Credits) {
    let set = prices(usage.used_at);
    let rule = set.and_then(|set| Some((set, set.find(&usage.meter, &usage.dimensions)?)));
    let Some((set, rule)) = rule else {
        return (Pricing::Unpriced, Credits::ZERO);
    };
    let used = account.used_in(account.counted_in(usage.used_at, at), &rule.id);
    let priced = price(rule, used, usage.quantity);
    // What was spent so far, and what is owed, must stay countable too.
    let sums = [account.balances.spent, account.unpaid()];
    let fits = |amount| sums.iter().all(|sum| sum.plus(amount).is_ok());
    match priced {
        Ok(priced) if fits(priced.amount) => {
            let pricing = Pricing::By {
                version: set.list().version,
                rule: rule.id.clone(),
                free: priced.free,
                billable: priced.billable,
            };
            (pricing, priced.amount)
        }
        Ok(_) | Err(_) => (Pricing::Overflow, Credits::ZERO),
    }
}

fn debit(now: &mut Account, line: &Line, at: Timestamp) -> Option<Transaction> {
    if !line.amount.is_positive() {
        return None;
    }
    let draws = draw(now, line.amount, line.used_at, Reach::Unpaid)?;
    let spent = Posting {
        ledger: Ledger::Spent,
        amount: line.amount,
    };
    let transaction = Transaction {
        kind: EntryKind::Debit,
        at,
        postings: std::iter::once(spent).chain(taken(&draws)).collect(),
    };
    now.post(&transaction);
    Some(transaction)
}

impl Account {
    /// In which month something used at a moment is counted: its own, or the oldest that is kept, so that
    /// what is long past is not free again each time.
    fn counted_in(&self, used_at: Timestamp, at: Timestamp) -> Month {
        self.zone.month(used_at).max(self.oldest(at))
    }

    fn oldest(&self, at: Timestamp) -> Month {
        self.zone.month(at).before(MONTHS_COUNTED - 1)
    }

    /// Units that a rule has counted in a month.
    fn used_in(&self, month: Month, rule: &Name) -> u64 {
        let used = self.used.get(&month).and_then(|rules| rules.get(rule));
        used.copied().unwrap_or_default()
    }

    /// Counts a line's units, and forgets months that are long over; sooner, where there are too many
    /// counts.
    pub(super) fn count(&mut self, line: &Line, at: Timestamp) {
        let Pricing::By { rule, .. } = &line.pricing else {
            return;
        };
        let (month, oldest) = (self.counted_in(line.used_at, at), self.oldest(at));
        let used = self.used.entry(month).or_default();
        let used = used.entry(rule.clone()).or_default();
        *used = used.saturating_add(line.quantity);
        self.used.retain(|month, _| *month >= oldest);
        while self.used.values().map(BTreeMap::len).sum::<usize>() > COUNTS_MAX {
            self.used.pop_first();
        }
    }

    /// All that the customer has, less what is owed.
    pub fn net(&self) -> i128 {
        micros(self.available()) + micros(self.held())
            - micros(self.overdrawn())
            - micros(self.unpaid())
    }
}
