"""The account's rate limit."""

from __future__ import annotations

import math
import time
from datetime import UTC, datetime

LIMITED_KINDS = ("submit", "sync", "status", "result", "credits")  # history and storage are on other hosts


class RateLimit:
    """
    A fixed number of requests per window; a window starts with its first request.

    :param per_window: the number of requests, ``None`` for no limit
    :param window: the length of a window in seconds
    """

    def __init__(self, per_window: int | None, window: float) -> None:
        self._per_window = per_window
        self._window = window
        self._ends = 0.0
        self._used = 0

    def reset_if_exceeded(self) -> float | None:
        """Count a request; if it exceeds the limit, return when the window resets (epoch seconds)."""
        if self._per_window is None:
            return None
        now = time.time()
        if now >= self._ends:
            self._ends, self._used = now + self._window, 0
        if self._used >= self._per_window:
            return self._ends
        self._used += 1
        return None


def iso_utc(at: float) -> str:
    """
    Format a time as ISO 8601 in UTC, rounded up to milliseconds so that a client never waits too briefly.

    :param at: epoch seconds
    """
    moment = datetime.fromtimestamp(math.ceil(at * 1000) / 1000, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
