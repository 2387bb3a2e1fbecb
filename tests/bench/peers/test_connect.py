from __future__ import annotations

import contextlib
import io
import unittest
from unittest import mock

from connect import sink
from peers import Failed


class Counting(unittest.TestCase):
    """Moments and counts come from a list; waiting takes no time."""

    def all_rows(self, records: int, looks: list[tuple[float, int]]) -> float:
        watched = sink.Sink(mock.Mock(), mock.Mock(), "")
        watched.worker.failed = Failed  # type: ignore[method-assign,assignment]
        with (
            mock.patch.object(watched, "look", side_effect=looks),
            mock.patch.object(watched, "must_run"),
            mock.patch("time.sleep"),
            contextlib.redirect_stderr(io.StringIO()),
        ):
            return watched.all_rows(records, 0.0, 100)

    def test_the_end_is_the_moment_of_the_count_that_shows_all(self) -> None:
        self.assertEqual(self.all_rows(1_000, [(1.0, 600), (2.0, 1_000), (3.0, 1_000)]), 2.0)

    def test_more_rows_than_records_were_written_twice(self) -> None:
        with self.assertRaisesRegex(Failed, "1001 rows of 1000 records"):
            self.all_rows(1_000, [(1.0, 1_001)])

    def test_a_sink_that_writes_nothing_more_has_stalled(self) -> None:
        with self.assertRaisesRegex(Failed, "has written nothing for 60 s"):
            self.all_rows(1_000, [(1.0, 600), (2.0, 600), (62.0, 600)])


if __name__ == "__main__":
    unittest.main()
