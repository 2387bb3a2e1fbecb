//! Canonical JSON text: RFC 8785 order and form, but integers keep every digit.
//!
//! Why not a library: those that sort keys go through `f64`, which loses integers beyond 2^53, and
//! none refuses what must never enter a log that is kept for ever (duplicate keys, which readers
//! resolve differently; NUL, which Postgres cannot keep; lone surrogates). String tokens are left
//! to `serde_json`, floats to `ryu_js`.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Deepest nesting of arrays and objects.
pub const DEPTH_MAX: usize = 64;
/// Longest number, in characters.
pub const NUMBER_CHARS_MAX: usize = 128;

/// JSON text in canonical form. Kept as a text, and taken for canonical when it is read back.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Json(Box<str>);

impl Json {
    /// Parses any JSON text and brings it into canonical form.
    pub fn parse(text: &str) -> Result<Self, InvalidJson> {
        let mut parser = Parser { text, at: 0 };
        let mut out = String::with_capacity(text.len());
        parser.value(&mut out, 0)?;
        parser.skip_space();
        if parser.at < text.len() {
            return Err(parser.fault(Reason::Trailing));
        }
        Ok(Self(out.into()))
    }

    /// Takes text for canonical without looking. Only for what was parsed before it was stored:
    /// text from a record of the log. Anything else would let through what [`Json::parse`] refuses.
    pub fn from_stored(text: String) -> Self {
        Self(text.into())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<Json> for String {
    fn from(json: Json) -> Self {
        json.0.into()
    }
}

impl fmt::Display for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why a text is refused, and where: `at` counts bytes from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason} at byte {at}")]
pub struct InvalidJson {
    pub reason: Reason,
    pub at: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    #[error("not JSON: expected a value")]
    Value,
    #[error("not JSON: expected ',' or the closing bracket")]
    Punctuation,
    #[error("not JSON: expected a string as key, then ':'")]
    Key,
    #[error("not JSON: a malformed string or a lone surrogate")]
    String,
    #[error("not JSON: a malformed number")]
    Number,
    #[error(
        "a number beyond what 64-bit floats reach, or longer than {NUMBER_CHARS_MAX} characters"
    )]
    NumberRange,
    #[error("something follows the value")]
    Trailing,
    #[error("nested deeper than {DEPTH_MAX}")]
    Depth,
    #[error("a key that its object already has")]
    DuplicateKey,
    #[error("the NUL character, which cannot be kept")]
    Nul,
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Parser<'a> {
    fn fault(&self, reason: Reason) -> InvalidJson {
        InvalidJson {
            reason,
            at: self.at,
        }
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn skip_space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    /// Consumes `byte` if it is next.
    fn eat(&mut self, byte: u8) -> bool {
        let next = self.peek() == Some(byte);
        self.at += usize::from(next);
        next
    }

    fn value(&mut self, out: &mut String, depth: usize) -> Result<(), InvalidJson> {
        self.skip_space();
        match self.peek() {
            Some(b'{') => self.object(out, depth + 1),
            Some(b'[') => self.array(out, depth + 1),
            Some(b'"') => {
                let text = self.string()?;
                write_string(&text, out);
                Ok(())
            }
            Some(b'-' | b'0'..=b'9') => self.number(out),
            Some(_) | None => self.literal(out),
        }
    }

    fn literal(&mut self, out: &mut String) -> Result<(), InvalidJson> {
        let rest = &self.text.as_bytes()[self.at..];
        for word in ["true", "false", "null"] {
            if rest.starts_with(word.as_bytes()) {
                self.at += word.len();
                out.push_str(word);
                return Ok(());
            }
        }
        Err(self.fault(Reason::Value))
    }

    fn array(&mut self, out: &mut String, depth: usize) -> Result<(), InvalidJson> {
        if depth > DEPTH_MAX {
            return Err(self.fault(Reason::Depth));
        }
        self.at += 1;
        out.push('[');
        self.skip_space();
        if !self.eat(b']') {
            loop {
                self.value(out, depth)?;
                self.skip_space();
                if self.eat(b']') {
                    break;
                }
                if !self.eat(b',') {
                    return Err(self.fault(Reason::Punctuation));
                }
                out.push(',');
            }
        }
        out.push(']');
        Ok(())
    }

    fn object(&mut self, out: &mut String, depth: usize) -> Result<(), InvalidJson> {
        if depth > DEPTH_MAX {
            return Err(self.fault(Reason::Depth));
        }
        self.at += 1;
        let mut members: Vec<(String, String, usize)> = Vec::new();
        self.skip_space();
        if !self.eat(b'}') {
            loop {
                self.skip_space();
                let at = self.at;
                if self.peek() != Some(b'"') {
                    return Err(self.fault(Reason::Key));
                }
                let key = self.string()?;
                self.skip_space();
                if !self.eat(b':') {
                    return Err(self.fault(Reason::Key));
                }
                let mut value = String::new();
                self.value(&mut value, depth)?;
                members.push((key, value, at));
                self.skip_space();
                if self.eat(b'}') {
                    break;
                }
                if !self.eat(b',') {
                    return Err(self.fault(Reason::Punctuation));
                }
            }
        }
        write_object(members, out)
    }

    /// Consumes a string token and returns what it says.
    fn string(&mut self) -> Result<String, InvalidJson> {
        let bytes = self.text.as_bytes();
        let mut end = self.at + 1;
        loop {
            match bytes.get(end) {
                Some(b'"') => break,
                Some(b'\\') => end += 2,
                Some(_) => end += 1,
                None => return Err(self.fault(Reason::String)),
            }
        }
        let token = self
            .text
            .get(self.at..=end)
            .ok_or_else(|| self.fault(Reason::String))?;
        let text: String = serde_json::from_str(token).map_err(|_| self.fault(Reason::String))?;
        if text.contains('\0') {
            return Err(self.fault(Reason::Nul));
        }
        self.at = end + 1;
        Ok(text)
    }

    fn number(&mut self, out: &mut String) -> Result<(), InvalidJson> {
        let rest = &self.text.as_bytes()[self.at..];
        let len = rest
            .iter()
            .position(|byte| !matches!(byte, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E'))
            .unwrap_or(rest.len());
        let token = &self.text[self.at..self.at + len];
        let shape = Shape::of(token).ok_or_else(|| self.fault(Reason::Number))?;
        if len > NUMBER_CHARS_MAX {
            return Err(self.fault(Reason::NumberRange));
        }
        match shape {
            Shape::Integer if token == "-0" => out.push('0'),
            Shape::Integer => out.push_str(token),
            Shape::Fraction => {
                let value: f64 = token.parse().map_err(|_| self.fault(Reason::Number))?;
                if !value.is_finite() {
                    return Err(self.fault(Reason::NumberRange));
                }
                out.push_str(ryu_js::Buffer::new().format_finite(value));
            }
        }
        self.at += len;
        Ok(())
    }
}

enum Shape {
    Integer,
    Fraction,
}

impl Shape {
    /// The grammar of RFC 8259, section 6.
    fn of(token: &str) -> Option<Self> {
        let digits =
            |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let unsigned = token.strip_prefix('-').unwrap_or(token);
        let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => (
                mantissa,
                Some(exponent.strip_prefix(['+', '-']).unwrap_or(exponent)),
            ),
            None => (unsigned, None),
        };
        let (whole, fraction) = match mantissa.split_once('.') {
            Some((whole, fraction)) => (whole, Some(fraction)),
            None => (mantissa, None),
        };
        let sound = digits(whole)
            && (whole == "0" || !whole.starts_with('0'))
            && fraction.is_none_or(digits)
            && exponent.is_none_or(digits);
        match (sound, fraction.or(exponent)) {
            (false, _) => None,
            (true, None) => Some(Self::Integer),
            (true, Some(_)) => Some(Self::Fraction),
        }
    }
}

/// Writes members sorted by the UTF-16 code units of their keys.
fn write_object(
    mut members: Vec<(String, String, usize)>,
    out: &mut String,
) -> Result<(), InvalidJson> {
    members.sort_by(|(a, ..), (b, ..)| a.encode_utf16().cmp(b.encode_utf16()));
    if let Some([_, (.., at)]) = members.array_windows().find(|[(a, ..), (b, ..)]| a == b) {
        return Err(InvalidJson {
            reason: Reason::DuplicateKey,
            at: *at,
        });
    }
    out.push('{');
    for (index, (key, value, _)) in members.iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        write_string(key, out);
        out.push(':');
        out.push_str(value);
    }
    out.push('}');
    Ok(())
}

