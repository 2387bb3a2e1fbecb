//! Why a run went wrong, as far as its records tell.

use runledger_domain::approval::{Status as ApprovalStatus, Verdict};
use runledger_domain::fault::{Fault, Kind};
use runledger_domain::ids::{AgentId, RunId};
use runledger_domain::run::{Outcome, Status, WorkStatus};
use runledger_domain::scope::Scope;
use runledger_domain::time::Timestamp;
use runledger_proto::analytics::v1 as wire;
use runledger_proto::analytics::v1::diagnose_run_request::Run as Wanted;
use runledger_proto::decode::fields::reason;
use runledger_proto::encode;
use runledger_role::reading::parse;
use sqlx::FromRow;

use super::{Api, View, unsigned};
use crate::statements;

/// Which run.
enum Which {
    Run(RunId),
    LatestFailure(AgentId),
}

#[derive(FromRow)]
struct Run {
    run_id: String,
    agent_id: String,
    agent_version: String,
    model: String,
    space_id: String,
    started_at: Option<Timestamp>,
    phase: Option<String>,
    ended_at: Option<Timestamp>,
    outcome: Option<String>,
    error_code: String,
    error_message: String,
    charges_over_limits: i64,
}

impl Run {
    fn status(&self) -> String {
        let known = self.outcome.clone().or_else(|| self.phase.clone());
        known.unwrap_or_else(|| Status::Running.to_string())
    }
}

/// So many calls of a kind.
#[derive(FromRow)]
struct Calls {
    tool: String,
    status: String,
    error_code: String,
    verdict: String,
    approval_status: String,
    calls: i64,
}

impl Api {
    pub(super) async fn diagnose(
        &self,
        scope: Scope,
        request: wire::DiagnoseRunRequest,
    ) -> Result<wire::DiagnoseRunResponse, Fault> {
        let (which, options) = parse(request.read, |see| match request.run {
            Some(Wanted::RunId(id)) => see.id("run_id", id, RunId::parse).map(Which::Run),
            Some(Wanted::LatestFailureOfAgentId(id)) => {
                let agent = see.id("latest_failure_of_agent_id", id, AgentId::parse);
                agent.map(Which::LatestFailure)
            }
            None => {
                let why = "must be given, or latest_failure_of_agent_id";
                see.fault("run_id", reason::REQUIRED, why);
                None
            }
        })?;
        let mut view = self.look(scope, &options).await?;
        let run_id = match which {
            Which::Run(run_id) => run_id.to_string(),
            Which::LatestFailure(agent) => view.latest_failure(&agent).await?,
        };
        let (run, calls) = (view.run(&run_id).await?, view.calls(&run_id).await?);
        let count = |is: &dyn Fn(&Calls) -> bool| {
            unsigned(
                calls
                    .iter()
                    .filter(|one| is(one))
                    .map(|one| one.calls)
                    .sum(),
            )
        };
        Ok(wire::DiagnoseRunResponse {
            status: run.status(),
            tool_calls: count(&|_| true),
            failed_tool_calls: count(&|one| one.status == WorkStatus::Failed.as_str()),
            blocked_tool_calls: count(&|one| one.verdict == Verdict::Blocked.as_str()),
            charges_over_limits: unsigned(run.charges_over_limits),
            causes: causes(&run, &calls),
            run_id: run.run_id,
            agent_id: run.agent_id,
            agent_version: run.agent_version,
            model: run.model,
            space_id: run.space_id,
            error_code: run.error_code,
            error_message: run.error_message,
            started_at: run.started_at.map(encode::timestamp),
            ended_at: run.ended_at.map(encode::timestamp),
            as_of: Some(view.close().await?),
        })
    }
}

