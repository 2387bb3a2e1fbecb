//! Accounts and prices: a sample of every command and decision, their round trips, and faults of what
//! requests ask for.

use std::collections::{BTreeMap, BTreeSet};

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use runledger_domain::calendar::{Period, Zone};
use runledger_domain::credit::{
    Balance, Beyond, Change, Command, Draw, EntryKind, GrantKind, GrantTerms, Hold, Ledger, Limit,
    Limits, Line, Opened, Posted, Posting, Pricing, Recurrence, Source, Spender, Threshold,
    Transaction,
};
use runledger_domain::ids::{GrantId, HoldId, PrincipalId, RecordId};
use runledger_domain::log::{Asked, Decided, Kind, Record, Stream, Terms};
use runledger_domain::money::Credits;
use runledger_domain::policy;
use runledger_domain::price::{PriceList, Publish, Published, Rule, Tier};
use runledger_domain::scope::{Actor, PrincipalKind, Role};
use runledger_domain::time::Timestamp;
use runledger_proto::billing::v1 as wire;
use runledger_proto::decode::fields::{Fields, Path};
use runledger_proto::price::v1 as price_wire;
use runledger_proto::{decode, encode, types};
use uuid::Uuid;

use crate::any::{any_id, any_moment, any_text};
use crate::samples::{carry, id, moment, skipped};

const AT: i64 = 1_767_225_600_123_456;

fn uuid(last: u128) -> Uuid {
    Uuid::from_u128(0x0198_f0c2_5f1e_7b9a_8c55_3f2f_6f0e_0000 + last)
}

fn at(seconds: i64) -> Timestamp {
    moment(AT + seconds * 1_000_000)
}

fn micros(amount: i64) -> Credits {
    Credits::from_micros(amount)
}

fn grant(last: u128) -> GrantId {
    GrantId::new(uuid(last))
}

fn hold() -> HoldId {
    HoldId::new(uuid(0x77))
}

fn spender() -> Spender {
    Spender {
        agent: Some(id("agent-7")),
        run: Some(id("run-1")),
    }
}

fn terms() -> GrantTerms {
    GrantTerms {
        amount: micros(12_500_000),
        kind: GrantKind::Promotional,
        priority: -3,
        effective_at: at(60),
        expires_at: Some(at(86_400)),
    }
}

fn recurrence() -> Recurrence {
    Recurrence {
        amount: micros(5_000_000),
        priority: 2,
        every: Period::Months(1),
        first_at: at(60),
        until: Some(at(9_000_000)),
    }
}

fn limits() -> Limits {
    Limits {
        overdraft: micros(1),
        day: Some(micros(2)),
        month: Some(micros(3)),
        agent: Some(micros(4)),
        run: Some(micros(0)),
        beyond: Beyond::Reject,
    }
}

fn zone() -> Zone {
    "Europe/Berlin".parse().expect("a zone")
}

fn thresholds() -> BTreeMap<runledger_domain::ids::Name, Threshold> {
    [
        (id("low"), Threshold::AvailableBelow(micros(1_000_000))),
        (id("much"), Threshold::SpentOver(micros(9_000_000))),
    ]
    .into()
}

fn commands() -> Vec<(Command, &'static str)> {
    let (amount, hold, reason) = (micros(-7), hold(), "asked by a person");
    let (expires_at, spender) = (at(300), spender());
    vec![
        (Command::Grant(terms()), reason),
        (Command::GrantRecurring(recurrence()), reason),
        (Command::Void { grant: grant(1) }, reason),
        (Command::Adjust { amount }, reason),
        (Command::Refund { amount: micros(7) }, reason),
        (Command::WriteOff { amount: micros(8) }, reason),
        (
            Command::Reserve {
                amount: micros(9),
                expires_at,
                spender,
            },
            "",
        ),
        (Command::Extend { hold, expires_at }, ""),
        (
            Command::Settle {
                hold,
                amount: micros(5),
            },
            "",
        ),
        (Command::Release { hold }, ""),
        (Command::SetLimits(limits()), ""),
        (Command::SetZone(zone()), ""),
        (Command::SetThresholds(thresholds()), ""),
    ]
}

