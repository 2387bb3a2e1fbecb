//! From usage to money: priced at its own time, charged once, and explained to the last micro.

use std::collections::BTreeMap;
use std::time::Duration;

use runledger_domain::scope::Role;
use runledger_proto::billing::v1 as wire;
use runledger_proto::billing::v1::account_posted::Change;
use runledger_proto::price::v1 as price;
use runledger_proto::run::v1::run_fact::Fact as InRun;
use runledger_proto::run::v1::{
    RunEnded, RunFact, RunIngestServiceAppendRequest, RunOutcome, RunStarted,
    ToolCallIngestServiceAppendRequest, Trigger, UsageRecorded, WorkStatus,
};
use runledger_testkit::eventually;
use runledger_tests::facts::{run_fact, tool_call_ended, tool_call_started};
use runledger_tests::{Clients, Installation, Tenant, seed};
use tonic::Code;

use super::counter::{Counter, at_least, id_of, in_time, micros, paid, refusal, rule};
use crate::approvals::desk::new_id;

/// Calls of tools cost 10 micros, failed ones nothing; tokens 3 micros a thousand, the first two
/// thousand nothing.
async fn publish(admin: &mut Counter) -> String {
    let failed = price::PriceRule {
        dimensions: [("outcome".to_owned(), "failed".to_owned())].into(),
        ..rule("failed", "tool_calls", 0, 1)
    };
    let tokens = price::PriceRule {
        included: 2_000,
        ..rule("tokens", "tokens_output", 3_000, 1_000)
    };
    let request = price::PublishPricesRequest {
        id: new_id(),
        rules: vec![rule("calls", "tool_calls", 10, 1), failed, tokens],
        expected_version: Some(0),
        ..Default::default()
    };
    let published = admin.prices.publish_prices(request).await.expect("prices");
    let published = published.into_inner();
    assert_eq!(published.list.expect("a list").version, 1);
    published.token
}

async fn refuses_what_prices_cannot_be(admin: &mut Counter) {
    let mut publish = async |mut prices: price::PublishPricesRequest| {
        prices.id = new_id();
        refusal(admin.prices.publish_prices(prices).await)
    };
    let past = price::PublishPricesRequest {
        effective_at: Some(in_time(Duration::ZERO)),
        ..Default::default()
    };
    let refused = publish(past).await;
    assert_eq!(
        refused,
        (Code::FailedPrecondition, "PRICE_EFFECTIVE_TOO_SOON".into())
    );
    let unheard = price::PublishPricesRequest {
        rules: vec![rule("a", "unheard", 1, 1)],
        ..Default::default()
    };
    assert_eq!(publish(unheard).await.0, Code::InvalidArgument);
    let other = price::PublishPricesRequest {
        expected_version: Some(7),
        ..Default::default()
    };
    let refused = publish(other).await;
    assert_eq!(
        refused,
        (Code::FailedPrecondition, "VERSION_MISMATCH".into())
    );
}

