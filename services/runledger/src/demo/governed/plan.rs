//! What the demo asks for, policies and calls. Pure: everything follows from the file, so that a second
//! demo asks the same again under the same ids, and changes nothing.

use runledger_domain::digest;
use runledger_domain::ids::{InvalidId, RunId};
use runledger_proto::approval::v1::ToolCallRequest;
use runledger_proto::policy::v1 as policy;
use runledger_proto::run::v1::{
    FactError, RunEnded, RunFact, RunOutcome, RunStarted, ToolCallEnded, ToolCallStarted, Trigger,
    WorkStatus, run_fact, tool_call_ended,
};
use runledger_proto::{common, encode};
use uuid::Uuid;

use crate::import::{Event, Run, ToolCall};

/// Names this way of deriving: another one must not be taken for it.
const MAKER: &[u8] = b"runledger.demo.governed.v1";
/// The label that all governed runs of one file carry, and no other's.
pub(super) const LABEL: &str = "governed";
/// From when on a payment is large.
const LARGE: u32 = 300;
/// What is held and left to whoever watches the demo waits so long: the longest that there is.
const TIME_TO_DECIDE: prost_types::Duration = prost_types::Duration {
    seconds: 30 * 24 * 3_600,
    nanos: 0,
};

/// One recorded run, to be asked for once more.
#[derive(Clone, Debug)]
pub(super) struct Governed {
    pub(super) run_id: String,
    pub(super) calls: Vec<Call>,
    started: RunStarted,
    succeeded: bool,
}

/// One call of it.
#[derive(Clone, Debug)]
pub(super) struct Call {
    pub(super) request: ToolCallRequest,
    recorded: ToolCall,
}

/// What the demo's reviewer makes of a held call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Choice {
    Approve,
    Reject,
    /// For whoever watches the demo.
    Leave,
}

/// The id of something about a run: the same for ever.
pub(super) fn id(what: &str, run: &str, of: &str) -> String {
    let hash = digest::of_parts(&[MAKER, what.as_bytes(), run.as_bytes(), of.as_bytes()]);
    let mut id = [0; 16];
    id.copy_from_slice(&hash[..16]);
    Uuid::new_v8(id).to_string()
}

fn draw(what: &str, run: &str, of: &str) -> u8 {
    digest::of_parts(&[MAKER, what.as_bytes(), run.as_bytes(), of.as_bytes()])[0]
}

fn condition(field: &str, operator: policy::Operator, value_json: String) -> policy::Condition {
    policy::Condition {
        field: field.to_owned(),
        operator: operator.into(),
        value_json,
    }
}

fn is_tool(tool: &str) -> policy::Condition {
    condition("tool", policy::Operator::Equals, format!("\"{tool}\""))
}

fn all(all: Vec<policy::Condition>) -> Option<policy::policy_spec::When> {
    Some(policy::policy_spec::When::Conditions(policy::Conditions {
        all,
    }))
}

/// The policies, each with its id.
pub(super) fn policies() -> Vec<policy::CreatePolicyRequest> {
    let large = policy::PolicySpec {
        name: "Large bookings".to_owned(),
        description: format!("A person looks at a booking whose first payment is {LARGE} or more."),
        when: all(vec![
            is_tool("book_reservation"),
            condition(
                "arguments.payment_methods.0.amount",
                policy::Operator::Gte,
                LARGE.to_string(),
            ),
        ]),
        action: policy::Action::RequireApproval.into(),
        approval: Some(policy::ApprovalRule {
            approvers: Some(policy::ApproverSet {
                roles: vec![
                    common::v1::Role::Reviewer.into(),
                    common::v1::Role::Admin.into(),
                ],
                principals: Vec::new(),
            }),
            time_to_decide: Some(TIME_TO_DECIDE),
            ..policy::ApprovalRule::default()
        }),
        ..policy::PolicySpec::default()
    };
    let cancellations = policy::PolicySpec {
        name: "Cancellations".to_owned(),
        description: "A cancellation goes through, and is noted as a risk.".to_owned(),
        when: all(vec![is_tool("cancel_reservation")]),
        action: policy::Action::Warn.into(),
        ..policy::PolicySpec::default()
    };
    let certificates = policy::PolicySpec {
        name: "One certificate a booking".to_owned(),
        description: "The airline takes at most one travel certificate for a booking.".to_owned(),
        when: Some(policy::policy_spec::When::Cel(
            "tool == \"book_reservation\" && size(arguments.payment_methods.filter(p, \
             p.payment_id.startsWith(\"certificate\"))) > 1"
                .to_owned(),
        )),
        action: policy::Action::Block.into(),
        ..policy::PolicySpec::default()
    };
    [
        ("demo-large-bookings", large),
        ("demo-cancellations", cancellations),
        ("demo-one-certificate", certificates),
    ]
    .into_iter()
    .map(|(name, spec)| policy::CreatePolicyRequest {
        id: id("policy", "", name),
        policy_id: name.to_owned(),
        spec: Some(spec),
    })
    .collect()
}

