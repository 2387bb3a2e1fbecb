use runledger_domain::credit::Spender;
use runledger_domain::usage as domain;

use super::text;
use crate::billing::v1 as wire;

impl From<&domain::Forwarded> for wire::UsageForwarded {
    fn from(fact: &domain::Forwarded) -> Self {
        let dimensions = fact.dimensions.iter();
        let dimensions = dimensions.map(|(key, value)| (key.to_string(), value.clone()));
        Self {
            account_id: fact.account_id.to_string(),
            meter: fact.meter.to_string(),
            quantity: fact.quantity,
            dimensions: dimensions.collect(),
            spender: Some((&fact.spender).into()),
        }
    }
}

impl From<&Spender> for wire::Spender {
    fn from(spender: &Spender) -> Self {
        Self {
            agent_id: text(spender.agent.as_ref()),
            run_id: text(spender.run.as_ref()),
        }
    }
}
