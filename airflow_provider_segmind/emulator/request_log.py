"""What was asked of the emulator: counters for all requests, details of the newest."""

from __future__ import annotations

import threading
from collections import Counter, deque
from dataclasses import dataclass, field

REMEMBERED = 20_000


@dataclass(slots=True)
class RequestEntry:
    """
    One request.

    :param kind: what it asked for, one of ``calls.KINDS``
    :param method: the HTTP verb
    :param path: the path, without the query
    :param time: when it came, epoch seconds
    :param has_key: a header ``x-api-key`` was there; which key is not kept
    :param has_authorization: a header ``authorization`` was there
    :param user_agent: who says to have asked
    :param faults: the names of the faults that struck it
    :param status: the status of the answer, ``None`` while and where there is none
    """

    kind: str
    method: str
    path: str
    time: float
    has_key: bool
    has_authorization: bool
    user_agent: str
    faults: list[str] = field(default_factory=list)
    status: int | None = None


class RequestLog:
    """Counts requests and remembers the newest; safe to read from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.clear()

    def clear(self) -> None:
        """Forget all requests."""
        with self._lock:
            self._entries: deque[RequestEntry] = deque(maxlen=REMEMBERED)
            self._counts: Counter[str] = Counter()
            self._statuses: dict[str, Counter[int]] = {}

    def add(self, entry: RequestEntry) -> None:
        """
        Count a request that has come.

        :param entry: the request
        """
        with self._lock:
            self._entries.append(entry)
            self._counts[entry.kind] += 1

    def answered(self, entry: RequestEntry, status: int) -> None:
        """
        Note the answer to a request.

        :param entry: the request
        :param status: its HTTP status
        """
        entry.status = status
        with self._lock:
            self._statuses.setdefault(entry.kind, Counter())[status] += 1

    @property
    def counts(self) -> Counter[str]:
        """How many requests of each kind came, answered or not."""
        with self._lock:
            return Counter(self._counts)

    @property
    def total(self) -> int:
        """How many requests came."""
        return self.counts.total()

    @property
    def statuses(self) -> dict[str, Counter[int]]:
        """How many requests of each kind were answered with each status."""
        with self._lock:
            return {kind: Counter(statuses) for kind, statuses in self._statuses.items()}

    @property
    def rejected(self) -> Counter[int]:
        """How many requests were answered with each error status."""
        total: Counter[int] = Counter()
        for statuses in self.statuses.values():
            total.update({status: count for status, count in statuses.items() if status >= 400})
        return total

    @property
    def log(self) -> list[RequestEntry]:
        """The newest requests, oldest first."""
        with self._lock:
            return list(self._entries)
