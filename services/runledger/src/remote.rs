//! The services as the people's commands reach them: addresses, keys, connections, and what a refusal says.

use std::env;
use std::fmt;
use std::path::PathBuf;

use anyhow::Context as _;
use runledger_domain::scope::Mode;
use runledger_proto::analytics::v1::analytics_service_client::AnalyticsServiceClient;
use runledger_proto::approval::v1::approval_service_client::ApprovalServiceClient;
use runledger_proto::approval::v1::simulation_service_client::SimulationServiceClient;
use runledger_proto::audit::v1::audit_service_client::AuditServiceClient;
use runledger_proto::billing::v1::billing_service_client::BillingServiceClient;
use runledger_proto::directory::v1::directory_service_client::DirectoryServiceClient;
use runledger_proto::log::v1::dead_letter_service_client::DeadLetterServiceClient;
use runledger_proto::message::v1::message_ingest_service_client::MessageIngestServiceClient;
use runledger_proto::policy::v1::policy_service_client::PolicyServiceClient;
use runledger_proto::price::v1::price_service_client::PriceServiceClient;
use runledger_proto::run::v1::run_ingest_service_client::RunIngestServiceClient;
use runledger_proto::run::v1::runs_service_client::RunsServiceClient;
use runledger_proto::run::v1::tool_call_ingest_service_client::ToolCallIngestServiceClient;
use runledger_proto::schedule::v1::schedule_ingest_service_client::ScheduleIngestServiceClient;
use runledger_service::client::{self, Connection};
use runledger_service::status;
use secrecy::SecretString;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::cli::Server;
use crate::credentials::{Credentials, Endpoints};

/// Largest answer that is taken: a page of 1,000 large records.
const ANSWER_BYTES_MAX: usize = 256 << 20;

/// What a key is needed for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum For {
    Appending,
    Reading,
    /// Deciding on held calls.
    Reviewing,
    Administering,
    Operating,
}

/// Where the services are and as whom to speak.
#[derive(Clone, Debug)]
pub(crate) struct Remote {
    pub(crate) endpoints: Endpoints,
    /// Given by hand; goes before those of the file.
    key: Option<SecretString>,
    file: Option<Credentials>,
    file_path: PathBuf,
    mode: Option<Mode>,
    ca_file: Option<PathBuf>,
}

impl Remote {
    /// From flags and variables, else from the credentials file, else the usual addresses.
    ///
    /// # Errors
    /// When there is a credentials file that cannot be read.
    pub(crate) fn resolve(server: &Server) -> anyhow::Result<Self> {
        let file_path = match &server.credentials {
            Some(path) => path.clone(),
            None => {
                Credentials::place(&env::current_dir().context("cannot tell the current folder")?)
            }
        };
        let file = Credentials::read(&file_path)?;
        if let (Some(path), None) = (&server.credentials, &file) {
            anyhow::bail!(
                "{} does not exist; `runledger dev` writes such a file",
                path.display()
            );
        }
        let known = file
            .as_ref()
            .map(|file| file.endpoints.clone())
            .unwrap_or_default();
        Ok(Self {
            endpoints: Endpoints {
                ingest: server.ingest_url.clone().unwrap_or(known.ingest),
                directory: server.directory_url.clone().unwrap_or(known.directory),
                runs: server.runs_url.clone().unwrap_or(known.runs),
                approvals: server.approvals_url.clone().unwrap_or(known.approvals),
                audit: server.audit_url.clone().unwrap_or(known.audit),
                billing: server.billing_url.clone().unwrap_or(known.billing),
                analytics: server.analytics_url.clone().unwrap_or(known.analytics),
            },
            key: server.key.clone(),
            file,
            file_path,
            mode: server.sandbox.then_some(Mode::Sandbox),
            ca_file: server.ca_file.clone(),
        })
    }

    /// As those who started the house know it.
    pub(crate) fn with(credentials: Credentials, file_path: PathBuf) -> Self {
        Self {
            endpoints: credentials.endpoints.clone(),
            key: None,
            file: Some(credentials),
            file_path,
            mode: None,
            ca_file: None,
        }
    }

    /// The same for whoever has this key.
    pub(crate) fn with_key(&self, key: SecretString) -> Self {
        Self {
            key: Some(key),
            ..self.clone()
        }
    }

