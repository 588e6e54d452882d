"""The rate limiter: which request goes when."""

from __future__ import annotations

import threading

import pytest

from airflow_provider_segmind.api.gateway import submit, wait_for_slot
from airflow_provider_segmind.api.polling import watch
from airflow_provider_segmind.api.rate_limit import WINDOW, RateLimiter
from airflow_provider_segmind.exceptions import SegmindRateLimitError

from .limiting import (
    fullest_window,
    limiter_without_a_free_slot,
    poll,
    responses,
    take,
    waiting,
)
from .world import MODEL, NOON, World, error, queued, status


@pytest.mark.parametrize("limit", [1, 5, 50])
def test_no_sliding_minute_holds_more_requests_than_the_limit(limit):
    world = World(limiter=RateLimiter(limit))
    times = world.run_all([poll(world) for _ in range(limit * 4)], responses)
    assert fullest_window(times) == limit
    assert times[-1] - NOON <= 4 * WINDOW


@pytest.mark.parametrize("limit", [0.5, 0.25, 1.5, 2.5])
def test_a_fraction_of_a_request_a_minute_is_kept_by_even_spacing(limit):
    world = World(limiter=RateLimiter(limit))
    times = world.run_all([poll(world) for _ in range(6)], responses)
    assert times == [pytest.approx(NOON + n * 60 / limit) for n in range(6)]


def test_a_limit_of_half_a_request_lets_the_second_submit_go_two_minutes_later():
    world = World(limiter=RateLimiter(0.5))
    world.run(submit(world.api, MODEL, {}), [queued()])
    with pytest.raises(SegmindRateLimitError) as caught:
        world.run(submit(world.api, MODEL, {}), [])
    assert caught.value.reset_at == NOON + 120


def test_a_slot_later_than_its_latest_use_is_not_waited_for():
    limiter = limiter_without_a_free_slot()
    ticket = limiter.ticket()
    assert limiter.take(ticket, NOON, latest=NOON + 59) == NOON + 60
    assert limiter.next_free(NOON) == NOON + 60  # nobody stands in the queue
    assert NOON < limiter.take(ticket, NOON, latest=NOON + 60) <= NOON + 60


def test_without_a_limit_no_request_waits(world):
    assert set(world.run_all([poll(world) for _ in range(100)], responses)) == {NOON}


def test_requests_that_wait_for_a_reset_go_one_after_another(world):
    world.api.limiter.close_until(NOON + 30)
    times = world.run_all([poll(world) for _ in range(60)], responses)
    assert times[0] == NOON + 30
    assert fullest_window(times) <= 50


def test_jobs_that_met_the_429_themselves_go_one_after_another_too(world):
    def serve(request):
        return error(429, retry_after="60") if world.clock() < NOON + 60 else status("FAILED")

    watches = [
        watch(world.api, f"r{n}", MODEL, submitted_at=NOON, deadline=NOON + 600, poll_interval=1) for n in range(100)
    ]
    limiter = world.api.limiter
    limiter.refused = lambda *when, refused=limiter.refused: world.clock() > NOON + 0.99 and refused(*when)
    times = world.run_all(watches, serve)
    assert fullest_window([at for at in times if at > NOON + 30]) <= 51


def test_a_429_holds_back_requests_that_already_wait_for_a_slot():
    world = World(limiter=limiter_without_a_free_slot(5))
    operation = wait_for_slot(world.api)
    world.clock.now += next(operation).seconds
    world.api.limiter.close_until(world.clock() + 30)
    assert next(operation).seconds >= 30


def test_asking_for_the_next_slot_does_not_take_it():
    limiter = RateLimiter(1)
    assert [limiter.next_free(NOON) for _ in range(3)] == [NOON] * 3
    assert take(limiter)
    assert limiter.next_free(NOON) == NOON + 60


def test_an_earlier_reset_does_not_replace_a_later_one():
    limiter = RateLimiter()
    limiter.close_until(NOON + 100)
    limiter.close_until(NOON + 10)
    assert limiter.next_free(NOON) == NOON + 100


def test_a_submit_without_a_slot_soon_raises_with_the_time_of_the_next(world):
    world = World(limiter=RateLimiter(2))
    world.run(submit(world.api, MODEL, {}), [queued()])
    world.run(submit(world.api, MODEL, {}), [queued()])
    with pytest.raises(SegmindRateLimitError) as caught:
        world.run(submit(world.api, MODEL, {}), [])
    assert caught.value.reset_at == NOON + 60


def test_threads_never_share_a_slot():
    limiter, granted = RateLimiter(10), []

    def ask():
        granted.extend(take(limiter) for _ in range(50))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert granted.count(True) == 10


# ------------------------------------------------------------------ changes


@pytest.mark.parametrize("before", [None, 100, 1000.5])
def test_a_limit_that_is_configured_later_counts_the_slots_that_were_granted_before(before):
    limiter = RateLimiter(before)
    for n in range(10):
        assert take(limiter, NOON + n)
    limiter.configure(None)
    limiter.configure(10)
    assert limiter.next_free(NOON + 10) == NOON + 60


def test_requests_that_wait_keep_their_place_when_the_limit_changes():
    limiter = limiter_without_a_free_slot()
    first, _ = waiting(limiter)
    second, _ = waiting(limiter)
    limiter.configure(2)
    assert limiter.take(second, NOON + 1) is not None
    assert limiter.take(first, NOON + 30) is None


def test_without_a_limit_again_nobody_waits():
    limiter = limiter_without_a_free_slot()
    ticket, _ = waiting(limiter)
    limiter.configure(None)
    assert limiter.take(ticket, NOON + 1) is None


def test_a_configured_limit_stays_what_it_is_after_a_429():
    world = World(limiter=RateLimiter(100))
    with pytest.raises(SegmindRateLimitError):
        world.run(submit(world.api, MODEL, {}), [error(429, retry_after="30")])
    assert world.api.limiter.requests_per_minute == 100
    assert world.api.limiter.next_free(NOON + 1) == NOON + 30


def test_nothing_is_learned_from_429s_while_a_limit_is_configured():
    limiter = RateLimiter(100)
    limiter.refused(NOON, NOON + 1)
    limiter.close_until(NOON + 2)
    limiter.configure(None)
    assert limiter.requests_per_minute is None


def test_a_clock_that_is_set_back_does_not_stop_the_requests():
    limiter = limiter_without_a_free_slot(2)
    limiter.refused(NOON, NOON + 90)
    assert limiter.next_free(NOON - 3600) == NOON - 3600 + 90
    assert take(limiter, NOON - 3600 + 90)


def test_a_clock_that_is_set_forward_does_not_stop_the_requests():
    limiter = limiter_without_a_free_slot(2)
    ticket, _ = waiting(limiter)
    assert take(limiter, NOON + 86_400)
    assert limiter.take(ticket, NOON + 86_430) is None
