//! The policies of a scope, compiled, and what they make of a call.

use std::cell::OnceCell;
use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use super::condition::Test;
use super::expression::{Expression, Variables};
use super::field::{Call, Field, Found, Unreadable};
use super::{
    Action, ApprovalRule, ApproverSet, Hold, Judgement, Match, Policy, Severity, Spec, Subject,
    When, condition,
};
use crate::run::Limits;
use crate::scope::Role;

/// Most matches that a verdict lists: those that follow are milder or younger. All of them count.
pub const MATCHES_MAX: usize = 64;

/// Compiled policies. Cheap to put to many calls, and the same whatever order they came in.
#[derive(Clone, Debug, Default)]
pub struct PolicySet {
    /// The strictest first, then the older, then by id: the order in which matches are listed.
    policies: Vec<Compiled>,
    /// Each once, however many conditions look at it.
    fields: Vec<Field>,
    has_expressions: bool,
}

#[derive(Clone, Debug)]
struct Compiled {
    found: Match,
    when: Ready,
    rule: Option<ApprovalRule>,
    limits: Limits,
}

#[derive(Clone, Debug)]
enum Ready {
    /// Index of the field, whether it is the arguments as a whole, and the test.
    Conditions(Vec<(usize, bool, Test)>),
    Expression(Expression),
    /// It cannot be judged any more, and why. Counts as a match.
    Broken(String),
}

/// What one policy says of one call.
enum Says {
    No,
    Yes,
    Cannot(String),
}

/// How many of the fields that policies read a call has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FieldsPresent {
    pub present: usize,
    pub read: usize,
}

impl FieldsPresent {
    pub fn all(self) -> bool {
        self.present == self.read
    }
}

impl Default for ApprovalRule {
    /// One admin or reviewer, not the requester, within a day; used within an hour.
    fn default() -> Self {
        Self {
            quorum: 1,
            approvers: ApproverSet::default(),
            requester_may_approve: false,
            time_to_decide: Duration::from_hours(24),
            time_to_use: Duration::from_hours(1),
        }
    }
}

/// What a match of an action is worth where its policy does not say.
pub fn severity_of(action: Action) -> Option<Severity> {
    match action {
        Action::Allow => None,
        Action::Warn => Some(Severity::Medium),
        Action::RequireApproval => Some(Severity::High),
        Action::Block => Some(Severity::Critical),
    }
}

impl PolicySet {
    /// Compiles those that take part. Total: one that no longer compiles counts as a match of its
    /// action, with the error.
    pub fn compile<'p>(policies: impl IntoIterator<Item = &'p Policy>) -> Self {
        let mut taking: Vec<&Policy> = policies
            .into_iter()
            .filter(|policy| !policy.deleted && !policy.spec.disabled)
            .collect();
        taking.sort_by_key(|policy| {
            let made = policy.created.map(|change| change.at);
            (Reverse(policy.spec.action), made, &policy.id)
        });
        let mut set = Self::default();
        let mut known = HashMap::new();
        for policy in taking {
            let when = set.ready(&policy.spec, &mut known);
            set.has_expressions |= matches!(when, Ready::Expression(_));
            set.policies.push(Compiled::new(policy, when));
        }
        set
    }

    fn ready(&mut self, spec: &Spec, known: &mut HashMap<Field, usize>) -> Ready {
        let conditions = match &spec.when {
            When::Cel(text) => {
                return Expression::new(text).map_or_else(
                    |error| Ready::Broken(cut(&error.to_string())),
                    Ready::Expression,
                );
            }
            When::Conditions(conditions) if conditions.is_empty() => {
                return Ready::Broken("it has no conditions".into());
            }
            When::Conditions(conditions) => conditions,
        };
        let mut tests = Vec::with_capacity(conditions.len());
        for (index, condition) in conditions.iter().enumerate() {
            match condition::Compiled::new(condition) {
                Ok(condition::Compiled { field, test }) => {
                    let whole = field.is_whole();
                    let at = *known.entry(field).or_insert_with_key(|field| {
                        self.fields.push(field.clone());
                        self.fields.len() - 1
                    });
                    tests.push((at, whole, test));
                }
                Err(errors) => {
                    let error = errors.first().map(ToString::to_string).unwrap_or_default();
                    return Ready::Broken(cut(&format!("condition {index}: {error}")));
                }
            }
        }
        Ready::Conditions(tests)
    }

    pub fn len(&self) -> usize {
        self.policies.len()
    }

    pub fn is_empty(&self) -> bool {
        self.policies.is_empty()
    }

    /// Total, whatever the call; the same for any order of the policies.
    pub fn judge(&self, subject: &Subject<'_>) -> Judgement {
        let call = Call::new(subject);
        let looked = Looked::new(self, &call);
        let mut judgement = Judgement {
            action: Action::Allow,
            matches: Vec::new(),
            hold: None,
            severity: None,
            limits: Limits::default(),
        };
        for policy in &self.policies {
            let error = match looked.says(&policy.when) {
                Says::No => continue,
                Says::Yes => None,
                Says::Cannot(error) => Some(error),
            };
            judgement.action = judgement.action.max(policy.found.action);
            judgement.severity = judgement.severity.max(policy.found.severity);
            least(&mut judgement.limits, &policy.limits);
            if let Some(rule) = &policy.rule {
                hold(&mut judgement.hold, rule);
            }
            if judgement.matches.len() < MATCHES_MAX {
                judgement.matches.push(Match {
                    error,
                    ..policy.found.clone()
                });
            }
        }
        if judgement.action != Action::RequireApproval {
            judgement.hold = None;
        }
        if let Some(hold) = &mut judgement.hold {
            hold.approvers.sort_unstable();
            hold.approvers.dedup();
        }
        judgement
    }

    /// How many of the fields that the policies read a call has. What they only ask the presence of
    /// does not count: that it is missing is an answer.
    pub fn fields_present(&self, subject: &Subject<'_>) -> FieldsPresent {
        let call = Call::new(subject);
        let mut read: Vec<&Field> = Vec::new();
        for policy in &self.policies {
            match &policy.when {
                Ready::Conditions(tests) => read.extend(
                    tests
                        .iter()
                        .filter(|(.., test)| !test.is_of_presence())
                        .filter_map(|(at, ..)| self.fields.get(*at)),
                ),
                Ready::Expression(expression) => read.extend(expression.reads()),
                Ready::Broken(_) => {}
            }
        }
        let each: BTreeMap<String, &Field> = read
            .into_iter()
            .map(|field| (format!("{field:?}"), field))
            .collect();
        let is_there = |field: &&&Field| !matches!(call.find(field), Ok(Found::Missing) | Err(_));
        FieldsPresent {
            present: each.values().filter(is_there).count(),
            read: each.len(),
        }
    }
}