    fn key(&self, what: For) -> anyhow::Result<SecretString> {
        let keys = self.file.as_ref().map(|file| &file.keys);
        let (name, of_file) = match what {
            For::Appending => ("an agent", keys.and_then(|keys| keys.agent.clone())),
            For::Reading => ("a viewer", keys.and_then(|keys| keys.viewer.clone())),
            For::Reviewing => ("a reviewer", keys.and_then(|keys| keys.reviewer.clone())),
            For::Administering => ("an admin", keys.and_then(|keys| keys.admin.clone())),
            For::Operating => ("an operator", keys.and_then(|keys| keys.operator.clone())),
        };
        self.key.clone().or(of_file).with_context(|| {
            format!(
                "no key of {name}: give one with --key or RUNLEDGER_KEY, or start `runledger dev`, which writes keys to {}",
                self.file_path.display()
            )
        })
    }

    fn options(&self, url: &str, what: For) -> anyhow::Result<client::Options> {
        Ok(client::Options {
            mode: self.mode,
            ca_file: self.ca_file.clone(),
            ..client::Options::new(url, Some(self.key(what)?))
        })
    }

    async fn connect(&self, url: &str, what: For) -> anyhow::Result<Connection> {
        let options = self.options(url, what)?;
        client::connect(&options)
            .await
            .context("nobody answers; start the house with `make up` and `runledger dev`, or name another address (--help)")
    }

    pub(crate) async fn ingest(&self) -> anyhow::Result<Ingest> {
        let connection = self.connect(&self.endpoints.ingest, For::Appending).await?;
        Ok(Ingest {
            runs: RunIngestServiceClient::new(connection.clone()),
            tool_calls: ToolCallIngestServiceClient::new(connection.clone()),
            messages: MessageIngestServiceClient::new(connection.clone()),
            schedules: ScheduleIngestServiceClient::new(connection),
        })
    }

    /// `what`: [`For::Reading`], or [`For::Appending`] to read with the key that appends.
    pub(crate) async fn runs(&self, what: For) -> anyhow::Result<Runs> {
        let connection = self.connect(&self.endpoints.runs, what).await?;
        Ok(RunsServiceClient::new(connection).max_decoding_message_size(ANSWER_BYTES_MAX))
    }

    /// `what`: [`For::Administering`], or [`For::Operating`].
    pub(crate) async fn dead_letters(&self, what: For) -> anyhow::Result<DeadLetters> {
        let connection = self.connect(&self.endpoints.ingest, what).await?;
        Ok(DeadLetterServiceClient::new(connection))
    }

    /// `what`: [`For::Appending`] to ask, [`For::Reviewing`] or [`For::Reading`].
    pub(crate) async fn approvals(&self, what: For) -> anyhow::Result<Approvals> {
        let connection = self.connect(&self.endpoints.approvals, what).await?;
        Ok(ApprovalServiceClient::new(connection).max_decoding_message_size(ANSWER_BYTES_MAX))
    }

    /// `what`: [`For::Administering`], or [`For::Reading`].
    pub(crate) async fn policies(&self, what: For) -> anyhow::Result<Policies> {
        let connection = self.connect(&self.endpoints.approvals, what).await?;
        Ok(PolicyServiceClient::new(connection).max_decoding_message_size(ANSWER_BYTES_MAX))
    }

    pub(crate) async fn simulations(&self) -> anyhow::Result<Simulations> {
        let connection = self
            .connect(&self.endpoints.approvals, For::Reading)
            .await?;
        Ok(SimulationServiceClient::new(connection).max_decoding_message_size(ANSWER_BYTES_MAX))
    }

    pub(crate) async fn audit(&self) -> anyhow::Result<Audit> {
        let connection = self.connect(&self.endpoints.audit, For::Reading).await?;
        Ok(AuditServiceClient::new(connection).max_decoding_message_size(ANSWER_BYTES_MAX))
    }

    pub(crate) async fn analytics(&self) -> anyhow::Result<Analytics> {
        let connection = self
            .connect(&self.endpoints.analytics, For::Reading)
            .await?;
        Ok(AnalyticsServiceClient::new(connection).max_decoding_message_size(ANSWER_BYTES_MAX))
    }

    /// `what`: [`For::Administering`], [`For::Appending`] for holds, or [`For::Reading`].
    pub(crate) async fn billing(&self, what: For) -> anyhow::Result<Billing> {
        let connection = self.connect(&self.endpoints.billing, what).await?;
        Ok(BillingServiceClient::new(connection).max_decoding_message_size(ANSWER_BYTES_MAX))
    }

