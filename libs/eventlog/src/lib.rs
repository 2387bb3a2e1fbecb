//! The log: append to it, read it, subscribe to it; Kafka inside, an in-memory twin beside it.
//!
//! For: [`Log`], which everything that writes or follows records is built on; [`kafka::Kafka`] and
//! [`memory::Memory`], held to the same contract by one suite of tests; [`token::Token`], the
//! positions that callers carry from a write to a read.
//! Must never: say that an append failed when it may have landed; grow without bound when Kafka is
//! slow; hand over a record of a partition out of order; begin anywhere but where the caller said
//! (Kafka's committed offsets are a hint for tools and are never read); choose a partition by any
//! function but `runledger_domain::log::partition_of`.

mod error;
mod log;
mod stored;
mod subscription;
mod wire;

/// The driver's side of a [`Subscription`], for a log that is neither Kafka nor the twin.
pub mod driver {
    pub use crate::subscription::{Control, Level, Shared};
}
pub mod kafka;
pub mod memory;
pub mod token;

pub use error::Error;
pub use log::{Entry, Log, Outcome, Reports};
pub use stored::{HeaderFault, Headers, Stored};
pub use subscription::{Event, Subscription, SubscriptionOptions};
