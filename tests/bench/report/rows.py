"""The lines that `runledger load --figures` prints, one row of one run each."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Side:
    who: str
    # ours, limit or peer
    kind: str
    rate: float
    cpu_us: dict[str, float]
    p50_ms: float | None
    p99_ms: float | None


@dataclass(frozen=True)
class Goal:
    what: str
    value: float
    bound: float
    is_least: bool
    reached: bool


@dataclass(frozen=True)
class Row:
    name: str
    at: str
    what: str
    unit: str
    rounds: int
    machine: dict[str, Any]
    sides: list[Side]
    goals: list[Goal]
    void: str | None

    def side(self, kind: str) -> Side | None:
        return next((side for side in self.sides if side.kind == kind), None)


def parse(line: str) -> Row:
    read = json.loads(line)
    sides = [
        Side(
            who=side["who"],
            kind=side["is"],
            rate=side["rate"],
            cpu_us=side["cpu_us_per_event"],
            p50_ms=side.get("p50_ms"),
            p99_ms=side.get("p99_ms"),
        )
        for side in read["sides"]
    ]
    return Row(
        name=read["row"],
        at=read["at"],
        what=read["what"],
        unit=read["unit"],
        rounds=read["rounds"],
        machine=read["machine"],
        sides=sides,
        goals=[Goal(**goal) for goal in read["goals"]],
        void=read["void"],
    )


def newest(lines: Iterable[str]) -> list[Row]:
    """Of each row the newest line, in the order in which rows were first measured."""
    rows: dict[str, Row] = {}
    for line in lines:
        row = parse(line)
        if row.name not in rows or rows[row.name].at <= row.at:
            rows[row.name] = row
    return list(rows.values())


def read(folder: Path) -> list[Row]:
    files = sorted(folder.glob("*.jsonl"))
    return newest(line for file in files for line in file.read_text().splitlines() if line)
