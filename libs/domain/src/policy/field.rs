//! What of a call a condition looks at.

use std::cell::OnceCell;

use super::Subject;
use super::value::Value;
use crate::json::DEPTH_MAX;

/// Longest field, in bytes.
pub const FIELD_BYTES_MAX: usize = 1_024;

/// A field of a call, as a condition names it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Field {
    Tool,
    Agent,
    ActionHint,
    Run,
    Model,
    Label(Box<str>),
    /// Without a path: the arguments as a whole.
    Arguments(Box<[Box<str>]>),
}

/// Why a text names no field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum InvalidField {
    #[error(
        "must be tool, agent, action_hint, run, model, arguments, arguments.<path> or labels.<name>"
    )]
    Unknown,
    #[error("has an empty step: write one dot between two names")]
    EmptyStep,
    #[error("has a backslash before something else than a dot or a backslash")]
    Escape,
    #[error("has more than {DEPTH_MAX} steps, deeper than any arguments")]
    TooDeep,
    #[error("must have at most {FIELD_BYTES_MAX} bytes")]
    TooLong,
}

impl Field {
    pub(super) fn parse(text: &str) -> Result<Self, InvalidField> {
        if text.len() > FIELD_BYTES_MAX {
            return Err(InvalidField::TooLong);
        }
        match text {
            "tool" => return Ok(Self::Tool),
            "agent" => return Ok(Self::Agent),
            "action_hint" => return Ok(Self::ActionHint),
            "run" => return Ok(Self::Run),
            "model" => return Ok(Self::Model),
            "arguments" => return Ok(Self::Arguments(Box::default())),
            _ => {}
        }
        if let Some(path) = text.strip_prefix("arguments.") {
            let steps = steps(path)?;
            return if steps.len() > DEPTH_MAX {
                Err(InvalidField::TooDeep)
            } else {
                Ok(Self::Arguments(steps.into()))
            };
        }
        let name = text.strip_prefix("labels.").ok_or(InvalidField::Unknown)?;
        // Labels lie side by side: a dot in a name means itself, escaped or not.
        Ok(Self::Label(steps(name)?.join(".").into()))
    }

    /// Whether it is a text, if it is there at all.
    pub(super) fn is_text(&self) -> bool {
        !matches!(self, Self::Arguments(_))
    }

    /// Whether it is the arguments as a whole, which are looked at as text.
    pub(super) fn is_whole(&self) -> bool {
        matches!(self, Self::Arguments(path) if path.is_empty())
    }
}

/// What lies between dots; `\.` is a dot and `\\` a backslash.
fn steps(path: &str) -> Result<Vec<Box<str>>, InvalidField> {
    let mut steps = Vec::new();
    let mut step = String::new();
    let mut rest = path.chars();
    loop {
        match rest.next() {
            Some('\\') => match rest.next() {
                Some(escaped @ ('.' | '\\')) => step.push(escaped),
                Some(_) | None => return Err(InvalidField::Escape),
            },
            Some('.') | None if step.is_empty() => return Err(InvalidField::EmptyStep),
            Some('.') => steps.push(std::mem::take(&mut step).into()),
            None => {
                steps.push(step.into());
                return Ok(steps);
            }
            Some(other) => step.push(other),
        }
    }
}

/// What a call has in a field.
#[derive(Clone, Copy, Debug)]
pub(super) enum Found<'s> {
    Missing,
    Text(&'s str),
    Json(&'s Value<'s>),
}

/// A call under judgement: its arguments are parsed once, and only when somebody looks at them.
pub(super) struct Call<'s> {
    pub(super) subject: &'s Subject<'s>,
    arguments: OnceCell<Option<Value<'s>>>,
}

/// The arguments are no canonical JSON, which only bytes that were never parsed can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the arguments cannot be read")]
pub(super) struct Unreadable;

impl<'s> Call<'s> {
    pub(super) fn new(subject: &'s Subject<'s>) -> Self {
        Self {
            subject,
            arguments: OnceCell::new(),
        }
    }

    /// `None`: it has none.
    pub(super) fn arguments(&self) -> Result<Option<&Value<'s>>, Unreadable> {
        let Some(text) = self.subject.arguments else {
            return Ok(None);
        };
        let parsed = self.arguments.get_or_init(|| Value::parse(text.as_str()));
        parsed.as_ref().map(Some).ok_or(Unreadable)
    }

    pub(super) fn find<'c>(&'c self, field: &Field) -> Result<Found<'c>, Unreadable> {
        let known = |text: &'s str| match text {
            "" => Found::Missing,
            text => Found::Text(text),
        };
        Ok(match field {
            Field::Tool => Found::Text(self.subject.tool.as_str()),
            Field::Agent => Found::Text(self.subject.agent.as_str()),
            Field::ActionHint => known(self.subject.action_hint),
            Field::Run => Found::Text(self.subject.run.as_str()),
            Field::Model => known(self.subject.model),
            Field::Label(name) => self
                .subject
                .labels
                .iter()
                .find(|(label, _)| label.as_str() == &**name)
                .map_or(Found::Missing, |(_, value)| Found::Text(value)),
            Field::Arguments(path) => self
                .arguments()?
                .and_then(|arguments| arguments.at(path))
                .map_or(Found::Missing, Found::Json),
        })
    }
}
