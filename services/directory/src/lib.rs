//! The directory: tenants, principals, keys, limits and the kill switch.
//!
//! For: the one store that is not a fold of the log. Secrets do not belong in an everlasting log,
//! and signing in must not need Kafka. Every change and its audit row are one transaction; the
//! audit rows wait in `directory.outbox` until the relay has them in the log.
//! Must never: keep or log a secret, delete a row, answer a caller about another tenant, take a
//! tenant from a request unless an operator names it, or need Kafka: the relay alone waits for it.
//!
//! What the kill switch stops is appends and commands. Administration goes on while it is on: whoever
//! stopped the writes of a leaked key must be able to revoke that key, and to turn the switch off.
//!
//! A call in the sandbox (a test key, or a live key that asks for it) reads the directory, and makes,
//! rotates and revokes test keys. Principals, limits and the switch are live things: changing them,
//! or naming a live key, is refused with `MODE_NOT_ALLOWED`. It is shown test keys only.

mod api;
mod audit;
mod bootstrap;
mod config;
mod encode;
mod error;
mod keys;
mod kill_switches;
mod model;
mod page;
mod parse;
mod principals;
mod reach;
mod relay;
mod secret;
mod serve;
mod sql;
mod tenants;

pub use api::{Directory, OVERLAP_MAX, RulesError};
pub use bootstrap::{Error as BootstrapError, bootstrap};
pub use config::{Config, DEFAULTS, DefaultLimits, Relaying, Rules};
pub use serve::{Addresses, Error, serve};
