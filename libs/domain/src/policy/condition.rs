//! Conditions, compiled: one test of one field each.

use std::cmp::Ordering;

use regex::{Regex, RegexBuilder};

use super::Operator;
use super::field::{Field, Found, InvalidField};
use super::number::Number;
use super::value::{Kind, Value};

/// Longest pattern, in bytes.
pub const PATTERN_BYTES_MAX: usize = 1_024;
/// What a compiled pattern may hold, in bytes. Patterns come from outside and are many.
const PATTERN_MEMORY_MAX: usize = 256 * 1024;
/// Longest value of a condition, in bytes.
pub const VALUE_BYTES_MAX: usize = 16 * 1024;

/// Why a condition cannot be compiled.
#[derive(Clone, Debug, thiserror::Error)]
pub(super) enum Invalid {
    #[error("the field {0}")]
    Field(InvalidField),
    #[error("the value must be {0}")]
    Type(&'static str),
    #[error("the value must have at most {VALUE_BYTES_MAX} bytes")]
    TooLong,
    #[error("the value is no canonical JSON")]
    Json,
    #[error("the pattern must have at most {PATTERN_BYTES_MAX} bytes")]
    PatternTooLong,
    #[error("the pattern would need too much memory: repeat less, or name fewer characters")]
    PatternTooLarge,
    #[error("the pattern is no regular expression: {0}")]
    Pattern(Box<str>),
}

/// A value to compare with.
#[derive(Clone, Debug)]
enum Operand {
    Null,
    Bool(bool),
    Number(Number),
    Text(Box<str>),
    Array(Vec<Operand>),
    Object(Vec<(Box<str>, Operand)>),
}

impl Operand {
    fn of(value: &Value<'_>) -> Option<Self> {
        Some(match &value.kind {
            Kind::Null => Self::Null,
            Kind::Bool(is) => Self::Bool(*is),
            Kind::Number => Self::Number(value.number()?),
            Kind::Text(text) => Self::Text(text.as_ref().into()),
            Kind::Array(items) => Self::Array(items.iter().map(Self::of).collect::<Option<_>>()?),
            Kind::Object(members) => {
                let members = members.iter();
                let owned =
                    members.map(|(key, value)| Some((key.as_ref().into(), Self::of(value)?)));
                Self::Object(owned.collect::<Option<_>>()?)
            }
        })
    }

    /// The same type and value; numbers by value, whatever their form.
    fn is(&self, value: &Value<'_>) -> bool {
        match (self, &value.kind) {
            (Self::Null, Kind::Null) => true,
            (Self::Bool(a), Kind::Bool(b)) => a == b,
            (Self::Number(a), Kind::Number) => value
                .number()
                .is_some_and(|b| a.compare(&b) == Ordering::Equal),
            (Self::Text(a), Kind::Text(b)) => **a == **b,
            (Self::Array(a), Kind::Array(b)) => {
                a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.is(b))
            }
            // Both are canonical: members lie in one order.
            (Self::Object(a), Kind::Object(b)) => {
                a.len() == b.len()
                    && a.iter()
                        .zip(b)
                        .all(|((a_key, a), (b_key, b))| **a_key == **b_key && a.is(b))
            }
            (
                Self::Null
                | Self::Bool(_)
                | Self::Number(_)
                | Self::Text(_)
                | Self::Array(_)
                | Self::Object(_),
                _,
            ) => false,
        }
    }

    fn is_found(&self, found: Found<'_>) -> bool {
        match found {
            Found::Missing => false,
            Found::Text(text) => matches!(self, Self::Text(own) if **own == *text),
            Found::Json(value) => self.is(value),
        }
    }
}

/// What is asked of a field.
#[derive(Clone, Debug)]
pub(super) enum Test {
    Equals(OperandBox),
    NotEquals(OperandBox),
    Contains { text: Box<str>, element: OperandBox },
    Matches(Box<Regex>),
    In(Vec<OperandBox>),
    NotIn(Vec<OperandBox>),
    Exists(bool),
    Ordered(fn(Ordering) -> bool, Number),
}

/// Keeps [`Operand`] to this file.
#[derive(Clone, Debug)]
pub(super) struct OperandBox(Operand);

/// A condition that can be put to a call.
#[derive(Clone, Debug)]
pub(super) struct Compiled {
    pub(super) field: Field,
    pub(super) test: Test,
}

impl Compiled {
    pub(super) fn new(condition: &super::Condition) -> Result<Self, Vec<Invalid>> {
        let field = Field::parse(&condition.field).map_err(Invalid::Field);
        let test = Test::new(condition, field.as_ref().ok());
        match (field, test) {
            (Ok(field), Ok(test)) => Ok(Self { field, test }),
            (field, test) => Err(field.err().into_iter().chain(test.err()).collect()),
        }
    }
}

