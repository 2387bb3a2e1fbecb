//! However commands are batched, repeated and spread over deciders: the same outcomes.

use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::prelude::*;
use uuid::Uuid;

use super::*;

type State = (Run, BTreeMap<ToolCallId, Call>);

#[derive(Clone, Copy, Debug)]
enum Ask {
    Request(usize),
    Vote {
        call: usize,
        by: u128,
        approve: bool,
        edits: bool,
    },
    Confirm(usize),
}

const TOOLS: [&str; 5] = ["free", "warn", "block", "hold", "hold2"];

fn any_ask() -> impl Strategy<Value = Ask> {
    let vote = (
        0..5_usize,
        0..4_u128,
        prop::bool::weighted(0.8),
        prop::bool::weighted(0.1),
    );
    prop_oneof![
        (0..5_usize).prop_map(Ask::Request),
        vote.prop_map(|(call, by, approve, edits)| Ask::Vote {
            call,
            by,
            approve,
            edits
        }),
        (0..5_usize).prop_map(Ask::Confirm),
    ]
}

/// The call is named by its tool, and was asked for by the command of its number.
fn command(ask: Ask) -> (ToolCallId, Command, Actor) {
    let (Ask::Request(call) | Ask::Vote { call, .. } | Ask::Confirm(call)) = ask;
    let id: ToolCallId = TOOLS[call].parse().unwrap();
    let (command, actor) = match ask {
        Ask::Request(call) => (request(TOOLS[call], TOOLS[call]), agent()),
        Ask::Vote {
            by, approve, edits, ..
        } => {
            let vote = DecideApproval {
                tool_call_id: id.clone(),
                edited_arguments: (approve && edits).then(|| json("[]")),
                ..decide_approval(call as u128, approve)
            };
            (Command::DecideApproval(vote), user(10 + by, Role::Reviewer))
        }
        Ask::Confirm(_) => {
            let arguments_digest = digest_arguments(Some(&json("{\"a\":1}")));
            let confirm = ConfirmExecution {
                tool_call_id: id.clone(),
                arguments_digest,
            };
            (Command::ConfirmExecution(confirm), agent())
        }
    };
    (id, command, actor)
}

fn evolved(state: &mut State, id: &ToolCallId, decision: &Decision) {
    let mut call = state.1.remove(id);
    assert!(
        evolve(&mut state.0, &mut call, decision, at(1)),
        "{decision:?}"
    );
    state.1.extend(call.map(|call| (id.clone(), call)));
}

proptest! {
    #[test]
    fn rounds_and_repeats_make_no_difference(
        asks in vec(any_ask(), 1..40), rounds in vec(1..8_usize, 40), repeats in vec(0..40_usize, 0..20),
    ) {
        let first = |asks: &[(usize, Ask)], sizes: &[usize]| {
            let mut state = (Run::default(), BTreeMap::new());
            let mut outcomes = BTreeMap::new();
            let mut left = asks;
            for size in sizes.iter().chain(std::iter::repeat(&1)) {
                if left.is_empty() {
                    break;
                }
                let (round, rest) = left.split_at((*size).min(left.len()));
                left = rest;
                // A round is judged against its own copy, and believed when it is read back.
                let (mut own, mut sent) = (state.clone(), Vec::new());
                for (number, ask) in round {
                    if outcomes.contains_key(number) {
                        continue;
                    }
                    let (id, command, actor) = command(*ask);
                    let call = match ask { Ask::Request(call) => *call, Ask::Vote { .. } | Ask::Confirm(_) => 77 };
                    let moment = Moment {
                        at: at(1), actor, command: RecordId::new(Uuid::from_u128(call as u128)), judge: &judge,
                    };
                    let decided = decide(&own.0, own.1.get(&id), &command, &moment);
                    if let Ok(decision) = &decided {
                        evolved(&mut own, &id, decision);
                        sent.push((id, decision.clone()));
                    }
                    outcomes.insert(*number, decided);
                }
                for (id, decision) in &sent {
                    evolved(&mut state, id, decision);
                }
                assert_eq!(state, own);
            }
            (state, outcomes)
        };
        let once: Vec<_> = asks.iter().copied().enumerate().collect();
        let mut repeated = once.clone();
        for which in repeats {
            // Anywhere behind the first.
            let again = once[which % once.len()];
            let first = repeated.iter().position(|one: &(usize, Ask)| one.0 == again.0).unwrap();
            repeated.insert(first + 1 + which % (repeated.len() - first), again);
        }
        let one_by_one = first(&once, &[]);
        let in_rounds = first(&repeated, &rounds);
        prop_assert_eq!(one_by_one, in_rounds);
    }
}
