"""Rows as a Markdown table."""

from __future__ import annotations

from rows import Goal, Row, Side

HEAD = "| row | Runledger | beside it | CPU µs an event: ours, beside it | p50 / p99 ms: ours, beside it | goals |"


def rate(value: float) -> str:
    return f"{value:,.0f}/s"


def cpu(side: Side) -> str:
    """Of the processes under test, which the callers are not."""
    used = sum(us for name, us in side.cpu_us.items() if name != "client")
    return f"{used:.1f}" if used else "–"


def waited(side: Side) -> str:
    if side.p50_ms is None or side.p99_ms is None:
        return "–"
    return f"{side.p50_ms:.1f} / {side.p99_ms:.1f}"


def goal(goal: Goal) -> str:
    sign = "≥" if goal.is_least else "≤"
    mark = "reached" if goal.reached else "**missed**"
    digits = 3 if 0 < abs(goal.value) < 0.1 else 2 if abs(goal.value) < 100 else 0
    bound = f"{goal.bound:,.2f}".rstrip("0").rstrip(".")
    return f"{goal.what} {goal.value:,.{digits}f} ({sign} {bound}): {mark}"


def line(row: Row) -> str:
    ours = row.side("ours")
    others = [side for side in row.sides if side.kind != "ours"]
    cells = [
        f"{row.what}, {row.unit}",
        rate(ours.rate) if ours else "–",
        "<br>".join(f"{side.who} {rate(side.rate)}" for side in others),
        "<br>".join(cpu(side) for side in row.sides),
        "<br>".join(waited(side) for side in row.sides),
        "<br>".join(goal(one) for one in row.goals) if row.void is None else f"void: {row.void}",
    ]
    return "| " + " | ".join(cell or "–" for cell in cells) + " |"


def machine(row: Row) -> str:
    facts = row.machine
    versions = ", ".join(f"{name} {version}" for name, version in sorted(facts["versions"].items()))
    return (
        f"{row.at[:10]}: {facts['cores']} cores ({facts['cpu']}) and {facts['memory_gib']} GiB for callers, servers, "
        f"Kafka and Postgres together; kernel {facts['kernel']}, writing and syncing 8 KiB takes "
        f"{facts['fsync_us']:.0f} µs; {facts['build']} build, {versions}."
    )


def markdown(rows: list[Row]) -> str:
    lines = [HEAD, "|" + " --- |" * HEAD.count(" | ") + " --- |", *map(line, rows), ""]
    # one sentence a run: rows of one run share it
    runs = {row.at: row for row in rows}
    lines += [machine(runs[at]) for at in sorted(runs)][-1:]
    return "\n".join(lines)
