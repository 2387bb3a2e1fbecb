//! `runledger approvals list|show|approve|reject|watch`: the queue of held calls, from a terminal.

use std::time::Duration;

use runledger_domain::approval::Status;
use runledger_domain::time::{Clock as _, SystemClock};
use runledger_proto::approval::v1 as wire;
use runledger_proto::policy::v1::Severity;
use runledger_proto::{common, encode};
use runledger_service::{ids, status};
use tonic::Code;
use uuid::Uuid;

use crate::cli::{ApprovalsApprove, ApprovalsList, ApprovalsReject, ApprovalsShow, ApprovalsWatch};
use crate::json;
use crate::reading::PAGE;
use crate::remote::{self, For, Refusal, Remote};
use crate::runs::read_options;
use crate::say;

pub(crate) mod view;

/// How often a decision that is in the log and not decided yet is asked for again; each time waits for
/// seconds.
const ASKS_MAX: u32 = 3;
/// How often a watch that was cut off begins again behind its last change, without any change in between.
const RESUMES_MAX: u32 = 10;

pub(crate) async fn list(args: &ApprovalsList) -> anyhow::Result<()> {
    let remote = Remote::resolve(&args.reading.server)?;
    let mut approvals = remote.approvals(For::Reading).await?;
    let (found, more) = fetch(&mut approvals, request(args), args.limit).await?;
    if args.reading.json {
        for approval in &found {
            say::line(json::of("runledger.approval.v1.Approval", approval)?)?;
        }
        return Ok(());
    }
    if found.is_empty() {
        say::line("No held call is like that; --all shows those that were decided too.")?;
        return Ok(());
    }
    view::approvals(&found, SystemClock.now()).print()?;
    if more {
        say::line(format_args!(
            "There are more; --limit shows more than {}.",
            args.limit
        ))?;
    }
    Ok(())
}

fn request(args: &ApprovalsList) -> wire::ListApprovalsRequest {
    let statuses: &[Status] = if args.all { &[] } else { &args.statuses };
    wire::ListApprovalsRequest {
        statuses: statuses
            .iter()
            .map(|status| wire::ApprovalStatus::from(*status).into())
            .collect(),
        policy_id: args.policy.clone().unwrap_or_default(),
        agent_id: args.agent.clone().unwrap_or_default(),
        tool: args.tool.clone().unwrap_or_default(),
        run_id: args.run.clone().unwrap_or_default(),
        severity: args.severity.map_or(0, |one| Severity::from(one).into()),
        older_than: args.older_than.map(encode::duration),
        read: read_options(&args.reading),
        ..wire::ListApprovalsRequest::default()
    }
}

/// At most `limit` of those that `request` asks for, and whether there are more.
pub(crate) async fn fetch(
    approvals: &mut remote::Approvals,
    mut request: wire::ListApprovalsRequest,
    limit: u32,
) -> Result<(Vec<wire::Approval>, bool), Refusal> {
    let mut found = Vec::new();
    loop {
        let left = limit.saturating_sub(u32::try_from(found.len()).unwrap_or(u32::MAX));
        request.page_size = left.min(PAGE);
        let page = approvals
            .list_approvals(request.clone())
            .await?
            .into_inner();
        found.extend(page.approvals);
        request.page_token = page.next_page_token;
        let more = !request.page_token.is_empty();
        if !more || found.len() >= limit as usize {
            return Ok((found, more));
        }
    }
}

/// One with all that an approver needs.
async fn one(
    approvals: &mut remote::Approvals,
    id: Uuid,
    read: Option<common::v1::ReadOptions>,
) -> Result<wire::GetApprovalResponse, Refusal> {
    let request = wire::GetApprovalRequest {
        approval_id: id.to_string(),
        read,
    };
    Ok(approvals.get_approval(request).await?.into_inner())
}

pub(crate) async fn show(args: &ApprovalsShow) -> anyhow::Result<()> {
    let remote = Remote::resolve(&args.reading.server)?;
    let mut approvals = remote.approvals(For::Reading).await?;
    let found = one(&mut approvals, args.approval, read_options(&args.reading)).await?;
    if args.reading.json {
        say::line(json::of(
            "runledger.approval.v1.GetApprovalResponse",
            &found,
        )?)?;
        return Ok(());
    }
    view::print(&found, SystemClock.now())
}

