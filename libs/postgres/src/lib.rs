//! Postgres, as far as every service needs it.
//!
//! For: pools from a config, the read transaction bound to a scope, what an error of the database
//! means, values as its columns take them, and the embedded migrations.
//! Must never: know a service's tables, or hand out a read transaction without a scope.

mod begin;
mod config;
mod error;
mod migrations;
mod scoped;
pub mod values;

pub use begin::begin;
pub use config::{Config, connect, connect_like, connect_with};
pub use error::{constraint, is_data_fault, is_weather};
pub use migrations::{MigrateError, migrate, migrator};
pub use scoped::{BypassError, begin_scoped, refuse_bypass};
/// What the database, or the way to it, says.
pub use sqlx::Error;
