"""When to look whether a job is done: few requests, little waiting."""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass

PUBLISHED_SECONDS = {"bria-erase-foreground": 11.97}
"""Typical latencies that Segmind publishes on its models' pages."""

PUBLISHED_SPREAD = 0.2
UNKNOWN_SECONDS, UNKNOWN_SPREAD = 12.0, 0.5
MAX_INTERVAL = 30.0
_MEMORY = 0.2  # the weight of the newest job


@dataclass(frozen=True, slots=True)
class LatencyEstimate:
    """A log-normal guess: the median in seconds, the standard deviation of the logarithm."""

    median: float
    spread: float


class LatencyMemory:
    """How long each model's jobs took in this process, starting from what is published. Thread-safe."""

    def __init__(self) -> None:
        self._seen: dict[str, LatencyEstimate] = {}
        self._lock = threading.Lock()

    def typical(self, model: str) -> LatencyEstimate:
        """Return the present guess."""
        with self._lock:
            return self._seen.get(model) or self._published(model)

    def observe(self, model: str, seconds: float | None) -> None:
        """Learn from a job that completed after ``seconds``; ``None`` teaches nothing."""
        if seconds is None or not 0.01 <= seconds <= 86_400:
            return
        with self._lock:
            known = self._seen.get(model) or self._published(model)
            step = math.log(seconds) - math.log(known.median)
            variance = (1 - _MEMORY) * (known.spread**2 + _MEMORY * step**2)
            self._seen[model] = LatencyEstimate(
                known.median * math.exp(_MEMORY * step), min(max(math.sqrt(variance), 0.05), 1.5)
            )

    @staticmethod
    def _published(model: str) -> LatencyEstimate:
        if model in PUBLISHED_SECONDS:
            return LatencyEstimate(PUBLISHED_SECONDS[model], PUBLISHED_SPREAD)
        return LatencyEstimate(UNKNOWN_SECONDS, UNKNOWN_SPREAD)


def next_poll_delay(typical: LatencyEstimate, elapsed: float, looks: int) -> float:
    """
    Return the seconds to wait before the next look at a job.

    The first look falls where four jobs of five are done; the next follow in steps as wide as the uncertainty, and
    as a tenth of what the job has taken already where it is long overdue, at most 30 s.

    :param elapsed: seconds since the submit
    :param looks: how often this wait has looked so far
    """
    first = typical.median * math.exp(0.85 * typical.spread)
    if looks == 0 and elapsed < first:
        return first - elapsed
    step = max(typical.median * typical.spread * 0.6, 0.1 * elapsed)
    if looks == 0:
        step *= 0.2  # taken over late, by a restarted process: the job may well be done
    return min(max(step, 0.5), MAX_INTERVAL)
