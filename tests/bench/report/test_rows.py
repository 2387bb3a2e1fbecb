from __future__ import annotations

import tempfile
import unittest
from pathlib import Path

import examples
import rows


class Newest(unittest.TestCase):
    def test_the_newest_line_of_a_row_counts_whatever_their_order(self) -> None:
        lines = [
            examples.row("b", "2026-02-01T00:00:00Z", what="b"),
            examples.row("a", "2026-02-01T00:00:00Z", what="newer"),
            # an hour before the other, though it reads as later
            examples.row("a", "2026-02-01T01:00:00+02:00", what="older"),
        ]
        self.assertEqual([row.what for row in rows.newest(lines)], ["b", "newer"])

    def test_of_two_lines_of_one_run_the_later_counts(self) -> None:
        again = [examples.row(what="first"), examples.row(what="again")]
        self.assertEqual([row.what for row in rows.newest(again)], ["again"])


class Read(unittest.TestCase):
    def test_all_files_of_a_folder_are_read_and_their_empty_lines_are_not(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            Path(folder, "1.jsonl").write_text(examples.line("a") + "\n\n" + examples.line("b") + "\n")
            Path(folder, "2.jsonl").write_text(examples.line("a", "2027-01-01T00:00:00Z", what="newer") + "\n")
            Path(folder, "other.json").write_text("{")
            found = [(row.name, row.what) for row in rows.read(Path(folder))]
        self.assertEqual(found, [("a", "newer"), ("b", "appends")])

    def test_a_line_that_cannot_be_read_is_named(self) -> None:
        unknown = examples.side("who", "theirs")
        cut = examples.line()[:-9]
        for broken in (cut, "{}", "7", examples.line(sides=[unknown]), examples.line(at="yesterday")):
            with tempfile.TemporaryDirectory() as folder, self.subTest(broken):
                Path(folder, "1.jsonl").write_text(f"{examples.line()}\n{broken}\n")
                with self.assertRaisesRegex(rows.Unreadable, "1.jsonl, line 2: "):
                    rows.read(Path(folder))

    def test_what_was_not_measured_may_be_null_or_left_out(self) -> None:
        nothing = {"who": "a", "is": "peer", "cpu_us_per_event": None, "p50_ms": None}
        side = examples.row(sides=[nothing]).sides[0]
        self.assertEqual((side.rate, side.cpu_us, side.p50_ms, side.p99_ms, side.lost), (None, {}, None, None, None))
        self.assertIsNone(side.cpu_us_tested)


if __name__ == "__main__":
    unittest.main()
