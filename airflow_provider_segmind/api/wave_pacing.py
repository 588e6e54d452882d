"""
How many jobs of a batch may be submitted now, and when the next ones. Pure: it owns no clock.

Each submit leads to a poll and a request for the result, which need slots of the rate limit too. If submits took all
the slots, as they go before polls, the results would wait for the last submit. So a minute holds no more submits than
the requests of that many jobs fit into the limit: at 600 requests a minute and 3.1 for each job, 194. Where the limit
is below the requests of one job, the time between two submits is as long as these requests take.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from airflow_provider_segmind.api.learned_limit import LEARNED_WINDOW
from airflow_provider_segmind.api.rate_limit import RateLimiter


@dataclass(frozen=True, slots=True)
class WavePacing:
    """
    The pace of a batch's submits.

    :param limiter: of this process, with what other processes have used of the limit
    :param requests_per_job: how many requests each job takes at the gateway, its submit included, on average; 3.1 where
        jobs are polled, 1.1 where the request history is read instead
    :param submits: those of the batch so far, as pairs of a second and a count; older ones than two windows are ignored
    """

    limiter: RateLimiter
    requests_per_job: float
    submits: Iterable[tuple[float, int]] = ()

    def submits_now(self, now: float, cap: int, within: float = 0.0) -> int:
        """
        Return how many jobs may be submitted now.

        :param cap: how many at most
        :param within: seconds for which the caller is ready to wait for slots; those that open by then count too. After
            a 429, when slots are evenly spaced, no more than one is free at a time
        """
        free = self.limiter.slots_free(now, within)
        most, window = self._most()
        if free is None or most is None:
            return max(cap, 0)
        recent = sum(count for second, count in self.submits if second + 1 + window > now + within)
        return max(min(free, most - recent, cap), 0)

    def opens_at(self, now: float, submits: int = 1) -> float:
        """
        Return when so many jobs may be submitted, or as many as a window holds if that is less; at least ``now``.

        A worker that comes for the first quarter of a window and waits for slots for some seconds can submit all of it,
        because the slots of the last minute become free one after another. The time by which it comes later is lost.
        """
        most, window = self._most()
        if most is None:
            return now
        wanted = max(min(submits, most), 1)
        opens = max(self.limiter.free_at(now, wanted), now)
        recent = sum(count for second, count in self.submits if second + 1 + window > now)
        for second, count in sorted(self.submits):
            if recent + wanted <= most:
                break
            if second + 1 + window > now:
                recent -= count
                opens = max(opens, second + 1 + window)
        return opens

    def _most(self) -> tuple[int | None, float]:
        """Return how many submits a window may hold, and its length in seconds; ``None`` without a limit."""
        limit = self.limiter.requests_per_minute
        if limit is None:
            return None, LEARNED_WINDOW
        jobs = limit / self.requests_per_job
        return max(round(jobs), 1), LEARNED_WINDOW * max(1.0, 1 / jobs)
