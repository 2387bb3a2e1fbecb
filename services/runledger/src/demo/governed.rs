//! The demo's second part: the calls of the recorded runs, asked for once more, as calls that policies
//! govern, in runs of their own. Some of those held are approved, some rejected, some left.
//!
//! Every id is derived from the file, and every moment from what the log holds already. So a demo that
//! was interrupted goes on, and one that was not changes nothing when it is run again.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use anyhow::Context as _;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use runledger_domain::time::Timestamp;
use runledger_eventlog::token::Token;
use runledger_proto::approval::v1 as wire;
use runledger_proto::encode;
use runledger_proto::policy::v1 as policy;
use runledger_proto::run::v1::{ListRunsRequest, RunFact, ToolCall};
use tonic::Code;

use crate::import::{self, Facts, Planned};
use crate::policies;
use crate::reading::{self, Seen};
use crate::remote::{Approvals, For, Refusal, Remote, Runs};
use crate::runs::moment;

mod asking;
mod plan;
mod show;

use asking::again;
use plan::{Call, Choice, Governed};
pub(super) use show::{next, show};

/// Most calls of one batch; the service takes no more.
const BATCH: usize = 100;
/// Batches that are asked for at once, and calls that are made at once.
const BATCHES_AT_ONCE: usize = 8;
const CALLS_AT_ONCE: usize = 256;
/// Governed runs are told from all others by this label.
const LABEL: &str = plan::LABEL;

/// What it came to.
pub(super) struct Outcome {
    /// How many calls got each verdict.
    verdicts: BTreeMap<wire::Verdict, u64>,
    policies: u64,
    runs: u64,
    approved: u64,
    rejected: u64,
    /// All of it was there before.
    unchanged: bool,
    /// Covers everything that was asked.
    pub(super) token: Token,
}

/// A call and what was decided about it.
struct Judged<'a> {
    call: &'a Call,
    decided: wire::ToolCallDecided,
}

impl Judged<'_> {
    fn is_held(&self) -> bool {
        self.decided.verdict() == wire::Verdict::AwaitingApproval
    }

    /// Whether the call may be made, after the reviewer's choice.
    fn may_go(&self) -> bool {
        match self.decided.verdict() {
            wire::Verdict::Allowed | wire::Verdict::Warned => true,
            wire::Verdict::AwaitingApproval => self.call.choice() == Choice::Approve,
            wire::Verdict::Blocked | wire::Verdict::Unspecified => false,
        }
    }

    fn waits(&self) -> bool {
        self.is_held() && self.call.choice() == Choice::Leave
    }
}

/// Asks, decides, makes the calls and ends the runs.
pub(super) async fn replay(remote: &Remote, file: &Path, label: &str) -> anyhow::Result<Outcome> {
    let recorded = import::read(file)?;
    let runs = plan::runs(&recorded, label).context("a run's id leaves no room for a prefix")?;
    let mut reading = remote.runs(For::Appending).await?;
    let label = (LABEL, label);
    let before = reading::seen(&mut reading, label, &Token::default()).await?;

    let (begun, mut token) = make_policies(remote).await?;
    let policies = token.clone();
    let begin = |run: &Governed| run.started(encode::timestamp(begun));
    merge(&mut token, &append(remote, runs.iter().map(begin)).await?)?;
    let approvals = remote.approvals(For::Appending).await?;
    let judged = ask(&approvals, &runs, &policies, &mut token).await?;
    decide(remote, &judged, &mut token).await?;
    let open = open(&mut reading, label, &token).await?;
    let known = known(super::all_calls(&reading, open.iter(), &token).await?);
    make(&approvals, &judged, &known, &mut token).await?;
    let ended = ended(&runs, &judged, &known);
    merge(&mut token, &append(remote, ended.into_iter()).await?)?;
    let after = reading::seen(&mut reading, label, &token).await?;
    Ok(outcome(&judged, runs.len(), (before, after), token))
}

