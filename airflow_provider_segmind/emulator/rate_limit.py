"""The account's rate limit."""

from __future__ import annotations

import math
import time
from datetime import UTC, datetime

LIMITED_KINDS = ("submit", "sync", "status", "result", "credits")  # the gateway's; history and storage are other hosts


class RateLimit:
    """
    So many requests in a window, which begins with its first request.

    :param per_window: how many are let through, ``None`` for all
    :param window: how long a window lasts, in seconds
    """

    def __init__(self, per_window: int | None, window: float) -> None:
        self._per_window = per_window
        self._window = window
        self._ends = 0.0
        self._used = 0

    def refuses_until(self) -> float | None:
        """Count a request; return when the window resets where it must be refused."""
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
    Write a time as ISO 8601 with milliseconds, never earlier than it is.

    :param at: epoch seconds
    """
    moment = datetime.fromtimestamp(math.ceil(at * 1000) / 1000, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
