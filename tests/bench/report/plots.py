"""Rows as pictures, the same bytes for the same rows."""

from __future__ import annotations

from pathlib import Path

import matplotlib

matplotlib.use("svg")
matplotlib.rcParams |= {"svg.hashsalt": "runledger", "font.size": 9, "axes.axisbelow": True}

from matplotlib import pyplot  # noqa: E402
from matplotlib.axes import Axes  # noqa: E402

from rows import Row  # noqa: E402

COLOURS = {"ours": "#1f6feb", "peer": "#bc4c00", "limit": "#8c959f"}
NAMES = {"ours": "Runledger", "peer": "what a user would take instead", "limit": "the limit beside it"}
WIDTH = 9.0
HEIGHT_OF_A_ROW = 0.55


def save(folder: Path, name: str, draw: list[Row], title: str, paint) -> None:  # type: ignore[no-untyped-def]
    if not draw:
        return
    figure, axes = pyplot.subplots(figsize=(WIDTH, 1.2 + HEIGHT_OF_A_ROW * len(draw)))
    paint(axes, draw)
    axes.set_yticks(range(len(draw)), [row.name for row in draw])
    axes.invert_yaxis()
    axes.set_title(title)
    axes.grid(axis="x", alpha=0.3)
    axes.legend(loc="best", fontsize=7)
    figure.tight_layout()
    # an opaque ground reads on dark pages too
    figure.savefig(folder / f"{name}.svg", metadata={"Date": None, "Creator": None}, facecolor="white")
    pyplot.close(figure)


def rates(axes: Axes, rows: list[Row]) -> None:
    for shift, (kind, colour) in zip((-0.27, 0, 0.27), COLOURS.items(), strict=True):
        found = [(at + shift, side.rate) for at, row in enumerate(rows) if (side := row.side(kind))]
        if found:
            axes.barh([at for at, _ in found], [of for _, of in found], 0.25, color=colour, label=NAMES[kind])
    axes.set_xscale("log")
    axes.set_xlabel("a second")


def processor(axes: Axes, rows: list[Row]) -> None:
    processes = sorted({name for row in rows for side in row.sides for name in side.cpu_us})
    palette = pyplot.get_cmap("tab20")
    for number, process in enumerate(processes):
        places, widths, lefts = [], [], []
        for at, row in enumerate(rows):
            shown = [side for side in row.sides if side.cpu_us]
            for turn, side in enumerate(shown):
                before = sum(side.cpu_us.get(name, 0) for name in processes[:number])
                total = sum(side.cpu_us.values())
                places.append(at + 0.27 * (turn - (len(shown) - 1) / 2))
                widths.append(side.cpu_us.get(process, 0) / total)
                lefts.append(before / total)
        axes.barh(places, widths, 0.24, lefts, color=palette(number % 20), label=process)
    axes.set_xlabel("share of the processor time of an event; in a row: Runledger, then what is beside it")


def latencies(axes: Axes, rows: list[Row]) -> None:
    for kind, colour in COLOURS.items():
        found = [(at, side) for at, row in enumerate(rows) if (side := row.side(kind)) and side.p99_ms]
        if found:
            axes.hlines(
                [at for at, _ in found],
                [side.p50_ms or 0 for _, side in found],
                [side.p99_ms or 0 for _, side in found],
                color=colour,
                linewidth=5,
                alpha=0.8,
                label=f"{NAMES[kind]}, p50 to p99",
            )
    goals = [(at, goal.bound) for at, row in enumerate(rows) for goal in row.goals if goal.what == "p99 in ms"]
    if goals:
        axes.plot([bound for _, bound in goals], [at for at, _ in goals], "k|", markersize=14, label="most p99")
    axes.set_xscale("log")
    axes.set_xlabel("ms")


def draw(rows: list[Row], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    compared = [row for row in rows if len(row.sides) > 1]
    save(folder, "rates", compared, "Events a second", rates)
    timed = [row for row in rows if any(side.cpu_us for side in row.sides)]
    save(folder, "processor", timed, "Where the processor time goes", processor)
    waiting = [row for row in rows if any(side.p99_ms for side in row.sides)]
    save(folder, "latencies", waiting, "Latency", latencies)
