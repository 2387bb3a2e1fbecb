//! Everything that reads bytes of strangers, each with what it may hold for what it is given.

use std::collections::BTreeMap;
use std::hint::black_box;

use allocation_counter::opt_out;
use bytes::Bytes;
use chrono::DateTime;
use prost::{Message, Name};
use runledger_domain::ids::{RecordId, RunId};
use runledger_domain::json::Json;
use runledger_domain::log::{Family, Stream};
use runledger_domain::policy::{
    Action, Condition, Operator, Policy, PolicySet, Spec, Subject, When, check,
};
use runledger_domain::run::Limits;
use runledger_domain::scope::Scope;
use runledger_eventlog::token::Token;
use runledger_proto::analytics::v1 as analytics;
use runledger_proto::decode::fields::{Fields, Path};
use runledger_proto::decode::{self, Bounds, Stored};
use runledger_proto::message::v1::MessageIngestServiceAppendRequest;
use runledger_proto::run::v1::{
    self as run, RunIngestServiceAppendRequest, ToolCallIngestServiceAppendRequest,
};
use runledger_proto::schedule::v1::ScheduleIngestServiceAppendRequest;
use runledger_proto::{codec, types};
use runledger_recording::Reader;
use runledger_service::auth::Key;
use runledger_service::{page, trace};
use serde_json::Value;
use tracing::Span;

use crate::effort::Effort;

/// What a parser may hold beyond its multiple: an error with its details, a first node, a buffer.
const BASE_BYTES: u64 = 8 * 1024;
/// Facts of one batch that are looked at.
const FACTS_MAX: usize = 1_000;

/// Longest content that a page token is forged of.
const FORGED_BYTES_MAX: usize = 2_000;

/// Something that reads bytes, and checks what it may of what it made of them.
pub(crate) struct Parser {
    pub(crate) name: &'static str,
    read: fn(&[u8]),
    /// Most bytes held at once for each byte given.
    multiple: u64,
    /// Most bytes held at once whatever is given.
    base: u64,
}

impl Parser {
    /// # Panics
    /// When the parser does, or holds too much.
    pub(crate) fn try_on(&self, bytes: &[u8], what: &str) -> Effort {
        let effort = Effort::of(|| (self.read)(bytes));
        let allowed = self.base + self.multiple * bytes.len() as u64;
        assert!(
            effort.held <= allowed,
            "{} held {} bytes for {} bytes of {what}; it may hold {allowed}",
            self.name,
            effort.held,
            bytes.len(),
        );
        effort
    }
}

const fn parser(name: &'static str, multiple: u64, read: fn(&[u8])) -> Parser {
    Parser {
        name,
        read,
        multiple,
        base: BASE_BYTES,
    }
}

/// A batch: even an empty fact has its size, decoded, and each that is looked at a list of faults.
const fn batch(name: &'static str, read: fn(&[u8])) -> Parser {
    Parser {
        name,
        read,
        multiple: 64,
        base: codec::ENTRIES_MAX as u64 * 1_536,
    }
}

/// What a policy may hold once it is compiled: of patterns each a quarter of a mebibyte, twice over
/// while it is made.
const COMPILED_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// What is kept of accounts and prices: as many entries as one may have, each empty.
const fn decisions(name: &'static str, read: fn(&[u8])) -> Parser {
    Parser {
        name,
        read,
        multiple: 64,
        base: 32_768 * 1_024,
    }
}

/// Something that is compiled.
const fn compiler(name: &'static str, read: fn(&[u8])) -> Parser {
    Parser {
        name,
        read,
        multiple: 96,
        base: COMPILED_BYTES_MAX,
    }
}

