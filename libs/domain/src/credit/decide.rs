//! What becomes of a command.

use std::borrow::Cow;

use super::account::{crossing, grants_of, micros, negated};
use super::draw::{Reach, draw, given_back, rest_of, taken};
use super::lapse::{Lapsed, credit, lapse, next_lapse, release};
use super::limits::{check_limits, check_thresholds, passed, within};
use super::{
    Account, Change, Command, DRAWS_MAX, EntryKind, Fate, GRANTS_MAX, GrantKind, GrantTerms,
    HOLDS_MAX, Hold, Ledger, OPEN_DRAWS_MAX, Opened, Posted, Posting, RECURRING_MAX, Recurrence,
    Spender, Transaction,
};
use crate::decision::{Rejection, RejectionKind};
use crate::ids::{GrantId, HoldId, RecordId};
use crate::money::Credits;
use crate::scope::Actor;
use crate::time::Timestamp;

/// When a command is judged, which it is, and whose.
#[derive(Clone, Copy, Debug)]
pub struct Moment<'a> {
    pub at: Timestamp,
    /// Names the grant or the hold that it makes.
    pub command: RecordId,
    pub by: Actor,
    /// Why, in the words of whoever asks.
    pub reason: &'a str,
}

/// What a command moves, after all that time has moved.
///
/// `fate`: of the hold that it is about.
///
/// # Errors
/// Why it is refused; nothing has changed then.
pub fn decide(
    account: &Account,
    fate: Option<&Fate>,
    command: &Command,
    moment: Moment<'_>,
) -> Result<Posted, Rejection> {
    let lapsed = lapse(account, moment.at);
    let mut now = Cow::Borrowed(account);
    if next_lapse(account).is_some_and(|due| due <= moment.at) {
        now.to_mut().pass(&lapsed, moment.at);
    }
    let deciding = Deciding {
        account: &now,
        moment,
    };
    let moved = deciding.decide(fate, command)?;
    let Lapsed {
        mut opened,
        mut transactions,
    } = lapsed;
    opened.extend(moved.opened);
    transactions.extend(moved.transactions);
    let posted = Posted {
        before: account.balance(),
        opened,
        transactions,
        change: moved.change,
        crossed: Vec::new(),
        by: Some(moment.by),
        reason: moment.reason.to_owned(),
    };
    if overflows(account, &posted, moment.at) {
        let message = "the account would hold more than can be counted";
        return Err(precondition("OVERFLOW", message));
    }
    Ok(crossing(account, posted, moment.at))
}

/// What a command does.
struct Moved {
    opened: Option<Opened>,
    transactions: Vec<Transaction>,
    change: Change,
}

impl Moved {
    fn by(transactions: impl IntoIterator<Item = Transaction>, change: Change) -> Self {
        Self {
            opened: None,
            transactions: transactions.into_iter().collect(),
            change,
        }
    }

    fn nothing(change: Change) -> Self {
        Self::by(None, change)
    }
}

struct Deciding<'a> {
    account: &'a Account,
    moment: Moment<'a>,
}

