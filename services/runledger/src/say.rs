//! What people read: lines, headings and tables on standard output.
//!
//! Everything is written with an error instead of a panic, so that `runledger … | head` ends quietly.

use std::fmt::Display;
use std::io::{self, IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};

pub(crate) use comfy_table::Cell;
use comfy_table::{Attribute, CellAlignment, Color, Table, TableComponent, presets};

static PLAIN: AtomicBool = AtomicBool::new(false);

/// No colours, whatever standard output is.
pub(crate) fn plain() {
    PLAIN.store(true, Ordering::Relaxed);
}

/// Whether standard output is a terminal that may be coloured.
fn coloured() -> bool {
    !PLAIN.load(Ordering::Relaxed) && io::stdout().is_terminal()
}

/// Writes one line to standard output.
pub(crate) fn line(text: impl Display) -> io::Result<()> {
    writeln!(io::stdout().lock(), "{text}")
}

/// Writes a heading with an empty line before it.
pub(crate) fn heading(text: &str) -> io::Result<()> {
    line(format_args!("\n{}", bold(text)))
}

/// Writes one line to standard error: progress and advice, which belong to no pipe.
pub(crate) fn aside(text: impl Display) {
    // Nobody is left to be told when even standard error is closed.
    drop(writeln!(io::stderr().lock(), "{text}"));
}

/// `text` in bold, where that shows.
pub(crate) fn bold(text: &str) -> String {
    if coloured() {
        format!("\u{1b}[1m{text}\u{1b}[0m")
    } else {
        text.to_owned()
    }
}

/// A table of columns; names that begin with `>` are aligned to the right.
pub(crate) struct Columns(Table);

impl Columns {
    pub(crate) fn new(names: &[&str]) -> Self {
        let mut table = Table::new();
        table.load_preset(presets::NOTHING);
        for part in [
            TableComponent::HeaderLines,
            TableComponent::LeftHeaderIntersection,
            TableComponent::MiddleHeaderIntersections,
            TableComponent::RightHeaderIntersection,
        ] {
            table.set_style(part, '─');
        }
        if !coloured() {
            table.force_no_tty();
        }
        table.set_header(
            names
                .iter()
                .map(|name| Cell::new(name.trim_start_matches('>')).add_attribute(Attribute::Bold)),
        );
        for (index, name) in names.iter().enumerate() {
            if let (true, Some(column)) = (name.starts_with('>'), table.column_mut(index)) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        Self(table)
    }

    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = Cell>) {
        self.0.add_row(cells.into_iter().collect::<Vec<_>>());
    }

    pub(crate) fn print(&self) -> io::Result<()> {
        line(&self.0)
    }
}

/// A plain cell.
pub(crate) fn cell(text: impl Display) -> Cell {
    Cell::new(text)
}

/// A cell whose colour says how something went.
pub(crate) fn toned(text: impl Display, tone: Tone) -> Cell {
    match tone {
        Tone::Good => Cell::new(text).fg(Color::Green),
        Tone::Bad => Cell::new(text).fg(Color::Red),
        Tone::Busy => Cell::new(text).fg(Color::Yellow),
        Tone::Faint => Cell::new(text).add_attribute(Attribute::Dim),
        Tone::Plain => Cell::new(text),
    }
}

/// How something went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tone {
    Good,
    Bad,
    Busy,
    Faint,
    Plain,
}

/// A count with its thousands apart: `1,164`.
pub(crate) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `text` in one line of at most `chars_max` characters, free of anything that moves a terminal's
/// cursor: what callers sent is shown, never obeyed.
pub(crate) fn short(text: &str, chars_max: usize) -> String {
    let mut out: String = text
        .chars()
        .map(|one| if one.is_control() { ' ' } else { one })
        .take(chars_max)
        .collect();
    if text.chars().nth(chars_max).is_some() {
        out.pop();
        out.push('…');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_stand_apart() {
        assert_eq!(
            [0, 999, 1_000, 12_345_678].map(count),
            ["0", "999", "1,000", "12,345,678"]
        );
    }

    #[test]
    fn what_is_shown_stays_in_its_line() {
        assert_eq!(short("a\u{1b}[2J\nb", 20), "a [2J b");
        assert_eq!(short("abcdef", 4), "abc…");
        assert_eq!(short("abcd", 4), "abcd");
    }
}
