"""How many jobs of a batch may be submitted, and when the next ones."""

from __future__ import annotations

import pytest

from airflow_provider_segmind.api.rate_limit import RateLimiter
from airflow_provider_segmind.api.wave_pacing import WavePacing

from .limiting import take
from .test_rate_limit_hand_over import granted
from .world import NOON


def test_without_a_limit_as_many_may_be_submitted_as_the_caller_wants():
    pacing = WavePacing(RateLimiter(), 3.1)
    assert pacing.submits_now(NOON, 500) == 500
    assert pacing.opens_at(NOON, 500) == NOON


def test_a_minute_holds_the_submits_of_jobs_whose_requests_fit_into_the_limit():
    assert WavePacing(RateLimiter(600), 3.1).submits_now(NOON, 1000) == 194
    assert WavePacing(RateLimiter(600), 1.1).submits_now(NOON, 1000) == 545
    assert WavePacing(RateLimiter(600), 3.1).submits_now(NOON, 20) == 20


def test_no_more_are_submitted_than_slots_are_free():
    limiter = RateLimiter(600)
    granted(limiter, 550)
    assert WavePacing(limiter, 3.1).submits_now(NOON, 1000) == 50


def test_submits_of_the_last_minute_count():
    pacing = WavePacing(RateLimiter(600), 3.1, [(NOON, 100), (NOON + 10, 60)])
    assert pacing.submits_now(NOON + 20, 1000) == 34
    assert pacing.submits_now(NOON + 62, 1000) == 134
    assert pacing.submits_now(NOON + 72, 1000) == 194


def test_a_caller_that_waits_for_slots_may_use_those_of_submits_that_are_a_minute_old_by_then():
    pacing = WavePacing(RateLimiter(600), 3.1, [(NOON, 194)])
    assert pacing.submits_now(NOON + 50, 1000) == 0
    assert pacing.submits_now(NOON + 50, 1000, within=20) == 194


def test_the_window_opens_when_enough_submits_are_a_minute_old():
    pacing = WavePacing(RateLimiter(600), 3.1, [(NOON + 10, 60), (NOON, 100)])
    assert pacing.opens_at(NOON + 20, 30) == NOON + 20
    assert pacing.opens_at(NOON + 20, 35) == NOON + 62
    assert pacing.opens_at(NOON + 20, 1000) == NOON + 72


def test_when_the_window_opens_that_many_may_be_submitted():
    for submits in (1, 34, 35, 100, 194):
        pacing = WavePacing(RateLimiter(600), 3.1, [(NOON, 100), (NOON + 10, 60)])
        assert pacing.submits_now(pacing.opens_at(NOON + 20, submits), submits) == submits


def test_a_window_opens_no_earlier_than_a_reset():
    limiter = RateLimiter(600)
    limiter.refused(NOON, NOON + 30)
    pacing = WavePacing(limiter, 3.1)
    assert pacing.submits_now(NOON, 100) == 0
    assert pacing.opens_at(NOON) == NOON + 30


def test_after_a_reset_a_caller_that_waits_for_slots_may_submit_several():
    limiter = RateLimiter(600)
    limiter.refused(NOON, NOON + 30)
    pacing = WavePacing(limiter, 3.1)
    assert pacing.submits_now(NOON + 31, 100) == 1
    assert pacing.submits_now(NOON + 31, 100, within=5) == 51


@pytest.mark.parametrize("limit", [0.5, 1, 2])
def test_below_the_requests_of_one_job_a_submit_waits_until_those_of_the_last_had_their_slots(limit):
    limiter = RateLimiter(limit)
    assert WavePacing(limiter, 3.0).submits_now(NOON, 100) == 1
    assert take(limiter)
    pacing = WavePacing(limiter, 3.0, [(NOON, 1)])
    opens = pacing.opens_at(NOON + 1)
    assert opens == NOON + 1 + 61 * 3 / limit
    assert pacing.submits_now(opens - 1, 100) == 0
    assert pacing.submits_now(opens, 100) == 1


def test_at_50_requests_a_minute_15_jobs_are_submitted_a_minute_and_with_the_history_43():
    assert WavePacing(RateLimiter(50), 3.1).submits_now(NOON, 100) * 60 / 61 >= 15
    assert WavePacing(RateLimiter(50), 1.1).submits_now(NOON, 100) * 60 / 61 >= 43
