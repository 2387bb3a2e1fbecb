"""What the peers driven from Python share: the stack they lean on, processes, processor time, the line they print."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

PSQL = ["psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1"]
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
# The addresses of the dev stack where it usually is; `stack env` says others only.
KAFKA = "127.0.0.1:19092"
POSTGRES = "postgres://runledger_admin:runledger-dev@127.0.0.1:15432"


class Failed(Exception):
    """Something that ends the measurement, in words for whoever runs it."""


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def report(line: Mapping[str, object]) -> None:
    print(json.dumps(line, separators=(",", ":")), flush=True)


def end_on_signals() -> None:
    """TERM and HUP unwind as an interrupt does, so that everything is put back."""
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, signal.default_int_handler)


class Looking:
    """A session of Postgres that only looks, in one process alone: what looking costs can be told from the rest."""

    def __init__(self, psql: subprocess.Popen[str]) -> None:
        self.psql = psql
        self.pid = int(self.ask("SET max_parallel_workers_per_gather = 0; SELECT pg_backend_pid()"))

    def ask(self, statement: str) -> str:
        """The one line that a statement answers."""
        assert self.psql.stdin is not None and self.psql.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            print(f"{statement};", file=self.psql.stdin, flush=True)
        if not (answer := self.psql.stdout.readline()):
            raise Failed(f"psql ended; above, what it says of: {statement}")
        return answer.strip()


@dataclass(frozen=True)
class Stack:
    """The dev stack, as `deploy/dev/stack run dev` leaves it to its command."""

    kafka: str
    kafka_pid: int
    postgres_url: str
    postgres_pid: int

    @classmethod
    def found(cls) -> Stack:
        checkout = Path(__file__).resolve().parents[3]
        state = Path(os.environ.get("RUNLEDGER_STACK_ROOT", checkout / ".dev")) / "dev"
        return cls(
            kafka=os.environ.get("RUNLEDGER_KAFKA__BROKERS", KAFKA),
            kafka_pid=_recorded_pid(state / "kafka" / "process"),
            postgres_url=os.environ.get("RUNLEDGER_ADMIN_POSTGRES", POSTGRES),
            postgres_pid=_recorded_pid(state / "postgres.process"),
        )

    def psql(self, statement: str, database: str = "postgres") -> str:
        command = [*PSQL, "-c", statement]
        done = subprocess.run(command, env=self._as_admin(database), capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise Failed(f"psql: {done.stderr.strip()}")
        return done.stdout.strip()

    def _as_admin(self, database: str) -> dict[str, str]:
        url = urlsplit(self.postgres_url)
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
        return environment | {
            "PGHOST": url.hostname or "",
            "PGPORT": str(url.port),
            "PGUSER": url.username or "",
            "PGPASSWORD": url.password or "",
            "PGDATABASE": database,
            "PGCONNECT_TIMEOUT": "5",
        }

    @contextlib.contextmanager
    def looking(self, database: str) -> Iterator[Looking]:
        """A session in a database for as long as it is needed."""
        command = ["setpriv", "--pdeathsig", "KILL", *PSQL]
        psql = subprocess.Popen(
            command, env=self._as_admin(database), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        try:
            yield Looking(psql)
        finally:
            psql.kill()
            psql.wait()

    @contextlib.contextmanager
    def database(self, name: str) -> Iterator[str]:
        """A database of that name for as long as it is needed; its url."""
        self.psql(f'CREATE DATABASE "{name}"')
        try:
            yield f"{self.postgres_url}/{name}"
        finally:
            self.psql(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')


def _recorded_pid(file: Path) -> int:
    try:
        return int(file.read_text().split()[0])
    except (OSError, ValueError, IndexError) as error:
        raise Failed(f"{file} does not say which process it is: {error}") from error


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


class Process:
    """A process that we start and end. Its session is its own: an interrupt at the terminal reaches us alone."""

    def __init__(
        self, name: str, command: Sequence[str | Path], log: Path, environment: Mapping[str, str], grace_s: float = 0
    ) -> None:
        self.name = name
        self.grace_s = grace_s
        self.log = log
        with log.open("ab") as out:
            self.child = subprocess.Popen(
                # killed with us, however we end
                ["setpriv", "--pdeathsig", "KILL", *command],
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )

    def must_run(self) -> None:
        if self.child.poll() is not None:
            raise self.failed(f"ended with status {self.child.returncode}")

    def failed(self, how: str) -> Failed:
        lines = self.log.read_text(errors="replace").splitlines()[-25:]
        return Failed("\n".join([*lines, f"--- {self.name} {how}; above, the end of its log"]))

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.child.pid, signal.SIGKILL)
        self.child.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.grace_s > 0 and self.child.poll() is None:
            self.child.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.child.wait(self.grace_s)
        self.kill()


def cpu_seconds(pid: int) -> float:
    """What a process and all below it have used so far: those that live, and those that were waited for."""
    children: dict[int, list[int]] = {}
    used: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            stat = (entry / "stat").read_text()
        except OSError:
            continue  # it has just ended
        # After the last ')' of the name: state, parent; fields 14 to 17 are the times.
        fields = stat.rpartition(")")[2].split()
        children.setdefault(int(fields[1]), []).append(int(entry.name))
        used[int(entry.name)] = sum(map(int, fields[11:15]))
    if pid not in used:
        raise Failed(f"process {pid} has ended")
    total, left = 0, [pid]
    while left:
        process = left.pop()
        total += used.get(process, 0)
        left += children.get(process, [])
    return total / TICKS_PER_SECOND


class Cpu:
    """Processor time of several processes and what is below each, from now on; of ourselves, ours alone."""

    def __init__(self, **pids: int) -> None:
        self.pids = pids
        self.before = self._now()

    def _now(self) -> dict[str, float]:
        return {
            name: time.process_time() if pid == os.getpid() else cpu_seconds(pid) for name, pid in self.pids.items()
        }

    def spent_s(self) -> dict[str, float]:
        """So far. What `looking` has used, a process of Postgres that only watches, is not the doing of the peer."""
        now = self._now()
        spent = {name: now[name] - self.before[name] for name in self.pids}
        if (looking := spent.pop("looking", None)) is not None:
            spent["postgres"] -= looking
        return spent


def us_per_event(spent_s: Mapping[str, float], events: int) -> dict[str, float]:
    return {name: round(max(seconds, 0) * 1e6 / events, 1) for name, seconds in spent_s.items()}


def wait_until(deadline_s: float, what: str, is_so: Callable[[], bool], process: Process) -> None:
    """Looks often; fails when the process ends or it takes too long."""
    end = time.monotonic() + deadline_s
    while not is_so():
        process.must_run()
        if time.monotonic() > end:
            raise process.failed(f"is not {what} after {deadline_s:.0f} s")
        time.sleep(0.1)
