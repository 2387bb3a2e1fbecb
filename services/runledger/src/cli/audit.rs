use clap::Args;
use runledger_domain::log::Family;

#[derive(Clone, Debug, Args)]
pub(crate) struct AuditVerify {
    /// Only this family of topics: run, policy or directory
    #[arg(long)]
    pub(crate) family: Option<Family>,
    /// Only this partition of the family
    #[arg(long, value_name = "N", requires = "family")]
    pub(crate) partition: Option<u32>,
    /// From this offset on, in each partition
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) from_offset: u64,
    /// Up to this offset, which is not looked at any more; without it, as far as the audit has come
    #[arg(long, value_name = "N")]
    pub(crate) to_offset: Option<u64>,
    /// One JSON object, for programs
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) role: super::Role,
}
