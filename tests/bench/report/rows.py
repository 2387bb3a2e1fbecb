"""The lines of the benchmark, one row of one run each, and of every row the newest."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

KINDS = ("ours", "limit", "peer")


class Unreadable(Exception):
    """A line that is not what a run of the benchmark writes, and where it stands."""


@dataclass(frozen=True)
class Side:
    """What one of those compared did: medians over the rounds."""

    who: str
    # one of KINDS
    kind: str
    # events a second: the median, and each round
    rate: float | None
    rates: list[float]
    # by process
    cpu_us: dict[str, float]
    p50_ms: float | None
    p99_ms: float | None
    # acknowledged before a kill -9, and gone after it
    lost: int | None

    @property
    def cpu_us_tested(self) -> float | None:
        """Of the processes under test, which the callers are not."""
        tested = [us for name, us in self.cpu_us.items() if name != "client"]
        return sum(tested) if tested else None


@dataclass(frozen=True)
class Goal:
    """Something to be reached: at least its bound, or at most."""

    what: str
    value: float
    bound: float
    is_least: bool
    reached: bool


@dataclass(frozen=True)
class Row:
    """One figure of one run; rows of one run have the same `at`."""

    name: str
    at: datetime
    what: str
    unit: str
    rounds: int
    machine: dict[str, Any]
    sides: list[Side]
    goals: list[Goal]
    # why it does not count
    void: str | None

    def side(self, kind: str) -> Side | None:
        return next((side for side in self.sides if side.kind == kind), None)

    @property
    def latency_goals(self) -> dict[str, float]:
        """The most that `p50` and `p99` may be, in milliseconds."""
        ends = " in ms"
        bounds = {goal.what.removesuffix(ends): goal.bound for goal in self.goals if goal.what.endswith(ends)}
        return {of: bound for of, bound in bounds.items() if of in ("p50", "p99")}


def _number(value: object) -> float | None:
    """A figure; none where nothing was measured."""
    if value is None:
        return None
    number = float(value)  # type: ignore[arg-type]
    if not math.isfinite(number) or number < 0:
        raise ValueError(f"{value} is no figure")
    return number


def _side(read: dict[str, Any]) -> Side:
    if read["is"] not in KINDS:
        raise ValueError(f"a side is one of {', '.join(KINDS)}, not {read['is']}")
    return Side(
        who=read["who"],
        kind=read["is"],
        rate=_number(read.get("rate")),
        rates=[float(rate) for rate in read.get("rates") or []],
        cpu_us={name: float(us) for name, us in (read.get("cpu_us_per_event") or {}).items()},
        p50_ms=_number(read.get("p50_ms")),
        p99_ms=_number(read.get("p99_ms")),
        lost=read.get("lost_after_kill"),
    )


def parse(line: str) -> Row:
    read = json.loads(line)
    return Row(
        name=read["row"],
        at=datetime.fromisoformat(read["at"]),
        what=read["what"],
        unit=read["unit"],
        rounds=read["rounds"],
        machine=read["machine"],
        sides=[_side(side) for side in read["sides"]],
        goals=[Goal(**goal) for goal in read["goals"]],
        void=read["void"],
    )


def newest(rows: Iterable[Row]) -> list[Row]:
    """Of each row the newest, in the order in which rows were first measured; of two as new the later."""
    found: dict[str, Row] = {}
    for row in rows:
        if row.name not in found or found[row.name].at <= row.at:
            found[row.name] = row
    return list(found.values())


def read(folder: Path) -> list[Row]:
    """The newest line of each row in the files of a folder."""
    rows = []
    for file in sorted(folder.glob("*.jsonl")):
        for number, line in enumerate(file.read_text().splitlines(), 1):
            if not line.strip():
                continue
            try:
                rows.append(parse(line))
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise Unreadable(f"{file.name}, line {number}: {type(error).__name__}: {error}") from error
    return newest(rows)
