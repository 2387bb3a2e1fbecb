//! Fifty rules put to the same calls by `PolicySet::judge` and by `cedar-policy`, in one process, in
//! rounds that take turns. Prints the medians as lines of JSON; fails when the two do not agree on what matches.
//!
//! Both begin with the call as it comes: a name, an agent and the arguments as JSON text.

mod calls;
mod rules;

use std::hint::black_box;
use std::time::{Duration, Instant};

use cedar_policy::{Authorizer, Context, Decision, Entities, EntityUid, Request};
use runledger_domain::policy::{Action, PolicySet};

use calls::Call;

const ROUNDS: usize = 401;
const CALLS_OF_A_ROUND: usize = 64;

fn main() {
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
    let [mine, whole, bare] = [mine, whole, bare].map(median);
    for (who, took) in [
        ("runledger", mine),
        ("cedar-policy 4.14.1", whole),
        ("cedar-policy 4.14.1, its request made before", bare),
    ] {
        let us = took.as_secs_f64() * 1e6;
        let line = serde_json::json!({
            "row": "policy",
            "who": who,
            "events": ROUNDS * CALLS_OF_A_ROUND,
            "rate": 1e6 / us,
            "cpu_us_per_event": { "policies": us },
        });
        println!("{line}");
    }
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
    from.elapsed() / CALLS_OF_A_ROUND as u32
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
