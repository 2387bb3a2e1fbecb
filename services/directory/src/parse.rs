//! Requests inward: every fault of every field at once.

use std::time::Duration;

use chrono::TimeDelta;
use runledger_domain::fault::{Fault, Violation};
use runledger_domain::text;
use runledger_domain::time::Timestamp;
use runledger_proto::decode;
use runledger_proto::directory::v1 as wire;
use runledger_proto::words::{self, Word};
use runledger_service::auth::Limits;
use uuid::Uuid;

pub(crate) const NAME_CHARS_MAX: usize = 128;
pub(crate) const LABEL_CHARS_MAX: usize = 128;
pub(crate) const REASON_CHARS_MAX: usize = 1_024;

/// Gathers the faults of one request.
#[derive(Debug, Default)]
pub(crate) struct Fields(Vec<Violation>);

/// A fault of one field that only a rule can find.
pub(crate) fn violation(field: &str, reason: &'static str, description: &str) -> Fault {
    let mut fields = Fields::default();
    fields.wrong(field, reason, description);
    Fault::invalid(fields.0)
}

pub(crate) fn required(field: &str, description: &str) -> Fault {
    violation(field, "REQUIRED", description)
}

impl Fields {
    /// What was parsed, when nothing was wrong.
    pub(crate) fn finish<T>(self, parsed: Option<T>) -> Result<T, Fault> {
        match parsed {
            Some(parsed) if self.0.is_empty() => Ok(parsed),
            _ => Err(Fault::invalid(self.0)),
        }
    }

    pub(crate) fn wrong(
        &mut self,
        field: &str,
        reason: &'static str,
        description: impl Into<String>,
    ) {
        self.0.push(Violation {
            field: field.into(),
            reason: reason.into(),
            description: description.into(),
        });
    }

    pub(crate) fn id<T>(&mut self, field: &str, text: &str, make: fn(Uuid) -> T) -> Option<T> {
        if text.is_empty() {
            self.wrong(field, "REQUIRED", "must be a UUID, and is missing");
            return None;
        }
        self.optional_id(field, text, make).flatten()
    }

    /// The outer none: malformed; the inner: empty.
    pub(crate) fn optional_id<T>(
        &mut self,
        field: &str,
        text: &str,
        make: fn(Uuid) -> T,
    ) -> Option<Option<T>> {
        if text.is_empty() {
            return Some(None);
        }
        match Uuid::try_parse(text) {
            Ok(id) => Some(Some(make(id))),
            Err(_) => {
                self.wrong(field, "INVALID_UUID", "must be a UUID");
                None
            }
        }
    }

    /// 1 to 128 printable characters that begin and end with something to see.
    pub(crate) fn name(&mut self, field: &str, name: String) -> Option<String> {
        if name.is_empty() {
            self.wrong(field, "REQUIRED", "must not be empty");
            return None;
        }
        if name.chars().any(is_invisible) || name.trim() != name {
            self.wrong(
                field,
                "NOT_PRINTABLE",
                "must consist of printable characters and neither begin nor end with a space",
            );
            return None;
        }
        self.text(field, name, NAME_CHARS_MAX)
    }

    pub(crate) fn label(&mut self, field: &str, label: String) -> Option<String> {
        if label.chars().any(is_invisible) {
            self.wrong(
                field,
                "NOT_PRINTABLE",
                "must consist of printable characters",
            );
            return None;
        }
        self.text(field, label, LABEL_CHARS_MAX)
    }

    pub(crate) fn text(&mut self, field: &str, text: String, chars_max: usize) -> Option<String> {
        match text::check(&text, chars_max) {
            Ok(()) => Some(text),
            Err(error) => {
                let reason = match error {
                    text::InvalidText::TooLong(_) => "TOO_LONG",
                    text::InvalidText::Nul => "NOT_PRINTABLE",
                };
                self.wrong(field, reason, error.to_string());
                None
            }
        }
    }

    pub(crate) fn word<W: Word>(&mut self, field: &str, number: i32) -> Option<W::Domain> {
        let known = words::known::<W>(number);
        if known.is_none() && number == 0 {
            self.wrong(field, "REQUIRED", "must be set");
        } else if known.is_none() {
            self.wrong(
                field,
                "UNKNOWN_VALUE",
                format!("{number} is none of its values"),
            );
        }
        known
    }

    pub(crate) fn limits(&mut self, field: &str, limits: wire::Limits) -> Option<Limits> {
        let wire::Limits {
            records_per_second,
            bytes_per_second,
            commands_per_second,
        } = limits;
        for (name, value, least, most) in [
            ("records_per_second", records_per_second, 1, 10_000_000),
            ("bytes_per_second", bytes_per_second, 1_024, 10_000_000_000),
            ("commands_per_second", commands_per_second, 1, 1_000_000),
        ] {
            if !(least..=most).contains(&value) {
                self.wrong(
                    &format!("{field}.{name}"),
                    "OUT_OF_RANGE",
                    format!("must be {least} to {most}"),
                );
            }
        }
        Some(Limits {
            records_per_second,
            bytes_per_second,
            commands_per_second,
        })
    }

