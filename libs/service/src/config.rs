//! Configuration: embedded defaults, then a file, then the environment. Read once, here alone.

use std::path::PathBuf;

use serde::de::DeserializeOwned;

/// Where a configuration comes from.
#[derive(Clone, Debug)]
pub struct Source<'a> {
    /// Commented TOML, embedded in the binary; names every field there is.
    pub defaults: &'a str,
    /// TOML that overrides the defaults.
    pub file: Option<PathBuf>,
}

/// Why a configuration is refused.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("reading the configuration")]
    Read(#[source] config::ConfigError),
}

/// Loads a configuration: defaults, overridden by the file, overridden by the variables
/// `RUNLEDGER_<SECTION>__<FIELD>`.
///
/// # Errors
/// When the file cannot be read, a value has the wrong form, or a field is unknown: by name.
pub fn load<T: DeserializeOwned>(source: Source<'_>) -> Result<T, Error> {
    load_with(source, std::env::vars())
}

/// As [`load`], with the environment handed in.
///
/// # Errors
/// As [`load`].
pub fn load_with<T: DeserializeOwned>(
    source: Source<'_>,
    environment: impl IntoIterator<Item = (String, String)>,
) -> Result<T, Error> {
    todo!()
}
