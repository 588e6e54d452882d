"""Requests that wait for the rate limit: who stands before whom, who leaves, and what many cost."""

from __future__ import annotations

import asyncio
import itertools
import threading

import pytest

from airflow_provider_segmind.api.gateway import get, run_sync, submit, wait_for_slot
from airflow_provider_segmind.api.operation import Pause
from airflow_provider_segmind.api.polling import watch
from airflow_provider_segmind.api.rate_limit import ASK_AGAIN, GRACE, WINDOW, RateLimiter
from airflow_provider_segmind.exceptions import SegmindRateLimitError

from .limiting import (
    estimate,
    fullest_window,
    keep_asking,
    limiter_without_a_free_slot,
    patient_submit,
    poll,
    responses,
    take,
    waiting,
)
from .world import MODEL, NOON, World, queued, response

# ------------------------------------------------------------------ submits and polls


def test_submits_that_wait_go_before_all_polls_and_each_kind_in_the_order_of_its_arrival():
    world = World(limiter=limiter_without_a_free_slot(5))
    polls = [poll(world, f"r{n}") for n in range(4)]
    submits = [patient_submit(world) for _ in range(3)]
    world.run_all([*polls, *submits], responses)
    assert [request.method for request in world.requests] == ["POST"] * 3 + ["GET"] * 4
    assert [request.url.split("/")[-2] for request in world.requests[3:]] == ["r0", "r1", "r2", "r3"]


def test_the_synchronous_call_goes_before_polls_as_well():
    world = World(limiter=limiter_without_a_free_slot(5))

    def serve(request):
        return response(200, b"image", content_type="image/png") if request.method == "POST" else responses(request)

    world.run_all([poll(world), poll(world), run_sync(world.api, MODEL, {})], serve)
    assert [request.method for request in world.requests] == ["POST", "GET", "GET"]


def test_a_submit_does_not_count_the_polls_that_wait():
    world = World(limiter=limiter_without_a_free_slot(5))
    for _ in range(100):
        waiting(world.api.limiter)
    world.clock.now = NOON + 56
    assert world.api.limiter.next_free(world.clock()) == NOON + 60
    world.run(submit(world.api, MODEL, {}), [queued()])
    assert world.times == [NOON + 60]


def test_a_request_that_waits_for_another_process_stands_in_line_with_the_polls():
    world = World(limiter=limiter_without_a_free_slot())
    ends = []

    def elsewhere():
        yield from wait_for_slot(world.api)
        ends.append(world.clock())

    world.run_all([elsewhere(), poll(world), patient_submit(world)], responses)
    assert [request.method for request in world.requests] == ["POST", "GET"]
    assert world.times[0] < ends[0] < world.times[1]


def test_submits_go_before_polls_between_coroutines_of_one_event_loop():
    limiter, order = limiter_without_a_free_slot(), []
    clock = itertools.count(NOON, 0.1).__next__

    async def ask(name, *, submit):
        ticket = limiter.ticket(submit=submit)
        while True:
            if limiter.take(ticket, clock()) is None:
                order.append(name)
                return
            await asyncio.sleep(0)

    async def main():
        await asyncio.gather(
            ask("poll", submit=False), ask("submit", submit=True), ask("poll", submit=False), ask("submit", submit=True)
        )

    asyncio.run(main())
    assert order == ["submit", "submit", "poll", "poll"]


def test_submits_go_before_polls_between_threads():
    limiter, order = limiter_without_a_free_slot(), []
    same_second = threading.Barrier(6)

    def ask(name):
        ticket, waits = limiter.ticket(submit=name == "submit"), True
        for second in range(6 * 60 + 1):
            same_second.wait()
            if waits and limiter.take(ticket, NOON + second) is None:
                order.append(name)
                waits = False

    threads = [threading.Thread(target=ask, args=(name,)) for name in ("poll", "submit") * 3]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert order == ["submit"] * 3 + ["poll"] * 3


# ------------------------------------------------------------------ who leaves, who is late


def test_a_poll_whose_slot_would_come_too_late_leaves_the_line():
    world = World(limiter=limiter_without_a_free_slot())
    operation = get(world.api, "https://api.segmind.com/", "a poll", lambda _: None, until=NOON + 90, attempts=1)
    world.clock.now += next(operation).seconds
    waiting(world.api.limiter, world.clock(), submit=True)  # is given the slot that the poll has waited for
    with pytest.raises(SegmindRateLimitError) as caught:
        next(operation)
    assert caught.value.reset_at == NOON + 120
    assert estimate(world.api.limiter, world.clock()) == NOON + 120  # behind the submit only


@pytest.mark.parametrize("end", ["close", "throw"])
def test_an_operation_that_is_given_up_leaves_the_line(end):
    world = World(limiter=limiter_without_a_free_slot())
    given_up, other = poll(world), poll(world)
    next(given_up)
    next(other)
    if end == "close":
        given_up.close()
    else:
        with pytest.raises(KeyboardInterrupt):
            given_up.throw(KeyboardInterrupt())
    assert estimate(world.api.limiter) == NOON + 120  # behind the other one only


