"""
How far the poll schedule is from the optimum, for job times of several distributions.

The optimum is computed by dynamic programming over the true distribution on a fine grid, independently of the package.
Polls are status requests; the request for the result comes on top, once for each job, in all schedules. Nothing is
simulated: a schedule is a list of poll times, and its mean polls and lag are sums over the true distribution. Only the
jobs that a schedule has learnt from are drawn at random, with a fixed seed, and the figures are means over many draws.

Two measures tell the distance from the optimum, 1 for the optimum itself:

* The factor: by how much both the polls and the lag would have to be divided to lie on the frontier, which is what any
  schedule that knows the true distribution can reach.
* The cost ratio: ``REQUEST_COST * polls + lag`` over its least possible value. It is never below the factor.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from airflow_provider_segmind.api.poll_schedule import REQUEST_COST, LatencyMemory
from benchmarks.tables import table

MODEL = "bria-erase-foreground"
DRAWS = 40
GRID = 1200
FRONTIER_COSTS = tuple(REQUEST_COST * 1.25**n for n in range(-11, 26))  # seconds of lag for a request: 0.02 to 66
UNSEEN = 1e-7  # the poll times of a schedule end when so few jobs are left

Array = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True)
class TrueLaw:
    """A true distribution of job times: log-normal lumps, each with its share, median in seconds, and sigma."""

    name: str
    lumps: tuple[tuple[float, float, float], ...]

    @property
    def mean(self) -> float:
        """The mean job time in seconds."""
        return sum(share * median * math.exp(sigma**2 / 2) for share, median, sigma in self.lumps)

    def survival(self, seconds: float) -> float:
        """Return the share of jobs that take longer."""
        return sum(
            share * 0.5 * math.erfc(math.log(max(seconds, 1e-9) / median) / (sigma * math.sqrt(2)))
            for share, median, sigma in self.lumps
        )

    def draw(self, dice: random.Random, count: int) -> list[float]:
        """Return random job times."""
        lumps = dice.choices(self.lumps, [share for share, _, _ in self.lumps], k=count)
        return [median * dice.lognormvariate(0, sigma) for _, median, sigma in lumps]


@dataclass(frozen=True)
class Point:
    """What a schedule costs for each job, on average."""

    polls: float
    lag: float  # seconds from a job's end to the poll that notices it

    def cost(self, request_cost: float = REQUEST_COST) -> float:
        """Return the polls and the lag as one figure, in seconds."""
        return request_cost * self.polls + self.lag


@dataclass(frozen=True)
class Row:
    """A schedule, measured for one distribution."""

    law: str
    schedule: str
    polls: float
    lag: float
    factor: float
    cost_ratio: float


def lognormal(median: float, sigma: float) -> TrueLaw:
    """Return the distribution of job times that scatter around one time."""
    return TrueLaw(f"{median:g} s, sigma {sigma:g}", ((1.0, median, sigma),))


def two_lumps(share: float, sigma: float) -> TrueLaw:
    """Return a distribution where a share of the jobs takes about 8 s, and the others about 40 s."""
    return TrueLaw(
        f"{share:.0%} 8 s, {1 - share:.0%} 40 s, sigma {sigma:g}", ((share, 8, sigma), (1 - share, 40, sigma))
    )


LAWS = (
    *(lognormal(median, sigma) for median in (12, 2.4, 60) for sigma in (0.05, 0.15, 0.3, 0.6)),
    *(two_lumps(share, sigma) for share in (0.8, 0.7, 0.5) for sigma in (0.05, 0.15)),
)


@cache
def _grid(law: TrueLaw) -> tuple[Array, Array, Array]:
    """Return a fine grid of times, the survival at each, and the area under it up to there."""
    scores = np.linspace(-5, 5, GRID // len(law.lumps))
    times = np.unique(np.concatenate([[0.0], *(median * np.exp(sigma * scores) for _, median, sigma in law.lumps)]))
    alive = np.array([law.survival(time) for time in times])
    return times, alive, np.concatenate([[0.0], np.cumsum(np.diff(times) * (alive[1:] + alive[:-1]) / 2)])


@cache
def optimum(law: TrueLaw, request_cost: float = REQUEST_COST) -> tuple[float, ...]:
    """Return the poll times with the least mean cost, by comparing each time of the grid with each later one."""
    times, alive, areas = _grid(law)
    values, best = np.zeros(len(times)), np.zeros(len(times), int)
    for now in range(len(times) - 2, -1, -1):
        lag = (times[now + 1 :] - times[now]) * alive[now] - (areas[now + 1 :] - areas[now])
        after = lag + values[now + 1 :]
        best[now] = now + 1 + int(after.argmin())
        values[now] = request_cost * alive[now] + after.min()
    polls, now = [], 0
    while now < len(times) - 1:
        now = int(best[now])
        polls.append(float(times[now]))
    return tuple(polls)


def follow(law: TrueLaw, polls: Iterator[float]) -> Point:
    """Return the mean polls and lag of a schedule, given by its endless poll times."""
    alive, count, noticed = 1.0, 0.0, 0.0
    for time in polls:
        left = law.survival(time)
        count += alive
        noticed += time * (alive - left)
        alive = left
        if alive < UNSEEN:
            break
    return Point(count, noticed - law.mean)


@cache
def best_point(law: TrueLaw, request_cost: float = REQUEST_COST) -> Point:
    """Return the point of the frontier with the least cost."""
    return follow(law, iter(optimum(law, request_cost)))


def factor(law: TrueLaw, point: Point) -> float:
    """Return by how much a point's polls and lag would have to be divided to lie on the frontier."""
    return min(point.cost(cost) / best_point(law, cost).cost(cost) for cost in FRONTIER_COSTS)


