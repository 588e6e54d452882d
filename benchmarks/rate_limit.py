"""
How many requests an account refuses in an hour, and how much of its limit is used, where no limit is configured.

Simulates an account and jobs that poll it all the time, on a simulated clock. Each process has a rate limiter of its
own and eight connections; a request takes 0.05 to 0.4 s. "Only react" is a limiter that waits for the reset of a 429
and learns nothing.

Run it from the root of the repository: ``python -m benchmarks.rate_limit``. It takes about a minute.
"""

from __future__ import annotations

import heapq
import random
from collections import deque
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from itertools import count

from airflow_provider_segmind.api.rate_limit import RateLimiter

HOUR = 3600.0
START = 1_800_000_000.0
CONNECTIONS = 8
POLL_SECONDS = 10.0

Process = Generator[float, None, None]
"""A simulated process. It yields the moment at which it wants to go on."""


@dataclass
class Account:
    """
    An account with a limit of requests a minute.

    :param sliding: whether no 60 s may hold more than the limit; otherwise minutes begin at the full minute
    """

    limit: int
    sliding: bool
    accepted: int = 0
    refused: int = 0
    _recent: deque[float] = field(default_factory=deque)

    def ask(self, now: float) -> float | None:
        """Accept a request, which returns ``None``, or refuse it and return the reset."""
        begin = now - 60 if self.sliding else now // 60 * 60
        while self._recent and self._recent[0] < begin:
            self._recent.popleft()
        if len(self._recent) < self.limit:
            self._recent.append(now)
            self.accepted += 1
            return None
        self.refused += 1
        return self._recent[0] + 60 if self.sliding else begin + 60


class OnlyReact(RateLimiter):
    """Learns nothing from a 429, and goes on after its reset."""

    _until = 0.0

    def take(self, ticket: object, now: float, latest: float = 0.0) -> float | None:  # noqa: D102, ARG002
        return None if now >= self._until else self._until

    def refused(self, now: float, reset: float) -> None:  # noqa: D102, ARG002
        self._until = max(self._until, reset)


class Simulation:
    """Jobs in some processes that use one account."""

    def __init__(self, account: Account, limiters: list[RateLimiter], jobs: int, seed: int = 1) -> None:
        self.account = account
        self.now = START
        self.asked = 0
        self._random = random.Random(seed)
        self._order = count()
        self._agenda: list[tuple[float, int, Process]] = []
        for limiter in limiters:
            connections = [0]
            for _ in range(jobs // len(limiters)):
                self._push(START + self._random.uniform(0, 5), self._job(limiter, connections))

    def _push(self, at: float, process: Process) -> None:
        heapq.heappush(self._agenda, (at, next(self._order), process))

    def run(self, seconds: float) -> None:
        """Let time pass."""
        until = self.now + seconds
        while self._agenda and self._agenda[0][0] <= until:
            self.now, _, process = heapq.heappop(self._agenda)
            self._push(max(next(process), self.now), process)
        self.now = until

    def _job(self, limiter: RateLimiter, connections: list[int]) -> Process:
        failures = 0
        while True:
            ticket = limiter.ticket()
            while (moment := limiter.take(ticket, self.now)) is not None:
                self.asked += 1
                yield moment
            while connections[0] >= CONNECTIONS:
                yield self.now + 0.02
            connections[0] += 1
            yield self.now + self._random.uniform(0.025, 0.2)
            reset = self.account.ask(self.now)
            yield self.now + self._random.uniform(0.025, 0.2)
            connections[0] -= 1
            if reset is None:
                failures = 0
                limiter.accepted(self.now)
                yield self.now + POLL_SECONDS
            else:
                failures += 1
                reset = max(reset, self.now + 1)
                limiter.refused(self.now, reset)
                yield max(reset, self.now + min(2.0 ** min(failures, 6), 60.0))


def simulate(
    limit: int, *, sliding: bool, processes: int = 1, jobs: int = 300, make: Callable[[], RateLimiter] = RateLimiter
) -> tuple[int, float]:
    """Return the number of 429s in an hour, and what was accepted as a share of what the account allows."""
    account = Account(limit, sliding)
    Simulation(account, [make() for _ in range(processes)], jobs).run(HOUR)
    return account.refused, account.accepted / (limit * HOUR / 60)


def main() -> None:
    """Print the table."""
    print("| account, a minute | processes | learned: 429s, share of the limit used | only react: 429s, share |")
    print("|---|---|---|---|")
    for limit in (5, 50, 600):
        for sliding in (True, False):
            for processes in (1, 5):
                cells = []
                for make in (RateLimiter, OnlyReact):
                    refused, share = simulate(limit, sliding=sliding, processes=processes, make=make)
                    cells.append(f"{refused}, {share:.0%}")
                kind = "sliding" if sliding else "fixed"
                print(f"| {limit}, {kind} | {processes} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
