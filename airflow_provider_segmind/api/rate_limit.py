"""The account's rate limit: reading when it resets, and not running into it."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Mapping

from airflow_provider_segmind.api.models import parse_number, parse_timestamp

RESET_HEADER = "x-rate-limit-reset-at-utc"
WINDOW = 60.0
"""Segmind counts requests a minute."""

MAX_RESET = 3600.0
"""A reset farther away than this counts as this: no header may stop a pipeline for a day."""

SPACING = 60 / 50
"""Seconds between those who leave a gate that has opened, where the connection does not say ``requests_per_minute``:
the pace of Segmind's Pro plan."""


def _epoch(text: str, now: float) -> float | None:
    """Read a moment in any of the formats seen or likely; a small number is a delay; ``None`` for garbage."""
    number = parse_number(text)
    return now + number if number is not None and 0 <= number <= 1e8 else parse_timestamp(text)


def reset_at(headers: Mapping[str, str], now: float) -> float:
    """
    Return the epoch at which a 429's limit resets: at least a second away, at most an hour.

    The format of ``x-rate-limit-reset-at-utc`` is not published: ISO 8601 with or without zone, an HTTP date, epoch
    seconds or milliseconds are read, ``Retry-After`` too; without a readable one a window of a minute is assumed.
    """
    for name in (RESET_HEADER, "retry-after"):
        moment = _epoch(headers[name], now) if headers.get(name) else None
        if moment is not None:
            return min(max(moment, now + 1.0), now + MAX_RESET)
    return now + WINDOW


class RateLimiter:
    """
    Tells each request of one connection, in one process, when it may go. Thread-safe; owns no clock.

    With ``requests_per_minute`` no window of a minute holds more. A 429 closes the gate for all until the reset;
    those who wait then leave one after another.

    :param requests_per_minute: the account's limit, ``None`` to only react to a 429
    """

    def __init__(self, requests_per_minute: int | None = None) -> None:
        self._spacing = 60 / requests_per_minute if requests_per_minute else SPACING
        self._recent: deque[float] | None = deque(maxlen=requests_per_minute) if requests_per_minute else None
        self._opens_at = 0.0
        self._last_in_line = 0.0
        self._last = 0.0
        self._lock = threading.Lock()

    def close_until(self, moment: float) -> None:
        """Close the gate: Segmind said 429."""
        with self._lock:
            self._opens_at = max(self._opens_at, moment)

    def next_free(self, now: float) -> float:
        """When a request made now could go; reserves nothing."""
        with self._lock:
            return self._slot(now)

    def reserve(self, now: float) -> float:
        """Take the next free moment (epoch seconds, not before ``now``)."""
        with self._lock:
            slot = self._slot(now)
            self._last = max(self._last, slot)
            if slot > now:
                self._last_in_line = max(self._last_in_line, slot)
            if self._recent is not None:
                self._recent.append(slot)
            return slot

    def is_closed(self, now: float) -> bool:
        """Whether a 429 keeps the gate closed."""
        with self._lock:
            return now < self._opens_at

    def _slot(self, now: float) -> float:
        slot = max(now, self._opens_at)
        if self._last >= self._opens_at and slot < self._opens_at + WINDOW:
            slot = max(slot, self._last + self._spacing)  # many have waited for this moment on their own
        if self._last_in_line >= self._opens_at and self._last_in_line > now:
            slot = max(slot, self._last_in_line + self._spacing)  # others still wait: behind them
        if self._recent is not None and len(self._recent) == self._recent.maxlen:
            slot = max(slot, self._recent[0] + WINDOW)
        return slot
