"""How the use of a rate limit is read from the emulator's log of requests."""

from __future__ import annotations

import pytest

from cluster.limit import busiest_minute, measure_limit_use


@pytest.mark.parametrize(
    ("times", "most"),
    [
        ([], 0),
        ([5.0], 1),
        ([0.0, 59.9], 2),
        ([0.0, 60.0], 1),
        ([0.0, 50.0, 70.0, 100.0, 200.0], 3),
    ],
    ids=["no request", "one request", "within a minute", "a minute apart", "across a full minute"],
)
def test_the_busiest_minute_may_begin_at_any_moment(times, most):
    assert busiest_minute(times) == most


def test_only_requests_that_count_towards_the_limit_are_counted_and_refused_ones_too():
    log = [
        {"kind": "submit", "time": 30.0, "status": 200},
        {"kind": "status", "time": 10.0, "status": 429},
        {"kind": "status", "time": 20.0, "status": None},
        {"kind": "history", "time": 20.0, "status": 200},
        {"kind": "file", "time": 20.0, "status": 200},
    ]
    use = measure_limit_use(log)
    assert (dict(use.requests), use.busiest_minute, use.refused) == ({"submit": 1, "status": 2}, 3, 1)
