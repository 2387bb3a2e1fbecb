"""Rows as pictures: SVG, the same bytes for the same rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import NullFormatter, PercentFormatter, StrMethodFormatter

from rows import Row, Side
from table import figure as rounded

# The page shows through, and is white or nearly black: ink and colours are as far from the one as from the other.
INK = "#7a7a7a"
COLOURS = {"ours": "#1f6feb", "limit": "#848d97", "peer": "#bc4c00"}
MEANINGS = {"ours": "Runledger", "limit": "what cannot be exceeded here", "peer": "what one would take instead"}
GOAL = "#cf222e"
MOST: dict[str, dict[str, Any]] = {
    "p50": {"color": GOAL, "marker": "|", "ms": 11, "mew": 2},
    "p99": {"color": GOAL, "marker": "d", "ms": 7},
}
OTHERS = "others"
PROCESSES = [
    "#1f6feb",
    "#bc4c00",
    "#2b9348",
    "#9d6bf0",
    "#0e8a8a",
    "#d1477b",
    "#9a6700",
    "#5f7fb0",
    "#c0392b",
    "#6b8e23",
]
# A process that never has as much of the time of an event is shown among others.
SHARE_SHOWN = 0.05

STYLE: dict[Any, Any] = {
    "svg.hashsalt": "runledger",
    # letters stay letters: to be searched, read aloud, and small
    "svg.fonttype": "none",
    # a dollar in a name is a dollar
    "text.parse_math": False,
    "font.size": 9,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "savefig.transparent": True,
    "text.color": INK,
    **{f"axes.{part}": INK for part in ("edgecolor", "labelcolor", "titlecolor")},
    **{f"{axis}tick.color": INK for axis in "xy"},
}
WIDTH = 9.0
BAR = 0.8
INCHES_A_LINE = 0.24
GAP = 0.5


@dataclass(frozen=True)
class Group:
    """A row and, from above, the lines of a picture that its title and its sides are in."""

    row: Row
    top: float
    sides: list[tuple[float, Side]]


def groups(rows: Sequence[Row], is_shown: Callable[[Side], bool]) -> list[Group]:
    """Rows that count, with the sides that have something to show."""
    found: list[Group] = []
    at = 0.0
    for row in rows:
        sides = [side for side in row.sides if is_shown(side)]
        if row.void is None and sides:
            found.append(Group(row, at, [(at + 1 + number, side) for number, side in enumerate(sides)]))
            at += 1 + len(sides) + GAP
    return found


def plain(text: str) -> str:
    return text.replace("`", "")


class Picture:
    """Axes with a line a side, named at the left, under the titles of their groups."""

    def __init__(self, groups: list[Group], title: str, unit: str) -> None:
        lines = groups[-1].sides[-1][0] + 1
        self.figure = Figure((WIDTH, 1.4 + INCHES_A_LINE * lines), layout="constrained")
        self.axes: Axes = self.figure.add_subplot()
        sides = [place for group in groups for place in group.sides]
        self.axes.set_yticks([at for at, _ in sides], [plain(side.who) for _, side in sides])
        self.axes.set_ylim(lines - 0.3, -0.7)
        self.axes.tick_params(axis="y", length=0)
        self.axes.grid(axis="x", color=INK, alpha=0.25)
        self.axes.set_xlabel(unit)
        self.axes.set_title(title, loc="left", weight="bold")
        for group in groups:
            # measured along the line of the axes, not by the scale below
            line = self.axes.get_yaxis_transform()
            self.axes.text(0.005, group.top, plain(group.row.what), transform=line, va="center", weight="bold")

    def legend(self, entries: Sequence[Patch | Line2D]) -> None:
        self.figure.legend(handles=list(entries), loc="outside lower left", ncols=6, frameon=False, fontsize=8)

    def scale_by_tens(self, least: float, most: float) -> None:
        self.axes.set_xscale("log")
        self.axes.set_xlim(least, most)
        self.axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.12g}"))
        self.axes.xaxis.set_minor_formatter(NullFormatter())

    def note(self, at: float, value: float, text: str) -> None:
        self.axes.annotate(text, (value, at), (4, 0), textcoords="offset points", va="center", fontsize=8)

    def save(self, file: Path) -> None:
        self.figure.savefig(file, bbox_inches="tight", metadata={"Date": None, "Creator": None})


def by_kind(shown: list[Group]) -> list[Patch]:
    kinds = {side.kind for group in shown for _, side in group.sides}
    return [Patch(color=COLOURS[kind], label=MEANINGS[kind]) for kind in COLOURS if kind in kinds]


def rates(rows: Sequence[Row]) -> Picture | None:
    """Grouped bars of what each side does in a second."""
    shown = groups(rows, lambda side: bool(side.rate))
    if not shown:
        return None
    picture = Picture(shown, "Rates, a second", "a second, logarithmic")
    values = [side.rate or 0 for group in shown for _, side in group.sides]
    # such a scale has no zero: bars begin below the least, and names need room beside the greatest
    picture.scale_by_tens(min(values) / 3, max(values) * 4)
    for group in shown:
        for at, side in group.sides:
            value = side.rate or 0
            picture.axes.barh(at, value, BAR, color=COLOURS[side.kind])
            picture.note(at, value, f"{rounded(value)} {group.row.unit}")
    picture.legend(by_kind(shown))
    return picture


def shares(side: Side, named: Sequence[str]) -> Iterator[tuple[str, float]]:
    """Processor time of an event by process, those that are not named last and together."""
    for process in named:
        yield process, side.cpu_us.get(process, 0)
    yield OTHERS, sum(us for process, us in side.cpu_us.items() if process not in named)


def processes(shown: list[Group]) -> list[str]:
    """Those with a share worth a colour, as many as there are colours, by how much they have."""
    most: dict[str, float] = {}
    for group in shown:
        for _, side in group.sides:
            total = sum(side.cpu_us.values())
            for process, us in side.cpu_us.items():
                most[process] = max(most.get(process, 0), us / total)
    found = [process for process in most if most[process] >= SHARE_SHOWN]
    return sorted(found, key=lambda process: (-most[process], process))[: len(PROCESSES)]


def processor(rows: Sequence[Row]) -> Picture | None:
    """What an event takes of the processors, stacked by process, to a scale for each figure: they lie far apart."""
    shown = groups(rows, lambda side: sum(side.cpu_us.values()) > 0)
    if not shown:
        return None
    named = processes(shown)
    colours = dict(zip(named, PROCESSES, strict=False)) | {OTHERS: INK}
    picture = Picture(shown, "Processor time of an event, callers included", "of the longest bar of a figure")
    picture.axes.set_xlim(0, 1.15)
    picture.axes.xaxis.set_major_formatter(PercentFormatter(1))
    for group in shown:
        longest = max(sum(side.cpu_us.values()) for _, side in group.sides)
        for at, side in group.sides:
            left = 0.0
            for process, us in shares(side, named):
                picture.axes.barh(at, us / longest, BAR, left / longest, color=colours[process])
                left += us
            picture.note(at, left / longest, f"{rounded(left)} µs")
    picture.legend([Patch(color=colour, label=process) for process, colour in colours.items()])
    return picture


def latencies(rows: Sequence[Row]) -> Picture | None:
    """From p50 to p99, with the most that they may be."""
    shown = groups(rows, lambda side: bool(side.p50_ms and side.p99_ms))
    if not shown:
        return None
    picture = Picture(shown, "Latency, p50 and p99", "ms, logarithmic")
    values: list[float] = []
    used: set[str] = set()
    for group in shown:
        for at, side in group.sides:
            ends = [side.p50_ms or 0, side.p99_ms or 0]
            bounds = group.row.latency_goals if side.kind == "ours" else {}
            picture.axes.plot(ends, [at, at], color=COLOURS[side.kind], lw=2, marker="o", ms=5)
            for of, bound in bounds.items():
                picture.axes.plot(bound, at, **MOST[of])
            values += [*ends, *bounds.values()]
            used.update(bounds)
            picture.note(at, max([*ends, *bounds.values()]) * 1.05, f"{rounded(ends[0])} / {rounded(ends[1])}")
    picture.scale_by_tens(min(values) / 2, max(values) * 3)
    picture.legend(
        [*by_kind(shown), *(Line2D([], [], ls="", label=f"at most: {of}", **MOST[of]) for of in sorted(used))]
    )
    return picture


PICTURES = {"rates": rates, "processor": processor, "latency": latencies}


def draw(rows: Sequence[Row], folder: Path) -> list[Path]:
    """Draws what there is to show; a picture of an earlier run that nothing is left of goes."""
    folder.mkdir(parents=True, exist_ok=True)
    drawn = []
    with matplotlib.rc_context(STYLE):
        for name, paint in PICTURES.items():
            file = folder / f"{name}.svg"
            picture = paint(rows)
            if picture is None:
                file.unlink(missing_ok=True)
            else:
                picture.save(file)
                drawn.append(file)
    return drawn
