//! The policies of a scope, and how commands change them.

use std::collections::BTreeMap;

use super::{Change, Changed, Changing, Command, Policy, PolicySet, Spec, check, defaults};
use crate::decision::{Rejection, RejectionKind};
use crate::ids::PolicyId;

/// Most policies of a scope, deleted ones aside.
pub const POLICIES_MAX: usize = 200;

/// The policies of a scope as its decisions have left them. One that nothing was decided in has the
/// defaults; from then on these are policies like others, and stay as they were last changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Book {
    /// Deleted ones too: an id is never given again.
    policies: BTreeMap<PolicyId, Policy>,
}

impl Default for Book {
    fn default() -> Self {
        let policies = defaults().iter();
        Self {
            policies: policies
                .map(|policy| (policy.id.clone(), policy.clone()))
                .collect(),
        }
    }
}

impl Book {
    /// One that was kept.
    pub fn of(policies: impl IntoIterator<Item = Policy>) -> Self {
        let policies = policies.into_iter();
        Self {
            policies: policies.map(|one| (one.id.clone(), one)).collect(),
        }
    }

    /// All of them, by id, deleted ones too.
    pub fn policies(&self) -> impl Iterator<Item = &Policy> {
        self.policies.values()
    }

    /// A policy, also when it is deleted.
    pub fn get(&self, id: &PolicyId) -> Option<&Policy> {
        self.policies.get(id)
    }

    /// Those that take part, ready to judge.
    pub fn compile(&self) -> PolicySet {
        PolicySet::compile(self.policies())
    }

    fn living(&self, id: &PolicyId, expected: Option<u64>) -> Result<&Policy, Rejection> {
        let policy = self.get(id).filter(|policy| !policy.deleted);
        let policy = policy.ok_or_else(|| {
            let message = "there is no such policy; list the policies to see their ids";
            Rejection::new(RejectionKind::NotFound, "POLICY_NOT_FOUND", message)
        })?;
        match expected {
            Some(expected) if expected != policy.version => {
                let message = format!(
                    "policy {id} has version {}, not {expected}; read it again and decide anew",
                    policy.version
                );
                let kind = RejectionKind::Precondition;
                Err(Rejection::new(kind, "VERSION_MISMATCH", message))
            }
            _ => Ok(policy),
        }
    }

    fn vacant(&self, id: &PolicyId) -> Result<(), Rejection> {
        if let Some(policy) = self.get(id) {
            let state = if policy.deleted { ", deleted" } else { "" };
            let message = format!("there is a policy {id} already{state}; choose another id");
            let kind = RejectionKind::AlreadyExists;
            return Err(Rejection::new(kind, "POLICY_EXISTS", message));
        }
        let living = self.policies().filter(|policy| !policy.deleted).count();
        if living >= POLICIES_MAX {
            let message =
                format!("there are {living} policies, as many as may be; delete one first");
            let kind = RejectionKind::Precondition;
            return Err(Rejection::new(kind, "TOO_MANY_POLICIES", message));
        }
        Ok(())
    }
}

/// What becomes of a command.
///
/// # Errors
/// Why it is refused. Enabling what is enabled is refused too (`NOTHING_TO_CHANGE`): there is no
/// version without a change.
pub fn decide(book: &Book, command: &Command, change: Change) -> Result<Changed, Rejection> {
    match command {
        Command::Create { id, spec } => {
            sound(spec)?;
            book.vacant(id)?;
            Ok(Changed {
                changing: Changing::Created,
                policy: Policy {
                    id: id.clone(),
                    version: 1,
                    spec: spec.clone(),
                    created: Some(change),
                    updated: Some(change),
                    deleted: false,
                },
            })
        }
        Command::Update {
            id,
            spec,
            expected_version,
        } => {
            sound(spec)?;
            let policy = book.living(id, *expected_version)?;
            let spec = spec.clone();
            changed(policy, Changing::Updated, change, |policy| {
                policy.spec = spec
            })
        }
        Command::SetEnabled {
            id,
            enabled,
            expected_version,
        } => {
            let policy = book.living(id, *expected_version)?;
            let (changing, state) = if *enabled {
                (Changing::Enabled, "enabled")
            } else {
                (Changing::Disabled, "disabled")
            };
            if policy.spec.disabled != *enabled {
                let message = format!("policy {id} is {state} already");
                let kind = RejectionKind::Precondition;
                return Err(Rejection::new(kind, "NOTHING_TO_CHANGE", message));
            }
            changed(policy, changing, change, |policy| {
                policy.spec.disabled = !enabled;
            })
        }
        Command::Delete {
            id,
            expected_version,
        } => {
            let policy = book.living(id, *expected_version)?;
            changed(policy, Changing::Deleted, change, |policy| {
                policy.deleted = true;
            })
        }
    }
}

fn sound(spec: &Spec) -> Result<(), Rejection> {
    let faults = check(spec);
    if faults.is_empty() {
        Ok(())
    } else {
        Err(Rejection::invalid(faults))
    }
}

fn changed(
    policy: &Policy,
    changing: Changing,
    change: Change,
    apply: impl FnOnce(&mut Policy),
) -> Result<Changed, Rejection> {
    let mut policy = policy.clone();
    apply(&mut policy);
    policy.version = policy.version.checked_add(1).ok_or_else(|| {
        let message = format!("policy {} has no further versions", policy.id);
        Rejection::new(RejectionKind::Internal, "VERSIONS_EXHAUSTED", message)
    })?;
    policy.updated = Some(change);
    Ok(Changed { changing, policy })
}

/// Takes a decision in force in. Total: `false` when it does not fit (it is not the next version of
/// its policy), and is taken all the same if it is a later one.
pub fn evolve(book: &mut Book, changed: &Changed) -> bool {
    let policy = &changed.policy;
    let known = book.get(&policy.id).map(|known| known.version);
    let fits = match known {
        None => policy.version == 1,
        Some(version) => version.checked_add(1) == Some(policy.version),
    };
    if known.is_none_or(|version| version < policy.version) {
        book.policies.insert(policy.id.clone(), policy.clone());
    }
    fits
}

#[cfg(test)]
mod tests;
