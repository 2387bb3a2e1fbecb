//! Twice the input, at most twice the work. What is quadratic asks for four times the memory, or, if
//! it only computes, would not come back from inputs of this size.

use crate::parsers::PARSERS;

/// As large as a record from outside may be.
const BYTES_MAX: usize = 256 * 1024;
/// How far twice may be from it: tables grow in steps.
const SLACK: f64 = 2.5;
/// Below this much work the steps are too large to compare.
const ASKED_MIN: u64 = 64 * 1024;

/// Makes about so many bytes that are hard on some parser.
type Grow = fn(usize) -> Vec<u8>;

const SHAPES: &[(&str, Grow)] = &[
    ("open brackets", |bytes| vec![b'['; bytes]),
    ("spaces", |bytes| vec![b' '; bytes]),
    ("quotes", |bytes| vec![b'"'; bytes]),
    ("backslashes", |bytes| vec![b'\\'; bytes]),
    ("one long number", |bytes| vec![b'9'; bytes]),
    ("zero bytes", |bytes| vec![0; bytes]),
    ("bytes of ones", |bytes| vec![0xff; bytes]),
    ("dashes", |bytes| vec![b'-'; bytes]),
    ("letters of a token", |bytes| vec![b'A'; bytes]),
    ("a list of numbers", |bytes| list(bytes, "1")),
    ("a list of empty lists", |bytes| list(bytes, "[]")),
    ("a list of long fractions", |bytes| {
        list(bytes, "0.12345678901234567890123456789")
    }),
    ("a list of escapes", |bytes| {
        list(bytes, r#""\u0001\ud83d\ude00""#)
    }),
    ("a string of escapes", |bytes| {
        format!("\"{}\"", r"\u0001".repeat(bytes / 6)).into()
    }),
    ("an object of many keys", |bytes| {
        object(bytes, |number| format!("k{number}"))
    }),
    ("an object of keys with one beginning", |bytes| {
        object(bytes, |number| format!("{}{number}", "x".repeat(1_000)))
    }),
    ("an object of one key", |bytes| {
        object(bytes, |_| "k".to_owned())
    }),
    ("a long text deep inside", |bytes| {
        nested(&format!("\"{}\"", "x".repeat(bytes)))
    }),
    ("many values deep inside", |bytes| {
        nested(&String::from_utf8_lossy(&list(bytes, "{}")))
    }),
    ("empty messages", |bytes| [0x0a, 0].repeat(bytes / 2)),
    ("empty messages behind one another's number", |bytes| {
        [0x12, 0].repeat(bytes / 2)
    }),
    ("unknown fields", |bytes| [0x98, 0x06, 1].repeat(bytes / 3)),
    ("groups inside one another", |bytes| vec![0x0b; bytes]),
    ("groups one after another", |bytes| {
        [0x0b, 0x0c].repeat(bytes / 2)
    }),
    ("lengths without end", |bytes| {
        [0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f].repeat(bytes / 6)
    }),
    ("empty tokens of a read", |bytes| {
        message(2, &[0x0a, 0].repeat(bytes / 2))
    }),
    ("labels of one record", |bytes| labels(bytes, 14)),
    ("labels of one fact of a batch", |bytes| {
        message(1, &message(4, &labels(bytes, 14)))
    }),
    ("facts with nothing but wrong labels", wrong_labels),
];

fn list(bytes: usize, item: &str) -> Vec<u8> {
    let items = vec![item; (bytes / (item.len() + 1)).max(1)];
    format!("[{}]", items.join(",")).into()
}

fn object(bytes: usize, key: impl Fn(usize) -> String) -> Vec<u8> {
    let mut text = String::from("{");
    let mut number = 0;
    while text.len() < bytes {
        let comma = if number > 0 { "," } else { "" };
        text.push_str(&format!("{comma}\"{}\":0", key(number)));
        number += 1;
    }
    text.push('}');
    text.into()
}

/// As deep as it may be, each level copying what is inside.
fn nested(inner: &str) -> Vec<u8> {
    let levels = runledger_domain::json::DEPTH_MAX - 2;
    format!("{}{inner}{}", "{\"\":".repeat(levels), "}".repeat(levels)).into()
}

/// A map of distinct short keys to nothing, as field `field` of a message.
fn labels(bytes: usize, field: u32) -> Vec<u8> {
    let mut wire = Vec::new();
    let mut number = 0_u32;
    while wire.len() < bytes {
        wire.extend(message(
            field,
            &message(1, format!("{number:x}").as_bytes()),
        ));
        number += 1;
    }
    wire
}

/// Facts of which every label is wrong in its name and in its value.
fn wrong_labels(bytes: usize) -> Vec<u8> {
    let mut wire = Vec::new();
    while wire.len() < bytes {
        let label = |number: u8| {
            let entry = [message(1, &[b' ', b'0' + number]), message(2, &[0])].concat();
            message(14, &entry)
        };
        let started: Vec<u8> = (0..64).flat_map(label).collect();
        wire.extend(message(1, &message(4, &started)));
    }
    wire
}

/// `content` as field `field`, with its length.
fn message(field: u32, content: &[u8]) -> Vec<u8> {
    let mut wire = Vec::new();
    prost::encoding::encode_key(field, prost::encoding::WireType::LengthDelimited, &mut wire);
    prost::encoding::encode_varint(content.len() as u64, &mut wire);
    wire.extend(content);
    wire
}

#[test]
fn twice_the_input_is_at_most_twice_the_work() {
    for (shape, grow) in SHAPES {
        let [half, whole] = [BYTES_MAX / 2, BYTES_MAX].map(grow);
        for parser in PARSERS {
            let half = parser.try_on(&half, shape);
            let whole = parser.try_on(&whole, shape);
            #[expect(clippy::cast_precision_loss, reason = "a ratio of sizes")]
            let allowed = half.asked.max(ASKED_MIN) as f64 * SLACK;
            #[expect(clippy::cast_precision_loss, reason = "a ratio of sizes")]
            let asked = whole.asked as f64;
            assert!(
                asked <= allowed,
                "{}: {shape}: twice the input asked for {} bytes instead of {}",
                parser.name,
                whole.asked,
                half.asked,
            );
        }
    }
}
