"""The rate limiter: which request goes when."""

from __future__ import annotations

import asyncio
import itertools
import threading

import pytest

from airflow_provider_segmind.api.gateway import get, run_sync, submit, wait_for_slot
from airflow_provider_segmind.api.operation import Pause
from airflow_provider_segmind.api.polling import get_status, watch
from airflow_provider_segmind.api.rate_limit import ASK_AGAIN, GRACE, WINDOW, RateLimiter
from airflow_provider_segmind.exceptions import SegmindRateLimitError

from .world import MODEL, NOON, World, error, queued, response, status


def fullest_window(times):
    return max(sum(start <= at < start + WINDOW for at in times) for start in times)


def poll(world, request_id="r", **options):
    yield from get_status(world.api, request_id, until=NOON + 10**6, **options)


def patient_submit(world):
    yield from submit(world.api, MODEL, {}, patience=10**6)


def take(limiter, at=NOON, **options):
    """Take a slot without waiting, as the only one who asks; return whether there was one."""
    ticket = limiter.ticket()
    granted = limiter.take(ticket, at, **options) is None
    limiter.leave(ticket)
    return granted


def waiting(limiter, at=NOON, *, submit=False):
    """Return a ticket that stands in the queue, and the moment at which it has to ask again."""
    ticket = limiter.ticket(submit=submit)
    moment = limiter.take(ticket, at)
    assert moment is not None
    return ticket, moment


def estimate(limiter, at=NOON):
    """Return the slot that a new poll would get, without waiting for it."""
    return limiter.take(limiter.ticket(), at, latest=at)


def keep_asking(limiter, ticket, moment, until):
    """Ask again whenever the limiter says so, and return the first such moment that is not before another."""
    while moment < until:
        moment = limiter.take(ticket, moment)
    return moment


def limiter_without_a_free_slot(limit=1):
    """Return a limiter whose slots were all granted at noon."""
    limiter = RateLimiter(limit)
    assert all(take(limiter) for _ in range(limit))
    return limiter


def responses(request):
    return queued() if request.method == "POST" else status("PROCESSING")


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