/// Reads first, and approves what was read: the digest goes with the approval, and an edit by somebody
/// else meanwhile makes the service refuse it.
pub(crate) async fn approve(args: &ApprovalsApprove) -> anyhow::Result<()> {
    let remote = Remote::resolve(&args.server)?;
    let mut approvals = remote.approvals(For::Reviewing).await?;
    let seen = one(&mut approvals, args.approval, None).await?;
    if !args.json {
        view::print(&seen, SystemClock.now())?;
        say::line("")?;
    }
    let arguments_digest = seen
        .approval
        .map(|approval| approval.arguments_digest)
        .unwrap_or_default();
    let request = wire::ApproveRequest {
        id: ids::fresh().to_string(),
        approval_id: args.approval.to_string(),
        reason: args.reason.clone(),
        edited_arguments_json: args
            .arguments
            .as_ref()
            .map(|json| json.as_str().to_owned())
            .unwrap_or_default(),
        arguments_digest,
    };
    for _ in 0..ASKS_MAX {
        let answer = approvals.approve(request.clone()).await;
        let answer = answer.map_err(Refusal::from)?.into_inner().answer;
        if let Some(voted) = voted(answer.as_ref()) {
            return tell(voted, answer.as_ref(), args.json);
        }
    }
    Err(undecided())
}

pub(crate) async fn reject(args: &ApprovalsReject) -> anyhow::Result<()> {
    let remote = Remote::resolve(&args.server)?;
    let mut approvals = remote.approvals(For::Reviewing).await?;
    let request = wire::RejectRequest {
        id: ids::fresh().to_string(),
        approval_id: args.approval.to_string(),
        reason: args.reason.clone(),
    };
    for _ in 0..ASKS_MAX {
        let answer = approvals.reject(request.clone()).await;
        let answer = answer.map_err(Refusal::from)?.into_inner().answer;
        if let Some(voted) = voted(answer.as_ref()) {
            return tell(voted, answer.as_ref(), args.json);
        }
    }
    Err(undecided())
}

fn voted(answer: Option<&wire::DecisionAnswer>) -> Option<&wire::ApprovalVoted> {
    match answer?.answer.as_ref()? {
        wire::decision_answer::Answer::Voted(voted) => Some(voted),
        wire::decision_answer::Answer::Pending(_) | wire::decision_answer::Answer::Refused(_) => {
            None
        }
    }
}

fn undecided() -> anyhow::Error {
    anyhow::anyhow!(
        "it is in the log and not decided yet; does the decider run? `runledger approvals show` tells what became of it"
    )
}

fn tell(
    voted: &wire::ApprovalVoted,
    answer: Option<&wire::DecisionAnswer>,
    as_json: bool,
) -> anyhow::Result<()> {
    let answer = answer.cloned().unwrap_or_default();
    if as_json {
        say::line(json::of("runledger.approval.v1.DecisionAnswer", &answer)?)?;
        return Ok(());
    }
    say::line(view::told_vote(voted))?;
    say::line(format_args!("To see it: --wait-for {}", answer.token))?;
    Ok(())
}

/// Follows the queue. A watch that is cut off, because a process behind it was replaced, goes on behind
/// the last change shown.
pub(crate) async fn watch(args: &ApprovalsWatch) -> anyhow::Result<()> {
    let remote = Remote::resolve(&args.server)?;
    let mut resume = args.resume.clone().unwrap_or_default();
    let mut resumes = 0;
    if !args.json {
        say::aside("Every change of a held call from now on; Ctrl-C ends it.");
    }
    loop {
        let mut approvals = remote.approvals(For::Reading).await?;
        let request = wire::WatchQueueRequest {
            resume: resume.clone(),
        };
        let cut = match approvals.watch_queue(request).await {
            Err(refused) => refused,
            Ok(watch) => {
                let mut watch = watch.into_inner();
                loop {
                    match watch.message().await {
                        Ok(Some(change)) => {
                            resumes = 0;
                            resume.clone_from(&change.resume);
                            show_change(&change, args.json)?;
                        }
                        Ok(None) => return Ok(()),
                        Err(refused) => break refused,
                    }
                }
            }
        };
        resumes += 1;
        if cut.code() != Code::Unavailable || resumes > RESUMES_MAX {
            return Err(Refusal::from(cut).into());
        }
        let pause = status::retry_after(&cut).unwrap_or(Duration::from_secs(1));
        tokio::time::sleep(pause).await;
    }
}

fn show_change(change: &wire::WatchQueueResponse, as_json: bool) -> anyhow::Result<()> {
    match (&change.approval, as_json) {
        (Some(_), true) => say::line(json::of(
            "runledger.approval.v1.WatchQueueResponse",
            change,
        )?)?,
        (Some(approval), false) => say::line(view::told(approval))?,
        (None, _) => {}
    }
    Ok(())
}
