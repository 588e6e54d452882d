"""When to look."""

from __future__ import annotations

import pytest

from airflow_provider_segmind.api.schedule import MAX_INTERVAL, LatencyEstimate, LatencyMemory, next_poll_delay

from .world import MODEL


def test_the_published_latency_is_believed_until_jobs_are_seen():
    latencies = LatencyMemory()
    assert latencies.typical(MODEL).median == 11.97
    latencies.observe(MODEL, 20.0)
    assert 11.97 < latencies.typical(MODEL).median < 20


def test_each_model_is_learnt_by_itself():
    latencies = LatencyMemory()
    latencies.observe("other", 100.0)
    assert latencies.typical(MODEL).median == 11.97


def test_steady_jobs_make_it_sure_and_scattered_ones_unsure():
    steady, scattered = LatencyMemory(), LatencyMemory()
    for n in range(50):
        steady.observe(MODEL, 12.0)
        scattered.observe(MODEL, 2.0 if n % 2 else 70.0)
    assert steady.typical(MODEL).spread < 0.1 < 0.8 < scattered.typical(MODEL).spread <= 1.5


@pytest.mark.parametrize("seconds", [None, 0, -5, 1e9, float("nan"), float("inf")])
def test_senseless_times_teach_nothing(seconds):
    latencies = LatencyMemory()
    latencies.observe(MODEL, seconds)
    assert latencies.typical(MODEL).median == 11.97


@pytest.mark.parametrize("elapsed", [0, 5, 14, 100, 1e5, 1e9])
@pytest.mark.parametrize("looks", [0, 1, 10_000])
@pytest.mark.parametrize(
    "typical", [LatencyEstimate(0.01, 0.05), LatencyEstimate(11.97, 0.2), LatencyEstimate(86_400, 1.5)]
)
def test_looks_are_neither_hasty_nor_idle(typical, elapsed, looks):
    wait = next_poll_delay(typical, elapsed, looks)
    first = typical.median * 4
    assert 0 < wait <= max(MAX_INTERVAL, first)
    assert looks == 0 or 0.5 <= wait <= MAX_INTERVAL