    /// A moment after `now`. The outer none: wrong; the inner: absent.
    pub(crate) fn future(
        &mut self,
        field: &str,
        at: Option<prost_types::Timestamp>,
        now: Timestamp,
    ) -> Option<Option<Timestamp>> {
        let Some(at) = at else { return Some(None) };
        let moment = decode::timestamp(&at).ok().filter(|moment| *moment > now);
        if moment.is_none() {
            self.wrong(
                field,
                "OUT_OF_RANGE",
                "must be a moment in the future, before the year 10000",
            );
        }
        moment.map(Some)
    }

    /// A span from zero to `most`. The outer none: wrong; the inner: absent.
    pub(crate) fn span(
        &mut self,
        field: &str,
        span: Option<prost_types::Duration>,
        most: Duration,
    ) -> Option<Option<TimeDelta>> {
        let Some(span) = span else { return Some(None) };
        let parsed = decode::duration(&span)
            .ok()
            .filter(|span| *span <= most)
            .and_then(|span| TimeDelta::from_std(span).ok());
        if parsed.is_none() {
            self.wrong(
                field,
                "OUT_OF_RANGE",
                format!("must be from zero to {} seconds", most.as_secs()),
            );
        }
        parsed.map(Some)
    }
}

/// Control characters, and those that hide, reorder or fake what is shown: two names must never
/// look alike because of a character that nobody sees.
fn is_invisible(char: char) -> bool {
    char.is_control()
        || (char.is_whitespace() && char != ' ')
        || matches!(char,
            '\u{00ad}' | '\u{061c}' | '\u{115f}' | '\u{1160}' | '\u{180e}' | '\u{3164}' | '\u{feff}' | '\u{ffa0}'
            | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            | '\u{fff0}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}')
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;

    use super::*;

    fn at(seconds: i64, nanos: i32) -> Option<prost_types::Timestamp> {
        Some(prost_types::Timestamp { seconds, nanos })
    }

    fn now() -> Timestamp {
        DateTime::from_timestamp(1_000_000_000, 0).unwrap()
    }

    #[test]
    fn names_are_printable_and_bounded() {
        let name = |text: &str| Fields::default().name("name", text.to_owned());
        for good in ["Acme", "Zoë & Söhne", "a b", &"ä".repeat(128), "研究室"] {
            assert!(name(good).is_some(), "{good}");
        }
        for bad in [
            "",
            " a",
            "a ",
            "a\nb",
            "a\0",
            "a\u{202e}b",
            "a\u{200b}",
            &"ä".repeat(129),
        ] {
            assert!(name(bad).is_none(), "{bad:?}");
        }
    }

    #[test]
    fn an_expiry_lies_ahead() {
        for wrong in [
            at(1_000_000_000, 0),
            at(0, 0),
            at(i64::MAX, 0),
            at(i64::MIN, 0),
            at(2_000_000_000, -1),
            at(2_000_000_000, 1_000_000_000),
            at(253_402_300_800, 0),
        ] {
            assert!(
                Fields::default()
                    .future("expires_at", wrong, now())
                    .is_none(),
                "{wrong:?}"
            );
        }
        assert_eq!(
            Fields::default().future("expires_at", None, now()),
            Some(None)
        );
        let good = Fields::default().future("expires_at", at(1_000_000_001, 1_999), now());
        assert_eq!(
            good.flatten().map(|at| at.timestamp_subsec_nanos()),
            Some(1_000)
        );
    }

    #[test]
    fn a_span_is_neither_negative_nor_too_long() {
        let span = |seconds, nanos| {
            Fields::default().span(
                "overlap",
                Some(prost_types::Duration { seconds, nanos }),
                Duration::from_secs(10),
            )
        };
        assert!(span(0, 0).is_some() && span(10, 0).is_some());
        for (seconds, nanos) in [
            (-1, 0),
            (0, -1),
            (10, 1_000),
            (11, 0),
            (i64::MAX, 0),
            (i64::MIN, i32::MIN),
            (1, 1_000_000_000),
        ] {
            assert!(span(seconds, nanos).is_none(), "{seconds} {nanos}");
        }
    }

    #[test]
    fn every_limit_out_of_range_is_named() {
        let mut fields = Fields::default();
        let none: Option<()> = None;
        fields.limits(
            "limits",
            wire::Limits {
                records_per_second: 0,
                bytes_per_second: 1_023,
                commands_per_second: 1_000_001,
            },
        );
        assert_eq!(fields.finish(none).unwrap_err().violations.len(), 3);
    }
}