pub(crate) const PARSERS: &[Parser] = &[
    parser("canonical JSON", 32, json),
    parser("record", 4, record),
    parser("genesis", 4, genesis),
    parser("payload", 16, payload),
    decisions("accounts and prices", ledger),
    parser("token", 4, token),
    parser("page token", 16, page_token),
    parser("key", 1, key),
    parser("traceparent", 1, traceparent),
    parser("names", 4, names),
    parser("query", 48, query),
    parser("question", 48, question),
    // Unpacked before anything is known of it, up to what a frame may be.
    Parser {
        base: 17 * 1024 * 1024,
        ..parser("recording", 64, recording)
    },
    batch("batch of run facts", run_facts),
    batch("batch of tool call facts", tool_call_facts),
    batch("batch of schedule facts", schedule_facts),
    batch("batch of message facts", message_facts),
    compiler("field of a condition", policy_field),
    compiler("value of a condition", policy_value),
    compiler("expression", policy_expression),
    Parser {
        base: 256 * 1024,
        ..parser("arguments under policies", 96, policy_arguments)
    },
    Parser {
        base: 256 * 1024,
        ..parser("arguments under an expression", 256, expression_arguments)
    },
    Parser {
        base: COMPILED_BYTES_MAX,
        ..parser("policy", 96, policy)
    },
];

/// What a text parser is given of bytes that are not UTF-8: those up to there.
fn text(bytes: &[u8]) -> &str {
    match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => std::str::from_utf8(&bytes[..error.valid_up_to()]).unwrap_or_default(),
    }
}

fn json(bytes: &[u8]) {
    let text = text(bytes);
    match Json::parse(text) {
        Ok(json) => assert_eq!(Json::parse(json.as_str()).as_ref(), Ok(&json), "{text:?}"),
        Err(fault) => assert!(fault.at <= text.len(), "{fault} of {}", text.len()),
    }
}

fn record(bytes: &[u8]) {
    for family in Family::ALL {
        if let Ok(Stored::Record(record)) = decode::record(*family, bytes) {
            assert_eq!(record.stream.family(), *family);
            let _either = black_box(decode::fact(&record));
        }
    }
}

fn genesis(bytes: &[u8]) {
    let _either = black_box(decode::genesis(bytes));
}

fn payload(bytes: &[u8]) {
    for type_name in types::ALL {
        let _either = black_box(decode::payload(type_name, bytes));
        let _either = black_box(decode::stored_policy_command(type_name, bytes));
        let _either = black_box(decode::stored_policy_changed(type_name, bytes));
        let _either = black_box(decode::stored_rejection(type_name, bytes));
        let _either = black_box(decode::stored_directory_changed(type_name, bytes));
    }
}

fn ledger(bytes: &[u8]) {
    for type_name in types::ALL {
        let _either = black_box(decode::stored_account_command(type_name, bytes));
        let _either = black_box(decode::stored_account_posted(type_name, bytes));
        let _either = black_box(decode::stored_publish_prices(type_name, bytes));
        let _either = black_box(decode::stored_prices_published(type_name, bytes));
    }
}

fn token(bytes: &[u8]) {
    let text = text(bytes);
    if let Ok(token) = Token::parse(text) {
        assert_eq!(token.to_string(), text, "a token has one text");
    }
}

/// As lists have it: a place of texts and numbers.
type Place = Vec<(String, u32, u64, String)>;

fn page_token(bytes: &[u8]) {
    let list = page::List::of(&["list"]);
    let text = text(bytes);
    let _either = black_box(list.place::<Place>(text));
    // Anybody can make one that is well checked, of any content that fits one.
    if text.len() <= FORGED_BYTES_MAX {
        let mut forged = String::new();
        opt_out(|| {
            let content: Value = serde_json::from_str(text).unwrap_or_else(|_| text.into());
            forged = list.token(&content).unwrap_or_default();
        });
        let _either = black_box(list.place::<Place>(&forged));
    }
}

