from __future__ import annotations

import json
import stat
import tempfile
import unittest
from pathlib import Path

from ghz import calls
from peers import Failed

KEY = "rl_test_0123"
# Notes what it was called with, and tells what `told` holds.
STANDS_IN = """#!/usr/bin/env python3
import json, pathlib, stat, sys
here = pathlib.Path(__file__).parent
config = pathlib.Path(sys.argv[sys.argv.index("--config") + 1])
seen = {"arguments": sys.argv, "mode": stat.S_IMODE(config.stat().st_mode), "config": json.loads(config.read_text())}
(here / "seen").write_text(json.dumps(seen))
print((here / "told").read_text())
"""
TOLD = {
    "count": 4,
    "total": 2_000_000_000,
    "rps": 2.0,
    "statusCodeDistribution": {"OK": 4},
    "errorDistribution": {},
    "options": {"metadata": {"authorization": f"Bearer {KEY}"}},
    "latencyDistribution": [{"percentage": 50, "latency": 1_500_000}, {"percentage": 99, "latency": 9_000_000}],
}


def answer(*outcomes: str) -> str:
    response = json.dumps({"results": [{"id": "1", outcome: {}} for outcome in outcomes]})
    lines = [{"message": "Making request"}, {"message": "Received response", "response": response}]
    return "\n".join(map(json.dumps, lines))


class Run(unittest.TestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.ghz = self.folder / "ghz"
        self.ghz.write_text(STANDS_IN)
        self.ghz.chmod(0o700)

    def told(self, **more: object) -> calls.Settings:
        (self.folder / "told").write_text(json.dumps(TOLD | more))
        return calls.run(self.ghz, self.folder, calls.settings("127.0.0.1:1", KEY))

    def test_the_key_is_in_a_file_of_ours_alone_and_among_no_arguments(self) -> None:
        self.told()
        seen = json.loads((self.folder / "seen").read_text())
        self.assertEqual(seen["config"]["metadata"], {"authorization": f"Bearer {KEY}"})
        self.assertEqual(seen["mode"], stat.S_IRUSR | stat.S_IWUSR)
        self.assertNotIn(KEY, " ".join(seen["arguments"]))

    def test_calls_that_were_not_answered_fail_it_without_telling_the_key(self) -> None:
        failures: list[calls.Settings] = [
            {"count": 0},
            {"statusCodeDistribution": {"OK": 3, "Unavailable": 1}},
            {"statusCodeDistribution": {}},
        ]
        for failure in failures:
            with self.subTest(failure), self.assertRaises(Failed) as failed:
                self.told(**failure)
            self.assertNotIn(KEY, str(failed.exception))

    def test_figures_are_those_that_it_tells(self) -> None:
        figures = calls.figures(self.told(), 0.002, "1")
        expected = {"events": 4, "seconds": 2.0, "rate": 2.0, "p50_ms": 1.5, "p99_ms": 9.0}
        self.assertEqual({name: figures[name] for name in expected}, expected)
        self.assertEqual(figures["cpu_us_per_event"], {"client": 500.0})


class Facts(unittest.TestCase):
    def test_ids_are_fresh_for_every_call(self) -> None:
        fact = calls.fact("0a")
        self.assertEqual(fact["id"], "{{newUUID}}")
        self.assertEqual(fact["tool_call_started"]["run_id"], "ghz-0a-{{mod .RequestNumber 512}}")

    def test_one_that_is_not_accepted_ends_the_measurement(self) -> None:
        calls.must_be_accepted(answer("accepted"))
        for log in ("", answer("refused"), answer("accepted", "unknown")):
            with self.subTest(log), self.assertRaisesRegex(Failed, "not accepted"):
                calls.must_be_accepted(log)


if __name__ == "__main__":
    unittest.main()
