//! The tree of a canonical JSON text. It borrows from the text, and keeps of each value the text it
//! came from: what is asked about a value as text need not be written again.

use std::borrow::Cow;

use super::number::Number;
use crate::json::DEPTH_MAX;

/// One value, and its canonical text.
#[derive(Debug)]
pub(super) struct Value<'a> {
    pub(super) text: &'a str,
    pub(super) kind: Kind<'a>,
}

#[derive(Debug)]
pub(super) enum Kind<'a> {
    Null,
    Bool(bool),
    /// Its text says it.
    Number,
    Text(Cow<'a, str>),
    Array(Vec<Value<'a>>),
    Object(Vec<(Cow<'a, str>, Value<'a>)>),
}

/// From how many members on an object is searched by halves. Canonical text has them in order.
const SEARCH_MIN: usize = 16;

impl<'a> Value<'a> {
    /// `None`: the text is not canonical JSON, which nothing that was parsed before it was stored is.
    pub(super) fn parse(text: &'a str) -> Option<Self> {
        let mut reader = Reader { text, at: 0 };
        let value = reader.value(0)?;
        (reader.at == text.len()).then_some(value)
    }

    pub(super) fn number(&self) -> Option<Number> {
        match self.kind {
            Kind::Number => Number::parse(self.text),
            Kind::Null | Kind::Bool(_) | Kind::Text(_) | Kind::Array(_) | Kind::Object(_) => None,
        }
    }

    /// The value behind a path of keys and indexes.
    pub(super) fn at<'s>(&'s self, path: &[Box<str>]) -> Option<&'s Value<'a>> {
        path.iter().try_fold(self, |value, step| value.step(step))
    }

    fn step(&self, step: &str) -> Option<&Value<'a>> {
        match &self.kind {
            Kind::Object(members) if members.len() < SEARCH_MIN => members
                .iter()
                .find_map(|(key, value)| (key == step).then_some(value)),
            Kind::Object(members) => {
                let order = |key: &str| key.encode_utf16().cmp(step.encode_utf16());
                let found = members.binary_search_by(|(key, _)| order(key)).ok()?;
                members.get(found).map(|(_, value)| value)
            }
            Kind::Array(items) => {
                // "+1" and "01" are keys, not indexes.
                let plain = step == "0" || !step.starts_with(['0', '+']);
                items.get(step.parse::<usize>().ok().filter(|_| plain)?)
            }
            Kind::Null | Kind::Bool(_) | Kind::Number | Kind::Text(_) => None,
        }
    }
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Reader<'a> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn eat(&mut self, byte: u8) -> Option<()> {
        let next = self.peek() == Some(byte);
        self.at += usize::from(next);
        next.then_some(())
    }

    fn value(&mut self, depth: usize) -> Option<Value<'a>> {
        let from = self.at;
        let kind = match self.peek()? {
            b'"' => Kind::Text(self.string()?),
            b'[' | b'{' if depth == DEPTH_MAX => return None,
            b'[' => Kind::Array(self.array(depth + 1)?),
            b'{' => Kind::Object(self.object(depth + 1)?),
            b'-' | b'0'..=b'9' => self.number()?,
            _ => self.word()?,
        };
        Some(Value {
            text: self.text.get(from..self.at)?,
            kind,
        })
    }

    fn word(&mut self) -> Option<Kind<'a>> {
        let rest = self.text.get(self.at..)?;
        let words = [
            ("null", Kind::Null),
            ("true", Kind::Bool(true)),
            ("false", Kind::Bool(false)),
        ];
        let (word, kind) = words.into_iter().find(|(word, _)| rest.starts_with(word))?;
        self.at += word.len();
        Some(kind)
    }

    fn number(&mut self) -> Option<Kind<'a>> {
        let rest = self.text.as_bytes().get(self.at..)?;
        let len = rest
            .iter()
            .position(|byte| !matches!(byte, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e'))
            .unwrap_or(rest.len());
        self.at += len;
        Some(Kind::Number)
    }

    fn array(&mut self, depth: usize) -> Option<Vec<Value<'a>>> {
        self.eat(b'[')?;
        let mut items = Vec::new();
        if self.eat(b']').is_some() {
            return Some(items);
        }
        loop {
            items.push(self.value(depth)?);
            if self.eat(b']').is_some() {
                return Some(items);
            }
            self.eat(b',')?;
        }
    }

    fn object(&mut self, depth: usize) -> Option<Vec<(Cow<'a, str>, Value<'a>)>> {
        self.eat(b'{')?;
        let mut members = Vec::new();
        if self.eat(b'}').is_some() {
            return Some(members);
        }
        loop {
            let key = self.string()?;
            self.eat(b':')?;
            members.push((key, self.value(depth)?));
            if self.eat(b'}').is_some() {
                return Some(members);
            }
            self.eat(b',')?;
        }
    }

    fn string(&mut self) -> Option<Cow<'a, str>> {
        let from = self.at;
        self.eat(b'"')?;
        let mut escaped = false;
        loop {
            match self.peek()? {
                b'"' => break,
                b'\\' => {
                    escaped = true;
                    self.at += 2;
                }
                _ => self.at += 1,
            }
        }
        self.at += 1;
        let token = self.text.get(from..self.at)?;
        if escaped {
            return serde_json::from_str(token).ok().map(Cow::Owned);
        }
        token.get(1..token.len() - 1).map(Cow::Borrowed)
    }
}
