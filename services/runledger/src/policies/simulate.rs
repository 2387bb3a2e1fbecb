//! `runledger policies simulate`: what changes would make of calls, without making them.

use std::collections::BTreeMap;

use runledger_domain::approval::Verdict;
use runledger_proto::approval::v1 as wire;
use runledger_proto::approval::v1::simulate_request::Calls;
use runledger_proto::encode;
use runledger_proto::run::v1::ToolCallStarted;
use runledger_proto::words::known;

use super::{file, view};
use crate::cli::PolicySimulate;
use crate::json;
use crate::reading::PAGE;
use crate::remote::{Refusal, Remote, Simulations};
use crate::runs::read_options;
use crate::say;

/// What the service asks for and a person may leave out.
const SOMEBODY: &str = "simulated";

/// What came of all pages.
#[derive(Default)]
pub(super) struct Simulated {
    pub(super) calls: u64,
    pub(super) counts: BTreeMap<(i32, i32), u64>,
    pub(super) with_every_field: u64,
    /// The first of those that change.
    pub(super) shown: Vec<wire::SimulatedCall>,
}

impl Simulated {
    fn take_in(&mut self, page: wire::SimulateResponse, shown_max: usize) {
        self.calls += page.calls;
        self.with_every_field += page.with_every_field;
        for count in page.counts {
            *self.counts.entry((count.before, count.after)).or_default() += count.calls;
        }
        let left = shown_max.saturating_sub(self.shown.len());
        self.shown.extend(page.simulated.into_iter().take(left));
    }

    /// How many verdicts would be others.
    pub(super) fn changed(&self) -> u64 {
        let changes = self.counts.iter();
        let changes = changes.filter(|((before, after), _)| before != after);
        changes.map(|(_, calls)| calls).sum()
    }
}

pub(super) async fn run(args: &PolicySimulate) -> anyhow::Result<()> {
    let request = request(args)?;
    let simulations = Remote::resolve(&args.reading.server)?.simulations().await?;
    let simulated = all_pages(simulations, request, args.limit as usize).await?;
    if args.reading.json {
        return print_json(simulated);
    }
    if simulated.calls == 0 {
        say::line("No call that was asked for is like that.")?;
        return Ok(());
    }
    if args.described.call.is_some() {
        return Ok(view::described(&simulated.shown).print()?);
    }
    view::verdicts(&simulated.counts).print()?;
    say::line(format_args!(
        "{} of {} calls would be judged otherwise.",
        say::count(simulated.changed()),
        say::count(simulated.calls),
    ))?;
    if !args.with.is_empty() {
        say::line(format_args!(
            "{} have every field that the policies of --with read.",
            say::count(simulated.with_every_field),
        ))?;
    }
    if simulated.shown.is_empty() {
        return Ok(());
    }
    view::changes(&simulated.shown).print()?;
    if simulated.changed() > simulated.shown.len() as u64 {
        say::line(format_args!(
            "There are more; --limit shows more than {}.",
            args.limit
        ))?;
    }
    Ok(())
}

async fn all_pages(
    mut simulations: Simulations,
    mut request: wire::SimulateRequest,
    shown_max: usize,
) -> anyhow::Result<Simulated> {
    let mut simulated = Simulated::default();
    loop {
        let page = simulations.simulate(request.clone()).await;
        let page = page.map_err(Refusal::from)?.into_inner();
        request.page_token.clone_from(&page.next_page_token);
        simulated.take_in(page, shown_max);
        if request.page_token.is_empty() {
            return Ok(simulated);
        }
    }
}

/// One answer, as if a single page held all.
fn print_json(simulated: Simulated) -> anyhow::Result<()> {
    let counts = simulated.counts.into_iter();
    let answer = wire::SimulateResponse {
        calls: simulated.calls,
        counts: counts
            .map(|((before, after), calls)| wire::VerdictCount {
                before,
                after,
                calls,
            })
            .collect(),
        with_every_field: simulated.with_every_field,
        simulated: simulated.shown,
        ..wire::SimulateResponse::default()
    };
    say::line(json::of("runledger.approval.v1.SimulateResponse", &answer)?)?;
    Ok(())
}

fn request(args: &PolicySimulate) -> anyhow::Result<wire::SimulateRequest> {
    let policies = args.with.iter();
    let policies = policies.map(|(id, path)| {
        Ok(wire::DraftPolicy {
            policy_id: id.clone(),
            spec: Some(file::read(path)?),
        })
    });
    Ok(wire::SimulateRequest {
        draft: Some(wire::Draft {
            from_nothing: args.from_nothing,
            policies: policies.collect::<anyhow::Result<Vec<_>>>()?,
            without: args.without.clone(),
        }),
        calls: Some(calls(args)),
        page_size: PAGE,
        page_token: String::new(),
        read: read_options(&args.reading),
    })
}

fn calls(args: &PolicySimulate) -> Calls {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let Some(tool) = &args.described.call else {
        return Calls::Recorded(wire::RecordedCalls {
            from: args.recorded.from.map(encode::timestamp),
            to: args.recorded.to.map(encode::timestamp),
            run_id: text(&args.run),
            agent_id: text(&args.agent),
            tool: text(&args.recorded.tool),
        });
    };
    let somebody = |id: &Option<String>| id.clone().unwrap_or_else(|| SOMEBODY.to_owned());
    Calls::Described(wire::DescribedCall {
        call: Some(ToolCallStarted {
            run_id: somebody(&args.run),
            tool_call_id: SOMEBODY.to_owned(),
            tool: tool.clone(),
            arguments_json: text(&args.described.arguments),
            action_hint: text(&args.described.action_hint),
            ..ToolCallStarted::default()
        }),
        agent_id: somebody(&args.agent),
        model: text(&args.described.model),
        labels: args.described.labels.iter().cloned().collect(),
    })
}

/// `awaiting approval`: as people read it.
pub(super) fn verdict(number: i32) -> &'static str {
    match known::<wire::Verdict>(number) {
        Some(Verdict::Allowed) => "allowed",
        Some(Verdict::Warned) => "warned",
        Some(Verdict::Blocked) => "blocked",
        Some(Verdict::AwaitingApproval) => "awaiting approval",
        None => "?",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(before: wire::Verdict, after: wire::Verdict, calls: u64) -> wire::SimulateResponse {
        wire::SimulateResponse {
            calls,
            counts: vec![wire::VerdictCount {
                before: before.into(),
                after: after.into(),
                calls,
            }],
            with_every_field: 1,
            simulated: vec![wire::SimulatedCall::default(); 2],
            ..wire::SimulateResponse::default()
        }
    }

    #[test]
    fn pages_add_up() {
        use wire::Verdict::{Allowed, Blocked};
        let mut all = Simulated::default();
        all.take_in(page(Allowed, Allowed, 5), 3);
        all.take_in(page(Allowed, Blocked, 2), 3);
        all.take_in(page(Allowed, Blocked, 1), 3);
        assert_eq!((all.calls, all.changed(), all.with_every_field), (8, 3, 3));
        assert_eq!((all.counts.len(), all.shown.len()), (2, 3));
    }
}
