//! The same fifty rules in both languages.

use std::fmt::Write as _;

use runledger_domain::json::Json;
use runledger_domain::policy::{Action, Condition, Operator, Policy, Spec, When};
use runledger_domain::run::Limits;

/// Conditions of ours and, beside them, the same as an expression of Cedar.
struct Rule {
    conditions: Vec<Condition>,
    cedar: String,
}

fn condition(field: &str, operator: Operator, value: &str) -> Condition {
    Condition {
        field: field.into(),
        operator,
        value: Json::parse(value).expect("JSON"),
    }
}

/// Ten of each kind.
fn all() -> Vec<Rule> {
    let mut rules = Vec::new();
    for number in 0..10 {
        let amount = 500 * number;
        rules.push(Rule {
            conditions: vec![
                condition("tool", Operator::Equals, "\"book_reservation\""),
                condition("arguments.total", Operator::Gt, &amount.to_string()),
            ],
            cedar: format!("context.tool == \"book_reservation\" && context.arguments has total && context.arguments.total > {amount}"),
        });
        rules.push(Rule {
            conditions: vec![
                condition("arguments.payment.method", Operator::In, &format!("[\"voucher_{number}\",\"gift_card\"]")),
                condition("arguments.payment.amount", Operator::Gte, &amount.to_string()),
            ],
            cedar: format!("context.arguments has payment && [\"voucher_{number}\", \"gift_card\"].contains(context.arguments.payment.method) && context.arguments.payment.amount >= {amount}"),
        });
        rules.push(Rule {
            conditions: vec![condition(
                "arguments.path",
                Operator::Contains,
                &format!("\"secret{number}\""),
            )],
            cedar: format!(
                "context.arguments has path && context.arguments.path like \"*secret{number}*\""
            ),
        });
        rules.push(Rule {
            conditions: vec![
                condition("labels.env", Operator::Equals, &format!("\"prod-{number}\"")),
                condition("arguments.command", Operator::Exists, "true"),
            ],
            cedar: format!("context.labels has env && context.labels.env == \"prod-{number}\" && context.arguments has command"),
        });
        rules.push(Rule {
            conditions: vec![
                condition("agent", Operator::NotEquals, "\"airline-7\""),
                condition("arguments.cabin", Operator::Equals, "\"business\""),
            ],
            cedar: "context.agent != \"airline-7\" && context.arguments has cabin && context.arguments.cabin == \"business\"".into(),
        });
    }
    rules
}

pub fn ours() -> Vec<Policy> {
    all()
        .into_iter()
        .enumerate()
        .map(|(number, rule)| Policy {
            id: format!("policy-{number}").parse().expect("an id"),
            version: 1,
            spec: Spec {
                name: format!("Policy {number}"),
                description: String::new(),
                when: When::Conditions(rule.conditions),
                action: Action::Warn,
                approval: None,
                severity: None,
                limits: Limits::default(),
                disabled: false,
            },
            created: None,
            updated: None,
            deleted: false,
        })
        .collect()
}

pub fn theirs() -> cedar_policy::PolicySet {
    let mut text = String::new();
    for rule in all() {
        writeln!(
            text,
            "permit(principal, action, resource) when {{ {} }};",
            rule.cedar
        )
        .expect("a text");
    }
    text.parse().expect("policies of Cedar")
}