fn line(pricing: Pricing) -> Line {
    Line {
        source: RecordId::new(uuid(0x51)),
        meter: id("tokens_output"),
        quantity: 1_500,
        spender: spender(),
        used_at: at(-60),
        pricing,
        amount: micros(42),
        late: true,
        over: Limit::ALL.to_vec(),
    }
}

/// Every change that a decision makes, the last of them with the most to it.
fn changes() -> Vec<Change> {
    let (expires_at, spender, amount) = (at(300), spender(), micros(9));
    let draw = |from| Draw { from, amount };
    let by = Pricing::By {
        version: 3,
        rule: id("output"),
        free: 500,
        billable: 1_000,
    };
    let others = [
        Pricing::Unpriced,
        Pricing::Overflow,
        Pricing::Rejected,
        Pricing::Undecidable,
    ];
    vec![
        Change::Granted { grant: grant(1) },
        Change::Recurs {
            grant: grant(2),
            terms: recurrence(),
        },
        Change::Voided { grant: grant(1) },
        Change::Reserved {
            hold: hold(),
            terms: Hold {
                amount,
                draws: vec![
                    draw(Source::Grant(grant(1))),
                    draw(Source::Overdraft),
                    draw(Source::Unpaid),
                ],
                expires_at,
                spender: spender.clone(),
            },
            over: vec![Limit::Agent],
        },
        Change::Extended {
            hold: hold(),
            expires_at,
        },
        Change::Settled {
            hold: hold(),
            amount,
            spender,
            over: vec![Limit::Run, Limit::Day],
        },
        Change::Released { hold: hold() },
        Change::LimitsSet(limits()),
        Change::ZoneSet(zone()),
        Change::ThresholdsSet(thresholds()),
        Change::Moved,
        Change::Charged(std::iter::once(by).chain(others).map(line).collect()),
    ]
}

fn actor() -> Actor {
    Actor {
        principal: PrincipalId::new(uuid(9)),
        kind: PrincipalKind::User,
        role: Role::Admin,
    }
}

fn posted(change: Change) -> Posted {
    let ledgers = [
        Ledger::Issued,
        Ledger::Grant(grant(1)),
        Ledger::Held(hold()),
        Ledger::Spent,
        Ledger::Expired,
        Ledger::WrittenOff,
        Ledger::Overdraft,
        Ledger::Unpaid,
    ];
    let postings = (1..).zip(ledgers).map(|(amount, ledger)| Posting {
        ledger,
        amount: micros(if amount % 2 == 0 { amount } else { -amount }),
    });
    let postings: Vec<Posting> = postings.collect();
    let transaction = |kind: &EntryKind| Transaction {
        kind: *kind,
        at: at(1),
        postings: postings.clone(),
    };
    Posted {
        before: Balance {
            available: micros(1),
            held: micros(2),
            overdrawn: micros(3),
            unpaid: micros(4),
        },
        opened: vec![
            Opened {
                grant: grant(3),
                terms: terms(),
                of: Some((grant(2), 4)),
            },
            Opened {
                grant: grant(1),
                terms: terms(),
                of: None,
            },
        ],
        transactions: EntryKind::ALL.iter().map(transaction).collect(),
        change,
        crossed: vec![id("low")],
        by: Some(actor()),
        reason: "asked by a person".into(),
    }
}

fn rule() -> Rule {
    Rule {
        id: id("output"),
        meter: id("gpu"),
        dimensions: [(id("model"), "large".to_owned())].into(),
        unit: 1_000,
        included: 500,
        tiers: vec![
            Tier {
                up_to: Some(10_000),
                price: micros(30),
            },
            Tier {
                up_to: None,
                price: micros(20),
            },
        ],
        minimum: micros(1),
    }
}

fn publish() -> Publish {
    Publish {
        effective_at: Some(at(120)),
        rules: vec![rule()],
        meters: [id("gpu")].into(),
        expected_version: Some(2),
    }
}

fn published() -> Published {
    Published {
        list: PriceList {
            version: 3,
            effective_at: at(120),
            recorded: policy::Change {
                at: at(0),
                by: actor(),
            },
            rules: vec![rule()],
            meters: BTreeSet::from([id("gpu")]),
        },
    }
}

