//! JSON numbers, compared by value and exactly: no digit is lost, and no exponent is ever written out.

use std::cmp::Ordering;

use crate::json::{Json, NUMBER_CHARS_MAX};

/// A number as far as comparing goes.
#[derive(Clone, Debug)]
pub(super) enum Number {
    /// Nearly all of them.
    Small(i64),
    Large(Decimal),
}

/// 0.`digits` times ten to the power of `magnitude`; zero has no digits.
#[derive(Clone, Debug)]
pub(super) struct Decimal {
    negative: bool,
    magnitude: i64,
    /// Neither begins nor ends with a zero.
    digits: Box<str>,
}

impl Number {
    /// Of a JSON number in canonical form. `None`: it is none.
    pub(super) fn parse(text: &str) -> Option<Self> {
        if let Ok(small) = text.parse() {
            return (!text.starts_with('+')).then_some(Self::Small(small));
        }
        Decimal::parse(text).map(Self::Large)
    }

    /// Of a text that says a number as JSON would, within the bounds of JSON numbers.
    pub(super) fn of_text(text: &str) -> Option<Self> {
        let written = text
            .bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E'));
        if !written || text.len() > NUMBER_CHARS_MAX {
            return None;
        }
        // What it stands for is what it would stand for as a number: fractions take the same way.
        Self::parse(Json::parse(text).ok()?.as_str())
    }

    pub(super) fn compare(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Small(a), Self::Small(b)) => a.cmp(b),
            (Self::Large(a), Self::Large(b)) => a.compare(b),
            (Self::Small(a), Self::Large(b)) => Decimal::of(*a).compare(b),
            (Self::Large(a), Self::Small(b)) => a.compare(&Decimal::of(*b)),
        }
    }
}

impl Decimal {
    fn of(small: i64) -> Self {
        let digits = small.unsigned_abs().to_string();
        Self::new(small < 0, &digits, "", 0)
    }

    fn parse(text: &str) -> Option<Self> {
        let (negative, unsigned) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let (mantissa, exponent) = unsigned.split_once(['e', 'E']).unwrap_or((unsigned, "0"));
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        if whole.is_empty() || !digits(whole) || !digits(fraction) {
            return None;
        }
        Some(Self::new(negative, whole, fraction, exponent.parse().ok()?))
    }

    fn new(negative: bool, whole: &str, fraction: &str, exponent: i64) -> Self {
        let all = [whole, fraction].concat();
        let led = all.trim_start_matches('0');
        let zeros = all.len() - led.len();
        let signed = |len: usize| i64::try_from(len).unwrap_or(i64::MAX);
        let digits = led.trim_end_matches('0');
        Self {
            negative: negative && !digits.is_empty(),
            magnitude: exponent
                .saturating_add(signed(whole.len()))
                .saturating_sub(signed(zeros)),
            digits: digits.into(),
        }
    }

    fn compare(&self, other: &Self) -> Ordering {
        let sign = |one: &Self| match (one.digits.is_empty(), one.negative) {
            (true, _) => 0,
            (false, true) => -1,
            (false, false) => 1,
        };
        let size = |one: &Self, other: &Self| {
            one.magnitude
                .cmp(&other.magnitude)
                .then_with(|| one.digits.cmp(&other.digits))
        };
        sign(self)
            .cmp(&sign(other))
            .then_with(|| match (self.digits.is_empty(), self.negative) {
                (true, _) => Ordering::Equal,
                (false, true) => size(other, self),
                (false, false) => size(self, other),
            })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn number(text: &str) -> Number {
        Number::parse(Json::parse(text).unwrap().as_str()).unwrap()
    }

    /// Each less than the next.
    const RISING: &[&str] = &[
        "-1e308",
        "-123456789012345678901234567890",
        "-9223372036854775809",
        "-9223372036854775808",
        "-9007199254740993",
        "-9007199254740992",
        "-1.5",
        "-1",
        "-1e-300",
        "0",
        "1e-300",
        "0.1",
        "0.25",
        "1",
        "1.5",
        "10",
        "9007199254740991",
        "9007199254740992",
        "9007199254740993",
        "9223372036854775807",
        "9223372036854775808",
        "18446744073709551615",
        "18446744073709551616",
        "99999999999999999999",
        "1e20",
        "123456789012345678901234567890",
        "123456789012345678901234567891",
        "1e308",
    ];

    #[test]
    fn numbers_are_compared_exactly_at_every_edge() {
        for (i, a) in RISING.iter().enumerate() {
            for (j, b) in RISING.iter().enumerate() {
                assert_eq!(number(a).compare(&number(b)), i.cmp(&j), "{a} and {b}");
                let texts = [a, b].map(|text| Number::of_text(text).unwrap());
                assert_eq!(texts[0].compare(&texts[1]), i.cmp(&j), "{a} and {b}");
            }
        }
    }

    #[test]
    fn form_does_not_matter() {
        for (a, b) in [
            ("1.0", "1"),
            ("100", "1e2"),
            ("-0", "0"),
            ("-0.0", "0"),
            ("1000000000000000000000", "1e21"),
            ("0.5", "5e-1"),
        ] {
            assert_eq!(number(a).compare(&number(b)), Ordering::Equal, "{a} {b}");
        }
    }

    #[test]
    fn a_text_that_is_no_number_of_json_is_none() {
        for text in [
            "",
            "1e999999999",
            "-1e400",
            "NaN",
            "inf",
            "+1",
            " 1",
            "1 ",
            "01",
            ".5",
            "1.",
            "0x1",
            "1_0",
            "١",
            "1e",
            "-",
            "--1",
        ] {
            assert!(Number::of_text(text).is_none(), "{text}");
        }
        assert!(Number::of_text(&"9".repeat(NUMBER_CHARS_MAX)).is_some());
        assert!(Number::of_text(&"9".repeat(NUMBER_CHARS_MAX + 1)).is_none());
        let tiny = Number::of_text("1e-999999999").unwrap();
        assert_eq!(tiny.compare(&Number::Small(0)), Ordering::Equal);
    }

    proptest! {
        #[test]
        fn integers_compare_as_integers(a: i128, b: i128) {
            let (one, other) = (number(&a.to_string()), number(&b.to_string()));
            prop_assert_eq!(one.compare(&other), a.cmp(&b));
        }

        #[test]
        fn any_text_is_a_number_or_none(text in "[0-9eE.+-]{0,140}") {
            let _either = (Number::of_text(&text), Number::parse(&text));
        }
    }
}