/// What is asked of an account and cannot be had: each time the right code and reason, and nothing moves.
async fn refuses_what_accounts_cannot_do(admin: &mut Counter) {
    let before = admin.balance("mine", "").await.balance;
    let grant = id_of(1);
    let again = admin.grant(&grant, "mine", 1_000_000).await.expect("again");
    assert!(matches!(
        again.posted.and_then(|one| one.change),
        Some(Change::Granted(_))
    ));
    let other = admin.grant(&grant, "mine", 2_000_000).await;
    assert_eq!(
        refusal(other),
        (Code::AlreadyExists, "COMMAND_ID_REUSED".into())
    );
    for amount in [0, -1, i64::MIN] {
        let refused = refusal(admin.grant(&new_id(), "mine", amount).await);
        assert_eq!(refused.0, Code::InvalidArgument, "{amount}");
    }
    let over = refusal(admin.grant(&new_id(), "mine", i64::MAX).await);
    assert_eq!(over, (Code::FailedPrecondition, "OVERFLOW".into()));
    let early = wire::GrantCreditsRequest {
        id: new_id(),
        account_id: "mine".into(),
        terms: Some(wire::GrantTerms {
            expires_at: Some(in_time(Duration::ZERO)),
            ..paid(5)
        }),
        reason: String::new(),
    };
    let early = refusal(admin.billing.grant_credits(early).await);
    assert_eq!(early.1, "EXPIRES_TOO_EARLY");
    let much = admin
        .reserve(&new_id(), "mine", 2_000_000, Duration::from_secs(60))
        .await;
    assert_eq!(
        refusal(much),
        (Code::FailedPrecondition, "INSUFFICIENT_CREDITS".into())
    );
    let none = admin.settle("mine", &id_of(77), 1).await;
    assert_eq!(refusal(none), (Code::NotFound, "HOLD_NOT_FOUND".into()));
    let range = wire::GetSpendingRequest {
        account_id: "mine".into(),
        range: Some(wire::Range {
            from: Some(in_time(Duration::from_secs(60))),
            to: Some(in_time(Duration::ZERO)),
        }),
        ..Default::default()
    };
    let range = refusal(admin.billing.get_spending(range).await);
    assert_eq!(range.0, Code::InvalidArgument);
    // What is refused makes no account.
    let (id, soon) = (new_id(), Duration::from_secs(60));
    let poor = admin.reserve(&id, "nobody", 1, soon).await;
    assert_eq!(refusal(poor).1, "INSUFFICIENT_CREDITS");
    let unheard = wire::GetBalanceRequest {
        account_id: "nobody".into(),
        ..Default::default()
    };
    let unheard = refusal(admin.billing.get_balance(unheard).await);
    assert_eq!(unheard, (Code::NotFound, "ACCOUNT_NOT_FOUND".into()));
    assert_eq!(admin.balance("mine", "").await.balance, before);
}

/// A hold gives back what it holds when nobody settles it, without anybody asking.
async fn a_hold_expires(admin: &mut Counter) {
    let hold = id_of(2);
    let held = admin
        .reserve(&hold, "mine", 400, Duration::from_secs(2))
        .await;
    let held = held.expect("a hold");
    assert_eq!(micros(held.balance.as_ref()), [999_600, 400, 0, 0]);
    eventually(Duration::from_secs(20), || {
        let mut admin = admin.clone();
        async move {
            let entries = entries(&mut admin, "mine").await;
            let released = entries
                .iter()
                .any(|entry| entry.kind() == wire::EntryKind::Release);
            if released { Ok(()) } else { Err("still held") }
        }
    })
    .await;
    let late = admin.settle("mine", &hold, 1).await;
    assert_eq!(
        refusal(late),
        (Code::FailedPrecondition, "HOLD_EXPIRED".into())
    );
    let balance = admin.balance("mine", "").await;
    assert_eq!(micros(balance.balance.as_ref()), [1_000_000, 0, 0, 0]);
    let hold = id_of(3);
    admin
        .reserve(&hold, "mine", 400, Duration::from_secs(600))
        .await
        .expect("a hold");
    // More than was held is taken from what is there.
    let settled = admin.settle("mine", &hold, 500).await.expect("settled");
    assert_eq!(micros(settled.balance.as_ref()), [999_500, 0, 0, 0]);
    told_at_once(admin, &settled).await;
}

/// What a command's answer says can be asked for at once, by its place and by its moment.
async fn told_at_once(admin: &mut Counter, answer: &wire::CommandAnswer) {
    let of = |at_token: &str| wire::GetBalanceRequest {
        account_id: "mine".into(),
        at_token: at_token.into(),
        ..Default::default()
    };
    let at = wire::GetBalanceRequest {
        at: answer.at,
        ..of("")
    };
    for request in [of(&answer.token), at] {
        let balance = admin.billing.get_balance(request).await.expect("a balance");
        assert_eq!(balance.into_inner().balance, answer.balance);
    }
    let other = admin.grant(&new_id(), "other", 5).await.expect("a grant");
    let elsewhere = refusal(admin.billing.get_balance(of(&other.token)).await);
    assert_eq!(elsewhere.0, Code::InvalidArgument, "{elsewhere:?}");
}

