from __future__ import annotations

import tempfile
import unittest
from collections.abc import Sequence
from pathlib import Path

import examples
import plots
from rows import Row

PAGES = ("#ffffff", "#0d1117")


def luminance(colour: str) -> float:
    """As WCAG 2 defines it."""
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def drawn(rows: Sequence[Row]) -> dict[str, str]:
    with tempfile.TemporaryDirectory() as folder:
        return {file.stem: file.read_text() for file in plots.draw(rows, Path(folder))}


class Pictures(unittest.TestCase):
    def test_the_same_rows_make_the_same_bytes(self) -> None:
        rows = [examples.row(), examples.row("b", what="reads")]
        first, again = drawn(rows), drawn(rows)
        self.assertEqual(list(first), ["rates", "processor", "latency"])
        self.assertEqual(first, again)
        for text in first.values():
            self.assertNotIn("<dc:date>", text)

    def test_they_name_figures_sides_and_values(self) -> None:
        pictures = drawn([examples.row(what="costs $5 to $7")])
        for text in ("costs $5 to $7", "runledger", "a loop", "1,000 events", "2,000 events"):
            self.assertIn(f">{text}</text>", pictures["rates"])
        for text in ("ingest", "client", "99.5 µs"):
            self.assertIn(f">{text}</text>", pictures["processor"])
        for text in ("20 / 300", "at most: p99"):
            self.assertIn(f">{text}</text>", pictures["latency"])
        self.assertNotIn("at most: p50", pictures["latency"])

    def test_processes_that_do_little_are_shown_together(self) -> None:
        little = {f"role {number}": 1.0 for number in range(9)}
        row = examples.row(sides=[examples.side("runledger", "ours", cpu_us_per_event={"ingest": 91.0} | little)])
        named = plots.processes(plots.groups([row], lambda _: True))
        self.assertEqual(named, ["ingest"])
        self.assertEqual(dict(plots.shares(row.sides[0], named)), {"ingest": 91.0, "others": 9.0})

    def test_rows_that_do_not_count_are_left_out_and_old_pictures_go(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            plots.draw([examples.row()], Path(folder))
            self.assertEqual(plots.draw([examples.row(void="one is missing")], Path(folder)), [])
            self.assertEqual(list(Path(folder).iterdir()), [])

    def test_they_can_be_read_on_white_and_on_dark_pages(self) -> None:
        self.assertNotIn("fill: #ffffff", drawn([examples.row()])["rates"])
        for page in PAGES:
            self.assertGreater(contrast(plots.INK, page), 4)
            for colour in (*plots.COLOURS.values(), *plots.PROCESSES, plots.GOAL):
                self.assertGreater(contrast(colour, page), 3, f"{colour} on {page}")


if __name__ == "__main__":
    unittest.main()
