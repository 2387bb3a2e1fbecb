//! Commands that are asked again, with the same ids, while there is no answer yet: that is always safe.

use std::time::Duration;

use anyhow::bail;
use runledger_proto::approval::v1 as wire;
use runledger_service::status;
use tonic::{Code, Request, Response, Status};

use crate::remote::{Approvals, Refusal};

/// How often one command is asked, and how long is waited in between.
const ATTEMPTS: u32 = 10;
const PAUSE: Duration = Duration::from_millis(250);
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// How long one of them may take.
const TIMEOUT: Duration = Duration::from_secs(15);

fn worth_again(code: Code) -> bool {
    matches!(
        code,
        Code::Unavailable | Code::ResourceExhausted | Code::DeadlineExceeded | Code::Cancelled
    )
}

/// Asks while the service says that a retry helps.
pub(super) async fn again<T, F>(mut ask: impl FnMut() -> F) -> Result<T, Refusal>
where
    F: Future<Output = Result<Response<T>, Status>>,
{
    let mut attempt = 1;
    loop {
        match ask().await {
            Ok(answer) => return Ok(answer.into_inner()),
            Err(refused) if worth_again(refused.code()) && attempt < ATTEMPTS => {
                let pause = status::retry_after(&refused).unwrap_or(PAUSE);
                tokio::time::sleep(pause.min(PAUSE_MAX)).await;
                attempt += 1;
            }
            Err(refused) => return Err(refused.into()),
        }
    }
}

fn timed<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(TIMEOUT);
    request
}

/// What was decided about each call of a batch, and the tokens.
pub(super) async fn requests(
    approvals: &Approvals,
    request: &wire::RequestToolCallsRequest,
) -> anyhow::Result<Vec<(wire::ToolCallDecided, String)>> {
    for _ in 0..ATTEMPTS {
        let answers = again(|| {
            let (mut approvals, request) = (approvals.clone(), timed(request.clone()));
            async move { approvals.request_tool_calls(request).await }
        })
        .await?
        .answers;
        if let Some(decided) = all_decided(answers)? {
            return Ok(decided);
        }
    }
    bail!("calls were asked for {ATTEMPTS} times and are not decided; does the decider run?")
}

/// `None`: not all of them are decided yet.
fn all_decided(
    answers: Vec<wire::ToolCallAnswer>,
) -> anyhow::Result<Option<Vec<(wire::ToolCallDecided, String)>>> {
    use wire::tool_call_answer::Answer;
    let mut decided = Vec::with_capacity(answers.len());
    for answer in answers {
        match answer.answer {
            Some(Answer::Decided(one)) => decided.push((one, answer.token)),
            Some(Answer::Refused(refused)) => {
                refuse(&refused)?;
                return Ok(None);
            }
            Some(Answer::Pending(_)) | None => return Ok(None),
        }
    }
    Ok(Some(decided))
}

/// Fails, unless asking again can help.
fn refuse(refused: &wire::Refused) -> anyhow::Result<()> {
    if worth_again(Code::from_i32(refused.code)) {
        return Ok(());
    }
    let mut faults = refused.violations.iter();
    let fault = faults.next().map_or_else(String::new, |one| {
        format!("\n  {}  {}", one.field, one.description)
    });
    bail!(
        "a call of the demo was refused: {} ({}){fault}",
        refused.message,
        refused.reason
    )
}

/// Tokens of the decisions on held calls. Somebody else may have been first, or too late.
pub(super) async fn decisions(
    approvals: &Approvals,
    request: &wire::DecideApprovalsRequest,
) -> anyhow::Result<Vec<String>> {
    use wire::decision_answer::Answer;
    for _ in 0..ATTEMPTS {
        let answers = again(|| {
            let (mut approvals, request) = (approvals.clone(), timed(request.clone()));
            async move { approvals.decide_approvals(request).await }
        })
        .await?
        .answers;
        let is_open = |answer: &wire::DecisionAnswer| match &answer.answer {
            Some(Answer::Voted(_)) => false,
            Some(Answer::Refused(refused)) => worth_again(Code::from_i32(refused.code)),
            Some(Answer::Pending(_)) | None => true,
        };
        if !answers.iter().any(is_open) {
            return Ok(answers.into_iter().map(|answer| answer.token).collect());
        }
    }
    bail!("approvals were decided on {ATTEMPTS} times without an answer; does the decider run?")
}