async fn entries(counter: &mut Counter, account: &str) -> Vec<wire::Entry> {
    let (mut all, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = wire::ListEntriesRequest {
            account_id: account.into(),
            page_size: 3,
            page_token,
            ..Default::default()
        };
        let page = counter
            .billing
            .list_entries(request)
            .await
            .expect("entries");
        let page = page.into_inner();
        all.extend(page.entries);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return all;
        }
    }
}

/// A run of the account, with two calls that went well, one that failed, and tokens. Its start is told
/// last: what it used waits for it.
async fn report(clients: &Clients, rng: &mut impl rand::Rng) -> String {
    let call = |rng: &mut _, call: &str, tool: &str, status| {
        let started = tool_call_started(rng, "run-1", call, tool);
        [started, tool_call_ended(rng, "run-1", call, status)]
    };
    let calls = [
        call(rng, "c1", "search", WorkStatus::Succeeded),
        call(rng, "c2", "search", WorkStatus::Failed),
        call(rng, "c3", "book", WorkStatus::Succeeded),
    ];
    let request = ToolCallIngestServiceAppendRequest {
        facts: calls.into_iter().flatten().collect(),
    };
    let appended = clients.tool_calls_in.clone().append(request).await;
    appended.expect("calls");
    let tokens = UsageRecorded {
        run_id: "run-1".into(),
        meter: "tokens_output".into(),
        quantity: 5_000,
        ..UsageRecorded::default()
    };
    let started = RunStarted {
        run_id: "run-1".into(),
        agent_id: "agent-1".into(),
        account_id: "mine".into(),
        model: "large".into(),
        trigger: Trigger::Api.into(),
        ..RunStarted::default()
    };
    let ended = RunEnded {
        run_id: "run-1".into(),
        outcome: RunOutcome::Succeeded.into(),
        ..RunEnded::default()
    };
    let mut facts: Vec<RunFact> = Vec::new();
    for fact in [
        InRun::UsageRecorded(tokens),
        InRun::RunEnded(ended),
        InRun::RunStarted(started),
    ] {
        facts.push(run_fact(rng, fact));
    }
    let request = RunIngestServiceAppendRequest { facts };
    let appended = clients.runs_in.clone().append(request).await;
    appended.expect("facts").into_inner().token
}

/// 10 for each call that went well, 9 for three of the five thousand tokens.
const COST: i64 = 20 + 9_000;

async fn assert_lines(counter: &mut Counter, token: &str) {
    let request = wire::GetRunCostRequest {
        run_id: "run-1".into(),
        read: at_least(token),
        ..Default::default()
    };
    let cost = counter.billing.get_run_cost(request).await.expect("a cost");
    let cost = cost.into_inner();
    let mut told: BTreeMap<(String, String), Vec<(i64, String)>> = BTreeMap::new();
    for charge in &cost.charges {
        let line = charge.line.clone().expect("a line");
        let outcome = charge
            .dimensions
            .get("outcome")
            .cloned()
            .unwrap_or_default();
        let key = (line.meter, outcome);
        told.entry(key)
            .or_default()
            .push((line.amount_micros, line.rule_id));
        assert_eq!(
            (charge.account_id.as_str(), charge.source_stream.as_str()),
            ("mine", "run/run-1")
        );
    }
    let of = |meter: &str, outcome: &str| {
        let key = (meter.to_owned(), outcome.to_owned());
        told.get(&key).cloned().unwrap_or_default()
    };
    let calls = vec![(10, "calls".to_owned()), (10, "calls".to_owned())];
    assert_eq!(of("tool_calls", "succeeded"), calls, "{told:?}");
    assert_eq!(of("tool_calls", "failed"), [(0, "failed".to_owned())]);
    assert_eq!(of("tokens_output", ""), [(9_000, "tokens".to_owned())]);
    // Three calls and how long they took, tokens, the run.
    assert_eq!(
        (cost.total_micros, cost.total_lines, cost.unpriced_lines),
        (COST, 8, 4)
    );
}

