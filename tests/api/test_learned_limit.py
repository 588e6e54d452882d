"""The limit that is learned from 429s where none is configured."""

from __future__ import annotations

import pytest

from airflow_provider_segmind.api.gateway import wait_for_slot
from airflow_provider_segmind.api.learned_limit import (
    FIRST_LIMIT,
    LEARNED_WINDOW,
    MAX_RAISE_AFTER,
    RAISE_AFTER,
    LearnedLimit,
)
from airflow_provider_segmind.api.polling import get_status
from airflow_provider_segmind.api.rate_limit import RateLimiter
from benchmarks.rate_limit import Account, Simulation, simulate

from .world import NOON, World, error, status


def refused_after(accepted, learned=None, at=NOON):
    """Return what is learned from a 429 after some accepted requests within a minute."""
    learned = learned or LearnedLimit()
    for n in range(accepted):
        learned.accepted(at - 59 + 59 * n / accepted)
    learned.refused(at, at + 60)
    return learned


def raised(learned, at):
    """Return the value after a request had to wait for it, at some time."""
    learned.held_back()
    learned.raise_if_due(at)
    return learned.value


def test_without_a_429_there_is_no_limit():
    learned = LearnedLimit()
    for _ in range(1000):
        learned.accepted(NOON)
    assert raised(learned, NOON + 10**6) is None


@pytest.mark.parametrize("accepted", [30, 50, 600])
def test_the_limit_is_what_was_accepted_in_the_minute_before_the_429(accepted):
    assert refused_after(accepted).value == accepted


def test_what_was_accepted_more_than_a_minute_ago_does_not_count():
    learned = LearnedLimit()
    for _ in range(500):
        learned.accepted(NOON - 61)
    assert refused_after(40, learned).value == 40


@pytest.mark.parametrize("accepted", [0, 1, 5])
def test_one_minutes_429s_reduce_the_limit_by_half_at_most(accepted):
    learned = refused_after(accepted)
    assert learned.value == FIRST_LIMIT // 2
    learned.refused(NOON + 20, NOON + 21)  # of the same minute
    assert learned.value == FIRST_LIMIT // 2
    assert refused_after(accepted, learned, NOON + 70).value == FIRST_LIMIT // 4


def test_a_process_alone_on_the_free_plan_has_its_five_requests_after_four_refused_minutes():
    learned = LearnedLimit()
    values = [refused_after(5, learned, NOON + 70 * minute).value for minute in range(6)]
    assert values == [25, 12, 6, 5, 5, 5]


def test_a_process_that_is_always_refused_keeps_one_request_a_minute():
    learned = LearnedLimit()
    assert [refused_after(0, learned, NOON + 70 * minute).value for minute in range(8)][-3:] == [1, 1, 1]


def test_a_429_never_raises_the_limit():
    learned = refused_after(40)
    assert refused_after(100, learned, NOON + 100).value == 40


def test_a_limit_is_raised_by_a_tenth_after_three_minutes_without_a_429():
    learned = refused_after(50)
    reset = NOON + 60
    assert raised(learned, reset + RAISE_AFTER - 1) == 50
    assert raised(learned, reset + RAISE_AFTER) == 55


def test_the_raises_grow_while_no_429_answers_them():
    learned = refused_after(50)
    steps = [raised(learned, NOON + 60 + n * RAISE_AFTER) for n in range(1, 7)]
    assert steps == [55, 66, 92, 165, 297, 534]


def test_a_limit_that_no_request_has_reached_is_not_raised():
    learned = refused_after(50)
    learned.raise_if_due(NOON + 10**6)
    assert learned.value == 50


def test_a_limit_that_no_request_has_reached_since_its_last_raise_is_not_raised_again():
    learned = refused_after(50)
    assert raised(learned, NOON + 1000) == 55
    learned.raise_if_due(NOON + 10**6)
    assert learned.value == 55


