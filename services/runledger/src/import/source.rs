//! Recorded runs as the file has them: one JSON object a line.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use runledger_domain::ids::{AgentId, Name, RunId};
use runledger_domain::json::Json;
use serde::Deserialize;
use serde_json::value::RawValue;

/// Longest line that is looked at.
const LINE_BYTES_MAX: u64 = 16 << 20;
/// Most runs of one file.
const RUNS_MAX: usize = 1_000_000;

/// Why a file is refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("cannot read {}", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("line {line} is not a recorded run")]
    Line {
        line: usize,
        #[source]
        source: serde_json::Error,
    },
    #[error("line {line}: {what}")]
    Wrong { line: usize, what: String },
    #[error("the file has no runs")]
    Empty,
    #[error("the file has more than {RUNS_MAX} runs; split it")]
    TooMany,
}

/// One recorded run, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) run: RunId,
    pub(crate) agent: AgentId,
    pub(crate) model: String,
    pub(crate) task: u64,
    pub(crate) trial: u64,
    pub(crate) succeeded: bool,
    pub(crate) events: Vec<Event>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    Message { role: Speaker, chars: u64 },
    ToolCall(ToolCall),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Speaker {
    User,
    Agent,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ToolCall {
    pub(crate) tool: Name,
    pub(crate) arguments: Json,
    pub(crate) result: Option<Json>,
    pub(crate) result_chars: u64,
    pub(crate) failed: bool,
}

/// What a file holds, or a read model: the figures that must agree.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    pub(crate) runs: u64,
    pub(crate) succeeded: u64,
    pub(crate) tool_calls: u64,
    pub(crate) failed_tool_calls: u64,
    pub(crate) messages: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRun {
    run: String,
    agent: String,
    model: String,
    task: u64,
    trial: u64,
    succeeded: bool,
    events: Vec<RawEvent>,
}

/// Both kinds in one: a tagged enum would lose the text of the JSON values inside.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawEvent {
    kind: RawKind,
    role: Option<Speaker>,
    chars: Option<u64>,
    /// As recorded; repeats inside a run, so that nothing can be known by it.
    #[serde(rename = "id")]
    _id: Option<String>,
    tool: Option<String>,
    arguments: Option<Box<RawValue>>,
    result: Option<Box<RawValue>>,
    result_chars: Option<u64>,
    failed: Option<bool>,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum RawKind {
    Message,
    ToolCall,
}

/// Reads and checks a whole file.
///
/// # Errors
/// When it cannot be read, a line is no run, or two runs have the same id.
pub(crate) fn read(path: &Path) -> Result<Vec<Run>, Error> {
    let failed = |source| Error::Read {
        path: path.to_owned(),
        source,
    };
    read_from(&mut BufReader::new(File::open(path).map_err(failed)?), path)
}

fn read_from(reader: &mut impl BufRead, path: &Path) -> Result<Vec<Run>, Error> {
    let failed = |source| Error::Read {
        path: path.to_owned(),
        source,
    };
    let (mut runs, mut seen, mut line) = (Vec::new(), BTreeSet::new(), 0);
    loop {
        let mut text = Vec::new();
        line += 1;
        if reader
            .by_ref()
            .take(LINE_BYTES_MAX)
            .read_until(b'\n', &mut text)
            .map_err(failed)?
            == 0
        {
            break;
        }
        if text.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        let raw: RawRun =
            serde_json::from_slice(&text).map_err(|source| Error::Line { line, source })?;
        let run = check(raw).map_err(|what| Error::Wrong { line, what })?;
        if !seen.insert(run.run.clone()) {
            return Err(Error::Wrong {
                line,
                what: format!("the run {} stands in the file before", run.run),
            });
        }
        runs.push(run);
        if runs.len() > RUNS_MAX {
            return Err(Error::TooMany);
        }
    }
    if runs.is_empty() {
        Err(Error::Empty)
    } else {
        Ok(runs)
    }
}

fn check(raw: RawRun) -> Result<Run, String> {
    let events = raw.events.into_iter().enumerate();
    Ok(Run {
        run: RunId::parse(raw.run).map_err(|fault| format!("run: {fault}"))?,
        agent: AgentId::parse(raw.agent).map_err(|fault| format!("agent: {fault}"))?,
        model: raw.model,
        task: raw.task,
        trial: raw.trial,
        succeeded: raw.succeeded,
        events: events
            .map(|(index, event)| {
                check_event(event).map_err(|what| format!("events[{index}]: {what}"))
            })
            .collect::<Result<_, _>>()?,
    })
}

fn check_event(raw: RawEvent) -> Result<Event, String> {
    let json = |name: &str, raw: &RawValue| {
        Json::parse(raw.get()).map_err(|fault| format!("{name}: {fault}"))
    };
    match raw.kind {
        RawKind::Message => Ok(Event::Message {
            role: raw.role.ok_or("a message needs a role")?,
            chars: raw.chars.ok_or("a message needs chars")?,
        }),
        RawKind::ToolCall => Ok(Event::ToolCall(ToolCall {
            tool: Name::parse(raw.tool.ok_or("a tool call needs a tool")?)
                .map_err(|fault| format!("tool: {fault}"))?,
            arguments: json(
                "arguments",
                &raw.arguments.ok_or("a tool call needs arguments")?,
            )?,
            result: raw.result.map(|value| json("result", &value)).transpose()?,
            result_chars: raw.result_chars.ok_or("a tool call needs result_chars")?,
            failed: raw.failed.ok_or("a tool call needs failed")?,
        })),
    }
}

impl Totals {
    /// What a file holds.
    pub(crate) fn of(runs: &[Run]) -> Self {
        let mut totals = Self::default();
        for run in runs {
            totals.runs += 1;
            totals.succeeded += u64::from(run.succeeded);
            for event in &run.events {
                match event {
                    Event::Message { .. } => totals.messages += 1,
                    Event::ToolCall(call) => {
                        totals.tool_calls += 1;
                        totals.failed_tool_calls += u64::from(call.failed);
                    }
                }
            }
        }
        totals
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::{Seek as _, Write as _};

    use proptest::prelude::*;
    use runledger_service::status::chain;

    use super::super::plan::Plan;
    use super::*;

    fn file(text: &str) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        file
    }

    #[test]
    fn the_demo_file_holds_what_its_page_says() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../../deploy/demo/airline-agent-runs.jsonl");
        let totals = Totals::of(&read(&path).unwrap());
        let expected = Totals {
            runs: 200,
            succeeded: 84,
            tool_calls: 1_164,
            failed_tool_calls: 73,
            messages: 2_870,
        };
        assert_eq!(totals, expected);
    }

    const RUN: &str =
        r#"{"run":"r","agent":"a","model":"m","task":1,"trial":0,"succeeded":true,"events":[]}"#;

    #[test]
    fn what_is_wrong_is_named_with_its_line() {
        let said = |text: &str| {
            let error = read(file(text).path()).unwrap_err();
            chain(&error)
        };
        assert_eq!(said("\n\n"), "the file has no runs");
        assert_eq!(
            said(&format!("{RUN}\n{RUN}\n")),
            "line 2: the run r stands in the file before"
        );
        assert!(said(&format!("{RUN}\nnonsense\n")).starts_with("line 2 is not a recorded run: "));
        assert!(said(&RUN.replace("\"task\"", "\"chore\"")).contains("unknown field `chore`"));
        let event = |event: &str| RUN.replace("[]", &format!("[{event}]"));
        assert_eq!(
            said(&event(r#"{"kind":"message","role":"user"}"#)),
            "line 1: events[0]: a message needs chars"
        );
        let call = r#"{"kind":"tool_call","id":"x","tool":"t","arguments":{"a":1,"a":2},"result_chars":0,"failed":false}"#;
        assert!(said(&event(call)).contains("a key that its object already has"));
    }

    /// Every file of the corpus, whatever it was made for, by its name.
    fn corpus() -> Vec<(String, Vec<u8>)> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/hostile/corpus");
        let mut files = Vec::new();
        for folder in fs::read_dir(root).unwrap().map(Result::unwrap) {
            let Ok(entries) = fs::read_dir(folder.path()) else {
                continue; // no folder
            };
            for path in entries.map(|entry| entry.unwrap().path()) {
                files.push((path.display().to_string(), fs::read(&path).unwrap()));
            }
        }
        files.sort();
        files
    }

    /// Reads it, and plans what there is of it. Says which runs, or why none.
    fn taken(bytes: &[u8]) -> Result<usize, String> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(bytes).unwrap();
        let runs = read(file.path()).map_err(|error| chain(&error))?;
        let plan = Plan::new(&runs, 1, "again-");
        for run in &runs {
            // At most two facts an event, and the run's own two; an id may be too long by the prefix.
            if let Ok(planned) = plan.of(run) {
                assert!(planned.len() <= 2 * run.events.len() + 2);
            }
        }
        Ok(runs.len())
    }

    #[test]
    fn files_of_the_corpus_are_runs_or_refused() {
        let corpus = corpus();
        let taken: Vec<(&str, usize)> = corpus
            .iter()
            .filter_map(|(path, bytes)| {
                let name = path.rsplit('/').next().unwrap();
                taken(bytes).ok().map(|runs| (name, runs))
            })
            .collect();
        let expected = [
            ("no-newline-at-end.jsonl", 1),
            ("nul-in-model.jsonl", 1),
            ("numbers-extreme.jsonl", 1),
            ("sound.jsonl", 1),
            ("windows-lines.jsonl", 2),
        ];
        assert_eq!(taken, expected);
    }

    #[test]
    fn a_line_without_end_is_read_no_further_than_it_may_be_long() {
        let mut file = tempfile::tempfile().unwrap();
        // Sparse: it takes no room.
        file.set_len(LINE_BYTES_MAX * 4).unwrap();
        let mut reader = BufReader::new(&mut file);
        let error = read_from(&mut reader, Path::new("endless")).unwrap_err();
        assert!(matches!(error, Error::Line { line: 1, .. }), "{error}");
        let read_to = file.stream_position().unwrap();
        assert!(read_to <= LINE_BYTES_MAX + (1 << 16), "{read_to}");
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn changed_files_are_runs_or_refused(which: prop::sample::Index, at: prop::sample::Index, insert: Vec<u8>, cut: u8) {
            let corpus = corpus();
            let imports: Vec<_> = corpus.iter().filter(|(path, _)| path.ends_with(".jsonl")).collect();
            let mut bytes = which.get(&imports).1.clone();
            let from = at.index(bytes.len() + 1);
            let to = (from + usize::from(cut) % 9).min(bytes.len());
            bytes.splice(from..to, insert);
            let _either = taken(&bytes);
        }
    }

    #[test]
    fn numbers_keep_their_digits() {
        let call = r#"{"kind":"tool_call","tool":"t","arguments":{"b":9007199254740993,"a":1.0},"result":255.0,"result_chars":0,"failed":false}"#;
        let runs = read(file(&RUN.replace("[]", &format!("[{call}]"))).path()).unwrap();
        let Some(Event::ToolCall(call)) = runs[0].events.first() else {
            panic!("no call")
        };
        assert_eq!(call.arguments.as_str(), r#"{"a":1,"b":9007199254740993}"#);
        assert_eq!(call.result.as_ref().map(Json::as_str), Some("255"));
    }
}