async fn assert_spending(counter: &mut Counter) {
    use wire::SpendingGroup as Group;
    let mut spending = async |groups: &[Group]| {
        let request = wire::GetSpendingRequest {
            account_id: "mine".into(),
            range: Some(wire::Range {
                from: Some(encode_ago(3_600)),
                to: Some(in_time(Duration::from_secs(60))),
            }),
            group_by: groups.iter().map(|group| (*group).into()).collect(),
            order: wire::SpendingOrder::Cost.into(),
            ..Default::default()
        };
        let answer = counter.billing.get_spending(request).await;
        let answer = answer.expect("spending").into_inner();
        assert_eq!((answer.total_micros, answer.total_lines), (COST, 8));
        let rows = answer.rows.into_iter();
        rows.map(|row| (row.keys.join("/"), row.amount_micros))
            .collect::<Vec<_>>()
    };
    let by_meter = spending(&[Group::Meter]).await;
    assert_eq!(by_meter[0], ("tokens_output".into(), 9_000));
    assert_eq!(by_meter[1], ("tool_calls".into(), 20));
    let by_tool = spending(&[Group::Tool, Group::Model]).await;
    assert_eq!(by_tool[0], ("/large".into(), 9_000));
    assert!(
        by_tool.contains(&("search/large".into(), 10)),
        "{by_tool:?}"
    );
    assert_eq!(
        spending(&[Group::Run, Group::Agent]).await,
        [("run-1/agent-1".into(), COST)]
    );
    let days = spending(&[Group::Day]).await;
    assert_eq!(days.iter().map(|(_, amount)| amount).sum::<i64>(), COST);
    for order in [wire::SpendingOrder::Cost, wire::SpendingOrder::Key] {
        let all = spending_in_pages(counter, order, 100).await;
        assert_eq!(spending_in_pages(counter, order, 1).await, all);
        assert!(all.len() > 2, "{all:?}");
    }
}

/// What meters and tools have cost, row by row, in pages of a size.
async fn spending_in_pages(
    counter: &mut Counter,
    order: wire::SpendingOrder,
    page_size: u32,
) -> Vec<wire::get_spending_response::Row> {
    let group_by = [wire::SpendingGroup::Meter, wire::SpendingGroup::Tool];
    let mut request = wire::GetSpendingRequest {
        account_id: "mine".into(),
        range: Some(wire::Range {
            from: Some(encode_ago(3_600)),
            to: Some(in_time(Duration::from_secs(60))),
        }),
        group_by: group_by.map(Into::into).into(),
        order: order.into(),
        page_size,
        ..Default::default()
    };
    let mut all = Vec::new();
    loop {
        let page = counter.billing.get_spending(request.clone()).await;
        let page = page.expect("spending").into_inner();
        assert_eq!(page.total_micros, COST, "of all, on every page");
        all.extend(page.rows);
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() {
            return all;
        }
    }
}

fn encode_ago(seconds: u64) -> prost_types::Timestamp {
    let now = runledger_domain::time::Clock::now(&runledger_domain::time::SystemClock);
    runledger_proto::encode::timestamp(now - Duration::from_secs(seconds))
}

