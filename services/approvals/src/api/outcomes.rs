//! What became of a command that was asked before.

use prost::Message;
use runledger_decider::Answer;
use runledger_domain::fault::Fault;
use runledger_domain::ids::RecordId;
use runledger_domain::log::Stream;
use runledger_proto::approval::v1 as wire;
use runledger_proto::decode::fields::reason;
use runledger_proto::types;

use super::{Api, Call, parse, refused, token_of};

impl Api {
    pub(super) async fn outcome(
        &self,
        call: Call<wire::GetCommandOutcomeRequest>,
    ) -> Result<wire::GetCommandOutcomeResponse, Fault> {
        use wire::get_command_outcome_response::Outcome;
        let scope = call.caller.require_scope()?;
        let request = call.message;
        let ((stream, id), _) = parse(None, |see| {
            let id = see
                .uuid("command_id", &request.command_id)
                .map(RecordId::new);
            let stream = Stream::parse(&request.stream);
            if stream.is_none() {
                let what = "must be the name of a stream, for example run/r-1";
                see.fault("stream", reason::UNKNOWN_VALUE, what);
            }
            Some((stream?, id?))
        })?;
        let callers = &self.0.parts.callers;
        let (outcome, token) = match callers.outcome(scope, stream, id, call.until).await? {
            Answer::Pending => (Outcome::Pending(wire::Pending {}), String::new()),
            Answer::Rejected {
                position,
                rejection,
            } => {
                let refused = refused(&Fault::from(rejection));
                (Outcome::Refused(refused), token_of(position))
            }
            Answer::Decided {
                position,
                type_name,
                payload,
                ..
            } => {
                let outcome = match type_name.as_str() {
                    types::TOOL_CALL_DECIDED => Outcome::ToolCallDecided(message(&payload)?),
                    types::APPROVAL_VOTED => Outcome::ApprovalVoted(message(&payload)?),
                    types::EXECUTION_CONFIRMED => Outcome::ExecutionConfirmed(message(&payload)?),
                    types::POLICY_CHANGED => Outcome::PolicyChanged(message(&payload)?),
                    other => {
                        let what = format!("a command was answered by a {other}");
                        return Err(Fault::internal(what));
                    }
                };
                (outcome, token_of(position))
            }
        };
        Ok(wire::GetCommandOutcomeResponse {
            outcome: Some(outcome),
            token,
        })
    }
}

fn message<M: Message + Default>(payload: &[u8]) -> Result<M, Fault> {
    M::decode(payload).map_err(Fault::internal)
}
