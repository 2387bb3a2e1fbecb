//! Configuration: embedded defaults, then a file, then the environment. Read once, here alone.

use std::path::PathBuf;

use config::{Config, Environment, File, FileFormat, Map};
use serde::de::DeserializeOwned;

const PREFIX: &str = "RUNLEDGER_";
const SEPARATOR: &str = "__";

/// Every section that some role has. One environment may serve several roles: a role passes over
/// the sections of others, and refuses what no role has.
const SECTIONS: &[&str] = &[
    "analytics",
    "api",
    "audit",
    "auth",
    "books",
    "callers",
    "database",
    "decider",
    "directory",
    "forwarding",
    "ingest",
    "kafka",
    "keys",
    "ledger",
    "limits",
    "metrics",
    "migrate",
    "owner",
    "projection",
    "relay",
    "server",
    "telemetry",
];

/// Where a configuration comes from.
#[derive(Clone, Debug)]
pub struct Source<'a> {
    /// Commented TOML, embedded in the binary; names every section of the role.
    pub defaults: &'a str,
    /// TOML that overrides the defaults.
    pub file: Option<PathBuf>,
}

/// Why a configuration is refused.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the embedded defaults are not TOML")]
    Defaults(#[source] toml::de::Error),
    #[error("the variable {name} names no section of the configuration; there are: {known}")]
    Variable { name: String, known: String },
    #[error("reading the configuration")]
    Read(#[source] config::ConfigError),
    #[error("the configuration is refused")]
    Refused(#[source] config::ConfigError),
}

/// Loads a configuration: defaults, overridden by the file, overridden by the variables
/// `RUNLEDGER_<SECTION>__<FIELD>`. Print it with `{:#?}`: secrets are types that do not show.
///
/// # Errors
/// When the file cannot be read, a value has the wrong form, or a field is unknown: by name.
pub fn load<T: DeserializeOwned>(source: Source<'_>) -> Result<T, Error> {
    load_with(
        source,
        std::env::vars_os().filter_map(|(name, value)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        }),
    )
}

/// As [`load`], with the environment handed in.
///
/// # Errors
/// As [`load`].
pub fn load_with<T: DeserializeOwned>(
    source: Source<'_>,
    environment: impl IntoIterator<Item = (String, String)>,
) -> Result<T, Error> {
    let defaults: toml::Table = source.defaults.parse().map_err(Error::Defaults)?;
    let variables = ours(&defaults, environment)?;
    let mut builder =
        Config::builder().add_source(File::from_str(source.defaults, FileFormat::Toml));
    if let Some(file) = source.file {
        builder = builder.add_source(File::from(file).format(FileFormat::Toml));
    }
    let environment = Environment::with_prefix(PREFIX.trim_end_matches('_'))
        .prefix_separator("_")
        .separator(SEPARATOR)
        .source(Some(variables));
    let merged = builder
        .add_source(environment)
        .build()
        .map_err(Error::Read)?;
    merged.try_deserialize().map_err(Error::Refused)
}

/// The variables for the sections in `defaults`. A name without `__` is no field of ours.
fn ours(
    defaults: &toml::Table,
    environment: impl IntoIterator<Item = (String, String)>,
) -> Result<Map<String, String>, Error> {
    let mut variables = Map::new();
    for (name, value) in environment {
        let Some((section, _)) = name
            .strip_prefix(PREFIX)
            .and_then(|rest| rest.split_once(SEPARATOR))
        else {
            continue;
        };
        let section = section.to_lowercase();
        if defaults.contains_key(&section) {
            variables.insert(name, value);
        } else if !SECTIONS.contains(&section.as_str()) {
            let mut known: Vec<&str> = defaults
                .keys()
                .map(String::as_str)
                .chain(SECTIONS.iter().copied())
                .collect();
            known.sort_unstable();
            known.dedup();
            return Err(Error::Variable {
                name,
                known: known.join(", "),
            });
        }
    }
    Ok(variables)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::net::SocketAddr;

    use secrecy::{ExposeSecret as _, SecretString};
    use serde::Deserialize;

    use super::*;
    use crate::status::chain;

    const DEFAULTS: &str = "
        [server]
        # Where it listens.
        listen = '127.0.0.1:7101'
        [database]
        port = 15432
        password = 'default'
    ";

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Role {
        server: Server,
        database: Database,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Server {
        listen: SocketAddr,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Database {
        port: u16,
        password: SecretString,
    }

    fn load_from(file: &str, environment: &[(&str, &str)]) -> Result<Role, Error> {
        let mut path = tempfile::NamedTempFile::with_suffix(".toml").unwrap();
        path.write_all(file.as_bytes()).unwrap();
        let environment = environment
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        load_with(
            Source {
                defaults: DEFAULTS,
                file: Some(path.path().to_owned()),
            },
            environment,
        )
    }

    #[test]
    fn the_environment_goes_before_the_file_and_that_before_the_defaults() {
        let role = load_from(
            "[server]\nlisten = '127.0.0.1:1'\n[database]\nport = 2",
            &[
                ("RUNLEDGER_DATABASE__PORT", "3"),
                ("RUNLEDGER_DATABASE__PASSWORD", "0077"),
                ("RUNLEDGER_KAFKA__BROKERS", "of another role"),
                ("RUNLEDGER_TEST_KAFKA", "no field at all"),
                ("PATH", "/bin"),
            ],
        )
        .unwrap();
        assert_eq!(role.server.listen.port(), 1);
        assert_eq!(role.database.port, 3);
        assert_eq!(role.database.password.expose_secret(), "0077");
        assert!(!format!("{role:?}").contains("0077"));
    }

    #[test]
    fn what_is_unknown_is_refused_by_name() {
        let error = load_from("[server]\nlistne = '127.0.0.1:1'", &[]).unwrap_err();
        assert!(chain(&error).contains("listne"), "{}", chain(&error));
        let error = load_from("", &[("RUNLEDGER_SERVER__LISTNE", "x")]).unwrap_err();
        assert!(chain(&error).contains("listne"), "{}", chain(&error));
        let error = load_from("[sever]\nlisten = 1", &[]).unwrap_err();
        assert!(chain(&error).contains("sever"), "{}", chain(&error));
        let error = load_from("", &[("RUNLEDGER_SEVER__LISTEN", "x")]).unwrap_err();
        assert!(
            chain(&error).contains("RUNLEDGER_SEVER__LISTEN"),
            "{}",
            chain(&error)
        );
    }

    #[test]
    fn a_wrong_value_is_refused_with_its_place_and_without_secrets() {
        let error = load_from("", &[("RUNLEDGER_DATABASE__PORT", "many")]).unwrap_err();
        assert!(chain(&error).contains("port"), "{}", chain(&error));
        let missing = Source {
            defaults: DEFAULTS,
            file: Some("/nonexistent/runledger.toml".into()),
        };
        let error = load_with::<Role>(missing, []).unwrap_err();
        assert!(
            chain(&error).contains("runledger.toml"),
            "{}",
            chain(&error)
        );
    }
}
