//! What people decide: approve, reject, one by one or many at once.

use std::collections::HashMap;

use runledger_decider::{Answer, Command};
use runledger_domain::approval::{self, DecideApproval};
use runledger_domain::fault::{Fault, Violation};
use runledger_domain::ids::{ApprovalId, RecordId, RunId, ToolCallId};
use runledger_domain::log::Stream;
use runledger_domain::scope::Scope;
use runledger_projection::ReadOptions;
use runledger_proto::approval::v1 as wire;
use runledger_proto::decode::fields::{Fields, Path, reason};
use runledger_proto::types;
use runledger_service::auth::Caller;
use uuid::Uuid;

use super::{Api, Call, approval_not_found, check_batch, database, decided, only, refused};
use crate::statements;

/// Longest reason, in characters.
const REASON_CHARS_MAX: usize = 4_096;

/// A decision as a person asks for it, before it is known where the approval lies.
struct Asked {
    id: RecordId,
    approval_id: ApprovalId,
    approve: bool,
    reason: String,
    edited_arguments: Option<runledger_domain::json::Json>,
    arguments_digest: Option<runledger_domain::digest::Digest>,
}

fn approving(wire: wire::ApproveRequest, see: &mut Fields<'_>) -> Option<Asked> {
    let id = see.uuid("id", &wire.id).map(RecordId::new);
    let approval_id = see.uuid("approval_id", &wire.approval_id);
    let why = see.text("reason", wire.reason, REASON_CHARS_MAX);
    let edited_arguments = see.optional_json("edited_arguments_json", wire.edited_arguments_json);
    let digest = match wire.arguments_digest.len() {
        0 => None,
        32 => wire.arguments_digest.as_slice().try_into().ok(),
        _ => {
            let what = "must be the 32 bytes of a SHA-256";
            see.fault("arguments_digest", reason::OUT_OF_RANGE, what);
            None
        }
    };
    Some(Asked {
        id: id?,
        approval_id: approval_id.map(ApprovalId::new)?,
        approve: true,
        reason: why,
        edited_arguments,
        arguments_digest: digest,
    })
}

fn rejecting(wire: wire::RejectRequest, see: &mut Fields<'_>) -> Option<Asked> {
    let id = see.uuid("id", &wire.id).map(RecordId::new);
    let approval_id = see.uuid("approval_id", &wire.approval_id);
    let why = see.text("reason", wire.reason, REASON_CHARS_MAX);
    Some(Asked {
        id: id?,
        approval_id: approval_id.map(ApprovalId::new)?,
        approve: false,
        reason: why,
        edited_arguments: None,
        arguments_digest: None,
    })
}

