"""Lines such as runs of the benchmark write them, for the tests."""

from __future__ import annotations

import json
from typing import Any

import rows

MACHINE = {
    "cores": 2,
    "memory_gib": 24,
    "cpu": "a processor",
    "kernel": "6.18.44",
    "fsync_us": 180.0,
    "build": "release",
    "versions": {"runledger": "0.1.0", "librdkafka": "2.12.1"},
}


def side(who: str, kind: str, rate: float | None = None, **more: Any) -> dict[str, Any]:
    return {"who": who, "is": kind, "rate": rate, "rates": [], "events": 7, "cpu_us_per_event": {}} | more


def line(name: str = "a", at: str = "2026-01-01T00:00:00Z", **more: Any) -> str:
    row = {
        "at": at,
        "row": name,
        "what": "appends",
        "unit": "events",
        "rounds": 3,
        "machine": MACHINE,
        "sides": [
            side(
                "runledger",
                "ours",
                1_000.0,
                cpu_us_per_event={"client": 90.0, "ingest": 7.0, "kafka": 2.5},
                p50_ms=20.0,
                p99_ms=300.0,
            ),
            side("a `loop`", "limit", 2_000.0),
        ],
        "goals": [
            {"what": "rate, of a loop", "value": 0.5, "bound": 0.45, "is_least": True, "reached": True},
            {"what": "p99 in ms", "value": 300.0, "bound": 250.0, "is_least": False, "reached": False},
        ],
        "void": None,
    }
    return json.dumps(row | more)


def row(name: str = "a", at: str = "2026-01-01T00:00:00Z", **more: Any) -> rows.Row:
    return rows.parse(line(name, at, **more))