impl Deciding<'_> {
    fn decide(&self, fate: Option<&Fate>, command: &Command) -> Result<Moved, Rejection> {
        match command {
            Command::Grant(terms) => self.grant(terms),
            Command::GrantRecurring(terms) => self.recur(terms),
            Command::Void { grant } => self.void(*grant),
            Command::Adjust { amount } => self.adjust(*amount),
            Command::Refund { amount } => self.refund(*amount),
            Command::WriteOff { amount } => self.write_off(*amount),
            Command::Reserve {
                amount,
                expires_at,
                spender,
            } => self.reserve(*amount, *expires_at, spender),
            Command::Extend { hold, expires_at } => self.extend(fate, *hold, *expires_at),
            Command::Settle { hold, amount } => self.settle(fate, *hold, *amount),
            Command::Release { hold } => {
                self.open(fate, *hold)?;
                let moved = release(self.account, *hold, self.moment.at);
                Ok(Moved::by(moved, Change::Released { hold: *hold }))
            }
            Command::SetLimits(limits) => {
                check_limits(limits)?;
                Ok(Moved::nothing(Change::LimitsSet(*limits)))
            }
            Command::SetZone(zone) => Ok(Moved::nothing(Change::ZoneSet(*zone))),
            Command::SetThresholds(thresholds) => {
                check_thresholds(thresholds)?;
                Ok(Moved::nothing(Change::ThresholdsSet(thresholds.clone())))
            }
        }
    }

    fn grant(&self, terms: &GrantTerms) -> Result<Moved, Rejection> {
        positive(terms.amount)?;
        let mut terms = terms.clone();
        // Nothing is granted for the past: what was used then was paid, or is owed.
        terms.effective_at = terms.effective_at.max(self.moment.at);
        if terms
            .expires_at
            .is_some_and(|expires| expires <= terms.effective_at)
        {
            return Err(expires_too_early());
        }
        if self.account.grants.len() >= GRANTS_MAX {
            let message = format!(
                "the account has {GRANTS_MAX} grants, as many as may be; void some, or let some be used up"
            );
            return Err(precondition("TOO_MANY_GRANTS", message));
        }
        let grant = GrantId::new(self.moment.command.as_uuid());
        let opened = Opened {
            grant,
            terms,
            of: None,
        };
        let mut now = self.account.clone();
        now.open(&opened);
        let at = self.moment.at;
        let begins = opened.terms.effective_at <= at;
        let credited = begins.then(|| credit(&now, grant, at)).flatten();
        Ok(Moved {
            opened: Some(opened),
            ..Moved::by(credited, Change::Granted { grant })
        })
    }

    /// The first time comes by itself, like all others; only never before it was asked for.
    fn recur(&self, terms: &Recurrence) -> Result<Moved, Rejection> {
        positive(terms.amount)?;
        let mut terms = terms.clone();
        terms.first_at = terms.first_at.max(self.moment.at);
        if !terms.every.is_sensible() {
            let message = "a period takes at least a day, and at most ten years";
            return Err(invalid("PERIOD_OUT_OF_RANGE", message));
        }
        if terms.until.is_some_and(|until| until <= terms.first_at) {
            return Err(expires_too_early());
        }
        if self.account.recurring.len() >= RECURRING_MAX {
            let message = format!(
                "the account has {RECURRING_MAX} recurring grants, as many as may be; void one first"
            );
            return Err(precondition("TOO_MANY_GRANTS", message));
        }
        let grant = GrantId::new(self.moment.command.as_uuid());
        Ok(Moved::nothing(Change::Recurs { grant, terms }))
    }

    fn void(&self, id: GrantId) -> Result<Moved, Rejection> {
        if self.account.recurring.contains_key(&id) {
            return Ok(Moved::nothing(Change::Voided { grant: id }));
        }
        let Some(grant) = self.account.grants.get(&id).filter(|grant| !grant.voided) else {
            let message = "there is no such grant, or nothing is left of it";
            return Err(Rejection::new(
                RejectionKind::NotFound,
                "GRANT_NOT_FOUND",
                message,
            ));
        };
        let rest = grant.remaining;
        let moved = rest.is_positive().then(|| Transaction {
            kind: EntryKind::Adjustment,
            at: self.moment.at,
            postings: vec![
                Posting {
                    ledger: Ledger::Grant(id),
                    amount: negated(rest),
                },
                Posting {
                    ledger: Ledger::Issued,
                    amount: rest,
                },
            ],
        });
        Ok(Moved::by(moved, Change::Voided { grant: id }))
    }

    fn adjust(&self, amount: Credits) -> Result<Moved, Rejection> {
        if amount.is_positive() {
            return self.grant(&self.terms(amount, GrantKind::Adjustment));
        }
        let less = negated(amount);
        positive(less)?;
        let at = self.moment.at;
        let draws = draw(self.account, less, at, Reach::Available);
        let draws = draws.ok_or_else(|| self.insufficient(less))?;
        let issued = Posting {
            ledger: Ledger::Issued,
            amount: less,
        };
        let moved = Transaction {
            kind: EntryKind::Adjustment,
            at,
            postings: std::iter::once(issued).chain(taken(&draws)).collect(),
        };
        Ok(Moved::by([moved], Change::Moved))
    }

    /// What was spent comes back, as a grant of its own.
    fn refund(&self, amount: Credits) -> Result<Moved, Rejection> {
        positive(amount)?;
        let spent = self.account.balances.spent;
        if amount > spent {
            let message = format!("{spent} credits were spent, less than {amount}: refund less");
            return Err(precondition("MORE_THAN_SPENT", message));
        }
        let mut moved = self.grant(&self.terms(amount, GrantKind::Refund))?;
        let legs = moved
            .transactions
            .iter_mut()
            .flat_map(|one| &mut one.postings);
        for posting in legs {
            if posting.ledger == Ledger::Issued {
                posting.ledger = Ledger::Spent;
            }
        }
        Ok(moved)
    }

    fn write_off(&self, amount: Credits) -> Result<Moved, Rejection> {
        positive(amount)?;
        let (unpaid, overspent) = (self.account.unpaid(), self.account.overspent());
        if micros(amount) > micros(unpaid) + micros(overspent) {
            let message = format!(
                "{unpaid} credits are unpaid and {overspent} overdrawn, less than {amount}: write off less"
            );
            return Err(precondition("MORE_THAN_OWED", message));
        }
        let of_unpaid = amount.min(unpaid);
        let of_overdraft = amount.minus(of_unpaid).unwrap_or_default();
        let legs = [
            (Ledger::WrittenOff, negated(amount)),
            (Ledger::Unpaid, of_unpaid),
            (Ledger::Overdraft, of_overdraft),
        ];
        let legs = legs.into_iter().filter(|(_, amount)| !amount.is_zero());
        let moved = Transaction {
            kind: EntryKind::WriteOff,
            at: self.moment.at,
            postings: legs
                .map(|(ledger, amount)| Posting { ledger, amount })
                .collect(),
        };
        Ok(Moved::by([moved], Change::Moved))
    }

    fn reserve(
        &self,
        amount: Credits,
        expires_at: Timestamp,
        spender: &Spender,
    ) -> Result<Moved, Rejection> {
        positive(amount)?;
        let at = self.moment.at;
        if expires_at <= at {
            return Err(expires_in_the_past());
        }
        let over = within(self.account, amount, spender, at)?;
        let draws = draw(self.account, amount, at, Reach::Overdraft);
        let draws = draws.ok_or_else(|| self.insufficient(amount))?;
        let holds = &self.account.holds;
        let open: usize = holds.values().map(|hold| hold.draws.len()).sum();
        if holds.len() >= HOLDS_MAX
            || grants_of(&draws).len() > DRAWS_MAX
            || open + draws.len() > OPEN_DRAWS_MAX
        {
            let message = format!(
                "an account has at most {HOLDS_MAX} open holds, each from at most {DRAWS_MAX} grants and all from at most {OPEN_DRAWS_MAX}; settle or release some, or hold less"
            );
            return Err(precondition("TOO_MANY_HOLDS", message));
        }
        let hold = HoldId::new(self.moment.command.as_uuid());
        let held = Posting {
            ledger: Ledger::Held(hold),
            amount,
        };
        let moved = Transaction {
            kind: EntryKind::Hold,
            at,
            postings: std::iter::once(held).chain(taken(&draws)).collect(),
        };
        let terms = Hold {
            amount,
            draws,
            expires_at,
            spender: spender.clone(),
        };
        Ok(Moved::by([moved], Change::Reserved { hold, terms, over }))
    }

    fn extend(
        &self,
        fate: Option<&Fate>,
        hold: HoldId,
        expires_at: Timestamp,
    ) -> Result<Moved, Rejection> {
        self.open(fate, hold)?;
        if expires_at <= self.moment.at {
            return Err(expires_in_the_past());
        }
        Ok(Moved::nothing(Change::Extended { hold, expires_at }))
    }

    /// Spends what was held, first drawn first, and gives the rest back; what it took beyond is
    /// charged as if nothing had been held.
    fn settle(&self, fate: Option<&Fate>, id: HoldId, amount: Credits) -> Result<Moved, Rejection> {
        let hold = self.open(fate, id)?;
        if amount.is_negative() {
            return Err(invalid("AMOUNT_NEGATIVE", "amount must not be below zero"));
        }
        let at = self.moment.at;
        let rest = rest_of(&hold.draws, amount);
        let excess = amount.minus(hold.amount).unwrap_or(Credits::ZERO);
        let excess = excess.max(Credits::ZERO);
        let of_hold = amount.min(hold.amount);
        let spent = |amount| Posting {
            ledger: Ledger::Spent,
            amount,
        };
        let held = Posting {
            ledger: Ledger::Held(id),
            amount: negated(hold.amount),
        };
        let mut postings = vec![held];
        postings.extend(of_hold.is_positive().then(|| spent(of_hold)));
        postings.extend(given_back(self.account, &rest, at));
        let settled = Transaction {
            kind: EntryKind::Debit,
            at,
            postings,
        };
        let mut moved = vec![settled];
        let mut over = Vec::new();
        if excess.is_positive() {
            let mut after = self.account.clone();
            moved.iter().for_each(|one| after.post(one));
            over = passed(self.account, excess, &hold.spender, at);
            let draws = draw(&after, excess, at, Reach::Unpaid).unwrap_or_default();
            moved.push(Transaction {
                kind: EntryKind::Debit,
                at,
                postings: std::iter::once(spent(excess))
                    .chain(taken(&draws))
                    .collect(),
            });
        }
        let change = Change::Settled {
            hold: id,
            amount,
            spender: hold.spender.clone(),
            over,
        };
        Ok(Moved::by(moved, change))
    }

    fn open(&self, fate: Option<&Fate>, id: HoldId) -> Result<&Hold, Rejection> {
        let known = self.account.holds.get(&id);
        known.ok_or_else(|| match fate {
            None => {
                let message = "there is no such hold";
                Rejection::new(RejectionKind::NotFound, "HOLD_NOT_FOUND", message)
            }
            Some(Fate::Open) => precondition("HOLD_EXPIRED", "the hold has expired; reserve again"),
            Some(Fate::Settled) => precondition("HOLD_SETTLED", "the hold was settled before"),
            Some(Fate::Released) => precondition("HOLD_RELEASED", "the hold was released before"),
        })
    }

    fn terms(&self, amount: Credits, kind: GrantKind) -> GrantTerms {
        GrantTerms {
            amount,
            kind,
            priority: 0,
            effective_at: self.moment.at,
            expires_at: None,
        }
    }

    fn insufficient(&self, amount: Credits) -> Rejection {
        let available = self.account.available();
        let message = format!(
            "{available} credits are available, and {} are overdrawn; {amount} are more than there is",
            self.account.overdrawn()
        );
        precondition("INSUFFICIENT_CREDITS", message)
    }
}