impl Test {
    fn new(condition: &super::Condition, field: Option<&Field>) -> Result<Self, Invalid> {
        let text = condition.value.as_str();
        if text.len() > VALUE_BYTES_MAX {
            return Err(Invalid::TooLong);
        }
        let value = Value::parse(text).ok_or(Invalid::Json)?;
        let operand = |value: &Value<'_>| Operand::of(value).map(OperandBox).ok_or(Invalid::Json);
        let of_text = field.is_some_and(Field::is_text);
        Ok(match condition.operator {
            Operator::Equals => Self::Equals(operand(&value)?),
            Operator::NotEquals => Self::NotEquals(operand(&value)?),
            Operator::Contains => match &value.kind {
                Kind::Text(part) => Self::Contains {
                    text: part.as_ref().into(),
                    element: operand(&value)?,
                },
                Kind::Null | Kind::Bool(_) | Kind::Number | Kind::Array(_) | Kind::Object(_)
                    if of_text =>
                {
                    return Err(Invalid::Type("a text, as the field is"));
                }
                Kind::Null | Kind::Bool(_) | Kind::Number | Kind::Array(_) | Kind::Object(_) => {
                    Self::Contains {
                        text: value.text.into(),
                        element: operand(&value)?,
                    }
                }
            },
            Operator::Matches => Self::Matches(pattern(&value)?),
            Operator::In => Self::In(elements(&value)?),
            Operator::NotIn => Self::NotIn(elements(&value)?),
            Operator::Exists => match value.kind {
                Kind::Bool(is) => Self::Exists(is),
                Kind::Null | Kind::Number | Kind::Text(_) | Kind::Array(_) | Kind::Object(_) => {
                    return Err(Invalid::Type("true or false"));
                }
            },
            Operator::Gt => Self::Ordered(Ordering::is_gt, bound(&value)?),
            Operator::Gte => Self::Ordered(Ordering::is_ge, bound(&value)?),
            Operator::Lt => Self::Ordered(Ordering::is_lt, bound(&value)?),
            Operator::Lte => Self::Ordered(Ordering::is_le, bound(&value)?),
        })
    }

    /// `whole`: the field is the arguments as a whole, which are looked at as text.
    pub(super) fn holds(&self, found: Found<'_>, whole: bool) -> bool {
        match self {
            Self::Equals(operand) => operand.0.is_found(found),
            Self::NotEquals(operand) => !operand.0.is_found(found),
            Self::In(operands) => operands.iter().any(|one| one.0.is_found(found)),
            Self::NotIn(operands) => !operands.iter().any(|one| one.0.is_found(found)),
            Self::Exists(is) => *is != matches!(found, Found::Missing),
            Self::Contains { text, element } => contains(found, whole, text, &element.0),
            Self::Matches(pattern) => match found {
                Found::Missing => false,
                Found::Text(text) => pattern.is_match(text),
                Found::Json(value) => match &value.kind {
                    Kind::Text(text) if !whole => pattern.is_match(text),
                    Kind::Text(_)
                    | Kind::Null
                    | Kind::Bool(_)
                    | Kind::Number
                    | Kind::Array(_)
                    | Kind::Object(_) => pattern.is_match(value.text),
                },
            },
            Self::Ordered(wanted, bound) => {
                let number = match found {
                    Found::Missing => None,
                    Found::Text(text) => Number::of_text(text),
                    Found::Json(value) => numeric(value),
                };
                number.is_some_and(|number| wanted(number.compare(bound)))
            }
        }
    }

    /// Whether it says something of a field that is not there.
    pub(super) fn is_of_presence(&self) -> bool {
        matches!(self, Self::Exists(_))
    }
}

fn contains(found: Found<'_>, whole: bool, text: &str, element: &Operand) -> bool {
    match found {
        Found::Missing => false,
        Found::Text(own) => own.contains(text),
        Found::Json(value) if whole => value.text.contains(text),
        Found::Json(value) => match &value.kind {
            Kind::Text(own) => matches!(element, Operand::Text(_)) && own.contains(text),
            Kind::Array(items) => items.iter().any(|item| element.is(item)),
            Kind::Object(_) => value.text.contains(text),
            Kind::Null | Kind::Bool(_) | Kind::Number => false,
        },
    }
}

/// A number, or a text that says one.
fn numeric(value: &Value<'_>) -> Option<Number> {
    match &value.kind {
        Kind::Text(text) => Number::of_text(text),
        Kind::Number => value.number(),
        Kind::Null | Kind::Bool(_) | Kind::Array(_) | Kind::Object(_) => None,
    }
}

fn bound(value: &Value<'_>) -> Result<Number, Invalid> {
    numeric(value).ok_or(Invalid::Type("a number, or a text that says one"))
}

fn elements(value: &Value<'_>) -> Result<Vec<OperandBox>, Invalid> {
    match &value.kind {
        Kind::Array(items) if !items.is_empty() => items
            .iter()
            .map(|item| Operand::of(item).map(OperandBox).ok_or(Invalid::Json))
            .collect(),
        Kind::Array(_)
        | Kind::Null
        | Kind::Bool(_)
        | Kind::Number
        | Kind::Text(_)
        | Kind::Object(_) => Err(Invalid::Type("an array with at least one element")),
    }
}

/// Linear in what it is matched with, whatever the pattern.
fn pattern(value: &Value<'_>) -> Result<Box<Regex>, Invalid> {
    let Kind::Text(text) = &value.kind else {
        return Err(Invalid::Type("a text, the regular expression"));
    };
    if text.len() > PATTERN_BYTES_MAX {
        return Err(Invalid::PatternTooLong);
    }
    let built = RegexBuilder::new(text)
        .size_limit(PATTERN_MEMORY_MAX)
        .dfa_size_limit(PATTERN_MEMORY_MAX)
        .nest_limit(32)
        .build();
    built.map(Box::new).map_err(|error| {
        if matches!(error, regex::Error::CompiledTooBig(_)) {
            return Invalid::PatternTooLarge;
        }
        // The library draws the pattern over several lines; the last one says what is wrong.
        let said = error.to_string();
        let last = said.lines().last().unwrap_or_default();
        Invalid::Pattern(last.trim_start_matches("error: ").into())
    })
}
