"""Arize Phoenix on Postgres: spans over OTLP, when they can be read, and what a kill -9 takes with it.

A span counts as acknowledged when its export has been answered, and as visible when its row is in the table
that Phoenix answers from.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import secrets
import statistics
import sys
import tempfile
import time
from collections.abc import Coroutine
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

import asyncpg
import grpc.aio
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import TraceServiceStub
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span

from peers import Cpu, Failed, Process, Stack, end_on_signals, free_port, report, say, us_per_event, wait_until

WHO = f"arize-phoenix {version('arize-phoenix')}"
STARTS_WITHIN_S = 180
WARM_UP_S = 3.0
# After the last measured span more are sent for as long as it takes to see those, at most:
UNSEEN_S = 15.0
# Then on as before, so that the kill does not come at the moment when all has just been seen.
LOAD_GOES_ON_S = 1.0
LOOK_EVERY_S = 0.02
# Rows become visible in another order than their ids, but not in a very different one.
LOOK_BACK_ROWS = 200
EXPORT_TIMEOUT_S = 30.0
# Exporters wait about as long before they send again.
REFUSED_WAIT_S = 1.0
# Traces that the spans belong to, one after the other; each span is a root, which Phoenix stores fastest.
TRACES = [secrets.token_bytes(16) for _ in range(512)]
# With its names and times a span is about a kilobyte.
ARGUMENTS = '{"text":"' + "x" * 800 + '"}'


Figures = dict[str, object]


@dataclass(frozen=True)
class Row:
    name: str
    callers: int
    batch: int
    # Exports a second, each at its moment; without it as fast as they are answered.
    is_paced: bool


ROWS = [Row("visible", 64, 1, True), Row("ingest_one", 64, 1, False), Row("ingest_batch", 16, 100, False)]


@dataclass
class Seen:
    """Moments by span id."""

    acknowledged: dict[str, float] = field(default_factory=dict)
    took: list[tuple[float, float]] = field(default_factory=list)
    visible: dict[str, float] = field(default_factory=dict)
    refused: int = 0


def text(key: str, value: str) -> KeyValue:
    return KeyValue(key=key, value=AnyValue(string_value=value))


ATTRIBUTES = [
    text("openinference.span.kind", "TOOL"),
    text("tool.name", "load"),
    text("input.value", ARGUMENTS),
    text("input.mime_type", "application/json"),
]


def export(number: int, batch: int) -> tuple[list[str], ExportTraceServiceRequest]:
    spans = []
    for _ in range(batch):
        now = time.time_ns()
        spans.append(
            Span(
                trace_id=TRACES[number % len(TRACES)],
                span_id=secrets.token_bytes(8),
                name="load",
                kind=Span.SPAN_KIND_INTERNAL,
                start_time_unix_nano=now - 1_000_000,
                end_time_unix_nano=now,
                attributes=ATTRIBUTES,
            )
        )
    request = ExportTraceServiceRequest(resource_spans=[ResourceSpans(scope_spans=[ScopeSpans(spans=spans)])])
    return [span.span_id.hex() for span in spans], request


class Server:
    def __init__(self, url: str, folder: Path) -> None:
        self.http, self.grpc = free_port(), free_port()
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("PHOENIX_", "PG"))}
        environment |= {
            "PHOENIX_SQL_DATABASE_URL": url.replace("postgres://", "postgresql://", 1),
            "PHOENIX_WORKING_DIR": str(folder),
            "PHOENIX_HOST": "127.0.0.1",
            "PHOENIX_PORT": str(self.http),
            "PHOENIX_GRPC_PORT": str(self.grpc),
            "PHOENIX_TELEMETRY_ENABLED": "false",
            "PHOENIX_ALLOW_EXTERNAL_RESOURCES": "false",
        }
        binary = Path(sys.executable).with_name("phoenix")
        say("starting Phoenix (half a minute)")
        self.process = Process("Phoenix", [binary, "serve"], folder / "phoenix.log", environment)

    def _answers(self) -> bool:
        try:
            with urlopen(f"http://127.0.0.1:{self.http}/healthz", timeout=2) as answer:
                return int(answer.status) == 200
        except (URLError, OSError):
            return False

    async def ready(self) -> None:
        await asyncio.to_thread(wait_until, STARTS_WITHIN_S, "ready", self._answers, self.process)


class Load:
    """Exports until it is told to stop; what was sent after `begin` counts."""

    def __init__(self, row: Row, rate: float, target: str) -> None:
        self.row = row
        self.rate = rate
        self.seen = Seen()
        self.is_over = False
        self.number = 0
        self.began = time.monotonic()
        # Callers share eight connections.
        self.channels = [
            grpc.aio.insecure_channel(target, options=(("grpc.use_local_subchannel_pool", 1),)) for _ in range(8)
        ]

    async def call(self, caller: int) -> None:
        stub: Any = TraceServiceStub(self.channels[caller % len(self.channels)])  # type: ignore[no-untyped-call]
        while not self.is_over:
            number = self.number
            self.number += 1
            if self.row.is_paced:
                await asyncio.sleep(self.began + number / self.rate - time.monotonic())
                if self.is_over:
                    return
            ids, request = export(number, self.row.batch)
            begin = time.monotonic()
            try:
                await stub.Export(request, timeout=EXPORT_TIMEOUT_S)
            except grpc.aio.AioRpcError as refused:
                if self.is_over:
                    return
                if refused.code() not in (grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNAVAILABLE):
                    raise Failed(f"an export failed: {refused.code()} {refused.details()}") from refused
                self.seen.refused += self.row.batch
                await asyncio.sleep(REFUSED_WAIT_S)
                continue
            now = time.monotonic()
            self.seen.took.append((now, now - begin))
            self.seen.acknowledged.update(dict.fromkeys(ids, now))

    async def look(self, database: asyncpg.Connection) -> None:
        """Notes when each span can first be read."""
        newest, seen = 0, self.seen.visible
        while not self.is_over:
            rows = await database.fetch(
                "SELECT id, span_id FROM spans WHERE id > $1 ORDER BY id", newest - LOOK_BACK_ROWS
            )
            now = time.monotonic()
            for row in rows:
                seen.setdefault(row["span_id"], now)
                newest = max(newest, row["id"])
            await asyncio.sleep(LOOK_EVERY_S)

    async def close(self) -> None:
        for channel in self.channels:
            await channel.close()


def in_window(moments: dict[str, float], begin: float, end: float) -> list[str]:
    return [span for span, moment in moments.items() if begin <= moment < end]


def percentiles(seconds: list[float], *of: int) -> dict[str, float]:
    """In milliseconds."""
    if len(seconds) < 2:
        return {}
    cuts = statistics.quantiles(seconds, n=100, method="inclusive")
    return {f"p{each}_ms": round(cuts[each - 1] * 1e3, 1) for each in of}


async def drive(load: Load, seconds: float, database: asyncpg.Connection, pids: dict[str, int]) -> Figures:
    """Warms up and measures; exports are still under way when it returns."""
    await asyncio.sleep(WARM_UP_S)
    cpu, begin = Cpu(client=os.getpid(), **pids), time.monotonic()
    await asyncio.sleep(seconds)
    # before we go through what we have seen, which takes time of our own
    end, spent = time.monotonic(), cpu.spent_s()
    sent = in_window(load.seen.acknowledged, begin, end)
    shown = in_window(load.seen.visible, begin, end)
    if not sent:
        raise Failed("nothing was acknowledged")
    measured: Figures = {
        "events": len(sent),
        "seconds": round(end - begin, 2),
        "rate": round(len(sent) / (end - begin), 1),
        "visible_rate": round(len(shown) / (end - begin), 1),
        "cpu_us_per_event": us_per_event(spent, len(sent)),
    }
    if load.row.is_paced:
        while (unseen := sum(span not in load.seen.visible for span in sent)) and time.monotonic() < end + UNSEEN_S:
            await asyncio.sleep(LOOK_EVERY_S)
        if unseen:
            say(f"{unseen} spans were not visible {UNSEEN_S:.0f} s after the last: the rate is too high for it here")
        waited = [
            max(load.seen.visible[span] - load.seen.acknowledged[span], 0) for span in sent if span in load.seen.visible
        ]
        measured |= percentiles(waited, 50, 95, 99)
        measured["never_visible"] = unseen
        await asyncio.sleep(LOAD_GOES_ON_S)
    else:
        measured |= percentiles([took for at, took in load.seen.took if begin <= at < end], 50, 95, 99)
    return measured


async def while_others_work(main: Coroutine[object, object, Figures], others: list[asyncio.Task[None]]) -> Figures:
    """What `main` returns; whatever ends before it has failed, and ends it."""
    task = asyncio.create_task(main)
    done, _ = await asyncio.wait([task, *others], return_when=asyncio.FIRST_COMPLETED)
    if task not in done:
        task.cancel()
        for other in done:
            other.result()
        raise Failed("a caller ended before the others")
    return task.result()


async def measure(row: Row, arguments: argparse.Namespace, stack: Stack, folder: Path) -> None:
    name = f"bench_phoenix_{os.getpid()}"
    async with contextlib.AsyncExitStack() as leave:
        url = leave.enter_context(stack.database(name))
        server = Server(url, folder)
        leave.enter_context(server.process)
        await server.ready()
        database = await asyncpg.connect(url)
        leave.push_async_callback(database.close)
        load = Load(row, arguments.rate, f"127.0.0.1:{server.grpc}")
        leave.push_async_callback(load.close)
        callers = [asyncio.create_task(load.call(caller)) for caller in range(row.callers)]
        looking = asyncio.create_task(load.look(database))
        try:
            pids = {
                "server": server.process.child.pid,
                "postgres": stack.postgres_pid,
                "looking": database.get_server_pid(),
            }
            say(f"{row.name}: sending spans for {WARM_UP_S + arguments.seconds:.0f} s")
            measured = await while_others_work(drive(load, arguments.seconds, database, pids), [*callers, looking])
            # In the middle of the load, and before any caller can learn of it.
            server.process.kill()
        finally:
            load.is_over = True
            await asyncio.gather(*callers, looking, return_exceptions=True)
        say("killed; starting again")
        again = Server(url, folder)
        leave.enter_context(again.process)
        await again.ready()
        rows = await database.fetch("SELECT span_id FROM spans")
        acknowledged = load.seen.acknowledged.keys()
        lost = acknowledged - {row["span_id"] for row in rows}
        if load.seen.refused:
            measured["refused"] = load.seen.refused
        report(
            {
                "row": row.name,
                "who": WHO,
                **measured,
                "acknowledged_before_kill": len(acknowledged),
                "lost_after_kill": len(lost),
            }
        )


async def measure_all(arguments: argparse.Namespace, stack: Stack) -> None:
    for row in ROWS:
        if arguments.row in (None, row.name):
            with tempfile.TemporaryDirectory(prefix="phoenix-", dir=arguments.data) as folder:
                await measure(row, arguments, stack, Path(folder))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="where a folder is made, and deleted again")
    parser.add_argument("--row", choices=[row.name for row in ROWS], help="without it, one after the other")
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--rate", type=float, default=20, help="spans a second of the row `visible`")
    arguments = parser.parse_args()
    end_on_signals()
    try:
        asyncio.run(measure_all(arguments, Stack.found()))
    except KeyboardInterrupt:
        raise SystemExit("phoenix: interrupted") from None
    except Failed as failed:
        raise SystemExit(f"phoenix: {failed}") from None


if __name__ == "__main__":
    main()