/// Writes a string token with the least escapes, as RFC 8785 asks. What needs none, which is nearly
/// all, is copied in runs.
fn write_string(text: &str, out: &mut String) {
    use fmt::Write as _;
    out.push('"');
    let mut rest = text;
    while let Some(at) = rest
        .bytes()
        .position(|byte| byte < b' ' || b"\"\\".contains(&byte))
    {
        let (plain, escaped) = rest.split_at(at);
        out.push_str(plain);
        let (control, after) = escaped.split_at(1);
        let written = match control {
            "\"" => out.write_str("\\\""),
            "\\" => out.write_str("\\\\"),
            "\u{8}" => out.write_str("\\b"),
            "\t" => out.write_str("\\t"),
            "\n" => out.write_str("\\n"),
            "\u{c}" => out.write_str("\\f"),
            "\r" => out.write_str("\\r"),
            other => write!(out, "\\u{:04x}", other.as_bytes()[0]),
        };
        debug_assert!(written.is_ok(), "writing to a String cannot fail");
        rest = after;
    }
    out.push_str(rest);
    out.push('"');
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn canonical(text: &str) -> String {
        Json::parse(text)
            .map(String::from)
            .unwrap_or_else(|fault| fault.to_string())
    }

    fn refused(text: &str) -> Reason {
        Json::parse(text).unwrap_err().reason
    }

    #[test]
    fn keys_are_sorted_by_utf16_and_space_is_dropped() {
        assert_eq!(
            canonical(r#" { "b" : [ 1 , true ] , "a" : null } "#),
            r#"{"a":null,"b":[1,true]}"#
        );
        assert_eq!(
            canonical("{\"\u{fb33}\":1,\"\u{1f600}\":2}"),
            "{\"\u{1f600}\":2,\"\u{fb33}\":1}"
        );
    }

    #[test]
    fn integers_keep_every_digit_and_fractions_take_their_shortest_form() {
        assert_eq!(canonical("9007199254740993"), "9007199254740993");
        assert_eq!(
            canonical("-123456789012345678901234567890"),
            "-123456789012345678901234567890"
        );
        assert_eq!(canonical("-0"), "0");
        assert_eq!(canonical("[1.0, 1e2, 0.1, 1E-7]"), "[1,100,0.1,1e-7]");
    }

    #[test]
    fn strings_carry_the_least_escapes() {
        assert_eq!(
            canonical(r#""\u0041\/\u000a\u001f\ud83d\ude00""#),
            "\"A/\\n\\u001f\u{1f600}\""
        );
    }

    #[test]
    fn what_must_not_enter_the_log_is_refused() {
        assert_eq!(refused(r#"{"a":1,"\u0061":2}"#), Reason::DuplicateKey);
        assert_eq!(refused(r#""\u0000""#), Reason::Nul);
        assert_eq!(refused(r#"{"\u0000":1}"#), Reason::Nul);
        assert_eq!(refused(r#""\ud800""#), Reason::String);
        assert_eq!(refused("1e400"), Reason::NumberRange);
        assert_eq!(
            refused(&"9".repeat(NUMBER_CHARS_MAX + 1)),
            Reason::NumberRange
        );
        assert_eq!(
            refused(&format!("{}1{}", "[".repeat(65), "]".repeat(65))),
            Reason::Depth
        );
        assert!(Json::parse(&format!("{}1{}", "[".repeat(64), "]".repeat(64))).is_ok());
        for text in [
            "", "01", "1.", ".5", "+1", "--1", "1e", "nul", "[1,]", "{,}", "{\"a\"}", "1 2", "\"",
            "\"\\", "NaN",
        ] {
            assert!(Json::parse(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn never_panics(text in ".{0,200}") {
            let _ignored = Json::parse(&text);
        }

        #[test]
        fn agrees_with_serde_json_on_what_is_json(text in r#"[\[\]{}:,"\\a0-9eE.+ \-tru]{0,24}"#) {
            let theirs = serde_json::from_str::<serde_json::Value>(&text);
            match Json::parse(&text) {
                Ok(json) => {
                    prop_assert!(theirs.is_ok());
                    prop_assert_eq!(&Json::parse(json.as_str()).unwrap(), &json);
                }
                Err(fault) => prop_assert!(theirs.is_err() || fault.reason == Reason::DuplicateKey),
            }
        }
    }
}
