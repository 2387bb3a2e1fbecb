//! The policies that every scope begins with.
//!
//! They are a constant: until the scope's first accepted command nothing of them is stored, and a
//! verdict that names one says version 0. What stands here must therefore never be changed: a better
//! default is a new one, with a new id.

use std::sync::LazyLock;

use super::{Action, Condition, Operator, Policy, Spec, When};
use crate::ids::PolicyId;
use crate::json::Json;
use crate::run::Limits;

/// What a default says: id, name, what it is for, the action, and field and pattern.
struct Default {
    id: &'static str,
    name: &'static str,
    description: &'static str,
    action: Action,
    field: &'static str,
    pattern: &'static str,
}

const DEFAULTS: &[Default] = &[
    // Catches the names anywhere in the arguments, as a path, in a command or in a text: `.env` and
    // `.env.production`, `id.pem`, `credentials.json`, `/secrets/x`, `client_secret`. Not: `.environment`,
    // `process.env.HOME`-like words within a word, and what is spelled otherwise (a link, base64).
    Default {
        id: "default-sensitive-files",
        name: "Sensitive Files Gate",
        description: "Asks for approval before a call that names .env, .pem, credentials or secrets in its arguments.",
        action: Action::RequireApproval,
        field: "arguments",
        pattern: r#"(?i)(^|[^a-z0-9_])\.env($|[^a-z0-9_])|\.pem($|[^a-z0-9_])|credential|secrets?($|[^a-z0-9])"#,
    },
    // Catches calls whose hint speaks of deploying. What a tool does without such a hint is found by
    // its name, below: within a policy everything must hold, so "or" takes two.
    Default {
        id: "default-deployments",
        name: "Deployment Gate",
        description: "Asks for approval before a call whose action hint speaks of deploying.",
        action: Action::RequireApproval,
        field: "action_hint",
        pattern: r"(?i)(^|[^a-z])(re)?deploy",
    },
    // Catches tools like `deploy`, `deploy_service`, `app.deploy`. Not: `undeploy`, `employ`.
    Default {
        id: "default-deployment-tools",
        name: "Deployment Gate (tools)",
        description: "Asks for approval before a call of a tool whose name speaks of deploying.",
        action: Action::RequireApproval,
        field: "tool",
        pattern: r"(?i)(^|[^a-z])(re)?deploy",
    },
    // Catches `rm` with both a recursive and a force flag, in one word or several, in any order:
    // `rm -rf x`, `rm -fr x`, `rm -r -f x`, `rm --recursive --force x`, `sudo /bin/rm -Rf x`. Not:
    // `rm -r x` alone, other commands that destroy (`find -delete`, `dd`, `mkfs`), and what a shell
    // puts together only when it runs.
    Default {
        id: "default-destructive-shell",
        name: "Destructive Shell Block",
        description: "Blocks a call that deletes recursively and by force in a shell (rm -rf).",
        action: Action::Block,
        field: "arguments",
        pattern: r#"(^|[^A-Za-z0-9_.-])rm\s+([^|;&]*\s)?(-[A-Za-z]*([rR][A-Za-z]*f|f[A-Za-z]*[rR])|(-[A-Za-z]*[rR][A-Za-z]*|--recursive)\s([^|;&]*\s)?(-[A-Za-z]*f|--force)|(-[A-Za-z]*f[A-Za-z]*|--force)\s([^|;&]*\s)?(-[A-Za-z]*[rR]|--recursive))"#,
    },
    // Catches `git push` with `--force`, `-f` among its flags, or `--force-with-lease`, wherever it
    // stands, and `git -C x push --force`. Not: a refspec with a plus sign, an alias of git.
    Default {
        id: "default-force-push",
        name: "Force Push Block",
        description: "Blocks a call that pushes with git by force.",
        action: Action::Block,
        field: "arguments",
        pattern: r#"(^|[^A-Za-z0-9_.-])git\s([^|;&]*\s)?push\s([^|;&]*\s)?(--force|-[A-Za-z]*f)"#,
    },
];

static POLICIES: LazyLock<Vec<Policy>> =
    LazyLock::new(|| DEFAULTS.iter().filter_map(Default::policy).collect());

/// The policies of a scope that has never changed any: version 0, by nobody.
pub fn defaults() -> &'static [Policy] {
    &POLICIES
}

impl Default {
    /// `None` would be a mistake above; a test holds that there is none.
    fn policy(&self) -> Option<Policy> {
        let condition = Condition {
            field: self.field.into(),
            operator: Operator::Matches,
            value: Json::parse(&serde_json::to_string(self.pattern).ok()?).ok()?,
        };
        Some(Policy {
            id: PolicyId::parse(self.id).ok()?,
            version: 0,
            spec: Spec {
                name: self.name.into(),
                description: self.description.into(),
                when: When::Conditions(vec![condition]),
                action: self.action,
                approval: None,
                severity: None,
                limits: Limits::default(),
                disabled: false,
            },
            created: None,
            updated: None,
            deleted: false,
        })
    }
}

#[cfg(test)]
mod tests;
