//! Stories over the real stack: real Kafka, real Postgres, real processes. Each is a promise of
//! ARCHITECTURE.md; `make proof` tells the long version, `make test` a tenth of it.
#![expect(clippy::panic, reason = "a story that is not true is a panic")]

mod access;
mod analytics;
mod approvals;
mod audit;
mod bad_input;
mod bad_log;
mod billing;
mod dashboards;
mod dead_letters;
mod exactly_once;
mod read_your_writes;
mod rebuild;
mod replay;
mod scale;
mod tail;
mod trace;
mod weather;