/// Confirms a call. Refused is as good an answer: an approval can be over or taken back by an edit.
pub(super) async fn confirm(
    approvals: &Approvals,
    request: &wire::ConfirmExecutionRequest,
) -> anyhow::Result<bool> {
    use wire::confirm_execution_response::Answer;
    for _ in 0..ATTEMPTS {
        let answer = again(|| {
            let (mut approvals, request) = (approvals.clone(), timed(request.clone()));
            async move { approvals.confirm_execution(request).await }
        })
        .await;
        match answer {
            Ok(answer) if matches!(answer.answer, Some(Answer::Confirmed(_))) => return Ok(true),
            Ok(_) => {}
            Err(refused) if refused.code() == Code::FailedPrecondition => return Ok(false),
            Err(refused) => return Err(refused.into()),
        }
    }
    bail!("a call was confirmed {ATTEMPTS} times without an answer; does the decider run?")
}

#[cfg(test)]
mod tests {
    use runledger_domain::fault::{Fault, Kind};
    use wire::tool_call_answer::Answer;

    use super::*;

    fn soon(kind: Kind) -> Status {
        let fault = Fault::new(kind, "REASON", "later");
        status::from_fault(fault.retry_after(Duration::from_millis(1)))
    }

    fn decided(call: &str) -> wire::ToolCallAnswer {
        answer(Answer::Decided(wire::ToolCallDecided {
            message: call.to_owned(),
            ..wire::ToolCallDecided::default()
        }))
    }

    fn answer(answer: Answer) -> wire::ToolCallAnswer {
        wire::ToolCallAnswer {
            answer: Some(answer),
            token: "t".to_owned(),
            ..wire::ToolCallAnswer::default()
        }
    }

    fn refused(code: Code) -> wire::ToolCallAnswer {
        answer(Answer::Refused(wire::Refused {
            code: code.into(),
            reason: "REASON".to_owned(),
            message: "no".to_owned(),
            ..wire::Refused::default()
        }))
    }

    #[test]
    fn a_batch_counts_when_all_of_it_is_decided() {
        let all = all_decided(vec![decided("1"), decided("2")])
            .unwrap()
            .unwrap();
        let told: Vec<&str> = all.iter().map(|(one, _)| one.message.as_str()).collect();
        assert_eq!(told, ["1", "2"]);
        for open in [
            answer(Answer::Pending(wire::Pending {})),
            refused(Code::Unavailable),
            refused(Code::ResourceExhausted),
            wire::ToolCallAnswer::default(),
        ] {
            let answers = vec![decided("1"), open, decided("3")];
            assert!(all_decided(answers).unwrap().is_none());
        }
        let answers = vec![decided("1"), refused(Code::AlreadyExists)];
        let said = all_decided(answers).unwrap_err().to_string();
        assert_eq!(said, "a call of the demo was refused: no (REASON)");
    }

    #[tokio::test]
    async fn what_helps_is_asked_again_and_not_for_ever() {
        let mut left = 3;
        let answered = again(|| {
            left -= 1;
            let answer = if left > 0 {
                Err(soon(Kind::Unavailable))
            } else {
                Ok(Response::new(5))
            };
            async move { answer }
        });
        assert_eq!(answered.await.unwrap(), 5);
        for (refusal, asked) in [
            (soon(Kind::Exhausted), ATTEMPTS),
            (Status::invalid_argument("no"), 1),
        ] {
            let mut count = 0;
            let answered = again(|| {
                count += 1;
                let refusal = refusal.clone();
                async move { Err::<Response<()>, _>(refusal) }
            });
            assert_eq!(answered.await.unwrap_err().code(), refusal.code());
            assert_eq!(count, asked);
        }
    }
}
