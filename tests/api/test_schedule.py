"""When a job is polled."""

from __future__ import annotations

import pytest

from airflow_provider_segmind.api.poll_schedule import MAX_INTERVAL, LatencyEstimate, LatencyMemory, next_poll_delay

from .world import MODEL


def test_the_estimate_starts_from_the_published_latency():
    latencies = LatencyMemory()
    assert latencies.typical(MODEL).median == 11.97
    latencies.observe(MODEL, 20.0)
    assert 11.97 < latencies.typical(MODEL).median < 20


def test_each_model_has_an_estimate_of_its_own():
    latencies = LatencyMemory()
    latencies.observe("other", 100.0)
    assert latencies.typical(MODEL).median == 11.97


def test_the_spread_follows_how_much_job_times_scatter():
    steady, scattered = LatencyMemory(), LatencyMemory()
    for n in range(50):
        steady.observe(MODEL, 12.0)
        scattered.observe(MODEL, 2.0 if n % 2 else 70.0)
    assert steady.typical(MODEL).spread < 0.1 < 0.8 < scattered.typical(MODEL).spread <= 1.5


@pytest.mark.parametrize("seconds", [None, 0, -5, 1e9, float("nan"), float("inf")])
def test_senseless_job_times_are_ignored(seconds):
    latencies = LatencyMemory()
    latencies.observe(MODEL, seconds)
    assert latencies.typical(MODEL).median == 11.97


@pytest.mark.parametrize("elapsed", [0, 5, 14, 100, 1e5, 1e9])
@pytest.mark.parametrize("polls", [0, 1, 10_000])
@pytest.mark.parametrize(
    "typical", [LatencyEstimate(0.01, 0.05), LatencyEstimate(11.97, 0.2), LatencyEstimate(86_400, 1.5)]
)
def test_polls_are_at_least_half_a_second_and_at_most_thirty_apart(typical, elapsed, polls):
    wait = next_poll_delay(typical, elapsed, polls)
    first = typical.median * 4
    assert 0 < wait <= max(MAX_INTERVAL, first)
    assert polls == 0 or 0.5 <= wait <= MAX_INTERVAL
