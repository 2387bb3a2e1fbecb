//! Reads the fields of a message and gathers every fault, so that a conversion reads like a table.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use prost_types::Timestamp as WireTimestamp;
use runledger_domain::fault::Violation;
use runledger_domain::ids::{InvalidId, Name};
use runledger_domain::json::Json;
use runledger_domain::text::{self, InvalidText};
use runledger_domain::time::Timestamp;
use uuid::Uuid;

use super::{duration, timestamp};
use crate::words::Word;

/// Stable reasons of field faults.
pub mod reason {
    pub const REQUIRED: &str = "REQUIRED";
    pub const TOO_LONG: &str = "TOO_LONG";
    pub const TOO_MANY: &str = "TOO_MANY";
    pub const NOT_PRINTABLE: &str = "NOT_PRINTABLE";
    pub const NUL_CHARACTER: &str = "NUL_CHARACTER";
    pub const NOT_ALLOWED: &str = "NOT_ALLOWED";
    pub const INVALID_JSON: &str = "INVALID_JSON";
    pub const INVALID_UUID: &str = "INVALID_UUID";
    pub const UNKNOWN_VALUE: &str = "UNKNOWN_VALUE";
    pub const OUT_OF_RANGE: &str = "OUT_OF_RANGE";
}

/// Where in a request we are, for example `facts[3].run_started.labels["x"]`. Made of borrowed
/// pieces: it costs nothing until a fault is written.
#[derive(Clone, Copy, Debug)]
pub struct Path<'a> {
    parent: Option<&'a Path<'a>>,
    step: Step<'a>,
}

#[derive(Clone, Copy, Debug)]
enum Step<'a> {
    Root,
    Field(&'static str),
    Item(usize),
    Key(&'a str),
}

/// How much of a map's key a path shows: keys come from outside and may be of any length.
const KEY_CHARS_MAX: usize = 128;

impl Path<'_> {
    /// The request itself.
    pub const ROOT: Path<'static> = Path {
        parent: None,
        step: Step::Root,
    };

    pub fn field(&self, name: &'static str) -> Path<'_> {
        Path {
            parent: Some(self),
            step: Step::Field(name),
        }
    }

    pub fn item(&self, index: usize) -> Path<'_> {
        Path {
            parent: Some(self),
            step: Step::Item(index),
        }
    }

    pub fn key<'b>(&'b self, key: &'b str) -> Path<'b> {
        Path {
            parent: Some(self),
            step: Step::Key(key),
        }
    }
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(parent) = self.parent {
            parent.fmt(f)?;
        }
        match self.step {
            Step::Root => Ok(()),
            Step::Field(name) if self.parent.is_some_and(|parent| parent.parent.is_some()) => {
                write!(f, ".{name}")
            }
            Step::Field(name) => f.write_str(name),
            Step::Item(index) => write!(f, "[{index}]"),
            Step::Key(key) => match key.char_indices().nth(KEY_CHARS_MAX) {
                Some((end, _)) => write!(f, "[{:?}…]", &key[..end]),
                None => write!(f, "[{key:?}]"),
            },
        }
    }
}

/// One message under inspection: each method takes a field in and gives what the domain keeps of
/// it. After a fault the value given is only a filler, and the list of faults is no longer empty.
#[derive(Debug)]
pub struct Fields<'a> {
    at: Path<'a>,
    faults: &'a mut Vec<Violation>,
    stored: bool,
}

impl<'a> Fields<'a> {
    pub fn new(at: Path<'a>, faults: &'a mut Vec<Violation>) -> Self {
        Self {
            at,
            faults,
            stored: false,
        }
    }

    /// Of a message from the log: its JSON was brought into canonical form before it was stored,
    /// and is not looked at again.
    pub fn of_stored(faults: &'a mut Vec<Violation>) -> Self {
        Self {
            at: Path::ROOT,
            faults,
            stored: true,
        }
    }

