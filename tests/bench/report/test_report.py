from __future__ import annotations

import json
import unittest
from typing import Any

import report
import rows
import table


def a_line(row: str, at: str, rate: float, **more: Any) -> str:
    line = {
        "at": at,
        "row": row,
        "what": "appends",
        "unit": "events",
        "rounds": 3,
        "machine": {},
        "sides": [
            {"who": "runledger", "is": "ours", "rate": rate, "cpu_us_per_event": {"client": 90.0, "ingest": 7.0}},
            {"who": "a loop", "is": "limit", "rate": 2 * rate, "cpu_us_per_event": {}, "p50_ms": 1.0, "p99_ms": 2.5},
        ],
        "goals": [
            {"what": "rate, of a loop", "value": 0.5, "bound": 0.45, "is_least": True, "reached": True},
            {"what": "p99 in ms", "value": 300.0, "bound": 250.0, "is_least": False, "reached": False},
        ],
        "void": None,
    }
    return json.dumps(line | more)


class Rows(unittest.TestCase):
    def test_the_newest_line_of_a_row_counts_whatever_their_order(self) -> None:
        lines = [a_line("b", "2026-02", 7), a_line("a", "2026-02", 2), a_line("a", "2026-01", 1)]
        found = [(row.name, row.sides[0].rate) for row in rows.newest(lines)]
        self.assertEqual(found, [("b", 7), ("a", 2)])


class Table(unittest.TestCase):
    def test_a_row_says_what_was_reached_and_callers_are_not_under_test(self) -> None:
        line = table.line(rows.parse(a_line("a", "2026-01", 1_000)))
        expected = "| appends, events | 1,000/s | a loop 2,000/s | 7.0<br>– | –<br>1.0 / 2.5 |"
        goals = " rate, of a loop 0.50 (≥ 0.45): reached<br>p99 in ms 300 (≤ 250): **missed** |"
        self.assertEqual(line, expected + goals)

    def test_a_void_row_says_why(self) -> None:
        line = table.line(rows.parse(a_line("a", "2026-01", 1, void="one is missing")))
        self.assertTrue(line.endswith("| void: one is missing |"), line)


class Report(unittest.TestCase):
    def test_only_what_stands_between_the_marks_is_replaced(self) -> None:
        text = f"a\n{report.BEGIN}\nold\n{report.END}\nb"
        self.assertEqual(report.between(text, "new"), f"a\n{report.BEGIN}\nnew\n{report.END}\nb")

    def test_a_text_without_marks_is_refused(self) -> None:
        with self.assertRaises(SystemExit):
            report.between("a", "new")


if __name__ == "__main__":
    unittest.main()
