"""
Pacing: when the next request may be sent, and when a job is polled. Both parts are pure: they own no clock.

**The rate limit.** Segmind publishes limits of 5, 50 or more requests a minute, but not whether polls count, nor
whether the minute is a sliding one. So everything that goes to the gateway is counted, and in a sliding minute, which
suits either.

**The poll schedule.** It aims at few requests and little waiting. Job times of one model scatter like a log-normal
distribution, so one median and one spread describe them. They start from what Segmind publishes and follow the jobs
that this process has seen complete.
"""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

from airflow_provider_segmind.api.models import parse_number, parse_timestamp

WINDOW = 60.0
MAX_RESET = 3600.0  # no header may stop a pipeline for a day
DEFAULT_SPACING = 60 / 50  # seconds between requests after a reset, by default: the pace of the Pro plan


def reset_at(headers: Mapping[str, str], now: float) -> float:
    """
    Return the epoch second at which the limit of a 429 resets, at least a second and at most an hour from now.

    The format of ``x-rate-limit-reset-at-utc`` is not published, so every likely one is read, and ``Retry-After`` too.
    Without a readable value it is a minute from now, since Segmind counts requests a minute.
    """
    for name in ("x-rate-limit-reset-at-utc", "retry-after"):
        number = parse_number(headers.get(name))
        # A number too small for an epoch second is a delay.
        is_delay = number is not None and 0 <= number <= 1e8
        moment = now + number if number is not None and is_delay else parse_timestamp(headers.get(name))
        if moment is not None:
            return min(max(moment, now + 1.0), now + MAX_RESET)
    return now + WINDOW


class RateLimiter:
    """
    Gives each request of one connection, in one process, a slot: the moment at which it may go. Thread-safe.

    Callers pass the time, in epoch seconds, and make the pause. Three rules place a slot:

    1. With ``requests_per_minute`` no sliding minute holds more slots than that. A fraction is kept by even spacing:
       0.5 gives a slot every two minutes.
    2. After a 429 no slot comes before the reset.
    3. After a reset the slots are spread out. Many jobs have waited for that moment, some with a slot and some, who
       met the 429 themselves, without. All at once they would use up the limit again.

    :param requests_per_minute: this process's share of the account's limit; ``None``: only react to a 429
    """

    def __init__(self, requests_per_minute: float | None = None) -> None:
        self._spacing = DEFAULT_SPACING
        self._window = WINDOW
        self._recent: deque[float] | None = None
        if requests_per_minute is not None:
            whole = float(requests_per_minute).is_integer()
            self._spacing = 60 / requests_per_minute
            self._window = WINDOW if whole else self._spacing
            self._recent = deque(maxlen=int(min(requests_per_minute, 10**9)) if whole else 1)
        self._closed_until = self._last_slot = self._last_delayed_slot = 0.0
        self._lock = threading.Lock()

    def close_until(self, moment: float) -> None:
        """Give no slot before the reset after a 429."""
        with self._lock:
            self._closed_until = max(self._closed_until, moment)

    def is_closed(self, now: float) -> bool:
        """Return whether the reset after a 429 is still to come."""
        with self._lock:
            return now < self._closed_until

    def next_free(self, now: float) -> float:
        """Return the slot that a request would get now, without taking it."""
        with self._lock:
            return self._next_slot(now)

    def reserve(self, now: float, latest: float = math.inf) -> float:
        """Return the next slot, and take it unless it is later than ``latest``."""
        with self._lock:
            slot = self._next_slot(now)
            if slot > latest:
                return slot
            self._last_slot = max(self._last_slot, slot)
            if slot > now:
                self._last_delayed_slot = max(self._last_delayed_slot, slot)
            if self._recent is not None:
                self._recent.append(slot)
            return slot

    def _next_slot(self, now: float) -> float:
        slot = max(now, self._closed_until)
        if self._last_slot >= self._closed_until and slot < self._closed_until + WINDOW:
            slot = max(slot, self._last_slot + self._spacing)
        if self._last_delayed_slot >= self._closed_until and self._last_delayed_slot > now:
            slot = max(slot, self._last_delayed_slot + self._spacing)  # behind those who still wait for theirs
        if self._recent is not None and len(self._recent) == self._recent.maxlen:
            slot = max(slot, self._recent[0] + self._window)
        return slot


# The poll schedule

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