/// The runs of a file that call any tool.
///
/// # Errors
/// When an id is too long.
pub(super) fn runs(recorded: &[Run], label: &str) -> Result<Vec<Governed>, InvalidId> {
    let of_one = |run: &Run| {
        let run_id = RunId::parse(format!("governed-{}", run.run))?.to_string();
        let calls = run.events.iter().filter_map(|event| match event {
            Event::ToolCall(call) => Some(call),
            Event::Message { .. } => None,
        });
        let calls: Vec<Call> = calls
            .enumerate()
            .map(|(index, call)| Call::of(&run_id, run, call, index + 1))
            .collect();
        let labels = [
            ("task", run.task.to_string()),
            ("trial", run.trial.to_string()),
            (LABEL, label.to_owned()),
        ];
        let started = RunStarted {
            run_id: run_id.clone(),
            agent_id: run.agent.to_string(),
            trigger: Trigger::Message.into(),
            task: format!("task {}, trial {}, governed", run.task, run.trial),
            model: run.model.clone(),
            labels: labels.map(|(name, value)| (name.to_owned(), value)).into(),
            ..RunStarted::default()
        };
        Ok(Governed {
            run_id,
            calls,
            started,
            succeeded: run.succeeded,
        })
    };
    let runs: Result<Vec<Governed>, InvalidId> = recorded.iter().map(of_one).collect();
    Ok(runs?
        .into_iter()
        .filter(|run| !run.calls.is_empty())
        .collect())
}

impl Governed {
    pub(super) fn started(&self, at: prost_types::Timestamp) -> RunFact {
        self.fact(
            "started",
            at,
            run_fact::Fact::RunStarted(self.started.clone()),
        )
    }

    pub(super) fn ended(&self, at: prost_types::Timestamp) -> RunFact {
        let (outcome, error) = if self.succeeded {
            (RunOutcome::Succeeded, None)
        } else {
            let message = "the run ended without reaching the goal of its task".to_owned();
            let code = "GOAL_NOT_REACHED".to_owned();
            (RunOutcome::Failed, Some(FactError { code, message }))
        };
        let ended = RunEnded {
            run_id: self.run_id.clone(),
            outcome: outcome.into(),
            error,
            ..RunEnded::default()
        };
        self.fact("ended", at, run_fact::Fact::RunEnded(ended))
    }

    fn fact(&self, what: &str, at: prost_types::Timestamp, fact: run_fact::Fact) -> RunFact {
        RunFact {
            id: id(what, &self.run_id, ""),
            occurred_at: Some(at),
            fact: Some(fact),
            ..RunFact::default()
        }
    }
}

impl Call {
    fn of(run_id: &str, run: &Run, recorded: &ToolCall, number: usize) -> Self {
        let tool_call_id = format!("call-{number}");
        let call = ToolCallStarted {
            run_id: run_id.to_owned(),
            tool_call_id: tool_call_id.clone(),
            tool: recorded.tool.to_string(),
            arguments_json: String::from(recorded.arguments.clone()),
            ..ToolCallStarted::default()
        };
        Self {
            request: ToolCallRequest {
                id: id("request", run_id, &tool_call_id),
                call: Some(call),
                agent_id: run.agent.to_string(),
            },
            recorded: recorded.clone(),
        }
    }

    fn started(&self) -> (&str, &str) {
        self.request.call.as_ref().map_or(("", ""), |call| {
            (call.run_id.as_str(), call.tool_call_id.as_str())
        })
    }

    pub(super) fn tool_call_id(&self) -> &str {
        self.started().1
    }

    pub(super) fn arguments_json(&self) -> &str {
        let call = self.request.call.as_ref();
        call.map_or("", |call| &call.arguments_json)
    }

    /// The id of something about this call.
    pub(super) fn id(&self, what: &str) -> String {
        let (run, call) = self.started();
        id(what, run, call)
    }

    /// What the reviewer makes of it, should it be held: half is approved, a quarter rejected.
    pub(super) fn choice(&self) -> Choice {
        let (run, call) = self.started();
        match draw("choice", run, call) % 4 {
            0 | 1 => Choice::Approve,
            2 => Choice::Reject,
            _ => Choice::Leave,
        }
    }

    /// When it ended, of one that was asked for at `at`. Whoever is held waits for a person first.
    pub(super) fn ended_at(
        &self,
        at: runledger_domain::time::Timestamp,
        was_held: bool,
    ) -> runledger_domain::time::Timestamp {
        let (run, call) = self.started();
        let took = 80 + 7 * i64::from(draw("took", run, call));
        let waited = if was_held { 5_000 } else { 0 };
        at + chrono::TimeDelta::milliseconds(took + waited)
    }

    pub(super) fn ended(&self) -> ToolCallEnded {
        let (run_id, tool_call_id) = self.started();
        let (status, error) = if self.recorded.failed {
            let chars = self.recorded.result_chars;
            let message = format!("the tool answered with an error of {chars} characters");
            let code = "TOOL_FAILED".to_owned();
            (WorkStatus::Failed, Some(FactError { code, message }))
        } else {
            (WorkStatus::Succeeded, None)
        };
        let result = match &self.recorded.result {
            Some(json) => tool_call_ended::Result::ResultJson(json.clone().into()),
            None => tool_call_ended::Result::ResultChars(self.recorded.result_chars),
        };
        ToolCallEnded {
            run_id: run_id.to_owned(),
            tool_call_id: tool_call_id.to_owned(),
            status: status.into(),
            result: Some(result),
            error,
        }
    }
}

/// Cuts runs into batches of at most `calls_max` calls. A run is not cut, unless it is longer.
pub(super) fn batches(runs: &[Governed], calls_max: usize) -> Vec<Vec<&Call>> {
    let mut batches: Vec<Vec<&Call>> = Vec::new();
    for run in runs {
        for calls in run.calls.chunks(calls_max) {
            match batches.last_mut() {
                Some(last) if last.len() + calls.len() <= calls_max => last.extend(calls),
                _ => batches.push(calls.iter().collect()),
            }
        }
    }
    batches
}

/// A moment a little later.
pub(super) fn later(at: runledger_domain::time::Timestamp, millis: i64) -> prost_types::Timestamp {
    encode::timestamp(at + chrono::TimeDelta::milliseconds(millis))
}

#[cfg(test)]
pub(super) mod tests;
