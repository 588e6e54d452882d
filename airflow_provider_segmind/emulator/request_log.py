"""The request log: counters for all requests, details of the most recent ones."""

from __future__ import annotations

import threading
from collections import Counter, deque
from dataclasses import dataclass, field

MAX_ENTRIES = 20_000


@dataclass(slots=True)
class RequestEntry:
    """
    One request.

    :param kind: one of ``http_messages.REQUEST_KINDS``
    :param method: the HTTP method
    :param path: the path, without the query
    :param time: when it arrived, epoch seconds
    :param has_key: it had the header ``x-api-key``; the key itself is not kept
    :param has_authorization: it had the header ``authorization``
    :param user_agent: its ``user-agent`` header
    :param faults: the names of the faults that struck it
    :param status: the HTTP status of the response, ``None`` if none was sent
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
    """Counts requests and keeps the most recent; thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.clear()

    def clear(self) -> None:
        """Reset all counters and remove all entries."""
        with self._lock:
            self._entries: deque[RequestEntry] = deque(maxlen=MAX_ENTRIES)
            self._counts: Counter[str] = Counter()
            self._statuses: dict[str, Counter[int]] = {}

    def add(self, entry: RequestEntry) -> None:
        """
        Count a request on arrival.

        :param entry: the request
        """
        with self._lock:
            self._entries.append(entry)
            self._counts[entry.kind] += 1

    def answered(self, entry: RequestEntry, status: int) -> None:
        """
        Record the response to a request.

        :param entry: the request
        :param status: its HTTP status
        """
        entry.status = status
        with self._lock:
            self._statuses.setdefault(entry.kind, Counter())[status] += 1

    @property
    def counts(self) -> Counter[str]:
        """The number of requests of each kind, answered or not."""
        with self._lock:
            return Counter(self._counts)

    @property
    def total(self) -> int:
        """The number of all requests."""
        return self.counts.total()

    @property
    def statuses(self) -> dict[str, Counter[int]]:
        """The number of responses with each HTTP status, by kind of request."""
        with self._lock:
            return {kind: Counter(statuses) for kind, statuses in self._statuses.items()}

    @property
    def rejected(self) -> Counter[int]:
        """The number of responses with each status of 400 or above."""
        total: Counter[int] = Counter()
        for statuses in self.statuses.values():
            total.update({status: count for status, count in statuses.items() if status >= 400})
        return total

    @property
    def log(self) -> list[RequestEntry]:
        """The most recent requests, oldest first."""
        with self._lock:
            return list(self._entries)
