//! Usage that was forwarded to whoever pays for it.

use runledger_domain::credit::Spender;
use runledger_domain::ids::{AccountId, AgentId, Name, RunId};
use runledger_domain::usage as domain;

use super::fields::Fields;
use crate::billing::v1 as wire;

/// Those that a report may have, and those that its run implies.
const DIMENSIONS_MAX: usize = 32;
const DIMENSION_CHARS_MAX: usize = 256;

pub(super) fn usage_forwarded(
    wire: wire::UsageForwarded,
    see: &mut Fields<'_>,
) -> Option<domain::Fact> {
    let account_id = see.id("account_id", wire.account_id, AccountId::parse);
    let meter = see.id("meter", wire.meter, Name::parse);
    let dimensions = see.texts(
        "dimensions",
        wire.dimensions,
        DIMENSIONS_MAX,
        DIMENSION_CHARS_MAX,
    );
    let spender = see.within("spender", |see| spender(wire.spender, see));
    Some(domain::Fact::Forwarded(domain::Forwarded {
        account_id: account_id?,
        meter: meter?,
        quantity: wire.quantity,
        dimensions,
        spender,
    }))
}

/// Absent: nobody in particular.
pub fn spender(wire: Option<wire::Spender>, see: &mut Fields<'_>) -> Spender {
    let wire = wire.unwrap_or_default();
    Spender {
        agent: see.optional_id("agent_id", wire.agent_id, AgentId::parse),
        run: see.optional_id("run_id", wire.run_id, RunId::parse),
    }
}
