"""
The rate limit: when the next request to the gateway may be sent. Pure: it owns no clock.

Segmind publishes limits of 5, 50 or more requests a minute, but not whether polls count, nor whether the minute is a
sliding one. So everything that goes to the gateway is counted, and in a sliding minute, which suits either.
"""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Mapping

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
