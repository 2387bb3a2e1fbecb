//! What agents ask: may this tool be called, I am about to call it, it has ended.

use runledger_decider::{Answer, Command};
use runledger_domain::Fact;
use runledger_domain::approval::{self, ConfirmExecution, RequestToolCall};
use runledger_domain::fault::{Fault, Kind, Violation};
use runledger_domain::ids::{RecordId, RunId, ToolCallId};
use runledger_domain::log::{self, Position, Record, Stream};
use runledger_domain::scope::Scope;
use runledger_eventlog::{Entry, Outcome};
use runledger_proto::approval::v1 as wire;
use runledger_proto::decode::fields::{Fields, Path};
use runledger_proto::{decode, encode, types};
use runledger_service::auth::Caller;
use runledger_service::trace;
use tokio::time::Instant;

use super::{Api, Call, check_batch, decided, only, parse, positions_of, refused, token_of};

impl Api {
    pub(super) async fn request_one(
        &self,
        call: Call<wire::RequestToolCallRequest>,
    ) -> Result<wire::RequestToolCallResponse, Fault> {
        let wire::RequestToolCallRequest { request, at_least } = call.message;
        let scope = self.admit(&call.caller, 1)?;
        let request = request.unwrap_or_default();
        let at_least = positions_of(&at_least)?;
        let id = request.id.clone();
        let (parsed, _) = parse(None, |see| {
            see.within("request", |see| decode::tool_call_request(request, see))
        })?;
        let command = self.command(&call.caller, scope, parsed, at_least);
        let answers = self.0.parts.callers.ask(vec![command], call.until).await?;
        let answer = tool_call_answer(id, only(answers)?)?;
        Ok(wire::RequestToolCallResponse {
            answer: Some(answer),
        })
    }

    pub(super) async fn request_many(
        &self,
        call: Call<wire::RequestToolCallsRequest>,
    ) -> Result<wire::RequestToolCallsResponse, Fault> {
        let wire::RequestToolCallsRequest { requests, at_least } = call.message;
        check_batch(requests.len(), "requests")?;
        let scope = self.admit(&call.caller, requests.len())?;
        let at_least = positions_of(&at_least)?;
        let ids: Vec<String> = requests.iter().map(|one| one.id.clone()).collect();
        let parsed: Vec<Result<Command, Fault>> = requests
            .into_iter()
            .enumerate()
            .map(|(index, request)| {
                let mut faults: Vec<Violation> = Vec::new();
                let at = Path::ROOT.field("requests");
                let mut see = Fields::new(at.item(index), &mut faults);
                match decode::tool_call_request(request, &mut see) {
                    Some(parsed) if faults.is_empty() => {
                        Ok(self.command(&call.caller, scope, parsed, at_least.clone()))
                    }
                    _ => Err(Fault::invalid(faults)),
                }
            })
            .collect();
        let answers = self.ask_sound(parsed, call.until).await?;
        let answers = ids.into_iter().zip(answers).map(|(id, answered)| {
            let answered = answered.and_then(|answer| tool_call_answer(id.clone(), answer));
            answered.unwrap_or_else(|fault| wire::ToolCallAnswer {
                id,
                answer: Some(wire::tool_call_answer::Answer::Refused(refused(&fault))),
                token: String::new(),
            })
        });
        Ok(wire::RequestToolCallsResponse {
            answers: answers.collect(),
        })
    }

    /// Asks those of a batch that are sound; one answer an entry, in their order.
    pub(super) async fn ask_sound(
        &self,
        commands: Vec<Result<Command, Fault>>,
        until: Instant,
    ) -> Result<Vec<Result<Answer, Fault>>, Fault> {
        let mut sound = Vec::new();
        let places: Vec<Result<(), Fault>> = commands
            .into_iter()
            .map(|command| command.map(|command| sound.push(command)))
            .collect();
        let mut answers = if sound.is_empty() {
            Vec::new().into_iter()
        } else {
            self.0.parts.callers.ask(sound, until).await?.into_iter()
        };
        let unanswered = || Err(Fault::internal("a command was not answered"));
        let answer = |place: Result<(), Fault>| match place {
            Ok(()) => answers.next().unwrap_or_else(unanswered),
            Err(fault) => Err(fault),
        };
        Ok(places.into_iter().map(answer).collect())
    }

    fn command(
        &self,
        caller: &Caller,
        scope: Scope,
        (id, request): (RecordId, RequestToolCall),
        at_least: Vec<Position>,
    ) -> Command {
        let stream = Stream::run(&request.call.run_id);
        let command = approval::Command::RequestToolCall(Box::new(request));
        self.approval_command(caller, scope, id, stream, &command, at_least)
    }