fn key(bytes: &[u8]) {
    let text = text(bytes);
    let form = |digits: &str| {
        digits.len() == 64
            && digits
                .bytes()
                .all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'))
    };
    let sound = ["rl_live_", "rl_test_"]
        .iter()
        .any(|prefix| text.strip_prefix(prefix).is_some_and(form));
    assert_eq!(Key::parse(text).is_ok(), sound, "{text:?}");
}

fn traceparent(bytes: &[u8]) {
    let text = text(bytes);
    trace::set_parent(&Span::none(), text);
    trace::add_link(&Span::none(), text);
}

fn names(bytes: &[u8]) {
    let text = text(bytes);
    let _either = black_box((
        RunId::parse(text),
        text.parse::<RecordId>(),
        text.parse::<Family>(),
        Stream::parse(text),
    ));
    for family in Family::ALL {
        if let Some(stream) = Stream::stored(*family, text) {
            let scope = Scope {
                tenant: "0192f0c4-0000-7000-8000-000000000001"
                    .parse()
                    .expect("a tenant"),
                mode: runledger_domain::scope::Mode::Live,
            };
            assert!(stream.key(scope).ends_with(text));
        }
    }
}

/// What a read is asked: its tokens too, as far as they are looked at before the read.
fn query(bytes: &[u8]) {
    let bytes = Bytes::copy_from_slice(bytes);
    let asked = [
        codec::read::<run::ListRunsRequest>(bytes.clone()).map(|request| request.read),
        codec::read::<run::GetRunRequest>(bytes.clone()).map(|request| request.read),
        codec::read::<run::GetTimelineRequest>(bytes).map(|request| request.read),
    ];
    for read in asked.into_iter().flatten() {
        let options = decode::read_options(read, Path::ROOT).unwrap_or_default();
        let tokens: Vec<_> = options
            .at_least
            .iter()
            .map(|token| Token::parse(token))
            .collect();
        drop(black_box(tokens));
    }
}

fn question(bytes: &[u8]) {
    let bytes = Bytes::copy_from_slice(bytes);
    let asked = [
        codec::read::<analytics::QueryRequest>(bytes.clone()).map(|request| request.question),
        codec::read::<analytics::CompareRequest>(bytes).map(|request| request.question),
    ];
    for question in asked.into_iter().flatten() {
        let mut faults = Vec::new();
        let parsed =
            decode::analytics::question(question, &mut Fields::new(Path::ROOT, &mut faults));
        drop(black_box((parsed, faults)));
    }
}

fn recording(bytes: &[u8]) {
    if let Ok(mut reader) = Reader::open(bytes) {
        while let Ok(Some(block)) = reader.block() {
            drop(black_box(block));
        }
    }
}

