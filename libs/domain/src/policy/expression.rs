//! Conditions in the Common Expression Language.
//!
//! The library that evaluates them has neither a type checker nor a budget, so what could run away is
//! refused before it is ever evaluated. [`cost`] bounds the work of an expression over any arguments:
//! one unit is about one pass over all of them, or one step for each of their values.
//!
//! What numbers of the arguments become: integers of 64 bits, signed or not, stay what they are; all
//! other numbers are doubles, so that an integer beyond 2^64 is rounded. Whoever needs such compared
//! exactly writes a condition.

use std::collections::HashMap;
use std::fmt::{self, Write as _};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, LazyLock};

use cel::common::ast::IdedExpr;
use cel::parser::PrattParser;
use cel::{Context, Env};

use super::field::{Call, Field, Unreadable};
use super::value::{Kind, Value};

mod shape;
pub(super) use shape::Refused;

/// Longest expression, in bytes.
pub const EXPRESSION_BYTES_MAX: usize = 1_024;
/// Longest text of an error, in characters.
pub const ERROR_CHARS_MAX: usize = 256;
/// How deep brackets, operators and choices may lie inside one another.
const DEPTH_MAX: u16 = 32;

/// Why an expression is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum InvalidCel {
    #[error("must not be empty")]
    Empty,
    #[error("must have at most {EXPRESSION_BYTES_MAX} bytes")]
    TooLong,
    #[error("does not parse: {0}")]
    Syntax(Box<str>),
    #[error("{0}")]
    Refused(Refused),
}

/// An expression that can be put to a call.
#[derive(Clone, Debug)]
pub(super) struct Expression {
    tree: Arc<IdedExpr>,
    reads: Vec<Field>,
}

static STANDARD: LazyLock<Arc<Env>> =
    LazyLock::new(|| Arc::new(Env::default().with_optional_support(false).with_stdlib()));

impl Expression {
    pub(super) fn new(text: &str) -> Result<Self, InvalidCel> {
        if text.trim().is_empty() {
            return Err(InvalidCel::Empty);
        }
        if text.len() > EXPRESSION_BYTES_MAX {
            return Err(InvalidCel::TooLong);
        }
        // Before anything goes down into them; inside a text they count too, which does no harm.
        if nesting(text) > DEPTH_MAX {
            return Err(InvalidCel::Refused(Refused::Depth));
        }
        let tree = parse(text)?;
        let reads = shape::check(&tree).map_err(InvalidCel::Refused)?;
        Ok(Self {
            tree: Arc::new(tree),
            reads,
        })
    }

    /// What of a call it reads, but for what it only asks the presence of.
    pub(super) fn reads(&self) -> &[Field] {
        &self.reads
    }

    /// # Errors
    /// Why it has no value, or another than true and false; at most so many characters.
    pub(super) fn holds(&self, variables: &Variables) -> Result<bool, String> {
        let of_arguments = |field: &Field| matches!(field, Field::Arguments(_));
        if let Some(unreadable) = variables.unreadable
            && self.reads.iter().any(of_arguments)
        {
            return Err(unreadable.to_string());
        }
        let evaluated = catch_unwind(AssertUnwindSafe(|| {
            match cel::Value::resolve(&self.tree, &variables.context) {
                Ok(cel::Value::Bool(is)) => Ok(is),
                Ok(other) => Err(cut(format_args!(
                    "the result is neither true nor false but of type {}",
                    other.type_of()
                ))),
                Err(error) => Err(cut(error)),
            }
        }));
        evaluated.unwrap_or_else(|_| Err("the expression cannot be evaluated".into()))
    }
}

fn nesting(text: &str) -> u16 {
    let (mut now, mut most) = (0_u16, 0);
    for byte in text.bytes() {
        match byte {
            b'(' | b'[' | b'{' => now = now.saturating_add(1),
            b')' | b']' | b'}' => now = now.saturating_sub(1),
            _ => {}
        }
        most = most.max(now);
    }
    most
}

fn parse(text: &str) -> Result<IdedExpr, InvalidCel> {
    let parsed = catch_unwind(|| {
        PrattParser::new()
            .max_recursion_depth(DEPTH_MAX)
            .error_recovery_limit(1)
            .error_reporting_limit(1)
            .parse(text)
    });
    let unable = || InvalidCel::Syntax("the parser gave up".into());
    parsed
        .map_err(|_| unable())?
        .map_err(|errors| match errors.errors.first() {
            Some(first) => InvalidCel::Syntax(cut(&first.msg).into()),
            None => unable(),
        })
}

/// The beginning of a text. The rest is never made: errors show values, which may be large.
fn cut(text: impl fmt::Display) -> String {
    struct Cut {
        text: String,
        left: usize,
    }
    impl fmt::Write for Cut {
        fn write_str(&mut self, piece: &str) -> fmt::Result {
            for char in piece.chars() {
                self.left = self.left.checked_sub(1).ok_or(fmt::Error)?;
                // Errors go into Postgres, which cannot keep a NUL.
                self.text.push(if char == '\0' { '\u{fffd}' } else { char });
            }
            Ok(())
        }
    }
    let mut cut = Cut {
        text: String::new(),
        left: ERROR_CHARS_MAX,
    };
    // Stops with an error where it is cut, which is what it is for.
    let _cut_or_whole = write!(cut, "{text}");
    cut.text
}

/// The variables of one call, made once for all expressions.
pub(super) struct Variables {
    context: Context<'static, 'static>,
    unreadable: Option<Unreadable>,
}

impl Variables {
    pub(super) fn of(call: &Call<'_>) -> Self {
        let mut context = Context::with_env(Arc::clone(&STANDARD));
        let subject = call.subject;
        for (name, text) in [
            ("tool", subject.tool.as_str()),
            ("agent", subject.agent.as_str()),
            ("action_hint", subject.action_hint),
            ("run", subject.run.as_str()),
            ("model", subject.model),
        ] {
            context.add_variable_from_value(name, text.to_owned());
        }
        let labels = subject.labels.iter();
        let labels: HashMap<String, String> = labels
            .map(|(name, value)| (name.to_string(), value.clone()))
            .collect();
        context.add_variable_from_value("labels", labels);
        let arguments = call.arguments();
        let known = arguments.ok().flatten().map_or(cel::Value::Null, convert);
        context.add_variable_from_value("arguments", known);
        Self {
            context,
            unreadable: arguments.err(),
        }
    }
}

/// No deeper than canonical JSON may be.
fn convert(value: &Value<'_>) -> cel::Value {
    match &value.kind {
        Kind::Null => cel::Value::Null,
        Kind::Bool(is) => cel::Value::Bool(*is),
        Kind::Number => {
            let text = value.text;
            let whole = text.parse().map(cel::Value::Int);
            whole
                .or_else(|_| text.parse().map(cel::Value::UInt))
                .or_else(|_| text.parse().map(cel::Value::Float))
                .unwrap_or(cel::Value::Null)
        }
        Kind::Text(text) => cel::Value::String(Arc::new(text.clone().into_owned())),
        Kind::Array(items) => cel::Value::List(Arc::new(items.iter().map(convert).collect())),
        Kind::Object(members) => {
            let members = members.iter();
            let map: HashMap<String, cel::Value> = members
                .map(|(key, value)| (key.clone().into_owned(), convert(value)))
                .collect();
            map.into()
        }
    }
}
