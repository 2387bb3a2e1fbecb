"""Rows as a Markdown table: a line for each side, with the goals beside them."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from itertools import zip_longest
from statistics import median_high

from rows import Goal, Row, Side

# Rows that say what an event costs each role, and compare nothing.
CAPACITY = "capacity_"
CAPACITY_HEAD = ["what an event costs", "CPU µs an event, by process", "together", "events a second of one core"]
# Processes that use less of an event are left out of the list, not of the sum.
LEAST_US = 0.5
HEAD = ["figure", "who", "rate", "Runledger ÷ it", "p50 / p99 ms", "CPU µs an event", "goals"]


def figure(value: float) -> str:
    """Three digits, and all of a large number: more is more than a benchmark knows."""
    if value == 0:
        return "0"
    digits = max(2 - math.floor(math.log10(abs(value))), 0)
    text = f"{value:,.{digits}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def name(side: Side) -> str:
    return {"ours": "**Runledger**", "limit": f"{side.who} (limit)"}.get(side.kind, side.who)


def rate(side: Side, unit: str) -> str:
    return "" if side.rate is None else f"{figure(side.rate)} {unit}/s"


def ratio(ours: Side | None, side: Side) -> str:
    """Round by round where there are as many, as goals are measured: the machine's speed moves between rounds."""
    if ours is None or side.kind == "ours" or not ours.rate or not side.rate:
        return ""
    if len(ours.rates) == len(side.rates) > 0 and all(side.rates):
        return figure(median_high(us / them for us, them in zip(ours.rates, side.rates, strict=True)))
    return figure(ours.rate / side.rate)


def waited(side: Side) -> str:
    if side.p50_ms is None or side.p99_ms is None:
        return ""
    return f"{figure(side.p50_ms)} / {figure(side.p99_ms)}"


def cpu(side: Side) -> str:
    return "" if side.cpu_us_tested is None else figure(side.cpu_us_tested)


def reached(goal: Goal) -> str:
    sign = "≥" if goal.is_least else "≤"
    mark = "reached" if goal.reached else "**missed**"
    return f"{goal.what}: {figure(goal.value)} ({sign} {figure(goal.bound)}), {mark}"


def remarks(row: Row) -> list[str]:
    """What stands beside the sides. Goals of a row that does not count are neither reached nor missed."""
    if row.void is not None:
        return [f"**does not count**: {row.void}"]
    lost = [
        f"{side.who}: {side.lost:,} acknowledged and lost at kill -9"
        for side in row.sides
        if side.lost is not None and side.kind != "ours"
    ]
    return [*map(reached, row.goals), *lost]


def cells(row: Row) -> Iterator[list[str]]:
    """One list a line of the table; only the first names the figure."""
    ours, what = row.side("ours"), row.what
    for side, remark in zip_longest(row.sides, remarks(row)):
        told = [name(side), rate(side, row.unit), ratio(ours, side), waited(side), cpu(side)] if side else [""] * 5
        yield [what, *told, remark or ""]
        what = ""


def _span(values: Iterable[float]) -> str:
    low, high = min(values := list(values)), max(values)
    return figure(low) if figure(low) == figure(high) else f"{figure(low)} to {figure(high)}"


def _machine(row: Row) -> str:
    """All but what is measured afresh in each run."""
    machine = row.machine
    versions = ", ".join(f"{name} {version}" for name, version in sorted(machine["versions"].items()))
    return (
        f"{machine['cores']} cores ({machine['cpu']}) and {machine['memory_gib']} GiB of memory for callers, servers, "
        f"Kafka and Postgres together; Linux {machine['kernel']}, {machine['build']} build, {versions}"
    )


def notes(rows: Sequence[Row]) -> list[str]:
    """Where, when and how often: a paragraph a machine, which says which figures when there are several."""
    by_machine: dict[str, list[Row]] = {}
    for row in rows:
        by_machine.setdefault(_machine(row), []).append(row)
    paragraphs = []
    for machine, its in by_machine.items():
        which = "" if len(by_machine) == 1 else "; ".join(row.what for row in its) + ": "
        days = sorted({f"{row.at:%Y-%m-%d}" for row in its})
        when = days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}"
        synced = _span(row.machine["fsync_us"] for row in its)
        rounds = _span(row.rounds for row in its)
        paragraphs.append(
            f"{which}medians of rounds that take turns ({rounds} a figure), {when}: {machine}; 8 KiB are written and "
            f"synced in {synced} µs. Processor time is that of all processes but the callers."
        )
    return [textwrap.fill(paragraph[0].upper() + paragraph[1:], 120) for paragraph in paragraphs]


def costs(row: Row) -> list[str]:
    """What an event costs in all processes but the callers, and how many a core could bear."""
    side = row.side("ours")
    together = (side and side.cpu_us_tested) or math.inf
    used = sorted((side.cpu_us if side else {}).items(), key=lambda each: -each[1])
    shown = [f"{name} {figure(us)}" for name, us in used if name != "client" and us >= LEAST_US]
    return [row.what, ", ".join(shown), figure(together), f"{1e6 / together:,.0f}"]


def _table(lines: Sequence[Sequence[str]], is_padded: bool) -> str:
    """The first line is the head."""
    head, *rest = lines
    clean = [[cell.replace("|", r"\|").replace("\n", " ") for cell in line] for line in rest]
    clean = [list(head), ["---"] * len(head), *clean]
    widths = [max(len(line[at]) for line in clean) if is_padded else 0 for at in range(len(head))]
    padded = [[cell.ljust(width) for cell, width in zip(line, widths, strict=True)] for line in clean]
    return "\n".join("| " + " | ".join(line) + " |" for line in padded)


def markdown(rows: Sequence[Row], is_padded: bool = False) -> str:
    """The tables and what stands below them; padded for a terminal."""
    compared = [row for row in rows if not row.name.startswith(CAPACITY)]
    alone = [row for row in rows if row.name.startswith(CAPACITY) and row.void is None]
    parts = []
    if compared:
        parts.append(_table([HEAD, *(line for row in compared for line in cells(row))], is_padded))
    if alone:
        parts.append(_table([CAPACITY_HEAD, *map(costs, alone)], is_padded))
    return "\n\n".join([*parts, *notes(rows)])