fn outcome(judged: &[Judged<'_>], runs: usize, seen: (Seen, Seen), token: Token) -> Outcome {
    let mut verdicts = BTreeMap::new();
    for one in judged {
        *verdicts.entry(one.decided.verdict()).or_default() += 1;
    }
    let chosen = |choice| {
        let held = judged.iter().filter(|one| one.is_held());
        held.filter(|one| one.call.choice() == choice).count() as u64
    };
    Outcome {
        verdicts,
        policies: plan::policies().len() as u64,
        runs: runs as u64,
        approved: chosen(Choice::Approve),
        rejected: chosen(Choice::Reject),
        unchanged: seen.0 == seen.1,
        token,
    }
}

fn merge(token: &mut Token, other: &Token) -> anyhow::Result<()> {
    token
        .merge(other)
        .context("the log was made anew in the middle of the demo")
}

fn merge_text(token: &mut Token, other: &str) -> anyhow::Result<()> {
    if other.is_empty() {
        return Ok(());
    }
    merge(token, &Token::parse(other).context("the answer's token")?)
}

/// Makes the policies where they are missing: edited ones stay as they are. Answers when the first was
/// made, from which the runs' moments follow, and a token.
async fn make_policies(remote: &Remote) -> anyhow::Result<(Timestamp, Token)> {
    let service = remote.policies(For::Administering).await?;
    let (mut begun, mut token) = (None, Token::default());
    for request in plan::policies() {
        let made = policies::decided(|| {
            let (mut service, request) = (service.clone(), request.clone());
            async move { service.create_policy(request).await }
        })
        .await;
        let policy = match made {
            Ok((policy, made)) => {
                merge_text(&mut token, &made)?;
                policy
            }
            Err(error) if is_there_already(&error) => {
                let request = policy::GetPolicyRequest {
                    policy_id: request.policy_id,
                    read: None,
                };
                let found = service.clone().get_policy(request).await;
                let found = found.map_err(Refusal::from)?.into_inner();
                found.policy.unwrap_or_default()
            }
            Err(error) => return Err(error.context("making the demo's policies")),
        };
        let made_at = policy.created.and_then(|made| moment(made.at.as_ref()));
        begun = begun.or(made_at);
    }
    let begun = begun.context("a policy does not say when it was made")?;
    Ok((begun, token))
}

fn is_there_already(error: &anyhow::Error) -> bool {
    let refused = error.downcast_ref::<Refusal>();
    refused.is_some_and(|refused| refused.code() == Code::AlreadyExists)
}

/// Appends facts of runs.
async fn append(remote: &Remote, facts: impl Iterator<Item = RunFact>) -> anyhow::Result<Token> {
    let segments = |fact| Planned {
        segments: vec![Facts::Runs(vec![fact])],
    };
    import::send(remote.ingest().await?, facts.map(segments).collect()).await
}

/// Asks for every call, by the policies that `at_least` covers.
async fn ask<'a>(
    approvals: &Approvals,
    runs: &'a [Governed],
    at_least: &Token,
    token: &mut Token,
) -> anyhow::Result<Vec<Judged<'a>>> {
    let tokens: Vec<String> = Some(at_least)
        .filter(|token| !token.is_empty())
        .map(ToString::to_string)
        .into_iter()
        .collect();
    let of_one = |calls: Vec<&'a Call>| {
        let (approvals, at_least) = (approvals.clone(), tokens.clone());
        async move {
            let requests = calls.iter().map(|call| call.request.clone()).collect();
            let request = wire::RequestToolCallsRequest { requests, at_least };
            let answers = asking::requests(&approvals, &request).await?;
            Ok::<_, anyhow::Error>((calls, answers))
        }
    };
    let asked: Vec<_> = plan::batches(runs, BATCH).into_iter().map(of_one).collect();
    let mut answered = stream::iter(asked).buffered(BATCHES_AT_ONCE);
    let mut judged = Vec::new();
    while let Some((calls, answers)) = answered.try_next().await? {
        for (call, (decided, at)) in calls.into_iter().zip(answers) {
            merge_text(token, &at)?;
            judged.push(Judged { call, decided });
        }
    }
    Ok(judged)
}

