"""
The poll schedule: when a job is polled. Pure: it owns no clock.

The trade
---------

Each poll costs a request, of which an account has 5 to 50 a minute, and the time from a job's end to the poll that
notices it, the lag, is lost. Fewer polls mean more lag. :data:`REQUEST_COST` says how many seconds of lag one request
is worth, and the schedule makes ``REQUEST_COST * polls + lag`` as small as it can be on average.

The optimum
-----------

Let ``S(t)`` be the probability that a job takes longer than ``t``, and ``W(t)`` the least expected cost of all that
comes after a poll at ``t``, weighted by the probability ``S(t)`` that the job still runs then. If the next poll is at
``u``, it costs a request if the job still runs at ``t``, a lag of ``u - x`` if the job ends at an ``x`` between ``t``
and ``u``, and ``W(u)`` after that. The lag, on average, is ``S(t) - S(x)`` summed over all ``x`` from ``t`` to ``u``.
With ``A(t)``, the area under ``S`` up to ``t``::

    W(t) = min over u > t of:  REQUEST_COST * S(t)  +  (u - t) * S(t) - (A(u) - A(t))  +  W(u)

So ``W`` follows from its later values, and is computed backwards over a grid of times. For a given ``t``, what depends
on ``u`` is ``u * S(t) + (W(u) - A(u))``: a straight line in ``S(t)``. The best ``u`` is the line that is lowest at
``S(t)``, and as ``S(t)`` only grows on the way back, a line that has been passed is never the lowest again. One pass
over the lower envelope of the lines therefore suffices, instead of a comparison of each time with each later one.

The best ``u`` depends on nothing but ``t``, the latest time at which the job was seen running. That covers a poll that
came late, and a restarted process: it has seen nothing yet, so a job that is older than the first poll of the schedule
is polled at once.

Beyond the grid only the tail of the law is left, a power of the time. There the best interval grows with the square
root of the job's age, until it reaches :data:`MAX_INTERVAL`.

What it rests on
----------------

The schedule is as good as its law of job times (:mod:`~airflow_provider_segmind.api.job_times`). The law is learnt from
the newest jobs of the process, so it follows when a model becomes faster or slower, and starts from what is published.
Its broad part keeps the cost bounded where it is wrong. ``python -m benchmarks.poll_schedule`` measures how far from
the optimum of the true law that leads.
"""

from __future__ import annotations

import math
import threading
from bisect import bisect_right
from collections import deque
from dataclasses import dataclass, field

from airflow_provider_segmind.api.job_times import BROAD_SHAPE, JobTimeLaw, learn

PUBLISHED_SECONDS = {"bria-erase-foreground": 11.97}  # typical latencies. Source: the models' API pages

REQUEST_COST = 0.25
"""
How many seconds of lag one request is worth.

At 0.25, jobs of 12 s that scatter by 15 % are polled 2.8 times and noticed 0.6 s late, 5 % of their time. With the
submit and the result that makes five requests an image, ten images a minute on the Pro plan. A request that is half as
dear adds 1 poll to save 0.2 s; one that is twice as dear saves 0.7 polls and adds 0.2 s.
"""

WAVE_REQUEST_COST = 16.0
"""
The same for a job of a batch, whose lag costs nothing because requests are the bottleneck.

At 16, jobs of 12 s that scatter by 15 % are polled 1.06 times, and 1.01 times where nothing but the published time is
known yet. Twice the cost saves another 0.02 polls, and makes the first poll of an unknown model 25 % later.
"""

MIN_INTERVAL, MAX_INTERVAL = 0.2, 30.0
"""
The least and the greatest number of seconds between two polls. A longer least interval would keep jobs of 2.4 s that
scatter by 5 % from their optimum. The greatest one holds once a job takes longer than 99 % of the law.
"""

WINDOW = 60
"""How many of the newest jobs of a model are remembered: enough for several lumps, few enough to forget soon."""

_SURPRISE = 5  # a job outside of the middle 98 % of the law counts as so many, and the law is updated sooner
_NEWS_SHARE = 6  # the law is updated when the new jobs are a sixth of the known ones
_GRID_RATIO = 1.03  # a step of the grid outside of the lumps
_LUMP_STEP, _LUMP_REACH = 0.2, 4.0  # the grid inside a lump, in standard deviations


