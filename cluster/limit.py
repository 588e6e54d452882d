"""How the account's rate limit was kept, from the emulator's log of requests."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from airflow_provider_segmind.emulator.rate_limit import LIMITED_KINDS

MINUTE = 60.0


@dataclass(frozen=True)
class LimitUse:
    """
    How much of a rate limit was used.

    :param requests: the requests that count, by kind
    :param busiest_minute: the most of them in any sliding minute
    :param refused: how many were answered with a 429
    """

    requests: Mapping[str, int]
    busiest_minute: int
    refused: int


def measure_limit_use(log: Iterable[Mapping[str, Any]]) -> LimitUse:
    """
    Measure how much of the rate limit was used.

    :param log: the emulator's log of requests
    """
    counted = [entry for entry in log if entry["kind"] in LIMITED_KINDS]
    return LimitUse(
        Counter(entry["kind"] for entry in counted),
        busiest_minute(sorted(entry["time"] for entry in counted)),
        sum(entry["status"] == 429 for entry in counted),
    )


def busiest_minute(times: Sequence[float]) -> int:
    """
    Return how many moments at most lie in a sliding minute, of which one end does not belong to it.

    :param times: epoch seconds, in order
    """
    most = first = 0
    for last, time in enumerate(times):
        while times[first] <= time - MINUTE:
            first += 1
        most = max(most, last - first + 1)
    return most