fn asked() -> Terms {
    Terms::Asked(Asked {
        deadline: at(60),
        expected_version: Some(7),
        at_least: vec![skipped().position],
    })
}

fn decided() -> Terms {
    Terms::Decided(Decided {
        read_to: 4_711,
        rules_version: 1,
        stream_version: 8,
        views: vec![skipped().position],
    })
}

/// A record of every type. Of decisions about accounts that which charges: golden files of others were
/// written before it.
pub(crate) fn records() -> Vec<Record> {
    let account = Stream::account(&id("account-1"));
    let command = |stream: &Stream, said| Record {
        kind: Kind::Command,
        terms: Some(asked()),
        ..carry(stream.clone(), said)
    };
    let decision = |stream: &Stream, said| Record {
        kind: Kind::Decision,
        terms: Some(decided()),
        ..carry(stream.clone(), said)
    };
    let change = changes().pop().expect("the last change");
    let commands = commands().into_iter().map(|(one, reason)| {
        let said = encode::account_command(&one, reason);
        command(&account, said)
    });
    let others = [
        decision(&account, encode::account_posted(&posted(change))),
        command(&Stream::prices(), encode::publish_prices(&publish())),
        decision(&Stream::prices(), encode::prices_published(&published())),
    ];
    commands.chain(others).collect()
}

/// What a stored record of these types says. `None`: of another type.
pub(crate) fn reading(record: &Record) -> Option<String> {
    let (type_name, payload) = (&*record.type_name, &*record.payload);
    if let Some((command, reason)) =
        decode::stored_account_command(type_name, payload).expect("a payload of its type")
    {
        assert_eq!(encode::account_command(&command, &reason).1, payload);
        return Some(format!("{command:#?}\n{reason:?}\n"));
    }
    if let Some(posted) =
        decode::stored_account_posted(type_name, payload).expect("a payload of its type")
    {
        assert_eq!(encode::account_posted(&posted).1, payload);
        return Some(format!("{posted:#?}\n"));
    }
    if let Some(publish) =
        decode::stored_publish_prices(type_name, payload).expect("a payload of its type")
    {
        assert_eq!(encode::publish_prices(&publish).1, payload);
        return Some(format!("{publish:#?}\n"));
    }
    let published =
        decode::stored_prices_published(type_name, payload).expect("a payload of its type")?;
    assert_eq!(encode::prices_published(&published).1, payload);
    Some(format!("{published:#?}\n"))
}

#[test]
fn commands_come_back_as_they_were_stored() {
    for (command, reason) in commands() {
        let (type_name, bytes) = encode::account_command(&command, reason);
        let read = decode::stored_account_command(type_name, &bytes).unwrap();
        assert_eq!(read, Some((command, reason.to_owned())));
        assert_eq!(
            decode::stored_account_posted(type_name, &bytes).unwrap(),
            None
        );
    }
    let (type_name, bytes) = encode::publish_prices(&publish());
    let read = decode::stored_publish_prices(type_name, &bytes).unwrap();
    assert_eq!(read, Some(publish()));
    assert_eq!(
        decode::stored_account_command(type_name, &bytes).unwrap(),
        None
    );
}

#[test]
fn decisions_come_back_as_they_were_stored() {
    for change in changes() {
        let posted = posted(change);
        let (type_name, bytes) = encode::account_posted(&posted);
        let read = decode::stored_account_posted(type_name, &bytes).unwrap();
        assert_eq!(read, Some(posted));
    }
    let (type_name, bytes) = encode::prices_published(&published());
    let read = decode::stored_prices_published(type_name, &bytes).unwrap();
    assert_eq!(read, Some(published()));
}

fn any_amount() -> impl Strategy<Value = Credits> {
    any::<i64>().prop_map(Credits::from_micros)
}

fn any_grant() -> impl Strategy<Value = GrantId> {
    (1..u128::MAX).prop_map(|id| GrantId::new(Uuid::from_u128(id)))
}