impl Compiled {
    fn new(policy: &Policy, when: Ready) -> Self {
        let Policy {
            id, version, spec, ..
        } = policy;
        let holds = spec.action == Action::RequireApproval;
        Self {
            found: Match {
                policy: id.clone(),
                version: *version,
                name: spec.name.clone(),
                action: spec.action,
                severity: spec.severity.or_else(|| severity_of(spec.action)),
                error: None,
            },
            when,
            rule: holds.then(|| spec.approval.clone().unwrap_or_default()),
            limits: spec.limits.clone(),
        }
    }
}

/// One call with what has been found of it so far: each field is looked up once, for all policies.
struct Looked<'s, 'c> {
    set: &'s PolicySet,
    call: &'c Call<'c>,
    found: Vec<OnceCell<Result<Found<'c>, Unreadable>>>,
    variables: OnceCell<Variables>,
}

impl<'s, 'c> Looked<'s, 'c> {
    fn new(set: &'s PolicySet, call: &'c Call<'c>) -> Self {
        Self {
            set,
            call,
            found: vec![const { OnceCell::new() }; set.fields.len()],
            variables: OnceCell::new(),
        }
    }

    fn says(&self, when: &Ready) -> Says {
        match when {
            Ready::Broken(error) => Says::Cannot(error.clone()),
            Ready::Expression(expression) => {
                let variables = self.variables.get_or_init(|| Variables::of(self.call));
                match expression.holds(variables) {
                    Ok(true) => Says::Yes,
                    Ok(false) => Says::No,
                    Err(error) => Says::Cannot(error),
                }
            }
            Ready::Conditions(tests) => {
                for (at, whole, test) in tests {
                    match self.found(*at) {
                        Ok(found) if test.holds(found, *whole) => {}
                        Ok(_) => return Says::No,
                        Err(unreadable) => return Says::Cannot(unreadable.to_string()),
                    }
                }
                Says::Yes
            }
        }
    }

    fn found(&self, at: usize) -> Result<Found<'c>, Unreadable> {
        let (Some(cell), Some(field)) = (self.found.get(at), self.set.fields.get(at)) else {
            return Ok(Found::Missing);
        };
        *cell.get_or_init(|| self.call.find(field))
    }
}

/// The least of each.
fn least(limits: &mut Limits, other: &Limits) {
    fn min<T: Ord + Copy>(one: &mut Option<T>, other: Option<T>) {
        *one = (*one).into_iter().chain(other).min();
    }
    min(&mut limits.tool_calls, other.tool_calls);
    min(&mut limits.calls_of_one_tool, other.calls_of_one_tool);
    min(&mut limits.duration, other.duration);
    min(&mut limits.blocked_calls, other.blocked_calls);
}

/// Adds a rule: the strictest of each.
fn hold(hold: &mut Option<Hold>, rule: &ApprovalRule) {
    let approvers = rule.approvers.or_default();
    let quorum = rule.quorum.max(1);
    match hold {
        None => {
            *hold = Some(Hold {
                quorum,
                approvers: vec![approvers],
                requester_may_approve: rule.requester_may_approve,
                time_to_decide: rule.time_to_decide,
                time_to_use: rule.time_to_use,
            });
        }
        Some(hold) => {
            hold.quorum = hold.quorum.max(quorum);
            hold.approvers.push(approvers);
            hold.requester_may_approve &= rule.requester_may_approve;
            hold.time_to_decide = hold.time_to_decide.min(rule.time_to_decide);
            hold.time_to_use = hold.time_to_use.min(rule.time_to_use);
        }
    }
}

impl ApproverSet {
    /// Admins and reviewers, where it names nobody.
    fn or_default(&self) -> Self {
        if self.roles.is_empty() && self.principals.is_empty() {
            return Self {
                roles: [Role::Admin, Role::Reviewer].into(),
                ..Self::default()
            };
        }
        self.clone()
    }
}

fn cut(text: &str) -> String {
    text.chars().take(super::ERROR_CHARS_MAX).collect()
}
