//! The largest decision there can be: everything that an account may have lapses at once.

use chrono::TimeDelta;
use runledger_decider::DECISION_BYTES_MAX;
use runledger_domain::credit::{
    DRAWS_MAX, Draw, GRANTS_MAX, Grant, GrantKind, GrantTerms, HOLDS_MAX, Hold, OPEN_DRAWS_MAX,
    Source, Spender,
};
use runledger_domain::ids::GrantId;
use runledger_domain::money::Credits;
use uuid::Uuid;

use super::*;

/// What a command may add to what time alone moves, and the envelope around both.
const ASIDE_BYTES: usize = 64 << 10;

fn second(number: i64) -> Timestamp {
    Timestamp::from_timestamp(1_767_225_600, 0).unwrap() + TimeDelta::seconds(number)
}

fn grant_id(number: usize) -> GrantId {
    GrantId::new(Uuid::from_u128(u128::MAX - number as u128))
}

/// Amounts take the more bytes the larger they are; all of these together can still be counted.
const MUCH: i64 = 500_000_000_000_000;

/// As many grants and holds as may be. The grants begin in second 0, the holds give back to them in
/// second 1, and in second 2 what came back expires.
fn largest() -> Account {
    let grant = |number: usize| {
        let grant = Grant {
            terms: GrantTerms {
                amount: Credits::from_micros(MUCH),
                kind: GrantKind::Promotional,
                priority: 0,
                effective_at: second(0),
                expires_at: Some(second(2)),
            },
            ordinal: number as u64,
            remaining: Credits::ZERO,
            credited: false,
            voided: false,
            holds: 0,
        };
        (grant_id(number), grant)
    };
    let draws_each = OPEN_DRAWS_MAX / HOLDS_MAX;
    assert!(draws_each <= DRAWS_MAX);
    let hold = |number: usize| {
        let draws = (0..draws_each).map(|draw| Draw {
            from: Source::Grant(grant_id((number + draw) % GRANTS_MAX)),
            amount: Credits::from_micros(MUCH),
        });
        let hold = Hold {
            amount: Credits::from_micros(MUCH * i64::try_from(draws_each).unwrap()),
            draws: draws.collect(),
            expires_at: second(1),
            spender: Spender::default(),
        };
        (
            HoldId::new(Uuid::from_u128(u128::MAX - number as u128)),
            hold,
        )
    };
    Account {
        grants: (0..GRANTS_MAX).map(grant).collect(),
        holds: (0..HOLDS_MAX).map(hold).collect(),
        ..Account::default()
    }
}

#[test]
fn whatever_lapses_at_once_is_a_decision_that_can_be_written_and_read() {
    let account = largest();
    let posted = credit::owed(&account, second(2)).unwrap();
    let draws: usize = account.holds.values().map(|hold| hold.draws.len()).sum();
    let postings = posted.transactions.iter().map(|one| one.postings.len());
    assert_eq!(draws, OPEN_DRAWS_MAX);
    assert_eq!(
        postings.sum::<usize>(),
        HOLDS_MAX + OPEN_DRAWS_MAX + 4 * GRANTS_MAX
    );
    let (type_name, payload) = encode::account_posted(&posted);
    assert!(
        payload.len() + ASIDE_BYTES <= DECISION_BYTES_MAX,
        "{} bytes",
        payload.len()
    );
    let read = decode::stored_account_posted(type_name, &payload);
    assert_eq!(read.unwrap().as_ref(), Some(&posted));
}
