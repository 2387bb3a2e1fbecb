"""The report of the benchmark: the newest line of each row, as a table and as pictures."""

from __future__ import annotations

import argparse
from pathlib import Path

import rows
import table

CHECKOUT = Path(__file__).resolve().parents[3]
RESULTS = CHECKOUT / "tests" / "bench" / "results"
README = CHECKOUT / "README.md"
BEGIN, END = "<!-- bench:begin -->", "<!-- bench:end -->"


def between(text: str, inside: str) -> str:
    """`text` with what stands between the two marks replaced."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise SystemExit(f"report: {BEGIN} and {END} are not in the text, in this order")
    return f"{before}{begin}\n{inside}\n{end}{after}"


def write(found: list[rows.Row]) -> None:
    import plots

    plots.draw(found, RESULTS / "plots")
    pictures = sorted((RESULTS / "plots").glob("*.svg"))
    links = [f"![{picture.stem}]({picture.relative_to(CHECKOUT)})" for picture in pictures]
    inside = "\n".join([table.markdown(found), "", *links])
    README.write_text(between(README.read_text(), inside))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["print", "write"], help="into the terminal, or into the README with pictures")
    arguments = parser.parse_args()
    found = rows.read(RESULTS)
    if not found:
        raise SystemExit("report: there are no lines in tests/bench/results; make bench writes them")
    if arguments.what == "print":
        print(table.markdown(found))
    else:
        write(found)


if __name__ == "__main__":
    main()