/// The newest entry says what the balance is, each before it what it was, and all together why.
async fn assert_explained(counter: &mut Counter, expected: [i64; 4]) {
    let history = entries(counter, "mine").await;
    let mut running = 0_i64;
    for entry in history.iter().rev() {
        let legs: i64 = entry.postings.iter().map(|leg| leg.amount_micros).sum();
        assert_eq!(legs, 0, "{entry:?}");
        running += entry.amount_micros;
        let [available, held, overdrawn, unpaid] = micros(entry.balance.as_ref());
        assert_eq!(available + held - overdrawn - unpaid, running, "{entry:?}");
    }
    let newest = history.first().expect("an entry");
    assert_eq!(micros(newest.balance.as_ref()), expected);
    let request = wire::ExplainBalanceRequest {
        account_id: "mine".into(),
        page_size: 1_000,
        ..Default::default()
    };
    let explained = counter.billing.explain_balance(request).await;
    let explained = explained.expect("an explanation").into_inner();
    assert_eq!(explained.entries, history);
    assert_eq!(micros(explained.balance.as_ref()), expected);
    let mut sums: BTreeMap<i32, i64> = BTreeMap::new();
    for leg in history.iter().flat_map(|entry| &entry.postings) {
        *sums.entry(leg.ledger).or_default() += leg.amount_micros;
    }
    for ledger in &explained.ledgers {
        let sum = sums.get(&ledger.ledger).copied().unwrap_or_default();
        assert_eq!(ledger.amount_micros, sum, "{ledger:?}");
    }
    // As of every entry: what a fold that stopped there would say.
    for entry in &history {
        let request = wire::GetBalanceRequest {
            account_id: "mine".into(),
            at: entry.at,
            ..Default::default()
        };
        let then = counter
            .billing
            .get_balance(request)
            .await
            .expect("a balance");
        let same = history
            .iter()
            .find(|one| one.at == entry.at)
            .expect("itself");
        assert_eq!(then.into_inner().balance, same.balance, "{entry:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn usage_becomes_money_and_every_balance_explains_itself() {
    let mut rng = seed("usage becomes money");
    let mut installation = Installation::start("explained").await;
    installation.bill(1, 1).await;
    let tenant = Tenant::create(&installation, "story").await;
    let clients = installation.clients(tenant.key(Role::Agent));
    let mut admin = Counter::role(&installation, &tenant, Role::Admin);
    let mut viewer = Counter::role(&installation, &tenant, Role::Viewer);
    let prices = publish(&mut admin).await;
    refuses_what_prices_cannot_be(&mut admin).await;
    let grant = admin
        .grant(&id_of(1), "mine", 1_000_000)
        .await
        .expect("a grant");
    assert_eq!(micros(grant.balance.as_ref()), [1_000_000, 0, 0, 0]);
    refuses_what_accounts_cannot_do(&mut admin).await;
    a_hold_expires(&mut admin).await;
    viewer.until_in_force(&prices).await;
    let quoted = quote(&mut viewer).await;
    let token = report(&clients, &mut rng).await;
    let after = 999_500 - COST;
    let balance = viewer.balance("mine", &token).await;
    assert_eq!(micros(balance.balance.as_ref()), [after, 0, 0, 0]);
    assert_eq!(balance.uncharged, 0);
    assert_eq!(quoted, after, "what was quoted is what is charged");
    let request = wire::ExplainBalanceRequest {
        account_id: "mine".into(),
        read: at_least(&token),
        ..Default::default()
    };
    let explained = viewer.billing.explain_balance(request).await;
    let explained = explained.expect("an explanation").into_inner();
    let newest = explained.entries.first().expect("an entry");
    assert_eq!(newest.balance, explained.balance, "nothing is missing");
    assert_lines(&mut viewer, &token).await;
    assert_spending(&mut viewer).await;
    assert_explained(&mut viewer, [after, 0, 0, 0]).await;
    // Behind the grant's decision, and nothing later.
    let request = wire::GetBalanceRequest {
        account_id: "mine".into(),
        at_token: grant.token.clone(),
        ..Default::default()
    };
    let then = viewer
        .billing
        .get_balance(request)
        .await
        .expect("a balance");
    assert_eq!(
        micros(then.into_inner().balance.as_ref()),
        [1_000_000, 0, 0, 0]
    );
    for model in ["billing", "usage"] {
        let (verified, said) = installation.billing_command(1, &["verify", model]).await;
        assert!(verified, "{said}");
    }
    installation.assert_unharmed();
}

/// What the run would cost, and what would be left.
async fn quote(viewer: &mut Counter) -> i64 {
    let usage = |meter: &str, quantity: u64, outcome: &str| wire::quote_request::QuotedUsage {
        meter: meter.into(),
        quantity,
        dimensions: [("outcome".to_owned(), outcome.to_owned())].into(),
        spender: None,
    };
    let request = wire::QuoteRequest {
        account_id: "mine".into(),
        usages: vec![
            usage("tool_calls", 2, "succeeded"),
            usage("tool_calls", 1, "failed"),
            usage("tokens_output", 5_000, ""),
        ],
        read: at_least(""),
    };
    let quoted = viewer.billing.quote(request).await.expect("a quote");
    let quoted = quoted.into_inner();
    assert_eq!((quoted.total_micros, quoted.price_version), (COST, 1));
    quoted.after.expect("a balance").available_micros
}
