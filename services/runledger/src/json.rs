//! Messages of the wire as JSON, in protobuf's own mapping: for programs that read what the commands write.

use std::sync::OnceLock;

use anyhow::Context as _;
use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, SerializeOptions};

/// `message`, of the full name `name`, as one line. Fields keep their proto names; 64-bit numbers stay numbers.
///
/// # Errors
/// When `name` is not the name of the message.
pub(crate) fn of<M: Message>(name: &str, message: &M) -> anyhow::Result<String> {
    static POOL: OnceLock<Option<DescriptorPool>> = OnceLock::new();
    let pool = POOL.get_or_init(|| DescriptorPool::decode(runledger_proto::DESCRIPTORS).ok());
    let descriptor = pool
        .as_ref()
        .and_then(|pool| pool.get_message_by_name(name))
        .with_context(|| format!("there is no message {name}"))?;
    let dynamic = DynamicMessage::decode(descriptor, message.encode_to_vec().as_slice())
        .with_context(|| format!("not a message {name}"))?;
    let options = SerializeOptions::new()
        .use_proto_field_name(true)
        .stringify_64_bit_integers(false);
    let mut text = Vec::new();
    dynamic.serialize_with_options(&mut serde_json::Serializer::new(&mut text), &options)?;
    String::from_utf8(text).context("JSON is UTF-8")
}

#[cfg(test)]
mod tests {
    use runledger_proto::run::v1::{Run, RunStatus, RunTotals};

    use super::*;

    #[test]
    fn a_run_is_one_line_of_json() {
        let run = Run {
            run_id: "r-1".to_owned(),
            status: RunStatus::Failed.into(),
            totals: Some(RunTotals {
                tool_calls: 1 << 60,
                ..RunTotals::default()
            }),
            ..Run::default()
        };
        assert_eq!(
            of("runledger.run.v1.Run", &run).unwrap(),
            r#"{"run_id":"r-1","status":"RUN_STATUS_FAILED","totals":{"tool_calls":1152921504606846976}}"#
        );
        assert!(of("runledger.run.v1.Nothing", &run).is_err());
    }
}