    /// `what`: [`For::Administering`], or [`For::Reading`].
    pub(crate) async fn prices(&self, what: For) -> anyhow::Result<Prices> {
        let connection = self.connect(&self.endpoints.billing, what).await?;
        Ok(PriceServiceClient::new(connection).max_decoding_message_size(ANSWER_BYTES_MAX))
    }

    pub(crate) async fn directory(&self, what: For) -> anyhow::Result<Directory> {
        Ok(DirectoryServiceClient::new(
            self.connect(&self.endpoints.directory, what).await?,
        ))
    }
}

pub(crate) type Billing = BillingServiceClient<Connection>;
pub(crate) type Prices = PriceServiceClient<Connection>;
pub(crate) type Analytics = AnalyticsServiceClient<Connection>;
pub(crate) type Audit = AuditServiceClient<Connection>;
pub(crate) type Runs = RunsServiceClient<Connection>;
pub(crate) type Approvals = ApprovalServiceClient<Connection>;
pub(crate) type Policies = PolicyServiceClient<Connection>;
pub(crate) type Simulations = SimulationServiceClient<Connection>;
pub(crate) type DeadLetters = DeadLetterServiceClient<Connection>;
pub(crate) type Directory = DirectoryServiceClient<Connection>;

/// The ingestion services, over one connection. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Ingest {
    pub(crate) runs: RunIngestServiceClient<Connection>,
    pub(crate) tool_calls: ToolCallIngestServiceClient<Connection>,
    pub(crate) messages: MessageIngestServiceClient<Connection>,
    pub(crate) schedules: ScheduleIngestServiceClient<Connection>,
}

/// A refusal, as a person wants it: what happened, the reason, every field, the request id.
#[derive(Debug)]
pub(crate) struct Refusal(Box<Status>);

impl From<Status> for Refusal {
    fn from(status: Status) -> Self {
        Self(Box::new(status))
    }
}

impl Refusal {
    pub(crate) fn code(&self) -> Code {
        self.0.code()
    }
}

impl std::error::Error for Refusal {}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let status = &self.0;
        let message = match status.message() {
            "" => status.code().description(),
            message => message,
        };
        write!(f, "{message}")?;
        let reason = status::reason(status);
        match &reason {
            Some(reason) => write!(f, " ({reason})")?,
            None => write!(f, " ({:?})", status.code())?,
        }
        if let Some(bad) = status.get_error_details().bad_request() {
            // The message of a single fault names its field already.
            for one in bad
                .field_violations
                .iter()
                .filter(|one| !message.starts_with(&one.field))
            {
                write!(f, "\n  {}  {}", one.field, one.description)?;
            }
        }
        if let Some(delay) = status::retry_after(status) {
            write!(f, "\n  retry after {delay:?}")?;
        }
        if let Some(id) = status
            .metadata()
            .get("x-request-id")
            .and_then(|id| id.to_str().ok())
        {
            write!(f, "\n  request id {id}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use runledger_domain::fault::{Fault, Violation};

    use super::*;

    #[test]
    fn a_refusal_says_all_there_is() {
        let violation = Violation {
            field: "facts[0].id".to_owned(),
            reason: "INVALID_UUID".into(),
            description: "must be a UUID".to_owned(),
        };
        let mut refused = status::from_fault(Fault::invalid(vec![violation]));
        refused
            .metadata_mut()
            .insert("x-request-id", "r-1".parse().unwrap());
        assert_eq!(
            Refusal::from(refused).to_string(),
            "facts[0].id: must be a UUID (INVALID_FIELDS)\n  request id r-1"
        );
        assert_eq!(
            Refusal::from(Status::cancelled("")).to_string(),
            "The operation was cancelled (Cancelled)"
        );
    }

    #[test]
    fn the_key_given_by_hand_goes_before_the_file() {
        use secrecy::ExposeSecret as _;
        let mut credentials = Credentials::default();
        credentials.keys.viewer = Some("viewer".into());
        let mut remote = Remote::with(credentials, PathBuf::from("file"));
        assert_eq!(remote.key(For::Reading).unwrap().expose_secret(), "viewer");
        assert!(
            remote
                .key(For::Operating)
                .unwrap_err()
                .to_string()
                .contains("RUNLEDGER_KEY")
        );
        // The error says what is lacking and which flag helps.
        let lacking = remote.key(For::Reviewing).unwrap_err().to_string();
        assert!(
            lacking.contains("a reviewer") && lacking.contains("--key"),
            "{lacking}"
        );
        remote.key = Some("by hand".into());
        assert_eq!(remote.key(For::Reading).unwrap().expose_secret(), "by hand");
    }
}
