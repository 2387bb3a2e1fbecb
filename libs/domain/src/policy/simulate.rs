//! What other policies would have made of a call that was decided: nothing is stored.

use super::{Action, FieldsPresent, Judgement, Match, PolicySet, Subject};
use crate::approval::Verdict;
use crate::ids::PolicyId;

/// One recorded call under a draft.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Simulation {
    pub before: Verdict,
    pub after: Verdict,
    /// Why, policy by policy; empty where the verdict stays.
    pub causes: Vec<Cause>,
    pub judgement: Judgement,
    /// How much of what the draft reads the call has: a verdict over what was never recorded says little.
    pub fields: FieldsPresent,
}

impl Simulation {
    pub fn changes(&self) -> bool {
        self.before != self.after
    }
}

/// What a policy has to do with a verdict that changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    /// It matched then and does not now.
    NoLonger {
        policy: PolicyId,
        version: u64,
        action: Action,
    },
    /// It matches now and did not then.
    Now {
        policy: PolicyId,
        version: u64,
        action: Action,
    },
    /// It matches as it did, with another action.
    Otherwise {
        policy: PolicyId,
        versions: (u64, u64),
        actions: (Action, Action),
    },
}

impl From<Action> for Verdict {
    fn from(action: Action) -> Self {
        match action {
            Action::Allow => Self::Allowed,
            Action::Warn => Self::Warned,
            Action::RequireApproval => Self::AwaitingApproval,
            Action::Block => Self::Blocked,
        }
    }
}

/// Judges a recorded call by `draft`. A verdict that was not the policies' (a run that had ended, a
/// limit of the run) stays as it was.
pub fn simulate(
    draft: &PolicySet,
    subject: &Subject<'_>,
    recorded: &[Match],
    verdict: Verdict,
) -> Simulation {
    let judgement = draft.judge(subject);
    let then = recorded.iter().map(|one| one.action).max();
    let by_policies = verdict == Verdict::from(then.unwrap_or(Action::Allow));
    let after = if by_policies {
        judgement.action.into()
    } else {
        verdict
    };
    Simulation {
        before: verdict,
        after,
        causes: if after == verdict {
            Vec::new()
        } else {
            causes(recorded, &judgement.matches)
        },
        fields: draft.fields_present(subject),
        judgement,
    }
}

fn causes(then: &[Match], now: &[Match]) -> Vec<Cause> {
    let find = |list: &[Match], one: &Match| {
        let found = list.iter().find(|other| other.policy == one.policy);
        found.map(|found| (found.version, found.action))
    };
    let gone = then.iter().filter_map(|one| match find(now, one) {
        None => Some(Cause::NoLonger {
            policy: one.policy.clone(),
            version: one.version,
            action: one.action,
        }),
        Some((version, action)) if action != one.action => Some(Cause::Otherwise {
            policy: one.policy.clone(),
            versions: (one.version, version),
            actions: (one.action, action),
        }),
        Some(_) => None,
    });
    let come = now.iter().filter(|one| find(then, one).is_none());
    let come = come.map(|one| Cause::Now {
        policy: one.policy.clone(),
        version: one.version,
        action: one.action,
    });
    gone.chain(come).collect()
}
