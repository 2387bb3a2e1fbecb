from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path
from unittest import mock

import peers

# Says that it has begun, and goes on until it is killed.
WAITS = "import sys; print('begun', flush=True); sys.stdin.close(); import signal; signal.pause()"


class ProcessorTime(unittest.TestCase):
    def test_looking_is_not_the_doing_of_postgres(self) -> None:
        used = iter([{1: 10.0, 2: 1.0}, {1: 16.0, 2: 3.0}])
        now: dict[int, float] = {}
        with mock.patch.object(peers, "cpu_seconds", lambda pid: now[pid]):
            now.update(next(used))
            cpu = peers.Cpu(postgres=1, looking=2)
            now.update(next(used))
            self.assertEqual(cpu.spent_s(), {"postgres": 4.0})

    def test_a_process_is_counted_with_what_it_has_waited_for(self) -> None:
        before = peers.cpu_seconds(os.getpid())
        busy = "import time\nwhile time.process_time() < 0.2: pass"
        subprocess.run([sys.executable, "-c", busy], check=True)
        self.assertGreaterEqual(peers.cpu_seconds(os.getpid()) - before, 0.15)

    def test_a_process_that_has_ended_has_none(self) -> None:
        with subprocess.Popen([sys.executable, "-c", ""]) as child:
            child.wait()
        with self.assertRaisesRegex(peers.Failed, "has ended"):
            peers.cpu_seconds(child.pid)

    def test_it_is_told_in_microseconds_an_event(self) -> None:
        self.assertEqual(peers.us_per_event({"server": 0.5, "client": -0.01}, 1_000), {"server": 500.0, "client": 0.0})


class Processes(unittest.TestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.log = Path(folder.name) / "log"

    def test_they_end_with_the_block_that_needs_them(self) -> None:
        with (
            self.assertRaises(KeyboardInterrupt),
            peers.Process("waits", [sys.executable, "-c", WAITS], self.log, os.environ) as process,
        ):
            peers.wait_until(10, "begun", lambda: "begun" in self.log.read_text(), process)
            raise KeyboardInterrupt
        self.assertEqual(process.child.returncode, -signal.SIGKILL)

    def test_one_that_ends_too_soon_shows_the_end_of_its_log(self) -> None:
        command = [sys.executable, "-c", "raise SystemExit('no port')"]
        begun = time.monotonic()
        with (
            peers.Process("a server", command, self.log, os.environ) as process,
            self.assertRaisesRegex(peers.Failed, "no port\n--- a server ended with status 1"),
        ):
            peers.wait_until(60, "ready", lambda: False, process)
        self.assertLess(time.monotonic() - begun, 30)


if __name__ == "__main__":
    unittest.main()