def test_thousands_that_are_given_up_hold_up_the_one_behind_them_for_a_minute_at_most():
    world = World(limiter=RateLimiter(60))
    ahead = [poll(world) for _ in range(2000)]
    assert sum(isinstance(next(operation), Pause) for operation in ahead) == 2000 - 60
    last = poll(world)
    step = next(last)
    for operation in ahead:
        operation.close()
    world.clock.now = NOON + step.seconds
    while isinstance(step := next(last), Pause):
        world.clock.now += step.seconds
    assert step.method == "GET"
    assert world.clock() <= NOON + WINDOW + ASK_AGAIN


def test_a_free_slot_goes_to_who_asks_while_those_ahead_pause_for_longer():
    limiter = limiter_without_a_free_slot()
    first, _ = waiting(limiter)
    waiting(limiter)
    limiter.leave(first)  # the second still believes that it has to wait for two minutes
    assert take(limiter, NOON + 119.9)


def test_a_free_slot_is_kept_for_the_first_in_line_until_it_is_late():
    limiter = limiter_without_a_free_slot()
    first, moment = waiting(limiter)
    assert keep_asking(limiter, first, moment, NOON + 60) == NOON + 60
    assert not take(limiter, NOON + 60)
    assert not take(limiter, NOON + 60 + GRACE)
    assert take(limiter, NOON + 60 + GRACE + 0.1)


def test_a_late_request_gets_its_place_in_line_back():
    limiter = limiter_without_a_free_slot()
    late, _ = waiting(limiter)
    other, _ = waiting(limiter)
    assert limiter.take(other, NOON + 90) is None  # the first one has not asked in time
    behind, _ = waiting(limiter, NOON + 90)
    keep_asking(limiter, late, NOON + 91, NOON + 150)
    assert limiter.take(behind, NOON + 150) is not None
    assert limiter.take(late, NOON + 150) is None


def test_a_slot_that_is_used_a_little_late_does_not_delay_the_next():
    world = World(limiter=limiter_without_a_free_slot(60))
    tickets = [waiting(world.api.limiter)[0] for _ in range(3)]
    asks_at = (NOON + 60, NOON + 61.9, NOON + 62)
    assert [world.api.limiter.take(*ask) for ask in zip(tickets, asks_at, strict=True)] == [None] * 3


def test_slots_that_nobody_has_used_are_not_saved_up():
    limiter = RateLimiter()
    limiter.close_until(NOON + 30)
    assert take(limiter, NOON + 50)
    assert not take(limiter, NOON + 51)


def test_in_the_minute_after_a_reset_slots_are_spaced_although_nobody_waits():
    limiter = RateLimiter(60)
    limiter.close_until(NOON + 30)
    assert [take(limiter, NOON + 30 + n / 2) for n in range(5)] == [True, False, True, False, True]
    assert [take(limiter, NOON + 90 + n / 2) for n in range(5)] == [True] * 5


def test_an_estimate_counts_how_unevenly_the_last_minute_was_used():
    limiter = RateLimiter(3)
    assert [take(limiter, at) for at in (NOON, NOON + 50, NOON + 50)] == [True] * 3
    waiting(limiter, NOON + 50)
    assert estimate(limiter, NOON + 50) == NOON + 110


# ------------------------------------------------------------------ many


def test_ten_thousand_waiting_requests_ask_once_a_minute_and_once_more():
    world = World(limiter=RateLimiter(600))
    world.run_all([poll(world) for _ in range(10_000)], responses)
    assert len(world.times) == 10_000
    assert fullest_window(world.times[::100]) <= 6
    assert world.times[-1] - NOON <= 10_000 / 600 * 60
    waited = sum(at - NOON for at in world.times)
    assert len(world.pauses) <= waited / (ASK_AGAIN / 2) + 10_000


def test_ten_thousand_waits_at_a_limit_of_one_request_a_minute_end_at_their_deadline():
    world, ends = World(limiter=RateLimiter(1)), []

    def wait(n):
        yield from watch(world.api, f"r{n}", MODEL, submitted_at=NOON, deadline=NOON + 300)
        ends.append(world.clock())

    world.run_all([wait(n) for n in range(10_000)], responses)
    assert len(ends) == 10_000
    assert max(ends) <= NOON + 300 + 10


def test_submits_that_arrive_all_the_time_make_no_poll_outlast_its_deadline():
    world, ends = World(limiter=RateLimiter(10)), []

    def wait(n):
        yield from watch(world.api, f"r{n}", MODEL, submitted_at=NOON, deadline=NOON + 100)
        ends.append(world.clock())

    world.run_all([*(wait(n) for n in range(50)), *(patient_submit(world) for _ in range(100))], responses)
    assert max(ends) <= NOON + 100 + 10
    assert len(world.posts) == 100