    /// Where in the request it lies.
    pub fn at(&self) -> Path<'a> {
        self.at
    }

    /// Whether the message comes from the log, whose limits may have been others.
    pub fn is_stored(&self) -> bool {
        self.stored
    }

    /// Notes a fault of a field.
    pub fn fault(
        &mut self,
        name: &'static str,
        reason: &'static str,
        description: impl fmt::Display,
    ) {
        note(self.faults, &self.at.field(name), reason, description);
    }

    /// Goes into one of a list of messages inside this one.
    pub fn item<T>(
        &mut self,
        name: &'static str,
        index: usize,
        read: impl FnOnce(&mut Fields<'_>) -> T,
    ) -> T {
        read(&mut Fields {
            at: self.at.field(name).item(index),
            faults: self.faults,
            stored: self.stored,
        })
    }

    /// Faults that were found elsewhere, with whole paths.
    pub fn take_over(&mut self, faults: Vec<Violation>) {
        self.faults.extend(faults);
    }

    /// Goes into a message inside this one.
    pub fn within<T>(&mut self, name: &'static str, read: impl FnOnce(&mut Fields<'_>) -> T) -> T {
        read(&mut Fields {
            at: self.at.field(name),
            faults: self.faults,
            stored: self.stored,
        })
    }

    /// Goes into a message that may be absent.
    pub fn optional<M, T>(
        &mut self,
        name: &'static str,
        message: Option<M>,
        read: impl FnOnce(M, &mut Fields<'_>) -> Option<T>,
    ) -> Option<T> {
        self.within(name, |fields| read(message?, fields))
    }

    /// A field that must be there.
    pub fn required<T>(&mut self, name: &'static str, value: Option<T>) -> Option<T> {
        if value.is_none() {
            self.fault(name, reason::REQUIRED, "must be given");
        }
        value
    }

    /// An id that must be there.
    pub fn id<T>(
        &mut self,
        name: &'static str,
        value: String,
        parse: impl FnOnce(String) -> Result<T, InvalidId>,
    ) -> Option<T> {
        parse(value)
            .map_err(|why| self.fault(name, id_reason(why), why))
            .ok()
    }

    /// An id that is not a field but an item of a list.
    pub fn item_id<T>(
        &mut self,
        value: String,
        parse: impl FnOnce(String) -> Result<T, InvalidId>,
    ) -> Option<T> {
        parse(value)
            .map_err(|why| note(self.faults, &self.at, id_reason(why), why))
            .ok()
    }

    /// An id that is absent when it is empty.
    pub fn optional_id<T>(
        &mut self,
        name: &'static str,
        value: String,
        parse: impl FnOnce(String) -> Result<T, InvalidId>,
    ) -> Option<T> {
        if value.is_empty() {
            None
        } else {
            self.id(name, value, parse)
        }
    }

    /// A UUID that must be there. The nil UUID is no identity: whoever sends it has forgotten to
    /// make one, and all his records would count as one.
    pub fn uuid(&mut self, name: &'static str, value: &str) -> Option<Uuid> {
        if value.is_empty() {
            self.fault(name, reason::REQUIRED, "must be a UUID");
            return None;
        }
        match Uuid::try_parse(value) {
            Ok(id) if !id.is_nil() => Some(id),
            Ok(_) => {
                self.fault(name, reason::INVALID_UUID, "must not be the nil UUID");
                None
            }
            Err(_) => {
                let form = "must be a UUID, for example 0198f0c2-5f1e-7b9a-8c55-3f2f6f0e8d11";
                self.fault(name, reason::INVALID_UUID, form);
                None
            }
        }
    }

    /// A UUID that is absent when it is empty.
    pub fn optional_uuid(&mut self, name: &'static str, value: &str) -> Option<Uuid> {
        if value.is_empty() {
            None
        } else {
            self.uuid(name, value)
        }
    }

    /// Free text of at most `chars_max` characters.
    pub fn text(&mut self, name: &'static str, value: String, chars_max: usize) -> String {
        if let Err(why) = text::check(&value, chars_max) {
            self.fault(name, text_reason(why), why);
        }
        value
    }

    /// JSON text, absent when it is empty.
    pub fn optional_json(&mut self, name: &'static str, value: String) -> Option<Json> {
        if value.is_empty() {
            None
        } else {
            self.json(name, value)
        }
    }

    /// JSON text that must be there; brought into canonical form.
    pub fn json(&mut self, name: &'static str, value: String) -> Option<Json> {
        if self.stored {
            return Some(Json::from_stored(value));
        }
        Json::parse(&value)
            .map_err(|why| self.fault(name, reason::INVALID_JSON, why))
            .ok()
    }

    /// An enum that must be given, with a value that this version knows.
    pub fn word<W: Word>(&mut self, name: &'static str, number: i32) -> Option<W::Domain> {
        match W::try_from(number).map(W::known) {
            Ok(Some(value)) => Some(value),
            Ok(None) => {
                self.fault(name, reason::REQUIRED, "must be given");
                None
            }
            Err(_) => {
                let description = format_args!("{number} is no value that this version knows");
                self.fault(name, reason::UNKNOWN_VALUE, description);
                None
            }
        }
    }

    /// A moment that must be given.
    pub fn time(&mut self, name: &'static str, value: Option<WireTimestamp>) -> Option<Timestamp> {
        let value = self.required(name, value);
        self.optional_time(name, value)
    }

    pub fn optional_time(
        &mut self,
        name: &'static str,
        value: Option<WireTimestamp>,
    ) -> Option<Timestamp> {
        timestamp(&value?)
            .map_err(|why| self.fault(name, reason::OUT_OF_RANGE, why))
            .ok()
    }

    pub fn optional_duration(
        &mut self,
        name: &'static str,
        value: Option<prost_types::Duration>,
    ) -> Option<Duration> {
        duration(&value?)
            .map_err(|why| self.fault(name, reason::OUT_OF_RANGE, why))
            .ok()
    }

    /// A count that Postgres must be able to keep.
    pub fn count(&mut self, name: &'static str, value: u64) -> u64 {
        if i64::try_from(value).is_err() {
            self.fault(
                name,
                reason::OUT_OF_RANGE,
                "must be at most 9223372036854775807",
            );
        }
        value
    }

    /// A map from names to texts: at most `entries_max`, each value of at most `chars_max` characters.
    pub fn texts(
        &mut self,
        name: &'static str,
        map: BTreeMap<String, String>,
        entries_max: usize,
        chars_max: usize,
    ) -> BTreeMap<Name, String> {
        self.map(name, map, entries_max, |value, at, faults| {
            if let Err(why) = text::check(value, chars_max) {
                note(faults, at, text_reason(why), why);
            }
        })
    }

    /// A map from names to numbers: at most `entries_max`.
    pub fn numbers(
        &mut self,
        name: &'static str,
        map: BTreeMap<String, i64>,
        entries_max: usize,
    ) -> BTreeMap<Name, i64> {
        self.map(name, map, entries_max, |_, _, _| {})
    }

    /// Entries of a map that is too large are not looked at: its faults could outgrow any answer.
    fn map<V>(
        &mut self,
        name: &'static str,
        map: BTreeMap<String, V>,
        entries_max: usize,
        check: impl Fn(&V, &Path<'_>, &mut Vec<Violation>),
    ) -> BTreeMap<Name, V> {
        let at = self.at.field(name);
        if map.len() > entries_max {
            let description = format_args!("must have at most {entries_max} entries");
            note(self.faults, &at, reason::TOO_MANY, description);
            return BTreeMap::new();
        }
        let mut kept = BTreeMap::new();
        for (key, value) in map {
            let at = at.key(&key);
            check(&value, &at, self.faults);
            match Name::parse(key.as_str()) {
                Ok(name) => drop(kept.insert(name, value)),
                Err(why) => note(
                    self.faults,
                    &at,
                    id_reason(why),
                    format_args!("the name {why}"),
                ),
            }
        }
        kept
    }
}

/// Writes a fault down; out of the way of the path where there is none.
#[cold]
fn note(
    faults: &mut Vec<Violation>,
    at: &Path<'_>,
    reason: &'static str,
    description: impl fmt::Display,
) {
    faults.push(Violation {
        field: at.to_string(),
        reason: reason.into(),
        description: description.to_string(),
    });
}

fn id_reason(why: InvalidId) -> &'static str {
    match why {
        InvalidId::Empty => reason::REQUIRED,
        InvalidId::TooLong => reason::TOO_LONG,
        InvalidId::NotPrintable => reason::NOT_PRINTABLE,
    }
}

fn text_reason(why: InvalidText) -> &'static str {
    match why {
        InvalidText::TooLong(_) => reason::TOO_LONG,
        InvalidText::Nul => reason::NUL_CHARACTER,
    }
}