/// Takes a request in as the services do: decoded by the codec, counted, and looked at fact by fact.
fn facts<R: Message + Name + Default, F, T>(
    bytes: &[u8],
    facts: impl FnOnce(R) -> Vec<F>,
    parse: fn(F, &Bounds, Path<'_>) -> T,
) {
    // The body has its bytes already.
    let Ok(request) = codec::read::<R>(Bytes::copy_from_slice(bytes)) else {
        return;
    };
    let facts = facts(request);
    if facts.len() > FACTS_MAX {
        return;
    }
    let bounds = Bounds::at(DateTime::UNIX_EPOCH);
    let at = Path::ROOT.field("facts");
    let parsed: Vec<T> = facts
        .into_iter()
        .enumerate()
        .map(|(index, fact)| parse(fact, &bounds, at.item(index)))
        .collect();
    drop(black_box(parsed));
}

fn run_facts(bytes: &[u8]) {
    facts(
        bytes,
        |request: RunIngestServiceAppendRequest| request.facts,
        decode::run_fact,
    );
    facts(
        bytes,
        |request: run::RunIngestServiceAppendStreamRequest| request.facts,
        decode::run_fact,
    );
}

fn tool_call_facts(bytes: &[u8]) {
    let parse = decode::tool_call_fact;
    facts(
        bytes,
        |request: ToolCallIngestServiceAppendRequest| request.facts,
        parse,
    );
}

fn schedule_facts(bytes: &[u8]) {
    let parse = decode::schedule_fact;
    facts(
        bytes,
        |request: ScheduleIngestServiceAppendRequest| request.facts,
        parse,
    );
}

fn message_facts(bytes: &[u8]) {
    let parse = decode::message_fact;
    facts(
        bytes,
        |request: MessageIngestServiceAppendRequest| request.facts,
        parse,
    );
}

fn of(when: When) -> Policy {
    Policy {
        id: "p".parse().expect("an id"),
        version: 1,
        spec: Spec {
            name: "p".into(),
            description: String::new(),
            when,
            action: Action::Block,
            approval: None,
            severity: None,
            limits: Limits::default(),
            disabled: false,
        },
        created: None,
        updated: None,
        deleted: false,
    }
}

/// Checks a policy and puts it to a call. What passes the check has no error of its own making.
fn put(when: When, arguments: &Json) {
    let policy = of(when);
    let faults = check(&policy.spec);
    let set = PolicySet::compile([&policy]);
    let judged = set.judge(&Subject {
        tool: &"tool".parse().expect("a name"),
        agent: &"agent".parse().expect("an id"),
        action_hint: "",
        run: &"run".parse().expect("an id"),
        model: "",
        arguments: Some(arguments),
        labels: &BTreeMap::new(),
    });
    let conditions = matches!(policy.spec.when, When::Conditions(_));
    if conditions && faults.is_empty() {
        let errors = judged.matches.iter().filter_map(|one| one.error.as_deref());
        let own = errors.filter(|error| *error != "the arguments cannot be read");
        assert_eq!(own.count(), 0);
    }
    drop(black_box(judged));
}

fn small() -> Json {
    Json::from_stored(r#"{"a":[1,{"b":"c"}]}"#.into())
}

fn policy_field(bytes: &[u8]) {
    let condition = Condition {
        field: text(bytes).into(),
        operator: Operator::Exists,
        value: Json::from_stored("true".into()),
    };
    put(When::Conditions(vec![condition]), &small());
}

fn policy_value(bytes: &[u8]) {
    let text = text(bytes);
    // As it may lie in a log, and as the content of a text: a pattern.
    let mut quoted = String::new();
    opt_out(|| quoted = Value::from(text).to_string());
    for value in [text, &quoted] {
        for operator in Operator::ALL {
            let condition = Condition {
                field: "arguments.a".into(),
                operator: *operator,
                value: Json::from_stored(value.into()),
            };
            put(When::Conditions(vec![condition]), &small());
        }
    }
}

fn policy_expression(bytes: &[u8]) {
    put(When::Cel(text(bytes).into()), &small());
}

fn policy_arguments(bytes: &[u8]) {
    let arguments = Json::from_stored(text(bytes).into());
    let condition = |field: &str, operator, value: &str| Condition {
        field: field.into(),
        operator,
        value: Json::from_stored(value.into()),
    };
    let conditions = vec![
        condition("arguments.a", Operator::NotEquals, "9007199254740993"),
        condition("arguments.a", Operator::NotIn, r#"[{"b":1e300}]"#),
        condition("arguments.b", Operator::Gt, "1"),
    ];
    put(When::Conditions(conditions), &arguments);
}

fn expression_arguments(bytes: &[u8]) {
    let arguments = Json::from_stored(text(bytes).into());
    let expression = "arguments.all(x, x == x) && arguments == arguments";
    put(When::Cel(expression.into()), &arguments);
}

/// A policy as a caller sends it.
fn policy(bytes: &[u8]) {
    let Ok(wire) = runledger_proto::policy::v1::PolicySpec::decode(bytes) else {
        return;
    };
    if let Ok(spec) = decode::policy(wire, Path::ROOT) {
        put(spec.when, &small());
    }
}
