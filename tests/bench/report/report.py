"""The report of the benchmark: the newest line of each row, as a table and as pictures."""

from __future__ import annotations

import argparse
from pathlib import Path

import rows
import table

CHECKOUT = Path(__file__).resolve().parents[3]
RESULTS = Path("tests/bench/results")
BEGIN, END = "<!-- bench:begin -->", "<!-- bench:end -->"
ALT = {
    "rates": "Rates of Runledger and what is beside it, a row a figure, on a logarithmic scale",
    "processor": "Processor time of an event, by process",
    "latency": "Latency, p50 and p99, on a logarithmic scale, with the goals",
}


class Unmarked(Exception):
    """A text without the two marks, once each and in order."""


def between(text: str, inside: str) -> str:
    """`text` with what stands between the two marks replaced."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    if text.count(BEGIN) != 1 or text.count(END) != 1 or END in before:
        raise Unmarked(f"{BEGIN} and {END} must be in it once each, in this order")
    return f"{before}{BEGIN}\n{inside}\n{END}{after}"


def write(checkout: Path, found: list[rows.Row]) -> None:
    """Draws the pictures, and puts the table and links to them into the README of a checkout."""
    # Printing does without it, and needs nothing but Python.
    import plots

    readme = checkout / "README.md"
    # before anything is drawn
    between(readme.read_text(), "")
    compared = [row for row in found if not row.name.startswith(table.CAPACITY)]
    pictures = plots.draw(compared, checkout / RESULTS / "plots")
    links = [f"![{ALT[picture.stem]}]({picture.relative_to(checkout).as_posix()})" for picture in pictures]
    inside = "\n\n".join([table.markdown(found), *links])
    readme.write_text(between(readme.read_text(), f"\n{inside}\n"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--print", action="store_true", help="in the terminal only, and no picture")
    arguments = parser.parse_args()
    try:
        found = rows.read(CHECKOUT / RESULTS)
        if not found:
            raise SystemExit(f"report: there are no lines in {RESULTS}; make bench writes them")
        if arguments.print:
            print(table.markdown(found, is_padded=True))
        else:
            write(CHECKOUT, found)
    except rows.Unreadable as unreadable:
        raise SystemExit(f"report: {unreadable}") from None
    except Unmarked as unmarked:
        raise SystemExit(f"report: README.md: {unmarked}") from None


if __name__ == "__main__":
    main()
