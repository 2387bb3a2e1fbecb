//! What other policies would have made of a call that was decided: nothing is stored.

use std::collections::BTreeMap;

use super::{
    Action, Book, Change, FieldsPresent, Judgement, Match, POLICIES_MAX, Policy, PolicySet, Spec,
    Subject,
};
use crate::approval::Verdict;
use crate::ids::PolicyId;

/// Policies that are not in force: those of a scope, with changes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Draft {
    /// Begins with no policy instead of the scope's.
    pub from_nothing: bool,
    /// Added, or put in the place of those with their ids.
    pub policies: Vec<(PolicyId, Spec)>,
    pub without: Vec<PolicyId>,
}

/// Why a draft cannot be made of a scope's policies.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DraftError {
    #[error("there is no policy {0} to leave out; list the policies to see their ids")]
    NoSuchPolicy(PolicyId),
    #[error("the draft has more than {POLICIES_MAX} policies, as many as may be")]
    TooManyPolicies,
}

impl Draft {
    /// Ready to judge: the policies as they would be once each change was made, at a moment and by
    /// somebody.
    ///
    /// # Errors
    /// When it leaves out what is not there, or has too many.
    pub fn compile(&self, book: &Book, change: Change) -> Result<Drafted, DraftError> {
        let all = self.apply(book, change)?;
        let named = |one: &&Policy| self.policies.iter().any(|(id, _)| *id == one.id);
        Ok(Drafted {
            set: PolicySet::compile(&all),
            named: PolicySet::compile(all.iter().filter(named)),
        })
    }

    /// One that says what it says in `book` already is the same version.
    pub(super) fn apply(&self, book: &Book, change: Change) -> Result<Vec<Policy>, DraftError> {
        let living = book.policies().filter(|policy| !policy.deleted);
        let mut all: BTreeMap<&PolicyId, Policy> = if self.from_nothing {
            BTreeMap::new()
        } else {
            living.map(|one| (&one.id, one.clone())).collect()
        };
        for id in &self.without {
            all.remove(id)
                .ok_or_else(|| DraftError::NoSuchPolicy(id.clone()))?;
        }
        for (id, spec) in &self.policies {
            all.insert(id, drafted(book.get(id), id, spec, change));
        }
        if all.len() > POLICIES_MAX {
            return Err(DraftError::TooManyPolicies);
        }
        Ok(all.into_values().collect())
    }
}

fn drafted(known: Option<&Policy>, id: &PolicyId, spec: &Spec, change: Change) -> Policy {
    match known {
        Some(known) if known.spec == *spec && !known.deleted => known.clone(),
        Some(known) => Policy {
            version: known.version.saturating_add(1),
            spec: spec.clone(),
            updated: Some(change),
            deleted: false,
            ..known.clone()
        },
        None => Policy {
            id: id.clone(),
            version: 1,
            spec: spec.clone(),
            created: Some(change),
            updated: Some(change),
            deleted: false,
        },
    }
}

/// What was decided of a call.
#[derive(Clone, Copy, Debug)]
pub struct Recorded<'a> {
    pub verdict: Verdict,
    pub matches: &'a [Match],
    /// The verdict is what the policies made of it; otherwise the run had ended, or reached a limit.
    pub by_policies: bool,
}

/// One call under a draft.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Simulation {
    pub before: Verdict,
    pub after: Verdict,
    /// Why, policy by policy; empty where the verdict stays.
    pub causes: Vec<Cause>,
    pub judgement: Judgement,
    /// How much of what the policies that the draft names read the call has: a verdict over what was
    /// never recorded says little.
    pub fields: FieldsPresent,
}

impl Simulation {
    pub fn changes(&self) -> bool {
        self.before != self.after
    }
}

/// What a policy has to do with a verdict that changes: how it matched, its version and action,
/// before and in the draft. They differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cause {
    pub policy: PolicyId,
    pub before: Option<(u64, Action)>,
    pub after: Option<(u64, Action)>,
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

/// A draft, compiled. Cheap to put to many calls.
#[derive(Clone, Debug)]
pub struct Drafted {
    set: PolicySet,
    /// Those that the draft adds or puts in the place of others.
    named: PolicySet,
}

impl Drafted {
    /// Judges a recorded call. A verdict that was not the policies' stays as it was.
    pub fn simulate(&self, subject: &Subject<'_>, recorded: Recorded<'_>) -> Simulation {
        let judgement = self.set.judge(subject);
        let before = recorded.verdict;
        let after = if recorded.by_policies {
            judgement.action.into()
        } else {
            before
        };
        Simulation {
            before,
            after,
            causes: if after == before {
                Vec::new()
            } else {
                causes(recorded.matches, &judgement.matches)
            },
            fields: self.named.fields_present(subject),
            judgement,
        }
    }
}

fn causes(then: &[Match], now: &[Match]) -> Vec<Cause> {
    let mut causes: Vec<Cause> = Vec::new();
    let matched = |one: &Match| Some((one.version, one.action));
    for one in then {
        let again = now.iter().find(|other| other.policy == one.policy);
        let after = again.and_then(matched);
        if after.map(|(_, action)| action) != Some(one.action) {
            causes.push(Cause {
                policy: one.policy.clone(),
                before: matched(one),
                after,
            });
        }
    }
    let is_new = |one: &&Match| !then.iter().any(|other| other.policy == one.policy);
    causes.extend(now.iter().filter(is_new).map(|one| Cause {
        policy: one.policy.clone(),
        before: None,
        after: matched(one),
    }));
    causes
}
