"""
The law of job times: what the next job of a model will take, as a distribution. Pure.

:func:`learn` makes a law of three parts:

* **Lumps**, one log-normal each, from the job times that were observed. Jobs of one model and size scatter around one
  time; where a model has fast and slow settings, or jobs sometimes start cold, the times have several lumps, and one
  bell over all of them would lie in the empty middle. So the sorted logarithms are split wherever two lumps explain
  them clearly better than one. The likelihood charges a split for telling apart which job belongs to which lump, so
  cutting a bell in two is a loss. Only a gap or a change of density makes up for it.
* **What is published** about the model. It is all there is at first, and fades with the square of the number of
  observed jobs: an average that Segmind measured on other images is worth one or two jobs, and a published time that
  is five times wrong costs each job a needless poll for as long as it keeps a weight of a few percent.
* **A broad part** of small weight, for jobs unlike any before: log-logistic, so it has a tail like a power of the
  time. It makes the law robust. Without it, a job that outlives all lumps, or a truth five times off, would be
  practically impossible, and a schedule made for the law could be arbitrarily bad there. The chance that the next job
  is unlike ``n`` others is about one in ``n``.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from itertools import accumulate

UNKNOWN_SECONDS = 12.0  # the middle of the broad part for a model of which nothing is known
BROAD_SHAPE = 1.3  # beyond the lumps, a job twice as old is 2**1.3 = 2.5 times less likely
_BROAD_JOBS = 0.5  # the weight of the broad part, in jobs
_PUBLISHED_JOBS = 2.0  # the weight of what is published, in jobs, before it fades
_PUBLISHED_SPREAD = 0.2
_PUBLISHED_TRUST = 0.3  # how probable the published time is right; the rest of its weight is broad
_SPREAD, _SPREAD_JOBS = 0.1, 2.0  # the spread that few jobs are assumed to have, and how many jobs that counts as
_SPLIT_GAIN = 4.0  # log-likelihood that a split must gain
_SMALLEST_LUMP = 3  # jobs
_ROOT_2 = math.sqrt(2)


@dataclass(frozen=True, slots=True)
class Lump:
    """Job times that scatter around one time, as a log-normal distribution."""

    weight: float  # the share of jobs
    log_median: float  # the natural logarithm of seconds
    spread: float  # the standard deviation of the logarithm; 0.2 means that two jobs of three are within 20 %

    def seconds(self, deviations: float) -> float:
        """Return the job time that is so many standard deviations above the median."""
        return math.exp(self.log_median + deviations * self.spread)


@dataclass(frozen=True, slots=True)
class JobTimeLaw:
    """A distribution of job times."""

    lumps: tuple[Lump, ...]
    broad_weight: float
    broad_median: float  # seconds

    def survival(self, seconds: float) -> float:
        """Return the probability that a job takes longer."""
        if seconds <= 0:
            return 1.0
        log_seconds = math.log(seconds)
        alive: float = self.broad_weight / (1 + (seconds / self.broad_median) ** BROAD_SHAPE)
        for lump in self.lumps:
            alive += lump.weight * 0.5 * math.erfc((log_seconds - lump.log_median) / (lump.spread * _ROOT_2))
        return alive


def learn(observed: Collection[float], published: float | None = None) -> JobTimeLaw:
    """
    Return the law that observed job times suggest.

    :param observed: seconds, each above 0, in any order
    :param published: the typical job time that is published, in seconds; ``None``: none is
    """
    count = len(observed)
    broad = _BROAD_JOBS / (count + 2 * _BROAD_JOBS) if count else 0.0
    prior = (1 - broad) * _PUBLISHED_JOBS / (_PUBLISHED_JOBS + count**2)
    lumps = []
    if observed:
        logs = sorted(map(math.log, observed))
        middle = math.exp(logs[count // 2])
        for size, mean, squares in _split(logs):
            # The mean of a few jobs is uncertain itself, so the next job scatters more widely around it.
            spread = math.sqrt(_variance(size, squares) * (1 + 1 / size))
            lumps.append(Lump((1 - broad - prior) * size / count, mean, spread))
    else:
        middle = published or UNKNOWN_SECONDS
    trust = 0.0 if published is None else _PUBLISHED_TRUST
    if published is not None:
        lumps.append(Lump(prior * trust, math.log(published), _PUBLISHED_SPREAD))
    return JobTimeLaw(tuple(lumps), broad + prior * (1 - trust), middle)


def _variance(size: int, squares: float) -> float:
    return (squares + _SPREAD_JOBS * _SPREAD**2) / (size + _SPREAD_JOBS)


def _split(logs: list[float]) -> Iterator[tuple[int, float, float]]:
    """Yield the lumps of sorted numbers: the size, the mean, and the sum of the squared distances from it."""
    origin = logs[len(logs) // 2]  # sums of numbers near 0 lose no digits
    sums = [0.0, *accumulate(value - origin for value in logs)]
    squares = [0.0, *accumulate((value - origin) ** 2 for value in logs)]

    def describe(start: int, end: int) -> tuple[int, float, float]:
        size, total = end - start, sums[end] - sums[start]
        return size, origin + total / size, max(squares[end] - squares[start] - total * total / size, 0.0)

    def loss(start: int, end: int) -> float:
        """Return the negative log-likelihood of the numbers as one lump, but for what all ways to split share."""
        size, _, distances = describe(start, end)
        return 0.5 * size * math.log(_variance(size, distances)) - size * math.log(size)

    pending = [(0, len(logs))]
    while pending:
        start, end = pending.pop()
        cuts = range(start + _SMALLEST_LUMP, end - _SMALLEST_LUMP + 1)
        least, cut = min(((loss(start, cut) + loss(cut, end), cut) for cut in cuts), default=(math.inf, 0))
        if least < loss(start, end) - _SPLIT_GAIN:
            pending += [(start, cut), (cut, end)]
        else:
            yield describe(start, end)