impl View<'_> {
    async fn latest_failure(&mut self, agent: &AgentId) -> Result<String, Fault> {
        let found: Result<Option<String>, _> =
            sqlx::query_scalar(statements::SELECT_LATEST_FAILURE)
                .bind(self.scope.tenant.as_uuid())
                .bind(self.scope.mode.as_str())
                .bind(agent.as_str())
                .fetch_optional(&mut *self.snapshot.tx)
                .await;
        found.map_err(|error| self.fault(error))?.ok_or_else(|| {
            let message = "no run of such an agent has failed; right after one did, pass its token as read.at_least";
            Fault::new(Kind::NotFound, "NO_FAILURE", message)
        })
    }

    async fn run(&mut self, run_id: &str) -> Result<Run, Fault> {
        let found: Result<Option<Run>, _> = sqlx::query_as(statements::SELECT_RUN)
            .bind(self.scope.tenant.as_uuid())
            .bind(self.scope.mode.as_str())
            .bind(run_id)
            .fetch_optional(&mut *self.snapshot.tx)
            .await;
        found.map_err(|error| self.fault(error))?.ok_or_else(|| {
            let message = "there is no such run; right after it was reported, pass its token as read.at_least";
            Fault::new(Kind::NotFound, "RUN_NOT_FOUND", message)
        })
    }

    async fn calls(&mut self, run_id: &str) -> Result<Vec<Calls>, Fault> {
        let found = sqlx::query_as(statements::SELECT_CALLS_OF_RUN)
            .bind(self.scope.tenant.as_uuid())
            .bind(self.scope.mode.as_str())
            .bind(run_id)
            .fetch_all(&mut *self.snapshot.tx)
            .await;
        found.map_err(|error| self.fault(error))
    }
}

#[derive(Default)]
struct Causes(Vec<wire::Cause>);

impl Causes {
    fn say(&mut self, kind: &str, cause: String, action: &str) {
        self.0.push(wire::Cause {
            kind: kind.to_owned(),
            cause,
            action: action.to_owned(),
        });
    }

    /// What was kept from the run, and what failed in it.
    fn of_calls(&mut self, one: &Calls) {
        let (tool, calls) = (&one.tool, one.calls);
        if one.verdict == Verdict::Blocked.as_str() {
            let text = format!("A policy or a limit of the run blocked {calls} calls of {tool}.");
            self.say(
                "CALL_BLOCKED",
                text,
                "Read the decision in the run's timeline; change the policy or what the agent does.",
            );
        }
        match one.approval_status.parse::<ApprovalStatus>() {
            Ok(ApprovalStatus::Rejected) => {
                let text = format!("An approver rejected {calls} calls of {tool}.");
                self.say(
                    "APPROVAL_REJECTED",
                    text,
                    "Read the reason with the approval.",
                );
            }
            Ok(ApprovalStatus::Expired) => {
                let text = format!("Nobody answered in time for {calls} calls of {tool}.");
                self.say(
                    "APPROVAL_EXPIRED",
                    text,
                    "Name more approvers, or give them longer.",
                );
            }
            Ok(ApprovalStatus::Pending | ApprovalStatus::Approved | ApprovalStatus::Cancelled)
            | Err(_) => {}
        }
        if one.status == WorkStatus::Failed.as_str() {
            let code = if one.error_code.is_empty() {
                "no code"
            } else {
                &one.error_code
            };
            let text = format!("{calls} calls of {tool} failed ({code}).");
            self.say("TOOL_FAILED", text, of_code(&one.error_code));
        }
    }
}

/// The likeliest first: what the run says itself, then what was kept from it, then what failed in it.
fn causes(run: &Run, calls: &[Calls]) -> Vec<wire::Cause> {
    let mut causes = Causes::default();
    let outcome = run
        .outcome
        .as_deref()
        .and_then(|word| word.parse::<Outcome>().ok());
    if !run.error_code.is_empty() {
        let text = format!(
            "The run says why it ended: {} {}",
            run.error_code, run.error_message
        );
        causes.say(
            "RUN_ERROR",
            text.trim_end().to_owned(),
            of_code(&run.error_code),
        );
    }
    if matches!(outcome, Some(Outcome::Stopped | Outcome::Cancelled)) {
        let text = format!("Somebody ended it: it was {}.", run.status());
        causes.say(
            "ENDED_BY_SOMEBODY",
            text,
            "Ask the audit who did: runledger audit list --run <run>.",
        );
    }
    if run.charges_over_limits > 0 {
        let text = format!(
            "{} uses of it were beyond a limit of spending.",
            run.charges_over_limits
        );
        causes.say(
            "SPEND_LIMIT",
            text,
            "Raise the limit, grant credits, or use less: see the account's limits and history.",
        );
    }
    for one in calls {
        causes.of_calls(one);
    }
    if causes.0.is_empty() && outcome == Some(Outcome::Failed) {
        causes.say(
            "GOAL_NOT_REACHED",
            "Nothing in it failed: it ended without doing what it was to do.".to_owned(),
            "Read its timeline; compare it with runs that succeeded.",
        );
    }
    causes.0
}