class PollSchedule:
    """
    The optimal poll times for one law. Immutable.

    :param request_cost: seconds of lag that one request is worth, above 0. Where requests are the bottleneck and lag
        costs nothing, a large number, such as 1000, leads to one poll when a job is almost certainly over.
    """

    def __init__(self, law: JobTimeLaw, request_cost: float = REQUEST_COST) -> None:
        self.request_cost = request_cost
        self.times = _grid(law)
        alive = [law.survival(time) for time in self.times]
        self.targets = self._optimum(alive)
        # The middle 98 % of the law, to the accuracy of the grid.
        self.earliest = max((time for time, left in zip(self.times, alive, strict=True) if left >= 0.99), default=0.0)
        self.latest = next((t for t, left in zip(self.times, alive, strict=True) if left <= 0.01), self.times[-1])

    def next_poll(self, running: float) -> float:
        """
        Return when to poll next, in seconds after the submit.

        :param running: the latest time at which the job was seen running, in seconds after the submit; 0 before the
            first poll
        """
        if running < self.times[-1]:
            best = self.targets[bisect_right(self.times, max(running, 0.0)) - 1]
        else:
            best = running + math.sqrt(2 * self.request_cost * running / BROAD_SHAPE)
        return max(min(best, max(self.latest, running + MAX_INTERVAL)), running + MIN_INTERVAL)

    def _optimum(self, alive: list[float]) -> list[float]:
        """Return the best next poll for each time of the grid but the last."""
        times, cost = self.times, self.request_cost
        areas = [0.0]
        for index in range(1, len(times)):
            areas.append(areas[-1] + (times[index] - times[index - 1]) * (alive[index] + alive[index - 1]) / 2)
        value = 0.0  # all schedules poll at the end of the grid, so what comes after it decides nothing
        targets: list[float] = []
        lines: deque[tuple[float, float]] = deque()  # the lower envelope: slope, which is the poll time, and height
        for index in range(len(times) - 2, -1, -1):
            slope, height = times[index + 1], value - areas[index + 1]
            while len(lines) > 1:
                (slope_2, height_2), (slope_1, height_1) = lines[-2], lines[-1]
                if (height - height_2) * (slope_2 - slope_1) > (height_1 - height_2) * (slope_2 - slope):
                    break
                lines.pop()  # it is nowhere the lowest between its neighbours
            lines.append((slope, height))
            left = alive[index]
            while len(lines) > 1 and lines[1][0] * left + lines[1][1] <= lines[0][0] * left + lines[0][1]:
                lines.popleft()
            slope, height = lines[0]
            value = (cost - times[index]) * left + areas[index] + slope * left + height
            targets.append(slope)
        targets.reverse()
        return targets


def _grid(law: JobTimeLaw) -> list[float]:
    """Return the times at which polls may be: evenly in ratio, and more densely where the law has its lumps."""
    steps = round(_LUMP_REACH / _LUMP_STEP)
    times = {lump.seconds(step * _LUMP_STEP) for lump in law.lumps for step in range(-steps, steps + 1)}
    time = min(law.broad_median, *(lump.seconds(0) for lump in law.lumps), math.inf) / 10
    end = 4 * max(law.broad_median, *(lump.seconds(2) for lump in law.lumps), 0.0)
    while time < end:
        times.add(time)
        time *= _GRID_RATIO
    return [0.0, *sorted(times)]


@dataclass(slots=True)
class _Model:
    """What is known about one model."""

    published: float | None
    observed: deque[float] = field(default_factory=lambda: deque(maxlen=WINDOW))
    law: JobTimeLaw | None = None
    schedules: dict[float, PollSchedule] = field(default_factory=dict)  # for the law, by the cost of a request
    news: int = 0  # the jobs observed since the law was learned; a surprising one counts more
    enough_news: int = 1  # so many, and it is learned again


class LatencyMemory:
    """How long each model's jobs took in this process, and when to poll the next ones. Thread-safe."""

    def __init__(self) -> None:
        self._models: dict[str | None, _Model] = {}
        self._lock = threading.Lock()

    def observe(self, model: str | None, seconds: float | None) -> None:
        """Learn from a job that completed after ``seconds``; ``None`` and senseless values are ignored."""
        if model is None or seconds is None or not 0.01 <= seconds <= 86_400:
            return
        with self._lock:
            known = self._known(model)
            known.observed.append(seconds)
            schedule = next(iter(known.schedules.values()), None)
            expected = schedule is None or schedule.earliest <= seconds <= schedule.latest
            known.news += 1 if expected else _SURPRISE

    def next_poll(self, model: str | None, running: float, request_cost: float = REQUEST_COST) -> float:
        """
        Return when to poll a job next, in seconds after its submit.

        :param model: ``None``: unknown
        :param running: the latest time at which the job was seen running, in seconds after its submit; 0 before the
            first poll
        :param request_cost: seconds of lag that one request is worth
        """
        with self._lock:
            return self._schedule(model, request_cost).next_poll(running)

    def _known(self, model: str | None) -> _Model:
        if model not in self._models:
            self._models[model] = _Model(PUBLISHED_SECONDS.get(model or ""))
        return self._models[model]

    def _schedule(self, model: str | None, request_cost: float = REQUEST_COST) -> PollSchedule:
        """Return a schedule; learn the law again if enough jobs have come, or if what is published has changed."""
        known, published = self._known(model), PUBLISHED_SECONDS.get(model or "")
        if known.law is None or known.news >= known.enough_news or known.published != published:
            known.published, known.law = published, learn(known.observed, published)
            known.schedules.clear()
            known.news, known.enough_news = 0, max(len(known.observed) // _NEWS_SHARE, 1)
        if request_cost not in known.schedules:
            known.schedules[request_cost] = PollSchedule(known.law, request_cost)
        return known.schedules[request_cost]
