from __future__ import annotations

import contextlib
import io
import sys
import tempfile
import unittest
from pathlib import Path
from unittest import mock

import examples
import report


class Between(unittest.TestCase):
    def test_only_what_stands_between_the_marks_is_replaced(self) -> None:
        text = f"a\n{report.BEGIN}\nold\n{report.END}\nb"
        self.assertEqual(report.between(text, "new"), f"a\n{report.BEGIN}\nnew\n{report.END}\nb")

    def test_a_text_without_both_marks_in_order_is_refused(self) -> None:
        begin, end = report.BEGIN, report.END
        for text in ("a", begin, end, end + begin, begin + begin + end, begin + end + end):
            with self.assertRaises(report.Unmarked, msg=text):
                report.between(text, "new")


class Checkout(unittest.TestCase):
    """A README and lines in a folder of their own."""

    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.checkout = Path(folder.name)
        self.readme = self.checkout / "README.md"
        self.results = self.checkout / report.RESULTS
        self.results.mkdir(parents=True)
        self.readme.write_text(f"a\n{report.BEGIN}\n{report.END}\nb\n")
        (self.results / "1.jsonl").write_text(examples.line() + "\n")

    def run_with(self, *arguments: str) -> str:
        said = io.StringIO()
        with (
            mock.patch.object(report, "CHECKOUT", self.checkout),
            mock.patch.object(sys, "argv", ["report", *arguments]),
            contextlib.redirect_stdout(said),
        ):
            report.main()
        return said.getvalue()

    def test_it_writes_table_and_pictures_and_the_same_again(self) -> None:
        self.run_with()
        first = self.readme.read_text()
        self.assertIn("| appends | **Runledger** |", first)
        for name in report.ALT:
            link = f"(tests/bench/results/plots/{name}.svg)"
            self.assertIn(link, first)
            self.assertTrue((self.checkout / link.strip("()")).exists(), link)
        self.assertTrue(first.startswith("a\n") and first.endswith("\nb\n"))
        self.run_with()
        self.assertEqual(self.readme.read_text(), first)

    def test_printing_writes_nothing(self) -> None:
        before = self.readme.read_text()
        self.assertIn("**Runledger**", self.run_with("--print"))
        self.assertEqual(self.readme.read_text(), before)
        self.assertFalse((self.results / "plots").exists())

    def test_without_marks_nothing_is_drawn(self) -> None:
        self.readme.write_text("a")
        with self.assertRaisesRegex(SystemExit, "README.md: <!-- bench:begin -->"):
            self.run_with()
        self.assertFalse((self.results / "plots").exists())

    def test_without_lines_it_says_how_to_make_them(self) -> None:
        (self.results / "1.jsonl").unlink()
        with self.assertRaisesRegex(SystemExit, "make bench"):
            self.run_with("--print")


if __name__ == "__main__":
    unittest.main()