/// Decides as the reviewer on what is held, but for what is left to others.
async fn decide(remote: &Remote, judged: &[Judged<'_>], token: &mut Token) -> anyhow::Result<()> {
    let approvals = remote.approvals(For::Reviewing).await?;
    let held = judged.iter().filter(|one| one.is_held());
    let items: Vec<_> = held.filter_map(item).collect();
    for items in items.chunks(BATCH) {
        let request = wire::DecideApprovalsRequest {
            items: items.to_vec(),
        };
        for at in asking::decisions(&approvals, &request).await? {
            merge_text(token, &at)?;
        }
    }
    Ok(())
}

fn item(one: &Judged<'_>) -> Option<wire::decide_approvals_request::Item> {
    use wire::decide_approvals_request::item::Item;
    let approval_id = one.decided.approval_id.clone();
    let item = match one.call.choice() {
        Choice::Leave => return None,
        Choice::Approve => Item::Approve(wire::ApproveRequest {
            id: one.call.id("vote"),
            approval_id,
            reason: "within what the fare allows".to_owned(),
            edited_arguments_json: String::new(),
            arguments_digest: one.decided.arguments_digest.clone(),
        }),
        Choice::Reject => Item::Reject(wire::RejectRequest {
            id: one.call.id("vote"),
            approval_id,
            reason: "the customer has not confirmed the price".to_owned(),
        }),
    };
    Some(wire::decide_approvals_request::Item { item: Some(item) })
}

/// Confirms the calls that may be made and says how they ended; those that have ended already are left.
async fn make(
    approvals: &Approvals,
    judged: &[Judged<'_>],
    known: &Known,
    token: &mut Token,
) -> anyhow::Result<()> {
    let of_one = |one: &Judged<'_>| {
        let call = one.call.request.call.clone().unwrap_or_default();
        let place = (call.run_id.clone(), call.tool_call_id.clone());
        let (at, is_ended) = *known.get(&place)?;
        let confirm = wire::ConfirmExecutionRequest {
            id: one.call.id("confirm"),
            run_id: call.run_id,
            tool_call_id: call.tool_call_id,
            arguments_json: one.call.arguments_json().to_owned(),
        };
        let complete = wire::CompleteToolCallRequest {
            id: one.call.id("complete"),
            occurred_at: Some(encode::timestamp(one.call.ended_at(at, one.is_held()))),
            ended: Some(one.call.ended()),
        };
        let approvals = approvals.clone();
        (!is_ended).then_some(async move {
            if !asking::confirm(&approvals, &confirm).await? {
                return Ok(String::new());
            }
            let ended = again(|| {
                let (mut approvals, complete) = (approvals.clone(), complete.clone());
                async move { approvals.complete_tool_call(complete).await }
            });
            Ok::<_, anyhow::Error>(ended.await?.token)
        })
    };
    let going = judged.iter().filter(|one| one.may_go());
    let made: Vec<_> = going.filter_map(of_one).collect();
    let mut made = stream::iter(made).buffer_unordered(CALLS_AT_ONCE);
    while let Some(at) = made.try_next().await? {
        merge_text(token, &at)?;
    }
    Ok(())
}

/// The runs that have not ended. Those that have are done with: their calls were made before.
async fn open(runs: &mut Runs, label: (&str, &str), token: &Token) -> Result<Vec<String>, Refusal> {
    let request = ListRunsRequest {
        labels: [(label.0.to_owned(), label.1.to_owned())].into(),
        ..ListRunsRequest::default()
    };
    let mut open = Vec::new();
    reading::each_run(runs, request, token, |run| {
        open.extend(Some(run.run_id).filter(|_| run.ended.is_none()));
    })
    .await?;
    Ok(open)
}

/// When each call of the open runs, by run and id, was asked for, and whether it has ended.
type Known = HashMap<(String, String), (Timestamp, bool)>;

fn known(calls: impl IntoIterator<Item = ToolCall>) -> Known {
    calls
        .into_iter()
        .filter_map(|call| {
            let at = moment(call.started_at.as_ref())?;
            let run_id = call.started?.run_id;
            Some(((run_id, call.tool_call_id), (at, call.ended.is_some())))
        })
        .collect()
}

/// The ends of the open runs in which nothing waits any more.
fn ended(runs: &[Governed], judged: &[Judged<'_>], known: &Known) -> Vec<RunFact> {
    let by_id: HashMap<&str, &Judged<'_>> = judged
        .iter()
        .map(|one| (one.call.request.id.as_str(), one))
        .collect();
    let judged_of = |call: &Call| by_id.get(call.request.id.as_str()).copied();
    runs.iter()
        .filter(|run| !run.calls.iter().filter_map(judged_of).any(Judged::waits))
        .filter_map(|run| {
            let last = run.calls.iter().filter_map(|call| {
                let place = (run.run_id.clone(), call.tool_call_id().to_owned());
                let (at, _) = known.get(&place)?;
                Some(call.ended_at(*at, judged_of(call).is_some_and(Judged::is_held)))
            });
            Some(run.ended(plan::later(last.max()?, 500)))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_let_pass_is_made() {
        let recorded = import::read(&plan::tests::demo_file()).unwrap();
        let runs = plan::runs(&recorded, "l").unwrap();
        let calls: Vec<&Call> = runs.iter().flat_map(|run| &run.calls).collect();
        for verdict in [
            wire::Verdict::Allowed,
            wire::Verdict::Warned,
            wire::Verdict::Blocked,
            wire::Verdict::AwaitingApproval,
        ] {
            for call in &calls {
                let decided = wire::ToolCallDecided {
                    verdict: verdict.into(),
                    ..wire::ToolCallDecided::default()
                };
                let one = Judged { call, decided };
                let expected = match verdict {
                    wire::Verdict::Blocked => (false, false),
                    wire::Verdict::AwaitingApproval => (
                        call.choice() == Choice::Approve,
                        call.choice() == Choice::Leave,
                    ),
                    _ => (true, false),
                };
                assert_eq!((one.may_go(), one.waits()), expected);
            }
        }
    }

    #[test]
    fn the_reviewer_approves_exactly_what_was_held() {
        use wire::decide_approvals_request::item::Item;
        let recorded = import::read(&plan::tests::demo_file()).unwrap();
        let runs = plan::runs(&recorded, "l").unwrap();
        let decided = wire::ToolCallDecided {
            approval_id: "approval".to_owned(),
            arguments_digest: vec![7; 32],
            ..wire::ToolCallDecided::default()
        };
        for call in runs.iter().flat_map(|run| &run.calls) {
            let decided = decided.clone();
            let item = item(&Judged { call, decided }).and_then(|item| item.item);
            match (call.choice(), item) {
                (Choice::Approve, Some(Item::Approve(one))) => {
                    assert_eq!(
                        (one.approval_id.as_str(), one.arguments_digest),
                        ("approval", vec![7; 32])
                    );
                }
                (Choice::Reject, Some(Item::Reject(one))) => assert!(!one.reason.is_empty()),
                (Choice::Leave, None) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn a_run_ends_after_its_last_call_and_only_when_nothing_waits() {
        let recorded = import::read(&plan::tests::demo_file()).unwrap();
        let runs = plan::runs(&recorded, "l").unwrap();
        let at = Timestamp::UNIX_EPOCH + chrono::TimeDelta::days(20_000);
        let mut known = Known::new();
        let mut judged = Vec::new();
        for run in &runs {
            for call in &run.calls {
                let place = (run.run_id.clone(), call.tool_call_id().to_owned());
                known.insert(place, (at, false));
                judged.push(Judged {
                    call,
                    decided: wire::ToolCallDecided {
                        verdict: wire::Verdict::AwaitingApproval.into(),
                        ..wire::ToolCallDecided::default()
                    },
                });
            }
        }
        let ends = ended(&runs, &judged, &known);
        let waiting = |run: &&Governed| {
            let mut calls = run.calls.iter();
            calls.any(|call| call.choice() == Choice::Leave)
        };
        assert_eq!(ends.len(), runs.len() - runs.iter().filter(waiting).count());
        assert!(!ends.is_empty() && ends.len() < runs.len());
        assert!(ended(&runs, &judged, &Known::new()).is_empty());
        for end in &ends {
            let end = moment(end.occurred_at.as_ref()).unwrap();
            assert!(end > at + chrono::TimeDelta::seconds(5), "{end}");
        }
    }
}
