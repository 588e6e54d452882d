"""
The account's rate limit, where nobody has told us: learned from the 429s. Pure: it owns no clock.

What a 429 tells
----------------

A 429 says that the account's limit is used up. What this process sent in the minute before, and was not refused, is the
best estimate of the limit there is: if no other process uses the account, it *is* the limit. Requests are therefore
counted when their response arrives and is something other than a 429. To count them when they are sent would be wrong:
hundreds may be under way when the first one is refused, and all of those will be refused too.

The estimate can be wrong in both directions, so it is approached rather than believed.

* *Too low*, because other processes used the account: a triggerer may have sent two polls when it meets the 429 that
  the submits of ten workers have caused. To keep to two requests a minute from then on would stop its work for a long
  time, while a limit that is too high costs a few more 429s, which are not billed. So one minute's 429s reduce the
  limit at most by half, at first to half of ``FIRST_LIMIT``. A process alone on the Free plan reaches its five requests
  a minute after four refused minutes.
* *Too high*, because a minute of ours may hold the end of one of the account's minutes and the beginning of the next.
  The next 429 corrects that.

The limit is kept to in a minute of 61 s (``LEARNED_WINDOW``), because requests do not arrive exactly as far apart as
they were sent.

There is a floor of one request a minute. The smallest plan has five, but five are not the floor: a process that is
refused again and again although it sends hardly anything shares the account with others, and has less.

When it is raised
-----------------

The account may have been shared at the time of the 429, so the limit is raised for each ``RAISE_AFTER`` without one: by
a tenth, then by two, four and eight tenths, so that a limit that is far too low is left behind within half an hour. It
is raised only if a request has had to wait for it since the last change: a limit that nobody reaches would otherwise
grow overnight until it is worth nothing. If the first raise is refused, the limit was right, and the next first raise
comes after twice the time, at most ``MAX_RAISE_AFTER``.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

from airflow_provider_segmind.api.models import parse_number

WINDOW = 60.0
FIRST_LIMIT = 50  # requests a minute, of the Pro plan: assumed until more is known
LEARNED_WINDOW = 61.0
RAISE_AFTER = 180.0
MAX_RAISE_AFTER = 1200.0
MAX_LIMIT = 1_000_000  # requests a minute that are believed of another process
_HANDED = ("value", "before", "raises", "raise_after", "raise_at", "refused_at", "changed_at", "held_back")


class LearnedLimit:
    """
    What the account seems to allow this process. Not thread-safe: the rate limiter calls it under its lock.

    All times are epoch seconds of a clock that is not set back.
    """

    def __init__(self) -> None:
        self.value: int | None = None
        """Requests a minute; ``None`` before the first 429."""
        self.changed_at = 0.0
        """When the value was last learned or raised."""
        self._accepted: deque[list[int]] = deque()  # [second, requests], oldest first
        self._refused_at = -WINDOW  # the first 429 of a minute
        self._before: int | None = None  # the value before that 429
        self._raise_at = 0.0
        self._raise_after = RAISE_AFTER
        self._raises = 0  # since the last 429
        self._held_back = False

    def accepted(self, now: float) -> None:
        """Count a request that was not refused."""
        second = int(now)
        counts = self._accepted
        if counts and counts[-1][0] >= second:
            counts[-1][1] += 1
            return
        counts.append([second, 1])
        while counts[0][0] <= second - WINDOW:
            counts.popleft()

    def accepted_elsewhere(self, second: int, count: int) -> None:
        """Count requests that another process has sent; those of them that were refused are too few to matter."""
        kept = (each for each in self._accepted if each[0] > second - 2 * WINDOW)
        self._accepted = deque(sorted([*kept, [second, count]]))

    def refused(self, now: float, reset: float) -> None:
        """Learn from a 429 that this process has met. Call it for the first of those that name the same reset."""
        if now >= self._refused_at + WINDOW:
            self._refused_at, self._before = now, self.value
        known = self._before or FIRST_LIMIT
        limit = max(self._accepted_in_a_minute(now), known // 2, 1)
        self.value = limit if self._before is None else min(limit, self._before)
        self.changed_at = now
        self._wait_before_raising(reset)

    def refused_elsewhere(self, now: float, reset: float) -> None:
        """Learn from the 429 of another process, which tells only that the account has a limit."""
        if self.value is None:
            self.value = max(self._accepted_in_a_minute(now), FIRST_LIMIT)
            self.changed_at = now
        self._wait_before_raising(reset)

    def held_back(self) -> None:
        """Note that a request has to wait because of this limit."""
        self._held_back = True

    def raise_if_due(self, now: float) -> None:
        """Raise the value if it has been reached, and was not refused, for long enough."""
        if self.value is None or now < self._raise_at or not self._held_back:
            return
        tenths = 2 ** min(self._raises, 3)
        self.value += max(self.value * tenths // 10, 1)
        self._raises += 1
        self._raise_at = now + RAISE_AFTER
        self._held_back = False
        self.changed_at = now

    def as_json(self, now: float) -> dict[str, float | None] | None:
        """Return what another process needs to go on with this limit, with all times relative to ``now``."""
        if self.value is None:
            return None
        return {
            "value": self.value,
            "before": self._before,
            "raises": self._raises,
            "raise_after": self._raise_after,
            "raise_at": round(self._raise_at - now, 1),
            "refused_at": round(max(self._refused_at - now, -MAX_RAISE_AFTER), 1),
            "changed_at": round(max(self.changed_at - now, -MAX_RAISE_AFTER), 1),
            "held_back": int(self._held_back),
        }

    def take_over(self, value: object, now: float, latest: float) -> None:
        """
        Take over what another process has learned, if it is newer than what is known here.

        :param value: what :meth:`as_json` returned; ignored if it is damaged
        :param now: the ``now`` of that call
        :param latest: the time now; nothing can have been learned after it
        """
        if not isinstance(value, Mapping):
            return
        numbers = {name: parse_number(value.get(name)) for name in _HANDED}
        limit, changed_at = numbers["value"], numbers["changed_at"]
        if limit is None or not 1 <= limit <= MAX_LIMIT or changed_at is None:
            return
        changed_at = min(now + changed_at, latest)
        held_back = bool(numbers["held_back"])
        if self.value is not None and changed_at <= self.changed_at:
            self._held_back |= held_back and limit == self.value
            return
        before, raise_after = numbers["before"], numbers["raise_after"] or RAISE_AFTER
        self.value, self.changed_at = int(limit), changed_at
        self._before = int(before) if before is not None and 1 <= before <= MAX_LIMIT else None
        self._raises = int(min(max(numbers["raises"] or 0, 0), 1000))
        self._raise_after = min(max(raise_after, RAISE_AFTER), MAX_RAISE_AFTER)
        self._raise_at = min(now + (numbers["raise_at"] or 0.0), latest + 2 * MAX_RAISE_AFTER)
        self._refused_at = min(now + (numbers["refused_at"] or 0.0), latest)
        self._held_back = held_back

    def _wait_before_raising(self, reset: float) -> None:
        if self._raises:
            first_was_refused = self._raises == 1
            self._raise_after = min(2 * self._raise_after, MAX_RAISE_AFTER) if first_was_refused else RAISE_AFTER
        self._raises = 0
        self._raise_at = max(self._raise_at, reset + self._raise_after)
        self._held_back = False

    def _accepted_in_a_minute(self, now: float) -> int:
        return sum(count for second, count in self._accepted if second > now - WINDOW)