    pub(super) fn approval_command(
        &self,
        caller: &Caller,
        scope: Scope,
        id: RecordId,
        stream: Stream,
        command: &approval::Command,
        at_least: Vec<Position>,
    ) -> Command {
        let (type_name, payload) = encode::approval_command(command);
        Command {
            id,
            scope,
            stream,
            actor: caller.principal,
            type_name,
            payload,
            expected_version: None,
            at_least,
            trace: trace::current(),
        }
    }

    pub(super) async fn confirm(
        &self,
        call: Call<wire::ConfirmExecutionRequest>,
    ) -> Result<wire::ConfirmExecutionResponse, Fault> {
        use wire::confirm_execution_response::Answer as Wire;
        let scope = self.admit(&call.caller, 1)?;
        let request = call.message;
        let ((id, run_id, confirm), _) = parse(None, |see| {
            let id = see.uuid("id", &request.id).map(RecordId::new);
            let run_id = see.id("run_id", request.run_id, RunId::parse);
            let tool_call_id = see.id("tool_call_id", request.tool_call_id, ToolCallId::parse);
            let arguments = see.optional_json("arguments_json", request.arguments_json);
            let confirm = ConfirmExecution {
                tool_call_id: tool_call_id?,
                arguments_digest: approval::digest_arguments(arguments.as_ref()),
            };
            Some((id?, run_id?, confirm))
        })?;
        let command = approval::Command::ConfirmExecution(confirm);
        let stream = Stream::run(&run_id);
        let command = self.approval_command(&call.caller, scope, id, stream, &command, Vec::new());
        let answers = self.0.parts.callers.ask(vec![command], call.until).await?;
        let decided = decided(only(answers)?, types::EXECUTION_CONFIRMED)?;
        let (answer, token) = match decided {
            Some((confirmed, token)) => (Wire::Confirmed(confirmed), token),
            None => (Wire::Pending(wire::Pending {}), String::new()),
        };
        Ok(wire::ConfirmExecutionResponse {
            answer: Some(answer),
            token,
        })
    }

    pub(super) async fn complete(
        &self,
        call: Call<wire::CompleteToolCallRequest>,
    ) -> Result<wire::CompleteToolCallResponse, Fault> {
        let scope = self.admit(&call.caller, 1)?;
        let now = self.0.parts.clock.now();
        let request = runledger_proto::run::v1::ToolCallFact {
            id: call.message.id,
            occurred_at: Some(
                call.message
                    .occurred_at
                    .unwrap_or_else(|| encode::timestamp(now)),
            ),
            fact: call
                .message
                .ended
                .map(runledger_proto::run::v1::tool_call_fact::Fact::ToolCallEnded),
            ..Default::default()
        };
        let bounds = decode::Bounds::at(now);
        let reported =
            decode::tool_call_fact(request, &bounds, Path::ROOT).map_err(Fault::invalid)?;
        let (type_name, payload) = encode::payload(&reported.fact);
        let record = Record {
            id: reported.id,
            scope,
            stream: Fact::stream(&reported.fact),
            kind: log::Kind::Fact,
            type_name: type_name.into(),
            occurred_at: reported.occurred_at,
            recorded_at: now,
            author: call.caller.principal.into(),
            cause: None,
            request_digest: Record::digest_request(type_name, reported.occurred_at, None, &payload),
            key: None,
            payload,
            terms: None,
        };
        let entry = Entry {
            record,
            prev: None,
            trace: trace::current(),
        };
        let appended = self.0.parts.log.append(vec![entry], call.until).await;
        match appended
            .map_err(runledger_decider::log_fault)?
            .first()
            .copied()
        {
            Some(Outcome::Accepted(position)) => Ok(wire::CompleteToolCallResponse {
                token: token_of(position),
            }),
            Some(Outcome::TooLarge) => Err(Fault::new(
                Kind::Invalid,
                "RECORD_TOO_LARGE",
                "the result is larger than a record may be; report its length instead",
            )),
            Some(Outcome::Unknown) | None => Err(Fault::new(
                Kind::Unavailable,
                "APPEND_UNKNOWN",
                "nobody knows whether the end is in the log; send it again with the same id, that is always safe",
            )),
        }
    }
}

fn tool_call_answer(id: String, answer: Answer) -> Result<wire::ToolCallAnswer, Fault> {
    use wire::tool_call_answer::Answer as Wire;
    let (answer, token) = match decided(answer, types::TOOL_CALL_DECIDED)? {
        Some((decided, token)) => (Wire::Decided(decided), token),
        None => (Wire::Pending(wire::Pending {}), String::new()),
    };
    Ok(wire::ToolCallAnswer {
        id,
        answer: Some(answer),
        token,
    })
}
