//! What is asked of accounts, and how it is answered.

use runledger_decider::{Answer, Command};
use runledger_domain::credit;
use runledger_domain::fault::Fault;
use runledger_domain::ids::{AccountId, GrantId, HoldId, RecordId};
use runledger_domain::log::Stream;
use runledger_proto::billing::v1 as wire;
use runledger_proto::decode::billing as read;
use runledger_proto::decode::fields::Fields;
use runledger_proto::{decode, encode, types};
use runledger_service::trace;

use super::{Api, Call, Decided, account, only, parse, token_of};

/// A command about an account, as a request asks for it.
pub(super) struct Order {
    id: Option<RecordId>,
    account: Option<AccountId>,
    command: Option<credit::Command>,
    reason: String,
}

impl Order {
    fn new(see: &mut Fields<'_>, id: &str, account_id: String) -> Self {
        Self {
            id: see.uuid("id", id).map(RecordId::new),
            account: account(see, account_id),
            command: None,
            reason: String::new(),
        }
    }

    fn because(mut self, see: &mut Fields<'_>, reason: String) -> Self {
        self.reason = read::reason(reason, see);
        self
    }

    fn to(self, command: Option<credit::Command>) -> Self {
        Self { command, ..self }
    }
}

/// How each request asks for its command.
pub(super) trait Orders: Send {
    fn order(self, see: &mut Fields<'_>) -> Order;
}

impl Orders for wire::GrantCreditsRequest {
    fn order(self, see: &mut Fields<'_>) -> Order {
        let order = Order::new(see, &self.id, self.account_id).because(see, self.reason);
        let terms = read::grant_terms(self.terms, see);
        order.to(terms.map(credit::Command::Grant))
    }
}

impl Orders for wire::GrantRecurringCreditsRequest {
    fn order(self, see: &mut Fields<'_>) -> Order {
        let order = Order::new(see, &self.id, self.account_id).because(see, self.reason);
        let terms = read::recurrence(self.terms, see);
        order.to(terms.map(credit::Command::GrantRecurring))
    }
}

impl Orders for wire::VoidGrantRequest {
    fn order(self, see: &mut Fields<'_>) -> Order {
        let order = Order::new(see, &self.id, self.account_id).because(see, self.reason);
        let grant = see.uuid("grant_id", &self.grant_id).map(GrantId::new);
        order.to(grant.map(|grant| credit::Command::Void { grant }))
    }
}

impl Orders for wire::AdjustCreditsRequest {
    fn order(self, see: &mut Fields<'_>) -> Order {
        let order = Order::new(see, &self.id, self.account_id).because(see, self.reason);
        let amount = read::nonzero_amount(self.amount_micros, see);
        order.to(amount.map(|amount| credit::Command::Adjust { amount }))
    }
}

impl Orders for wire::RefundCreditsRequest {
    fn order(self, see: &mut Fields<'_>) -> Order {
        let order = Order::new(see, &self.id, self.account_id).because(see, self.reason);
        let amount = read::positive_amount(self.amount_micros, see);
        order.to(amount.map(|amount| credit::Command::Refund { amount }))
    }
}

impl Orders for wire::WriteOffCreditsRequest {
    fn order(self, see: &mut Fields<'_>) -> Order {
        let order = Order::new(see, &self.id, self.account_id).because(see, self.reason);
        let amount = read::positive_amount(self.amount_micros, see);
        order.to(amount.map(|amount| credit::Command::WriteOff { amount }))
    }
}

impl Orders for wire::ReserveCreditsRequest {
    fn order(self, see: &mut Fields<'_>) -> Order {
        let order = Order::new(see, &self.id, self.account_id);
        let amount = read::positive_amount(self.amount_micros, see);
        let expires_at = see.time("expires_at", self.expires_at);
        let spender = read::spender(self.spender, see);
        order.to(reserve(amount, expires_at, spender))
    }
}

fn reserve(
    amount: Option<runledger_domain::money::Credits>,
    expires_at: Option<runledger_domain::time::Timestamp>,
    spender: credit::Spender,
) -> Option<credit::Command> {
    Some(credit::Command::Reserve {
        amount: amount?,
        expires_at: expires_at?,
        spender,
    })
}

impl Orders for wire::ExtendHoldRequest {
    fn order(self, see: &mut Fields<'_>) -> Order {
        let order = Order::new(see, &self.id, self.account_id);
        let hold = hold(see, &self.hold_id);
        let expires_at = see.time("expires_at", self.expires_at);
        let both = hold.zip(expires_at);
        order.to(both.map(|(hold, expires_at)| credit::Command::Extend { hold, expires_at }))
    }
}

impl Orders for wire::SettleHoldRequest {
    fn order(self, see: &mut Fields<'_>) -> Order {
        let order = Order::new(see, &self.id, self.account_id);
        let hold = hold(see, &self.hold_id);
        let amount = read::amount_from_zero(self.amount_micros, see);
        let both = hold.zip(amount);
        order.to(both.map(|(hold, amount)| credit::Command::Settle { hold, amount }))
    }
}

impl Orders for wire::ReleaseHoldRequest {
    fn order(self, see: &mut Fields<'_>) -> Order {
        let order = Order::new(see, &self.id, self.account_id);
        let hold = hold(see, &self.hold_id);
        order.to(hold.map(|hold| credit::Command::Release { hold }))
    }
}

impl Orders for wire::SetSpendLimitsRequest {
    fn order(self, see: &mut Fields<'_>) -> Order {
        let order = Order::new(see, &self.id, self.account_id);
        let limits = read::spend_limits(self.limits, see);
        order.to(limits.map(credit::Command::SetLimits))
    }
}

impl Orders for wire::SetTimeZoneRequest {
    fn order(self, see: &mut Fields<'_>) -> Order {
        let order = Order::new(see, &self.id, self.account_id);
        let zone = read::time_zone(&self.zone, see);
        order.to(zone.map(credit::Command::SetZone))
    }
}

impl Orders for wire::SetThresholdsRequest {
    fn order(self, see: &mut Fields<'_>) -> Order {
        let order = Order::new(see, &self.id, self.account_id);
        let thresholds = read::thresholds(self.thresholds, see);
        order.to(thresholds.map(credit::Command::SetThresholds))
    }
}

fn hold(see: &mut Fields<'_>, id: &str) -> Option<HoldId> {
    see.uuid("hold_id", id).map(HoldId::new)
}

impl Api {
    /// Asks for one command and waits for its decision.
    pub(super) async fn order<T: Orders>(
        &self,
        call: Call<T>,
    ) -> Result<Option<wire::CommandAnswer>, Fault> {
        let scope = self.admit(&call.caller)?;
        let ((id, account, command, reason), _) = parse(None, |see| {
            let order = call.message.order(see);
            Some((order.id?, order.account?, order.command?, order.reason))
        })?;
        let (type_name, payload) = encode::account_command(&command, &reason);
        let command = Command {
            id,
            scope,
            stream: Stream::account(&account),
            actor: call.caller.principal,
            type_name,
            payload,
            expected_version: None,
            at_least: Vec::new(),
            trace: trace::current(),
        };
        let answers = self.0.callers.ask(vec![command], call.until).await?;
        answer_of(only(answers)?).map(Some)
    }

