"""
Which process used how much of the rate limit lately, as processes tell each other. Pure: it owns no clock.

A batch alternates between worker processes and a triggerer. What one of them has sent counts for the next one too, so
each hands its counts to its successor, together with those that it was handed itself. The same counts may arrive twice,
and a process may be handed its own. So they are kept by origin, a random id of each limiter, and by second: only what
exceeds the count that is known for a second of an origin is new.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping

from airflow_provider_segmind.api.models import parse_number

MAX_HANDED = 120
"""
Pairs of a second and a count that are handed over at most, about 1 KB. A minute of one process has 61. Where more
processes have shared a connection within a minute, the oldest seconds of the others are left out.
"""

MAX_COUNT = 10_000  # requests of one second that are believed


class GrantedSlots:
    """Counts of granted slots, by origin and second. Not thread-safe: the rate limiter calls it under its lock."""

    def __init__(self) -> None:
        self.origin = uuid.uuid4().hex[:8]
        self._counts: dict[str, dict[int, int]] = {self.origin: {}}

    def count(self, second: int, earliest: float) -> None:
        """Count a slot that this process was granted, and forget what is before ``earliest``."""
        own = self._counts[self.origin]
        if second not in own:
            self.forget_before(earliest)
        own[second] = own.get(second, 0) + 1

    def forget_before(self, earliest: float) -> None:
        """Forget what is before that second."""
        for origin, counts in list(self._counts.items()):
            while counts and (oldest := next(iter(counts))) < earliest:
                del counts[oldest]
            if not counts and origin != self.origin:
                del self._counts[origin]

    def as_json(self, now: int) -> dict[str, list[list[int]]]:
        """Return the counts as ``{origin: [[second - now, count], ...]}``: this process's, and the others' newest."""
        newest = sorted(
            ((origin == self.origin, second, origin) for origin, counts in self._counts.items() for second in counts),
            reverse=True,
        )
        handed: dict[str, list[list[int]]] = {}
        for _, second, origin in newest[:MAX_HANDED]:
            handed.setdefault(origin, []).append([second - now, self._counts[origin][second]])
        return handed

    def take_over(self, value: object, now: float, latest: float) -> Iterator[tuple[int, int]]:
        """
        Take over what :meth:`as_json` returned in another process; yield the seconds and counts that were not known.

        :param now: the ``now`` of that call
        :param latest: epoch seconds; what is after it is ignored, as is all that is damaged
        """
        for origin, pairs in value.items() if isinstance(value, Mapping) else ():
            if not isinstance(origin, str) or len(origin) > 16 or not isinstance(pairs, list):
                continue
            for pair in pairs[:MAX_HANDED]:
                numbers = [parse_number(each) for each in pair] if isinstance(pair, list) and len(pair) == 2 else [None]
                if None in numbers:
                    continue
                second, count = int(now + (numbers[0] or 0.0)), int(min(numbers[1] or 0.0, MAX_COUNT))
                known = self._counts.get(origin, {}).get(second, 0)
                if second <= latest and count > known:
                    self._counts.setdefault(origin, {})[second] = count
                    yield second, count - known
            if origin in self._counts:
                self._counts[origin] = dict(sorted(self._counts[origin].items()))
