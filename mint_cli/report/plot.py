"""Draw lines of points with error bars into a PNG; knows nothing of records."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure

MARKERS = "osD^vP*X"
BESIDE = 6  # with more lines the legend stands beside the axes, not over them
Point = tuple[float | str, float, float, float]  # x, y and their standard deviations (0: undefined)
Lines = dict[str, list[Point]]


def ruler(axes: Axes, lines: Lines) -> None:
    """Mark few x values at themselves, logarithmically where they span a wide range.

    From 0 to the smallest other value such an axis is linear.
    """
    places = sorted({point[0] for line in lines.values() for point in line})
    if len(places) > 12 or any(point[2] for line in lines.values() for point in line):
        return
    positive = [place for place in places if place > 0]
    if positive and places[0] >= 0 and positive[-1] / positive[0] >= 8:
        symlog = {"value": "symlog", "linthresh": positive[0]}
        axes.set_xscale(**({"value": "log"} if places[0] else symlog))
    axes.set_xticks(places, [f"{place:g}" for place in places])
    axes.minorticks_off()


def bars(axes: Axes, points: list[Point], numeric: bool, **style: Any) -> None:
    """One line with its error bars; named places are not joined."""
    if numeric:
        points = sorted(points)
    else:
        points = [(literal(x if isinstance(x, str) else f"{x:g}"), *rest) for x, *rest in points]
    across, up, across_sd, up_sd = zip(*points, strict=True)
    spread = {"yerr": up_sd, "xerr": across_sd if any(across_sd) else None}
    line = "-" if numeric else "none"
    axes.errorbar(across, up, **spread, linestyle=line, capsize=3, markersize=5, **style)


def literal(words: str) -> str:
    """Words that Matplotlib must neither set as a formula nor, for a leading _, leave out."""
    return words.replace("$", r"\$").replace("_", "\N{ZERO WIDTH SPACE}_", words.startswith("_"))


def draw(path: Path, lines: Lines, across: str, up: str) -> None:
    """Draw every line under its name, the axes labelled ``across`` and ``up``.

    Raises OSError when ``path`` cannot be written.
    """
    numeric = not any(isinstance(point[0], str) for line in lines.values() for point in line)
    size = (7, 4.5) if len(lines) <= BESIDE else (10, max(4.5, 0.25 * len(lines)))
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.add_subplot()
    colours = colormaps["tab10" if len(lines) <= 10 else "tab20"].colors
    for place, (name, points) in enumerate(lines.items()):
        colour, marker = colours[place % len(colours)], MARKERS[place % len(MARKERS)]
        bars(axes, points, numeric, label=literal(name), color=colour, marker=marker)
    if numeric:
        ruler(axes, lines)
    axes.set_xlabel(literal(across))
    axes.set_ylabel(literal(up))
    axes.grid(alpha=0.3)
    if any(lines):
        beside = {"loc": "center left", "bbox_to_anchor": (1, 0.5)}
        axes.legend(fontsize="small", **({} if len(lines) <= BESIDE else beside))
    figure.savefig(path, format="png", dpi=150)