fn sound(
    at: Path<'_>,
    read: impl FnOnce(&mut Fields<'_>) -> Option<Asked>,
) -> Result<Asked, Fault> {
    let mut faults: Vec<Violation> = Vec::new();
    let asked = read(&mut Fields::new(at, &mut faults));
    match asked {
        Some(asked) if faults.is_empty() => Ok(asked),
        _ => Err(Fault::invalid(faults)),
    }
}

impl Api {
    pub(super) async fn approve_one(
        &self,
        call: Call<wire::ApproveRequest>,
    ) -> Result<wire::DecisionAnswer, Fault> {
        let Call {
            caller,
            until,
            message,
        } = call;
        let asked = sound(Path::ROOT, |see| approving(message, see));
        self.decide_one(Call {
            caller,
            until,
            message: asked?,
        })
        .await
    }

    pub(super) async fn reject_one(
        &self,
        call: Call<wire::RejectRequest>,
    ) -> Result<wire::DecisionAnswer, Fault> {
        let Call {
            caller,
            until,
            message,
        } = call;
        let asked = sound(Path::ROOT, |see| rejecting(message, see));
        self.decide_one(Call {
            caller,
            until,
            message: asked?,
        })
        .await
    }

    async fn decide_one(&self, call: Call<Asked>) -> Result<wire::DecisionAnswer, Fault> {
        let scope = self.admit(&call.caller, 1)?;
        let id = call.message.id;
        let places = self.places(scope, &[call.message.approval_id]).await?;
        let command = self.located(&call.caller, scope, call.message, &places)?;
        let answers = self.0.parts.callers.ask(vec![command], call.until).await?;
        decision_answer(id.to_string(), only(answers)?)
    }

    pub(super) async fn decide_many(
        &self,
        call: Call<wire::DecideApprovalsRequest>,
    ) -> Result<wire::DecideApprovalsResponse, Fault> {
        use wire::decide_approvals_request::item::Item;
        let items = call.message.items;
        check_batch(items.len(), "items")?;
        let scope = self.admit(&call.caller, items.len())?;
        let mut ids = Vec::with_capacity(items.len());
        let mut all = Vec::with_capacity(items.len());
        for (index, item) in items.into_iter().enumerate() {
            let list = Path::ROOT.field("items");
            let at = list.item(index);
            let asked = match item.item {
                Some(Item::Approve(one)) => {
                    ids.push(one.id.clone());
                    sound(at.field("approve"), |see| approving(one, see))
                }
                Some(Item::Reject(one)) => {
                    ids.push(one.id.clone());
                    sound(at.field("reject"), |see| rejecting(one, see))
                }
                None => {
                    ids.push(String::new());
                    sound(at, |see| {
                        see.required::<()>("item", None)?;
                        None
                    })
                }
            };
            all.push(asked);
        }
        let known: Vec<ApprovalId> = all.iter().flatten().map(|one| one.approval_id).collect();
        let places = self.places(scope, &known).await?;
        let located = |asked| self.located(&call.caller, scope, asked, &places);
        let commands = all.into_iter().map(|asked| asked.and_then(located));
        let commands = commands.collect();
        let answers = self.ask_sound(commands, call.until).await?;
        let answers = ids.into_iter().zip(answers).map(|(id, answered)| {
            let answered = answered.and_then(|answer| decision_answer(id.clone(), answer));
            answered.unwrap_or_else(|fault| wire::DecisionAnswer {
                id,
                answer: Some(wire::decision_answer::Answer::Refused(refused(&fault))),
                token: String::new(),
            })
        });
        Ok(wire::DecideApprovalsResponse {
            answers: answers.collect(),
        })
    }

    /// Where some approvals lie; those that are not the scope's are left out.
    async fn places(&self, scope: Scope, ids: &[ApprovalId]) -> Result<Places, Fault> {
        let mut view = self.read(scope, &ReadOptions::default(), None).await?;
        let (tenant, mode) = (view.tenant(), view.mode());
        let ids: Vec<Uuid> = ids.iter().map(|id| id.as_uuid()).collect();
        let rows: Vec<(Uuid, String, String)> = sqlx::query_as(statements::SELECT_PLACE)
            .bind(tenant)
            .bind(mode)
            .bind(ids)
            .fetch_all(&mut **view.tx())
            .await
            .map_err(database)?;
        view.close().await?;
        rows.into_iter()
            .map(|(id, run_id, tool_call_id)| {
                let run_id = RunId::parse(run_id).map_err(Fault::internal)?;
                let call = ToolCallId::parse(tool_call_id).map_err(Fault::internal)?;
                Ok((ApprovalId::new(id), (run_id, call)))
            })
            .collect()
    }

    /// The command about an approval, in the stream of its run.
    fn located(
        &self,
        caller: &Caller,
        scope: Scope,
        asked: Asked,
        places: &Places,
    ) -> Result<Command, Fault> {
        let place = places.get(&asked.approval_id);
        let (run_id, tool_call_id) = place.ok_or_else(approval_not_found)?;
        let command = approval::Command::DecideApproval(DecideApproval {
            approval_id: asked.approval_id,
            tool_call_id: tool_call_id.clone(),
            approve: asked.approve,
            reason: asked.reason,
            edited_arguments: asked.edited_arguments,
            arguments_digest: asked.arguments_digest,
        });
        let stream = Stream::run(run_id);
        Ok(self.approval_command(caller, scope, asked.id, stream, &command, Vec::new()))
    }
}

/// The runs and the calls of approvals.
type Places = HashMap<ApprovalId, (RunId, ToolCallId)>;

fn decision_answer(id: String, answer: Answer) -> Result<wire::DecisionAnswer, Fault> {
    use wire::decision_answer::Answer as Wire;
    let (answer, token) = match decided(answer, types::APPROVAL_VOTED)? {
        Some((voted, token)) => (Wire::Voted(voted), token),
        None => (Wire::Pending(wire::Pending {}), String::new()),
    };
    Ok(wire::DecisionAnswer {
        id,
        answer: Some(answer),
        token,
    })
}
