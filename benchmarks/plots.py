"""The plots of ``docs/images/``, as SVG. They need matplotlib, which the extra ``bench`` installs."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("svg")
import matplotlib.pyplot as plt

from benchmarks.poll_schedule import FRONTIER_COSTS, LAWS, TrueLaw, best_point, schedules
from benchmarks.waiting import Runs
from benchmarks.ways_to_wait import WAYS

STYLE: dict[Any, Any] = {
    "font.size": 11,
    "axes.grid": True,
    "grid.alpha": 0.3,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "svg.hashsalt": "benchmarks",  # the same figures give the same file
}
PIECE = 0.25  # seconds that become one point
COLORS = dict(zip(WAYS, ("C0", "C7", "C4", "C5", "C1", "C2", "C3"), strict=True))
"""A way has the same colour in all plots."""


@contextmanager
def _plot(path: Path, width: float, height: float) -> Iterator[Any]:
    """Give the axes of a new plot, and save it."""
    with mpl.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(width, height), layout="constrained")
        try:
            yield axes
            figure.savefig(path, metadata={"Date": None})
        finally:
            plt.close(figure)


def draw_frontier(path: Path, law: TrueLaw = LAWS[1]) -> None:
    """Draw the least lag that a number of polls allows, and where each schedule lies."""
    with _plot(path, 7.5, 7) as axes:
        frontier = [best_point(law, cost) for cost in FRONTIER_COSTS]
        axes.plot([point.polls for point in frontier], [point.lag for point in frontier], color="0.4", label="frontier")
        for name, point in schedules(law):
            own = name.startswith("this project")
            label = f"{name}: {point.polls:.1f} polls, {point.lag:.1f} s"
            axes.plot(point.polls, point.lag, "D" if own else "o", markersize=8 if own else 6, label=label)
        axes.set(xscale="log", yscale="log", xlabel="status requests a job", ylabel="end noticed late, mean, s")
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter("{x:g}")
        axes.set_title(f"Job times: log-normal, {law.name}")
        axes.figure.legend(loc="outside lower left", fontsize=9)


def draw_lags(path: Path, runs: Runs) -> None:
    """Draw for each way, over the time of its first run, for how long the event loop did not run a due task."""
    with _plot(path, 7.5, 5.5) as axes:
        for measured in runs:
            way, longest = measured[0].scene.way, defaultdict[float, float](float)
            for time, lag in measured[0].lags:
                start = time // PIECE * PIECE
                longest[start] = max(longest[start], 1000 * lag)
            axes.plot(
                list(longest), list(longest.values()), ".-", linewidth=1, color=COLORS[way], label=_label(way, runs)
            )
        axes.set(yscale="log", xlim=(0, None), xlabel="seconds", ylabel=f"longest in each {PIECE:g} s, ms")
        axes.yaxis.set_major_formatter("{x:g}")
        axes.set_title("How long the event loop does not run a task that is due")
        axes.figure.legend(loc="outside lower left", fontsize=9, ncols=2)


def draw_costs(path: Path, runs: Runs) -> None:
    """Draw the CPU time of a request in each way, with the least and the greatest of the runs."""
    with _plot(path, 7.5, 3.5) as axes:
        for measured in reversed(runs):
            way = measured[0].scene.way
            costs = [each.cpu_per_request for each in measured]
            middle, label = statistics.median(costs), _label(way, runs)
            reach = [[middle - min(costs)], [max(costs) - middle]]
            axes.errorbar(middle, label, xerr=reach, fmt="o", markersize=8, capsize=4, color=COLORS[way])
            axes.annotate(f"{middle:.2f}", (middle, label), (0, 9), textcoords="offset points", ha="center", fontsize=9)
        axes.set(xscale="log", xlabel="ms CPU a request")
        axes.xaxis.set_major_formatter("{x:g}")
        axes.margins(y=0.12)
        axes.set_title("What a poll costs the waiting process")


def _label(way: str, runs: Runs) -> str:
    jobs = next(measured[0].scene.jobs for measured in runs if measured[0].scene.way == way)
    return f"{WAYS[way].name.replace('`', '')}, {jobs:,} jobs"