def cost_ratio(law: TrueLaw, point: Point) -> float:
    """Return a point's cost over the least possible one."""
    return point.cost() / best_point(law).cost()


def every(seconds: float) -> Iterator[float]:
    """Yield the poll times of a fixed interval."""
    time = 0.0
    while True:
        time += seconds
        yield time


def official_client() -> Iterator[float]:
    """Yield the poll times of the official client 1.3.0, which asks at once and then each second."""
    yield 0.0
    yield from every(1)


def polls_of(memory: LatencyMemory, model: str | None = MODEL) -> Iterator[float]:
    """Yield the poll times of this project's schedule, each poll being answered at once."""
    time = 0.0
    while True:
        time = memory.next_poll(model, time)
        yield time


def learnt_from(jobs: list[float], model: str = MODEL) -> LatencyMemory:
    """Return the memory of a process that has seen these jobs, and has polled others in between."""
    memory = LatencyMemory()
    for seconds in jobs:
        memory.observe(model, seconds)
        memory.next_poll(model, 0)
    return memory


def fitted(jobs: list[float]) -> Iterator[float]:
    """Yield the optimal poll times for the log-normal distribution that fits the jobs best."""
    logs = [math.log(seconds) for seconds in jobs]
    mean = sum(logs) / len(logs)
    sigma = math.sqrt(sum((value - mean) ** 2 for value in logs) / (len(logs) - 1))
    polls = optimum.__wrapped__(lognormal(math.exp(mean), sigma))
    yield from polls
    interval = polls[-1] - polls[-2]
    for time in every(interval):
        yield polls[-1] + time


def mean_point(law: TrueLaw, polls: Callable[[list[float]], Iterator[float]], jobs: int, draws: int = DRAWS) -> Point:
    """Return the mean over many draws of the jobs that a schedule has learnt from."""
    dice = random.Random(7)
    points = [follow(law, polls(law.draw(dice, jobs))) for _ in range(draws if jobs else 1)]
    return Point(sum(p.polls for p in points) / len(points), sum(p.lag for p in points) / len(points))


def schedules(law: TrueLaw) -> Iterator[tuple[str, Point]]:
    """Yield each schedule that is compared, and what it costs."""

    def project(jobs: list[float]) -> Iterator[float]:
        return polls_of(learnt_from(jobs))

    yield "the optimum", best_point(law)
    yield "this project, nothing observed", mean_point(law, project, 0)
    yield "this project after 30 jobs", mean_point(law, project, 30)
    yield "this project after 100 jobs", mean_point(law, project, 100)
    yield "a log-normal fitted to 30 jobs", mean_point(law, fitted, 30)
    # Where the fit is wrong, so is its optimum, however many jobs there are.
    yield "a log-normal fitted to 100 jobs", mean_point(law, fitted, 100)
    yield "the official client: a poll at once, then each second", follow(law, official_client())
    for seconds in (5, 10, 30):
        yield f"a poll every {seconds} s", follow(law, every(seconds))


def measure(laws: tuple[TrueLaw, ...] = LAWS) -> list[Row]:
    """Measure each schedule for each distribution."""
    return [
        Row(law.name, name, point.polls, point.lag, factor(law, point), cost_ratio(law, point))
        for law in laws
        for name, point in schedules(law)
    ]


def as_markdown(rows: list[Row]) -> str:
    """Return the rows as a table."""
    cells = [
        (row.law, row.schedule, *(f"{value:.2f}" for value in (row.polls, row.lag, row.factor, row.cost_ratio)))
        for row in rows
    ]
    return table(["job times", "schedule", "polls", "lag, s", "factor", "cost ratio"], cells)


def main() -> None:
    """Print the table."""
    print(as_markdown(measure()))


if __name__ == "__main__":
    main()
