//! What agents do, counted: rollups by minute, quarter of an hour and day.
//!
//! For: the fold of the log into cells that anybody can add up, and `AnalyticsService`.
//! Must never: count a thing twice or in two places, hang on how the log was cut into batches or on
//! which of two records came first, or show a cell in another scope.

mod api;
mod config;
mod projector;
mod retention;
mod serve;
mod statements;
mod upkeep;

pub use config::{API_DEFAULTS, ApiConfig, PROJECTOR_DEFAULTS, ProjectorConfig};
pub use projector::{Analytics, FAMILIES, TABLES};
pub use retention::{Keep, RetireError, Retired, Retirement};
pub use serve::{serve_api, serve_api_on, serve_projector, serve_projector_on};
pub use upkeep::{UPKEEP_DEFAULTS, UpkeepConfig, upkeep, upkeep_on};
