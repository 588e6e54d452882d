"""The rate limiter: which request goes when."""

from __future__ import annotations

import threading

import pytest

from airflow_provider_segmind.api.gateway import submit, wait_for_slot
from airflow_provider_segmind.api.operation import Request, send
from airflow_provider_segmind.api.polling import watch
from airflow_provider_segmind.api.rate_limit import WINDOW, RateLimiter
from airflow_provider_segmind.exceptions import SegmindRateLimitError

from .world import MODEL, NOON, World, always, error, queued, status


def fullest_window(times):
    return max(sum(start <= at < start + WINDOW for at in times) for start in times)


def ask(world):
    yield from wait_for_slot(world.api)
    yield from send(Request("GET", "https://api.segmind.com/"))


@pytest.mark.parametrize("limit", [1, 5, 50])
def test_no_sliding_minute_holds_more_requests_than_the_limit(limit):
    world = World(limiter=RateLimiter(limit))
    times = world.run_all([ask(world) for _ in range(limit * 4)], always(queued()))
    assert fullest_window(times) == limit
    assert times[-1] - NOON <= 4 * WINDOW


@pytest.mark.parametrize("limit", [0.5, 0.25, 1.5, 2.5])
def test_a_fraction_of_a_request_a_minute_is_kept_by_even_spacing(limit):
    world = World(limiter=RateLimiter(limit))
    times = world.run_all([ask(world) for _ in range(6)], always(queued()))
    assert times == [pytest.approx(NOON + n * 60 / limit) for n in range(6)]


def test_a_limit_of_half_a_request_lets_the_second_submit_go_two_minutes_later():
    world = World(limiter=RateLimiter(0.5))
    world.run(submit(world.api, MODEL, {}), [queued()])
    with pytest.raises(SegmindRateLimitError) as caught:
        world.run(submit(world.api, MODEL, {}), [])
    assert caught.value.reset_at == NOON + 120


def test_a_slot_later_than_its_latest_use_is_not_taken():
    limiter = RateLimiter(1)
    limiter.reserve(NOON)
    assert limiter.reserve(NOON, latest=NOON + 59) == NOON + 60
    assert limiter.reserve(NOON, latest=NOON + 60) == NOON + 60
    assert limiter.next_free(NOON) == NOON + 120


def test_without_a_limit_no_request_waits(world):
    assert set(world.run_all([ask(world) for _ in range(100)], always(queued()))) == {NOON}


def test_requests_that_wait_for_a_reset_go_one_after_another(world):
    world.api.limiter.close_until(NOON + 30)
    times = world.run_all([ask(world) for _ in range(60)], always(queued()))
    assert times[0] == NOON + 30
    assert fullest_window(times) <= 50


def test_jobs_that_met_the_429_themselves_go_one_after_another_too(world):
    def serve(request):
        return error(429, retry_after="60") if world.clock() < NOON + 60 else status("FAILED")

    watches = [
        watch(world.api, f"r{n}", MODEL, submitted_at=NOON, deadline=NOON + 600, poll_interval=1) for n in range(100)
    ]
    limiter = world.api.limiter
    limiter.close_until = lambda moment, close=limiter.close_until: world.clock() > NOON + 0.99 and close(moment)
    times = world.run_all(watches, serve)
    assert fullest_window([at for at in times if at > NOON + 30]) <= 51


def test_a_429_holds_back_requests_that_already_wait_for_a_slot():
    world = World(limiter=RateLimiter(5))
    for _ in range(5):
        world.api.limiter.reserve(NOON)
    operation = wait_for_slot(world.api)
    world.clock.now += next(operation).seconds
    world.api.limiter.close_until(world.clock() + 100)
    assert next(operation).seconds >= 100


def test_asking_for_the_next_slot_does_not_take_it():
    limiter = RateLimiter(1)
    assert [limiter.next_free(NOON) for _ in range(3)] == [NOON] * 3
    assert [limiter.reserve(NOON) for _ in range(3)] == [NOON, NOON + 60, NOON + 120]


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
    limiter, slots = RateLimiter(10), []

    def take():
        slots.extend(limiter.reserve(NOON) for _ in range(50))

    threads = [threading.Thread(target=take) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(slots) == 400
    assert fullest_window(sorted(slots)) == 10