/// What to do about an error, by what its code speaks of.
fn of_code(code: &str) -> &'static str {
    let code = code.to_ascii_uppercase();
    let speaks_of = |words: &[&str]| words.iter().any(|word| code.contains(word));
    if speaks_of(&["TIMEOUT", "TIMED_OUT", "DEADLINE"]) {
        "Give it longer, or ask for less at once; see whether the tool has become slower."
    } else if speaks_of(&["RATE", "QUOTA", "TOO_MANY", "429"]) {
        "Call less often, or ask whoever serves it for a higher limit."
    } else if speaks_of(&["AUTH", "FORBIDDEN", "PERMISSION", "401", "403"]) {
        "See that its credentials are there, valid and allowed to do this."
    } else if speaks_of(&["CREDIT", "BALANCE", "PAYMENT", "BUDGET"]) {
        "Grant credits, or raise the limit of spending."
    } else if speaks_of(&["INVALID", "VALIDATION", "ARGUMENT", "SCHEMA", "400"]) {
        "Compare the arguments of the call with what the tool takes."
    } else if speaks_of(&["NOT_FOUND", "MISSING", "404"]) {
        "See that what it speaks of is still there."
    } else if speaks_of(&["CONNECT", "NETWORK", "UNAVAILABLE", "502", "503", "504"]) {
        "See that whoever serves it is up; start the run again."
    } else {
        "Read the run's timeline around it."
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(outcome: &str, code: &str) -> Run {
        Run {
            run_id: "r".into(),
            agent_id: "a".into(),
            agent_version: String::new(),
            model: String::new(),
            space_id: String::new(),
            started_at: None,
            phase: None,
            ended_at: None,
            outcome: Some(outcome.into()),
            error_code: code.into(),
            error_message: String::new(),
            charges_over_limits: 0,
        }
    }

    fn calls(status: &str, code: &str, verdict: &str, approval: &str) -> Calls {
        Calls {
            tool: "pay".into(),
            status: status.into(),
            error_code: code.into(),
            verdict: verdict.into(),
            approval_status: approval.into(),
            calls: 2,
        }
    }

    fn kinds(run: &Run, calls: &[Calls]) -> Vec<String> {
        causes(run, calls)
            .into_iter()
            .map(|cause| cause.kind)
            .collect()
    }

    #[test]
    fn causes_are_told_from_every_kind_of_record() {
        let well = [
            calls("succeeded", "", "allowed", ""),
            calls("", "", "awaiting_approval", "pending"),
        ];
        assert!(kinds(&run("succeeded", ""), &well).is_empty());
        assert_eq!(kinds(&run("failed", ""), &well), ["GOAL_NOT_REACHED"]);
        let mut over = run("failed", "TIMED_OUT");
        over.charges_over_limits = 1;
        let ill = [
            calls("failed", "HTTP_429", "allowed", ""),
            calls("", "", "blocked", ""),
            calls("", "", "awaiting_approval", "expired"),
            calls("", "", "awaiting_approval", "rejected"),
        ];
        let told = kinds(&over, &ill);
        assert_eq!(
            told,
            [
                "RUN_ERROR",
                "SPEND_LIMIT",
                "TOOL_FAILED",
                "CALL_BLOCKED",
                "APPROVAL_EXPIRED",
                "APPROVAL_REJECTED"
            ]
        );
        assert_eq!(kinds(&run("stopped", ""), &[]), ["ENDED_BY_SOMEBODY"]);
        assert!(causes(&over, &ill)[2].action.contains("less often"));
    }
}