/// Whether something would be more than can be counted: everything is made of what was issued.
fn overflows(account: &Account, posted: &Posted, at: Timestamp) -> bool {
    let of = |ledger: Ledger| -> i128 {
        let legs = posted.transactions.iter().flat_map(|one| &one.postings);
        let legs = legs.filter(|one| one.ledger == ledger);
        micros(account.lying(ledger)) + legs.map(|one| micros(one.amount)).sum::<i128>()
    };
    let countable = |ledger| i64::try_from(of(ledger).unsigned_abs()).is_ok();
    let to_come = account.grants.values().filter(|grant| !grant.credited);
    let to_come: i128 = to_come.map(|grant| micros(grant.terms.amount)).sum();
    let new = posted
        .opened
        .iter()
        .filter(|one| one.terms.effective_at > at);
    let new: i128 = new.map(|one| micros(one.terms.amount)).sum();
    let issued = of(Ledger::Issued).abs() + to_come + new;
    i64::try_from(issued).is_err() || ![Ledger::Spent, Ledger::Unpaid].into_iter().all(countable)
}

pub(super) fn positive(amount: Credits) -> Result<(), Rejection> {
    if amount.is_positive() {
        return Ok(());
    }
    Err(invalid("AMOUNT_NOT_POSITIVE", "amount must be above zero"))
}

fn expires_too_early() -> Rejection {
    let message = "the grant would expire before it takes effect; let it expire later";
    invalid("EXPIRES_TOO_EARLY", message)
}

fn expires_in_the_past() -> Rejection {
    invalid("EXPIRES_TOO_EARLY", "expires_at must lie ahead")
}

pub(super) fn invalid(reason: &'static str, message: impl Into<String>) -> Rejection {
    Rejection::new(RejectionKind::Invalid, reason, message)
}

pub(super) fn precondition(reason: &'static str, message: impl Into<String>) -> Rejection {
    Rejection::new(RejectionKind::Precondition, reason, message)
}
