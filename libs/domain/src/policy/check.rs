//! What a policy must be to be saved. Lists every fault.

use std::fmt::Display;
use std::time::Duration;

use super::condition::{Compiled, Invalid};
use super::expression::{Expression, InvalidCel};
use super::field::InvalidField;
use super::{Action, ApprovalRule, Condition, Spec, When};
use crate::fault::Violation;
use crate::scope::Role;
use crate::text::{self, InvalidText};

pub const NAME_CHARS_MAX: usize = 128;
pub const DESCRIPTION_CHARS_MAX: usize = 4_096;
/// Most conditions of one policy.
pub const CONDITIONS_MAX: usize = 32;
/// Most approvers that a call can need.
pub const QUORUM_MAX: u32 = 16;
/// Most principals that an approval rule names.
pub const APPROVER_PRINCIPALS_MAX: usize = 64;
/// Longest time to decide, and to use.
pub const APPROVAL_TIME_MAX: Duration = Duration::from_hours(30 * 24);
/// Most conditions of one policy that match a pattern: each holds up to a quarter of a mebibyte.
const PATTERNS_MAX: usize = 8;

/// Every fault of a policy that is to be saved. Whatever has none compiles.
pub fn check(spec: &Spec) -> Vec<Violation> {
    let mut faults = Faults(Vec::new());
    let name = spec.name.as_str();
    if name.trim().is_empty() {
        faults.note("spec.name", "REQUIRED", "must be given");
    }
    faults.text("spec.name", name, NAME_CHARS_MAX);
    let description = spec.description.as_str();
    faults.text("spec.description", description, DESCRIPTION_CHARS_MAX);
    match &spec.when {
        When::Conditions(conditions) => faults.conditions(conditions),
        When::Cel(text) => {
            if let Err(error) = Expression::new(text) {
                faults.note("spec.cel", cel_reason(&error), error);
            }
        }
    }
    match (&spec.approval, spec.action) {
        (Some(rule), Action::RequireApproval) => faults.rule(rule),
        (Some(_), Action::Allow | Action::Warn | Action::Block) => {
            let why = "goes only with the action require_approval: leave it out, or say that";
            faults.note("spec.approval", "NOT_ALLOWED", why);
        }
        (None, _) => {}
    }
    faults.0
}

struct Faults(Vec<Violation>);

impl Faults {
    fn note(&mut self, field: impl Into<String>, reason: &'static str, description: impl Display) {
        self.0.push(Violation {
            field: field.into(),
            reason: reason.into(),
            description: description.to_string(),
        });
    }

    fn text(&mut self, field: &str, text: &str, chars_max: usize) {
        if let Err(why) = text::check(text, chars_max) {
            let reason = match why {
                InvalidText::TooLong(_) => "TOO_LONG",
                InvalidText::Nul => "NUL_CHARACTER",
            };
            self.note(field, reason, why);
        }
    }

    fn conditions(&mut self, conditions: &[Condition]) {
        let at = "spec.conditions.all";
        if conditions.is_empty() {
            self.note(at, "REQUIRED", "must have at least one condition");
        }
        if conditions.len() > CONDITIONS_MAX {
            // Those that are too many are not looked at: their faults could outgrow any answer.
            let why = format_args!("must have at most {CONDITIONS_MAX} conditions");
            return self.note(at, "TOO_MANY", why);
        }
        for (index, condition) in conditions.iter().enumerate() {
            let at = format!("{at}[{index}]");
            for error in Compiled::new(condition).err().unwrap_or_default() {
                let (field, reason) = reason(&error);
                self.note(format!("{at}.{field}"), reason, error);
            }
        }
        let patterns = conditions.iter();
        let patterns = patterns.filter(|one| one.operator == super::Operator::Matches);
        if patterns.count() > PATTERNS_MAX {
            let why = format_args!("must have at most {PATTERNS_MAX} conditions with matches");
            self.note(at, "TOO_MANY", why);
        }
    }

    fn rule(&mut self, rule: &ApprovalRule) {
        if rule.quorum > QUORUM_MAX {
            let why = format_args!("must be at most {QUORUM_MAX}");
            self.note("spec.approval.quorum", "OUT_OF_RANGE", why);
        }
        let approvers = &rule.approvers;
        if approvers.principals.len() > APPROVER_PRINCIPALS_MAX {
            let why = format_args!("must name at most {APPROVER_PRINCIPALS_MAX} principals");
            self.note("spec.approval.approvers.principals", "TOO_MANY", why);
        }
        if approvers.roles.contains(&Role::Agent) {
            let why = "must not name the role agent: agents never approve";
            self.note("spec.approval.approvers.roles", "NOT_ALLOWED", why);
        }
        // Whom a rule names alone can never be more than it names.
        let named = u32::try_from(approvers.principals.len()).unwrap_or(u32::MAX);
        if approvers.roles.is_empty() && named > 0 && rule.quorum > named {
            let why = format_args!("must be at most {named}: nobody else may approve");
            self.note("spec.approval.quorum", "OUT_OF_RANGE", why);
        }
        for (field, time) in [
            ("spec.approval.time_to_decide", rule.time_to_decide),
            ("spec.approval.time_to_use", rule.time_to_use),
        ] {
            if time.is_zero() || time > APPROVAL_TIME_MAX {
                self.note(
                    field,
                    "OUT_OF_RANGE",
                    "must be more than zero and at most 30 days",
                );
            }
        }
    }
}

/// The field of a condition that is at fault, and the reason.
fn reason(error: &Invalid) -> (&'static str, &'static str) {
    match error {
        Invalid::Field(InvalidField::Unknown) => ("field", "UNKNOWN_FIELD"),
        Invalid::Field(InvalidField::TooLong) => ("field", "TOO_LONG"),
        Invalid::Field(InvalidField::TooDeep) => ("field", "TOO_DEEP"),
        Invalid::Field(InvalidField::EmptyStep | InvalidField::Escape) => ("field", "INVALID_PATH"),
        Invalid::Type(_) => ("value_json", "WRONG_TYPE"),
        Invalid::TooLong | Invalid::PatternTooLong => ("value_json", "TOO_LONG"),
        Invalid::Json => ("value_json", "INVALID_JSON"),
        Invalid::PatternTooLarge => ("value_json", "PATTERN_TOO_LARGE"),
        Invalid::Pattern(_) => ("value_json", "INVALID_PATTERN"),
    }
}

fn cel_reason(error: &InvalidCel) -> &'static str {
    use super::expression::Refused;
    match error {
        InvalidCel::Empty => "REQUIRED",
        InvalidCel::TooLong => "TOO_LONG",
        InvalidCel::Syntax(_) => "CEL_SYNTAX",
        InvalidCel::Refused(refused) => match refused {
            Refused::Variable(_) => "CEL_UNKNOWN_VARIABLE",
            Refused::Function(_) => "CEL_UNKNOWN_FUNCTION",
            Refused::NestedLoop => "CEL_NESTED_LOOP",
            Refused::NotBool => "CEL_NOT_BOOL",
            Refused::LoopOver
            | Refused::VariableInLoop(_)
            | Refused::ListOfLists
            | Refused::Additions
            | Refused::Cost
            | Refused::Depth
            | Refused::Structure => "CEL_TOO_COMPLEX",
        },
    }
}
