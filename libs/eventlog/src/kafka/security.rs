//! How connections to Kafka are sealed, and as whom they are made.

use std::path::PathBuf;

use rdkafka::ClientConfig;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

use crate::error::Error;

/// By default nothing is sealed, and nobody signs in. Every other way takes a build with the feature `tls`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Security {
    pub protocol: Protocol,
    /// PEM file of those who vouch for the brokers; without it, those whom the machine trusts.
    pub ca_file: Option<PathBuf>,
    /// PEM files of our own certificate and its key, for brokers that ask for one.
    pub certificate_file: Option<PathBuf>,
    pub key_file: Option<PathBuf>,
    /// How the user's password is shown to be known.
    pub mechanism: Option<Mechanism>,
    pub user: Option<String>,
    pub password: Option<SecretString>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    #[default]
    Plaintext,
    Tls,
    /// A password over a connection that everybody on the way can read: for networks that are sealed otherwise.
    SaslPlaintext,
    SaslTls,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum Mechanism {
    #[serde(rename = "plain")]
    Plain,
    #[serde(rename = "scram-sha-256")]
    ScramSha256,
    #[serde(rename = "scram-sha-512")]
    ScramSha512,
}

impl Protocol {
    fn is_tls(self) -> bool {
        matches!(self, Self::Tls | Self::SaslTls)
    }

    fn is_sasl(self) -> bool {
        matches!(self, Self::SaslPlaintext | Self::SaslTls)
    }
}

impl Security {
    /// # Errors
    /// When settings contradict each other, name files that are not there, or want what this build cannot do.
    pub(super) fn check(&self) -> Result<(), Error> {
        let refuse = |field, what: &str| {
            Err(Error::Config {
                field,
                what: what.to_owned(),
            })
        };
        if self.protocol != Protocol::Plaintext && !cfg!(feature = "tls") {
            return refuse(
                "security.protocol",
                "must be plaintext: this build has no TLS and no SASL; build runledger with --features kafka-tls",
            );
        }
        for (field, file) in [
            ("security.ca_file", &self.ca_file),
            ("security.certificate_file", &self.certificate_file),
            ("security.key_file", &self.key_file),
        ] {
            let Some(file) = file else { continue };
            if !self.protocol.is_tls() {
                return refuse(field, "needs security.protocol tls or sasl_tls");
            }
            if let Err(error) = std::fs::File::open(file) {
                return refuse(
                    field,
                    &format!("{} cannot be read: {error}", file.display()),
                );
            }
        }
        if self.certificate_file.is_some() != self.key_file.is_some() {
            return refuse(
                "security.key_file",
                "must be given with security.certificate_file, and not without it",
            );
        }
        let is_given = |text: Option<&str>| text.is_some_and(|text| !text.is_empty());
        let password = self.password.as_ref().map(ExposeSecret::expose_secret);
        for (field, is_given) in [
            ("security.mechanism", self.mechanism.is_some()),
            ("security.user", is_given(self.user.as_deref())),
            ("security.password", is_given(password)),
        ] {
            if self.protocol.is_sasl() && !is_given {
                return refuse(
                    field,
                    "must be given with security.protocol sasl_tls and sasl_plaintext",
                );
            }
            if !self.protocol.is_sasl() && is_given {
                return refuse(field, "needs security.protocol sasl_tls or sasl_plaintext");
            }
        }
        Ok(())
    }

    pub(super) fn apply(&self, client: &mut ClientConfig) {
        if self.protocol == Protocol::Plaintext {
            return;
        }
        client.set(
            "security.protocol",
            match self.protocol {
                Protocol::Plaintext => "plaintext",
                Protocol::Tls => "ssl",
                Protocol::SaslPlaintext => "sasl_plaintext",
                Protocol::SaslTls => "sasl_ssl",
            },
        );
        for (name, file) in [
            ("ssl.ca.location", &self.ca_file),
            ("ssl.certificate.location", &self.certificate_file),
            ("ssl.key.location", &self.key_file),
        ] {
            if let Some(file) = file {
                client.set(name, file.display().to_string());
            }
        }
        if let (Some(mechanism), Some(user), Some(password)) =
            (self.mechanism, &self.user, &self.password)
        {
            let mechanism = match mechanism {
                Mechanism::Plain => "PLAIN",
                Mechanism::ScramSha256 => "SCRAM-SHA-256",
                Mechanism::ScramSha512 => "SCRAM-SHA-512",
            };
            client
                .set("sasl.mechanism", mechanism)
                .set("sasl.username", user)
                .set("sasl.password", password.expose_secret());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(security: &Security) -> &'static str {
        match security.check() {
            Err(Error::Config { field, .. }) => field,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn nothing_is_sealed_by_default_and_half_a_setting_is_refused() {
        assert!(Security::default().check().is_ok());
        let file = || Some(PathBuf::from("Cargo.toml"));
        let with_file = Security {
            ca_file: file(),
            ..Security::default()
        };
        assert_eq!(refused(&with_file), "security.ca_file");
        let with_user = Security {
            user: Some("somebody".to_owned()),
            ..Security::default()
        };
        assert_eq!(refused(&with_user), "security.user");
    }

    #[cfg(not(feature = "tls"))]
    #[test]
    fn a_build_without_tls_says_so() {
        let sealed = Security {
            protocol: Protocol::Tls,
            ..Security::default()
        };
        assert_eq!(refused(&sealed), "security.protocol");
    }

    #[cfg(feature = "tls")]
    #[test]
    fn what_belongs_together_is_asked_for_together() {
        let tls = || Security {
            protocol: Protocol::Tls,
            ..Security::default()
        };
        assert!(tls().check().is_ok());
        let without_key = Security {
            certificate_file: Some("Cargo.toml".into()),
            ..tls()
        };
        assert_eq!(refused(&without_key), "security.key_file");
        let missing = Security {
            ca_file: Some("no such file".into()),
            ..tls()
        };
        assert_eq!(refused(&missing), "security.ca_file");
        let sasl = Security {
            protocol: Protocol::SaslTls,
            mechanism: Some(Mechanism::ScramSha256),
            user: Some("somebody".to_owned()),
            ..Security::default()
        };
        assert_eq!(refused(&sasl), "security.password");
    }

    #[test]
    fn the_password_is_not_printed() {
        let security = Security {
            password: Some("hunter2".into()),
            ..Security::default()
        };
        assert!(!format!("{security:?}").contains("hunter2"));
    }
}
