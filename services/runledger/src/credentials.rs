//! The credentials file: where the services are and which keys open them, as `runledger dev` writes it
//! and the people's commands find it.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use toml::{Table, Value};

const FOLDER: &str = ".runledger";
const NAME: &str = "credentials.toml";

/// Why the file cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("cannot read {}", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{} is not a credentials file; delete it and let `runledger dev` write a new one", path.display())]
    Parse {
        path: PathBuf,
        #[source]
        source: toml::de::Error,
    },
    #[error("cannot write {}", path.display())]
    Write {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// What the file holds.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Credentials {
    pub(crate) endpoints: Endpoints,
    pub(crate) keys: Keys,
}

/// Addresses of the services, as URLs.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Endpoints {
    pub(crate) ingest: String,
    pub(crate) directory: String,
    pub(crate) runs: String,
    pub(crate) approvals: String,
    pub(crate) audit: String,
    pub(crate) billing: String,
    pub(crate) analytics: String,
}

impl Default for Endpoints {
    /// Where the roles listen unless told otherwise.
    fn default() -> Self {
        Self {
            ingest: "http://127.0.0.1:7101".to_owned(),
            directory: "http://127.0.0.1:7102".to_owned(),
            runs: "http://127.0.0.1:7103".to_owned(),
            approvals: "http://127.0.0.1:7104".to_owned(),
            audit: "http://127.0.0.1:7105".to_owned(),
            billing: "http://127.0.0.1:7106".to_owned(),
            analytics: "http://127.0.0.1:7107".to_owned(),
        }
    }
}

/// The keys, by what they are for.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Keys {
    pub(crate) operator: Option<SecretString>,
    pub(crate) admin: Option<SecretString>,
    pub(crate) agent: Option<SecretString>,
    pub(crate) viewer: Option<SecretString>,
    pub(crate) reviewer: Option<SecretString>,
    pub(crate) sandbox: Option<SecretString>,
}

impl Credentials {
    /// Where the file lies: beside the nearest one up from `from`, else in `from` itself.
    pub(crate) fn place(from: &Path) -> PathBuf {
        let file = |folder: &Path| folder.join(FOLDER).join(NAME);
        from.ancestors()
            .map(file)
            .find(|path| path.is_file())
            .unwrap_or_else(|| file(from))
    }

    /// Reads the file; `None` when there is none.
    pub(crate) fn read(path: &Path) -> Result<Option<Self>, Error> {
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => {
                return Err(Error::Read {
                    path: path.to_owned(),
                    source,
                });
            }
        };
        toml::from_str(&text)
            .map(Some)
            .map_err(|source| Error::Parse {
                path: path.to_owned(),
                source,
            })
    }

    /// Writes the file, for its owner's eyes alone. Written beside its place and renamed, so that nobody
    /// ever reads half of it.
    pub(crate) fn write(&self, path: &Path) -> Result<(), Error> {
        self.try_write(path).map_err(|source| Error::Write {
            path: path.to_owned(),
            source,
        })
    }

    fn try_write(&self, path: &Path) -> io::Result<()> {
        if let Some(folder) = path.parent() {
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(folder)?;
        }
        let new = path.with_extension("toml.new");
        // The mode counts only for a file that is made.
        match fs::remove_file(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&new)?;
        writeln!(
            file,
            "# Written by `runledger dev`. Keys of a local installation: keep them out of version control.\n"
        )?;
        file.write_all(self.to_table().to_string().as_bytes())?;
        file.sync_all()?;
        fs::rename(new, path)
    }

    fn to_table(&self) -> Table {
        let text = |text: &str| Value::String(text.to_owned());
        let endpoints: Table = [
            ("ingest", &self.endpoints.ingest),
            ("directory", &self.endpoints.directory),
            ("runs", &self.endpoints.runs),
            ("approvals", &self.endpoints.approvals),
            ("audit", &self.endpoints.audit),
            ("billing", &self.endpoints.billing),
            ("analytics", &self.endpoints.analytics),
        ]
        .into_iter()
        .map(|(name, url)| (name.to_owned(), text(url)))
        .collect();
        let keys: Table = [
            ("operator", &self.keys.operator),
            ("admin", &self.keys.admin),
            ("agent", &self.keys.agent),
            ("viewer", &self.keys.viewer),
            ("reviewer", &self.keys.reviewer),
            ("sandbox", &self.keys.sandbox),
        ]
        .into_iter()
        .filter_map(|(name, key)| Some((name.to_owned(), text(key.as_ref()?.expose_secret()))))
        .collect();
        [
            ("endpoints".to_owned(), Value::Table(endpoints)),
            ("keys".to_owned(), Value::Table(keys)),
        ]
        .into_iter()
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn what_is_written_is_read_and_nobody_elses_business() {
        let folder = tempfile::tempdir().unwrap();
        let path = Credentials::place(folder.path());
        assert!(Credentials::read(&path).unwrap().is_none());
        let mut credentials = Credentials::default();
        credentials.keys.agent = Some("rl_live_0123".into());
        credentials.keys.reviewer = Some("rl_live_4567".into());
        credentials.endpoints.runs = "http://127.0.0.1:9".to_owned();
        credentials.endpoints.approvals = "http://127.0.0.1:8".to_owned();
        for _ in 0..2 {
            credentials.write(&path).unwrap();
            assert_eq!(
                fs::metadata(&path).unwrap().permissions().mode() & 0o777,
                0o600
            );
        }
        assert_eq!(
            fs::metadata(path.parent().unwrap())
                .unwrap()
                .permissions()
                .mode()
                & 0o777,
            0o700
        );
        let read = Credentials::read(&path).unwrap().unwrap();
        assert_eq!(read.keys.agent.unwrap().expose_secret(), "rl_live_0123");
        assert_eq!(read.keys.reviewer.unwrap().expose_secret(), "rl_live_4567");
        assert!(read.keys.operator.is_none());
        assert_eq!(read.endpoints, credentials.endpoints);
        assert!(!format!("{credentials:?}").contains("0123"));
    }

    #[test]
    fn it_is_found_from_further_down() {
        let folder = tempfile::tempdir().unwrap();
        let down = folder.path().join("a/b");
        fs::create_dir_all(&down).unwrap();
        assert_eq!(
            Credentials::place(&down),
            down.join(".runledger/credentials.toml")
        );
        let path = folder.path().join(".runledger/credentials.toml");
        Credentials::default().write(&path).unwrap();
        assert_eq!(Credentials::place(&down), path);
    }

    #[test]
    fn another_file_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.toml");
        fs::write(&path, "[keys]\nroot = 'x'\n").unwrap();
        assert!(matches!(Credentials::read(&path), Err(Error::Parse { .. })));
    }
}
