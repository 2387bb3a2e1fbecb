//! What every process of Runledger needs around its own work: configuration, telemetry, health,
//! the gRPC server with its gate (request id, trace, deadline, limits, authentication, access),
//! token buckets, page tokens, clients of our own, supervision and shutdown.
//!
//! For: the services and the binary. [`access`] is the one table of who may call what, [`status`]
//! the one place where a fault becomes a status, [`config`] the one place that reads the environment.
//! Must never: know a service or a topic, take a scope from anywhere but the credential, let a
//! secret or the cause of an internal fault reach a caller, or panic on anything from the wire.

pub mod access;
pub mod auth;
pub mod clearance;
pub mod client;
pub mod config;
pub mod deadline;
#[cfg(test)]
mod fixtures;
pub mod health;
pub mod ids;
pub mod limits;
pub mod metrics;
pub mod open_streams;
pub mod page;
pub mod server;
pub mod status;
pub mod supervisor;
pub mod telemetry;
mod tls;
pub mod trace;
