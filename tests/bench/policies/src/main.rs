//! Fifty rules put to the same calls by `PolicySet::judge` and by `cedar-policy`, in one process, in
//! rounds that take turns. Prints the medians as text, or with `--json` as a line for each of the two;
//! fails when they do not agree on what matches.
//!
//! Both begin with the call as it comes: a name, an agent and the arguments as JSON text.

mod calls;
mod rules;

use std::hint::black_box;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use cedar_policy::{Authorizer, Context, Decision, Entities, EntityUid, Request};
use runledger_domain::policy::{Action, PolicySet};

use calls::Call;

// So many that the first few, in which everything is cold, do not move the median.
const ROUNDS: usize = 401;
const CALLS_OF_A_ROUND: usize = 64;

const CEDAR: &str = "cedar-policy 4.14.1";

fn main() -> ExitCode {
    let is_json = match std::env::args().nth(1).as_deref() {
        None => false,
        Some("--json") => true,
        Some(other) => {
            eprintln!("there is no {other}, only --json");
            return ExitCode::FAILURE;
        }
    };
    let medians = measure();
    if is_json {
        print_lines(&medians);
    } else {
        print_text(&medians);
    }
    ExitCode::SUCCESS
}

/// Time for one call, the median of the rounds.
struct Medians {
    ours: Duration,
    cedar: Duration,
    /// The same, its request made before: without what it takes to read the call.
    cedar_bare: Duration,
}

fn measure() -> Medians {
    let ours = PolicySet::compile(&rules::ours());
    let theirs = rules::theirs();
    let calls = calls::all();
    for call in &calls {
        let matched = ours.judge(&call.subject()).matches.len();
        let allowed = is_allowed(&theirs, &call.request());
        assert_eq!(matched > 0, allowed, "{}", call.arguments);
    }
    let requests: Vec<Request> = calls.iter().map(Call::request).collect();
    let (mut mine, mut whole, mut bare) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        mine.push(round(&calls, |call| {
            ours.judge(&call.subject()).action == Action::Allow
        }));
        whole.push(round(&calls, |call| is_allowed(&theirs, &call.request())));
        bare.push(round(&requests, |request| is_allowed(&theirs, request)));
    }
    Medians {
        ours: median(mine),
        cedar: median(whole),
        cedar_bare: median(bare),
    }
}

fn print_lines(medians: &Medians) {
    for (who, took) in [("runledger", medians.ours), (CEDAR, medians.cedar)] {
        let seconds = took.as_secs_f64();
        let line = serde_json::json!({
            "row": "policy",
            "who": who,
            "events": ROUNDS * CALLS_OF_A_ROUND,
            "rate": (1.0 / seconds).round(),
            "ns_per_call": (seconds * 1e9).round(),
            // One thread that never waits: its time is processor time.
            "cpu_us_per_event": { "policies": seconds * 1e6 },
        });
        println!("{line}");
    }
}

fn print_text(medians: &Medians) {
    let ratio = |of: Duration| medians.ours.as_secs_f64() / of.as_secs_f64();
    println!("medians of {ROUNDS} rounds that take turns, {CALLS_OF_A_ROUND} calls each");
    println!(
        "runledger, arguments as text            {:>10.2?} a call",
        medians.ours
    );
    println!(
        "{CEDAR}, arguments as text   {:>10.2?} a call",
        medians.cedar
    );
    println!(
        "{CEDAR}, request made before {:>10.2?} a call",
        medians.cedar_bare
    );
    println!(
        "ratio {:.3}, to a request made before {:.3}",
        ratio(medians.cedar),
        ratio(medians.cedar_bare)
    );
}

fn is_allowed(policies: &cedar_policy::PolicySet, request: &Request) -> bool {
    let answer = Authorizer::new().is_authorized(request, policies, &Entities::empty());
    answer.decision() == Decision::Allow
}

/// Time for one call.
fn round<T>(calls: &[T], judge: impl Fn(&T) -> bool) -> Duration {
    let from = Instant::now();
    for at in 0..CALLS_OF_A_ROUND {
        black_box(judge(black_box(&calls[at % calls.len()])));
    }
    from.elapsed() / u32::try_from(CALLS_OF_A_ROUND).expect("few calls")
}

fn median(mut of: Vec<Duration>) -> Duration {
    of.sort_unstable();
    of[of.len() / 2]
}

impl Call {
    fn request(&self) -> Request {
        let arguments: serde_json::Value =
            serde_json::from_str(self.arguments.as_str()).expect("JSON");
        let labels: serde_json::Map<_, _> = self
            .labels
            .iter()
            .map(|(name, value)| (name.to_string(), value.clone().into()))
            .collect();
        let context = serde_json::json!({
            "tool": self.tool.as_str(),
            "agent": self.agent.as_str(),
            "arguments": arguments,
            "labels": labels,
        });
        let context = Context::from_json_value(context, None).expect("a context");
        let entity = |text: &str| text.parse::<EntityUid>().expect("an entity");
        Request::new(
            entity("Agent::\"a\""),
            entity("Action::\"call\""),
            entity("Tool::\"t\""),
            context,
            None,
        )
        .expect("a request")
    }
}
