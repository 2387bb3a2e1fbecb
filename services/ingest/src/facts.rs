//! The four kinds of facts, as one.

use prost::Message as _;
use runledger_domain::fault::Violation;
use runledger_domain::log::Family;
use runledger_proto::decode::fields::Path;
use runledger_proto::decode::{self, Bounds, Reported};
use runledger_proto::{message, run, schedule};

/// A fact as it comes over the wire.
pub(crate) trait WireFact: Send + 'static {
    /// The topic it goes to.
    const FAMILY: Family;

    /// The id, as it was sent.
    fn id(&self) -> &str;

    /// How large it is as sent.
    fn bytes(&self) -> usize;

    /// The fact, or everything that is wrong with it.
    fn parse(self, bounds: &Bounds, at: Path<'_>) -> Result<Reported, Vec<Violation>>;
}

macro_rules! wire_facts {
    ($($wire:ty = $family:ident by $parse:path;)+) => {$(
        impl WireFact for $wire {
            const FAMILY: Family = Family::$family;

            fn id(&self) -> &str {
                &self.id
            }

            fn bytes(&self) -> usize {
                self.encoded_len()
            }

            fn parse(self, bounds: &Bounds, at: Path<'_>) -> Result<Reported, Vec<Violation>> {
                $parse(self, bounds, at)
            }
        }
    )+};
}

wire_facts! {
    run::v1::RunFact = Run by decode::run_fact;
    run::v1::ToolCallFact = Run by decode::tool_call_fact;
    schedule::v1::ScheduleFact = Schedule by decode::schedule_fact;
    message::v1::MessageFact = Message by decode::message_fact;
}