    pub(super) async fn outcome(
        &self,
        call: Call<wire::GetCommandOutcomeRequest>,
    ) -> Result<wire::GetCommandOutcomeResponse, Fault> {
        let scope = call.caller.require_scope()?;
        let request = call.message;
        let ((id, account), _) = parse(None, |see| {
            let id = see.uuid("id", &request.id).map(RecordId::new);
            let account = account(see, request.account_id);
            Some((id?, account?))
        })?;
        let stream = Stream::account(&account);
        let callers = &self.0.callers;
        let answer: Answer = callers.outcome(scope, stream, id, call.until).await?;
        let answer = answer_of(only(vec![Ok(answer)])?)?;
        Ok(wire::GetCommandOutcomeResponse {
            answer: Some(answer),
        })
    }
}

/// What the log says to a command; nothing yet, when it does not.
fn answer_of(decided: Option<Decided>) -> Result<wire::CommandAnswer, Fault> {
    let Some(decided) = decided else {
        return Ok(wire::CommandAnswer::default());
    };
    let posted: wire::AccountPosted = decided.message(types::ACCOUNT_POSTED)?;
    let known = decode::stored_account_posted(&decided.type_name, &decided.payload);
    let balance = known.map_err(Fault::internal)?.map(|posted| {
        let moved = posted.transactions.iter();
        let balance = moved.fold(posted.before, |balance, one| balance.after(one));
        wire::Balance::from(&balance)
    });
    Ok(wire::CommandAnswer {
        posted: Some(posted),
        at: Some(encode::timestamp(decided.at)),
        balance,
        token: token_of(decided.position),
    })
}
