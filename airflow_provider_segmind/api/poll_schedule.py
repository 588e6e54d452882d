"""
The poll schedule: when a job is polled. Pure: it owns no clock.

It aims at few requests and little waiting. Job times of one model scatter like a log-normal distribution, so one median
and one spread describe them. They start from what Segmind publishes and follow the jobs that this process has seen
complete.
"""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass

PUBLISHED_SECONDS = {"bria-erase-foreground": 11.97}  # typical latencies. Source: the models' API pages
PUBLISHED_SPREAD = 0.2
UNKNOWN_SECONDS, UNKNOWN_SPREAD = 12.0, 0.5
MIN_INTERVAL, MAX_INTERVAL = 0.5, 30.0
_NEWEST_WEIGHT = 0.2


@dataclass(frozen=True, slots=True)
class LatencyEstimate:
    """A log-normal estimate of how long jobs take."""

    median: float  # seconds
    spread: float  # the standard deviation of the logarithm; 0.2 means that two jobs of three are within 20 %


class LatencyMemory:
    """How long each model's jobs took in this process. Thread-safe."""

    def __init__(self) -> None:
        self._estimates: dict[str, LatencyEstimate] = {}
        self._lock = threading.Lock()

    def typical(self, model: str) -> LatencyEstimate:
        """Return the present estimate for a model."""
        with self._lock:
            return self._estimate(model)

    def observe(self, model: str | None, seconds: float | None) -> None:
        """Learn from a job that completed after ``seconds``; ``None`` and senseless values are ignored."""
        if model is None or seconds is None or not 0.01 <= seconds <= 86_400:
            return
        with self._lock:
            known = self._estimate(model)
            step = math.log(seconds) - math.log(known.median)
            variance = (1 - _NEWEST_WEIGHT) * (known.spread**2 + _NEWEST_WEIGHT * step**2)
            median = known.median * math.exp(_NEWEST_WEIGHT * step)
            self._estimates[model] = LatencyEstimate(median, min(max(math.sqrt(variance), 0.05), 1.5))

    def _estimate(self, model: str) -> LatencyEstimate:
        if model in self._estimates:
            return self._estimates[model]
        if model in PUBLISHED_SECONDS:
            return LatencyEstimate(PUBLISHED_SECONDS[model], PUBLISHED_SPREAD)
        return LatencyEstimate(UNKNOWN_SECONDS, UNKNOWN_SPREAD)


def next_poll_delay(typical: LatencyEstimate, elapsed: float, polls: int) -> float:
    """
    Return the seconds to wait before the next poll of a job.

    The first poll comes when about four jobs of five are done, for a poll that comes too early costs a request and a
    late one only seconds. The following ones are as far apart as the estimate is uncertain, and for a job that is
    long overdue a tenth of the time that it has taken already. ``elapsed`` are the seconds since the submit.
    """
    first = typical.median * math.exp(0.85 * typical.spread)
    if polls == 0 and elapsed < first:
        return first - elapsed
    interval = max(typical.median * typical.spread * 0.6, 0.1 * elapsed)
    if polls == 0:
        interval *= 0.2  # a restarted process takes over an old job, which is probably done
    return min(max(interval, MIN_INTERVAL), MAX_INTERVAL)