fn any_ledger() -> impl Strategy<Value = Ledger> {
    prop_oneof![
        any_grant().prop_map(Ledger::Grant),
        any_grant().prop_map(|id| Ledger::Held(HoldId::new(id.as_uuid()))),
        select(vec![
            Ledger::Issued,
            Ledger::Spent,
            Ledger::Expired,
            Ledger::WrittenOff,
            Ledger::Overdraft,
            Ledger::Unpaid,
        ]),
    ]
}

fn any_transaction() -> impl Strategy<Value = Transaction> {
    let posting =
        (any_ledger(), any_amount()).prop_map(|(ledger, amount)| Posting { ledger, amount });
    (select(EntryKind::ALL), any_moment(), vec(posting, 0..5))
        .prop_map(|(kind, at, postings)| Transaction { kind, at, postings })
}

fn any_line() -> impl Strategy<Value = Line> {
    let by = (any::<u64>(), any_id(), any::<u64>(), any::<u64>());
    let by = by.prop_map(|(version, rule, free, billable)| Pricing::By {
        version,
        rule,
        free,
        billable,
    });
    let others = [
        Pricing::Unpriced,
        Pricing::Overflow,
        Pricing::Rejected,
        Pricing::Undecidable,
    ];
    let pricing = prop_oneof![by, select(others.to_vec())];
    let spender = (option::of(any_id()), option::of(any_id()));
    let spender = spender.prop_map(|(agent, run)| Spender { agent, run });
    let what = (any_grant(), any_id(), any::<u64>(), any_moment());
    let over = vec(select(Limit::ALL), 0..4);
    (what, spender, pricing, any_amount(), any::<bool>(), over).prop_map(
        |((source, meter, quantity, used_at), spender, pricing, amount, late, over)| Line {
            source: RecordId::new(source.as_uuid()),
            meter,
            quantity,
            spender,
            used_at,
            pricing,
            amount,
            late,
            over,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn any_charge_comes_back_as_it_was_stored(
        transactions in vec(any_transaction(), 0..4), lines in vec(any_line(), 0..4),
        crossed in vec(any_id(), 0..3), reason in any_text(), amounts in any::<[i64; 4]>(),
    ) {
        let [available, held, overdrawn, unpaid] = amounts.map(Credits::from_micros);
        let posted = Posted {
            before: Balance { available, held, overdrawn, unpaid },
            opened: Vec::new(),
            transactions,
            change: Change::Charged(lines),
            crossed,
            by: None,
            reason,
        };
        let (type_name, bytes) = encode::account_posted(&posted);
        prop_assert_eq!(decode::stored_account_posted(type_name, &bytes).unwrap(), Some(posted));
    }

    #[test]
    fn what_is_damaged_is_a_value_or_an_error(
        noise in vec(any::<u8>(), 0..200), which in 0..16_usize,
        at in any::<prop::sample::Index>(), byte: u8, cut in any::<prop::sample::Index>(),
    ) {
        let mut bytes = records()[which].payload.clone();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        let torn = &bytes[..=cut.index(bytes.len())];
        for type_name in types::ALL {
            for bytes in [&noise, &bytes, torn] {
                let _either = decode::stored_account_command(type_name, bytes);
                let _either = decode::stored_account_posted(type_name, bytes);
                let _either = decode::stored_publish_prices(type_name, bytes);
                let _either = decode::stored_prices_published(type_name, bytes);
            }
        }
    }
}

/// The fields and reasons of all faults of a request.
fn faults<T>(read: impl FnOnce(&mut Fields<'_>) -> Option<T>) -> Vec<(String, String)> {
    let mut faults = Vec::new();
    let _read = read(&mut Fields::new(Path::ROOT, &mut faults));
    let faults = faults.into_iter();
    faults
        .map(|one| (one.field, one.reason.to_string()))
        .collect()
}

fn told(faults: &[(String, String)]) -> Vec<(&str, &str)> {
    let faults = faults.iter();
    faults
        .map(|(field, reason)| (field.as_str(), reason.as_str()))
        .collect()
}

#[test]
fn a_grant_that_nobody_can_give_is_refused_field_by_field() {
    let terms = wire::GrantTerms {
        amount_micros: 0,
        kind: wire::GrantKind::Refund.into(),
        priority: 0,
        effective_at: Some(encode::timestamp(at(5))),
        expires_at: Some(encode::timestamp(at(5))),
    };
    let found = faults(|see| decode::billing::grant_terms(Some(terms), see));
    assert_eq!(
        told(&found),
        [
            ("terms.amount_micros", "AMOUNT_NOT_POSITIVE"),
            ("terms.kind", "OUT_OF_RANGE"),
            ("terms.expires_at", "EXPIRES_TOO_EARLY"),
        ]
    );
    let found = faults(|see| decode::billing::grant_terms(None, see));
    assert_eq!(told(&found), [("terms", "REQUIRED")]);
}

#[test]
fn amounts_ranges_and_zones_are_refused_by_name() {
    use decode::billing as read;
    let amount = ("amount_micros", "AMOUNT_NOT_POSITIVE");
    for micros in [0, -1, i64::MIN] {
        let found = faults(|see| read::positive_amount(micros, see));
        assert_eq!(told(&found), [amount]);
    }
    assert_eq!(told(&faults(|see| read::nonzero_amount(0, see))), [amount]);
    assert_eq!(told(&faults(|see| read::nonzero_amount(-1, see))), []);
    let negative = faults(|see| read::amount_from_zero(-1, see));
    assert_eq!(told(&negative), [("amount_micros", "AMOUNT_NEGATIVE")]);
    let range = |from: i64, to: i64| wire::Range {
        from: Some(encode::timestamp(at(from))),
        to: Some(encode::timestamp(at(to))),
    };
    for (from, to, reason) in [
        (5, 5, "RANGE_UPSIDE_DOWN"),
        (5, 4, "RANGE_UPSIDE_DOWN"),
        (0, 3_653 * 86_400 + 1, "RANGE_TOO_LONG"),
    ] {
        let found = faults(|see| read::range(Some(range(from, to)), see));
        assert_eq!(told(&found), [("range.to", reason)]);
    }
    assert_eq!(
        told(&faults(|see| read::range(None, see))),
        [("range", "REQUIRED")]
    );
    let zone = faults(|see| read::time_zone("Mars/Base", see));
    assert_eq!(told(&zone), [("zone", "UNKNOWN_VALUE")]);
    let period = wire::Recurrence {
        amount_micros: 5,
        period: Some(wire::Period {
            every: Some(wire::period::Every::Days(0)),
        }),
        ..wire::Recurrence::default()
    };
    let found = faults(|see| read::recurrence(Some(period), see));
    assert_eq!(told(&found), [("terms.period", "PERIOD_OUT_OF_RANGE")]);
    let found = faults(|see| read::quoted(Vec::new(), see));
    assert_eq!(told(&found), [("usages", "TOO_MANY")]);
}

#[test]
fn prices_are_refused_with_every_fault() {
    let tier = |up_to: Option<u64>, price_micros: i64| price_wire::Tier {
        up_to,
        price_micros,
    };
    let prices = price_wire::PublishPricesRequest {
        rules: vec![
            price_wire::PriceRule {
                id: "a".into(),
                meter: "unheard".into(),
                tiers: vec![tier(Some(5), 1), tier(Some(5), 1), tier(None, 1)],
                ..price_wire::PriceRule::default()
            },
            price_wire::PriceRule {
                id: "a".into(),
                meter: "messages".into(),
                tiers: vec![tier(Some(5), -1)],
                ..price_wire::PriceRule::default()
            },
        ],
        ..price_wire::PublishPricesRequest::default()
    };
    let found = faults(|see| decode::price::publish(prices, see));
    let places: BTreeSet<&str> = found.iter().map(|(field, _)| field.as_str()).collect();
    for place in [
        "rules[0].meter",
        "rules[1].id",
        "rules[1].tiers[0].price_micros",
    ] {
        assert!(places.contains(place), "{place} in {found:?}");
    }
    let many = price_wire::PublishPricesRequest {
        rules: vec![price_wire::PriceRule::default(); 501],
        ..price_wire::PublishPricesRequest::default()
    };
    let found = faults(|see| decode::price::publish(many, see));
    assert_eq!(told(&found), [("rules", "TOO_MANY")]);
}