def test_a_request_that_waits_for_a_reset_does_not_count_as_held_back_by_the_limit():
    limiter = RateLimiter()
    limiter.refused(NOON, NOON + 60)
    ticket = limiter.ticket()
    assert limiter.take(ticket, NOON + 1) is not None
    limiter.leave(ticket)
    assert limiter.take(limiter.ticket(), NOON + 10**4) is None
    assert limiter.requests_per_minute == FIRST_LIMIT // 2


def test_each_raise_that_is_refused_doubles_the_time_before_the_next():
    learned, at, times = refused_after(50), NOON, []
    for _ in range(6):
        began = at + 60  # the reset
        at = next(t for t in range(int(began), int(began) + 5000) if raised(learned, t) > 50)
        times.append(at - began)
        at += 60
        refused_after(50, learned, at)
    assert times == [RAISE_AFTER * 2**n for n in range(3)] + [MAX_RAISE_AFTER] * 3


def test_the_429_of_another_process_shows_that_there_is_a_limit_and_changes_none():
    learned = LearnedLimit()
    learned.refused_elsewhere(NOON, NOON + 60)
    assert learned.value == FIRST_LIMIT
    learned.refused_elsewhere(NOON + 70, NOON + 130)
    assert learned.value == FIRST_LIMIT


def test_a_process_that_sends_much_is_not_held_to_the_first_limit_by_anothers_429():
    learned = LearnedLimit()
    for _ in range(2000):
        learned.accepted(NOON)
    learned.refused_elsewhere(NOON, NOON + 60)
    assert learned.value == 2000


def test_a_learned_limit_is_kept_to_by_all_requests():
    world, accepted = World(), []

    def serve(request):
        minute = [at for at in accepted if at > world.clock() - 60]
        if len(minute) >= 30:
            return error(429, retry_after=str(minute[0] + 60 - world.clock()))
        accepted.append(world.clock())
        return status("PROCESSING")

    def poll():
        yield from get_status(world.api, "r", until=NOON + 10**6)

    world.run_all([poll() for _ in range(100)], serve)
    assert world.api.limiter.requests_per_minute == 30
    assert len(accepted) == 100
    assert len(world.requests) - len(accepted) == 1  # the 429 that the limit was learned from
    assert accepted[40] - accepted[39] == pytest.approx(LEARNED_WINDOW / 30)


def test_the_many_429s_in_flight_teach_no_more_than_the_first():
    limiter = RateLimiter()
    for _ in range(50):
        limiter.accepted(NOON)
    for n in range(300):
        limiter.refused(NOON + n / 10, NOON + 60)
    assert limiter.requests_per_minute == 50


def test_a_429_that_comes_long_after_the_first_and_before_its_reset_teaches_nothing():
    limiter = RateLimiter()
    limiter.refused(NOON, NOON + 3600)
    limiter.refused(NOON + 100, NOON + 3600)
    assert limiter.requests_per_minute == FIRST_LIMIT // 2


def test_a_slot_that_was_taken_for_another_process_counts_as_accepted():
    world = World()
    for _ in range(40):
        world.run(wait_for_slot(world.api))
    world.api.limiter.refused(NOON, NOON + 60)
    assert world.api.limiter.requests_per_minute == 40


@pytest.mark.parametrize("sliding", [True, False], ids=["sliding minutes", "fixed minutes"])
@pytest.mark.parametrize("processes", [1, 5])
def test_three_hundred_polling_jobs_meet_few_429s_in_an_hour_and_use_the_accounts_limit(sliding, processes):
    refused, share = simulate(50, sliding=sliding, processes=processes)
    assert refused <= 100
    assert share >= 0.95


def test_a_limit_that_was_shared_is_raised_when_the_account_has_more():
    account = Account(10, sliding=False)
    simulation = Simulation(account, [RateLimiter()], jobs=300)
    simulation.run(1800)
    account.limit = 100
    simulation.run(1800)
    account.accepted = 0
    simulation.run(600)
    assert account.accepted >= 0.85 * 100 * 10
