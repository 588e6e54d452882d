"""What processes that alternate on one account tell each other of its rate limit."""

from __future__ import annotations

import json
import random

import pytest

from airflow_provider_segmind.api.granted_slots import GrantedSlots
from airflow_provider_segmind.api.learned_limit import FIRST_LIMIT, LEARNED_WINDOW, RAISE_AFTER
from airflow_provider_segmind.api.rate_limit import ANSWERED_WITHIN, WINDOW, RateLimiter

from .limiting import fullest_window, keep_asking, take, waiting
from .world import NOON


def granted(limiter, count, at=NOON):
    """Take slots at once; return how many there were."""
    return sum(take(limiter, at) for _ in range(count))


def handed(limiter, at=NOON):
    """Return what a limiter hands over, after it has been written and read as JSON."""
    return json.loads(json.dumps(limiter.hand_over(at)))


def successor(limiter, at=NOON, limit=None):
    after = RateLimiter(limit)
    after.take_over(handed(limiter, at), at)
    return after


def test_the_next_process_has_only_the_slots_that_are_left():
    first = RateLimiter(10)
    granted(first, 7)
    second = successor(first, NOON + 1, limit=10)
    assert granted(second, 10, NOON + 1) == 3


def test_slots_that_were_handed_over_count_for_a_minute_and_no_more_than_a_second_longer():
    first = RateLimiter(10)
    granted(first, 10)
    second = successor(first, NOON + 5, limit=10)
    assert granted(second, 10, NOON + WINDOW) == 0
    assert granted(second, 10, NOON + WINDOW + 1) == 10


def test_the_same_hand_over_counts_once():
    first, second = RateLimiter(10), RateLimiter(10)
    granted(first, 3)
    for _ in range(5):
        second.take_over(handed(first), NOON)
    assert second.slots_free(NOON) == 7


def test_slots_that_come_back_to_the_process_that_was_granted_them_count_once():
    first = RateLimiter(10)
    granted(first, 3)
    first.take_over(handed(successor(first, limit=10)), NOON)
    assert first.slots_free(NOON) == 7


def test_a_later_hand_over_adds_only_what_is_new():
    first, second = RateLimiter(10), RateLimiter(10)
    granted(first, 3, NOON + 0.2)
    second.take_over(handed(first, NOON + 0.3), NOON + 0.3)
    granted(first, 2, NOON + 0.5)
    second.take_over(handed(first, NOON + 0.6), NOON + 0.6)
    assert second.slots_free(NOON + 0.6) == 5


def test_a_hand_over_that_arrives_after_a_later_one_changes_nothing():
    first, second = RateLimiter(10), RateLimiter(10)
    granted(first, 2, NOON + 0.2)
    early = handed(first, NOON + 0.3)
    granted(first, 2, NOON + 0.4)
    late = handed(first, NOON + 0.5)
    for value in (late, early, late):
        second.take_over(value, NOON + 0.6)
    assert second.slots_free(NOON + 0.6) == 6


def test_counts_that_are_too_old_to_matter_are_not_kept():
    slots = GrantedSlots()
    for second in range(10_000):
        slots.count(second, second - 60)
    assert len(slots.as_json(10_000)[slots.origin]) == 61


def test_slots_of_the_process_before_the_last_are_handed_on():
    first = RateLimiter(10)
    granted(first, 4)
    second = successor(first, limit=10)
    granted(second, 2, NOON + 10)
    assert successor(second, NOON + 20, limit=10).slots_free(NOON + 20) == 4


@pytest.mark.parametrize("limit", [10, 60, 0.5, 7.5])
def test_no_sliding_minute_over_alternating_processes_holds_more_than_the_limit(limit):
    dice = random.Random(7)
    now, times = NOON, []
    limiter = RateLimiter(limit)
    for _ in range(12):
        leaves = now + dice.uniform(5, 40)
        while now < leaves:
            times += [now] * granted(limiter, 5, now)
            now += dice.uniform(0.1, 3)
        limiter = successor(limiter, now, limit)
    assert fullest_window(times) <= max(limit, 1)


def test_a_reset_that_is_to_come_holds_back_the_next_process():
    first = RateLimiter(10)
    first.refused(NOON, NOON + 30)
    second = successor(first, NOON + 1, limit=10)
    assert second.next_free(NOON + 1) == NOON + 30
    assert second.slots_free(NOON + 29) == 0


def test_in_the_minute_after_a_reset_slots_are_evenly_spaced_in_the_next_process_too():
    first = RateLimiter(60)
    first.refused(NOON, NOON + 10)
    second = successor(first, NOON + 20, limit=60)
    assert granted(second, 5, NOON + 20) == 1


def test_a_limit_that_was_learned_is_known_to_the_next_process():
    first = RateLimiter()
    for _ in range(30):
        assert take(first, NOON)
        first.accepted(NOON)
    first.refused(NOON + 1, NOON + 20)
    second = successor(first, NOON + 2)
    assert second.requests_per_minute == first.requests_per_minute == 30


def test_a_429_that_another_process_meets_teaches_what_both_have_sent():
    worker = RateLimiter()
    granted(worker, 500)
    triggerer = successor(worker, NOON + 5)
    for _ in range(100):
        triggerer.accepted(NOON + 20)
    triggerer.refused(NOON + 21, NOON + 60)
    assert triggerer.requests_per_minute == 600


def test_newer_knowledge_of_the_limit_wins():
    old, new = RateLimiter(), RateLimiter()
    old.refused(NOON, NOON + 1)
    for _ in range(200):
        new.accepted(NOON + 70)
    new.refused(NOON + 70, NOON + 80)
    value = handed(old, NOON + 75)
    old.take_over(handed(new, NOON + 75), NOON + 75)
    new.take_over(value, NOON + 75)
    assert old.requests_per_minute == new.requests_per_minute == 200


def test_the_next_process_raises_a_learned_limit_when_the_first_would_have_raised_it():
    first = RateLimiter()
    first.refused(NOON, NOON + 60)
    learned = first.requests_per_minute
    assert [take(first, NOON + 100) for _ in range(2)] == [True, False]  # one has to wait because of the limit
    second = successor(first, NOON + 101)
    take(second, NOON + 60 + RAISE_AFTER - 1)
    assert second.requests_per_minute == learned
    take(second, NOON + 60 + RAISE_AFTER + 1)
    assert second.requests_per_minute > learned


def test_a_configured_limit_does_not_change_by_what_another_process_has_learned():
    first = RateLimiter()
    first.refused(NOON, NOON + 1)
    assert successor(first, NOON + 1, limit=600).requests_per_minute == 600


@pytest.mark.parametrize("limiters", [1, 3, 8])
def test_a_hand_over_is_less_than_2_kb(limiters):
    limiter = None
    chain = [RateLimiter() for _ in range(limiters)]
    for second in range(120):
        for limiter in chain:
            granted(limiter, 30, NOON + second)
            limiter.accepted(NOON + second)
    limiter.refused(NOON + 121, NOON + 150)
    for other in chain[:-1]:
        limiter.take_over(handed(other, NOON + 122), NOON + 122)
    assert len(json.dumps(limiter.hand_over(NOON + 122))) < 2048


@pytest.mark.parametrize(
    "value",
    [
        None,
        7,
        "text",
        [],
        {},
        {"at": "soon"},
        {"at": NOON, "slots": [1], "learned": 3, "closed_until": "x"},
        {"at": NOON, "slots": {"a": 1, "b": [1, None, [1], ["x", 2], [0, -5], [0, None]], 3: [[0, 9]]}},
        {"at": NOON, "learned": {"value": 0, "changed_at": 0}},
        {"at": NOON, "learned": {"value": 5}},
        {"at": NOON, "closed_until": NOON + 10**7},
        {"at": NOON - 10**6, "slots": {"a": [[0, 9]]}, "closed_until": NOON - 10**6},
        {"at": NOON + 10**6, "slots": {"a": [[0, 9]]}},
    ],
)
def test_a_hand_over_that_is_damaged_or_old_changes_nothing(value):
    limiter = RateLimiter()
    limiter.take_over(value, NOON)
    assert limiter.requests_per_minute is None
    limiter.configure(10)
    assert limiter.slots_free(NOON) == 10


def test_a_process_whose_clock_was_set_back_hands_over_times_of_the_new_clock():
    first = RateLimiter(10)
    granted(first, 4, NOON + 3600)
    granted(first, 3, NOON)
    assert successor(first, NOON + 1, limit=10).slots_free(NOON + 1) == 7


def test_who_waits_keeps_their_place_when_slots_of_another_process_come_in():
    first, second = RateLimiter(5), RateLimiter(5)
    granted(second, 5)
    early, moment = waiting(second, NOON)
    late, _ = waiting(second, NOON)
    granted(first, 2, NOON + 20)
    second.take_over(handed(first, NOON + 21), NOON + 21)
    keep_asking(second, early, moment, NOON + 60)
    assert second.take(late, NOON + 60) is not None
    assert second.take(early, NOON + 60) is None


def test_requests_of_this_process_are_counted():
    first = RateLimiter(10)
    granted(first, 20)
    second = successor(first)
    assert (first.sent, second.sent) == (10, 0)


# ------------------------------------------------------------------ free slots


def test_without_a_limit_the_number_of_free_slots_is_unknown():
    limiter = RateLimiter()
    assert limiter.slots_free(NOON) is None
    assert limiter.free_at(NOON, 500) == NOON


def test_free_slots_are_what_the_last_minute_leaves():
    limiter = RateLimiter(10)
    granted(limiter, 4)
    granted(limiter, 3, NOON + 20)
    assert [limiter.slots_free(NOON + 59, within=seconds) for seconds in (0, 1, 21)] == [3, 7, 10]
    assert [limiter.slots_free(NOON + at) for at in (59, 60, 80)] == [3, 7, 10]


def test_after_a_reset_as_many_slots_are_free_as_can_be_spaced_in_the_time_given():
    limiter = RateLimiter(60)
    limiter.refused(NOON, NOON + 10)
    assert limiter.slots_free(NOON + 9) == 0
    assert limiter.slots_free(NOON + 10) == 1
    assert limiter.slots_free(NOON + 10, within=20) == 21


@pytest.mark.parametrize(("requests", "at"), [(3, 20), (4, 60), (7, 60), (8, 80), (10, 80), (50, 80)])
def test_the_moment_at_which_so_many_may_go_is_when_enough_slots_are_a_minute_old(requests, at):
    limiter = RateLimiter(10)
    granted(limiter, 4)
    granted(limiter, 3, NOON + 20)
    assert limiter.free_at(NOON + 20, requests) == NOON + at


# ------------------------------------------------------------------ bursts


def test_a_process_that_expects_bursts_keeps_a_configured_limit_in_a_minute_of_61_seconds():
    limiter = RateLimiter(10)
    limiter.expect_bursts()
    granted(limiter, 10)
    assert not take(limiter, NOON + WINDOW)
    assert granted(limiter, 20, NOON + LEARNED_WINDOW) == 10


def test_while_no_limit_is_known_a_burst_goes_request_by_request():
    limiter = RateLimiter()
    limiter.expect_bursts(unanswered=2)
    assert granted(limiter, 5) == 2
    limiter.accepted(NOON + 0.1)
    assert granted(limiter, 5, NOON + 0.1) == 1


def test_a_request_that_is_never_answered_does_not_hold_back_the_others_for_long():
    limiter = RateLimiter()
    limiter.expect_bursts()
    assert take(limiter)
    assert not take(limiter, NOON + ANSWERED_WITHIN - 0.1)
    assert take(limiter, NOON + ANSWERED_WITHIN)


def test_a_limit_that_was_learned_is_not_kept_request_by_request():
    limiter = RateLimiter()
    limiter.expect_bursts()
    limiter.refused(NOON, NOON + 1)
    later = NOON + 100
    assert limiter.requests_per_minute == FIRST_LIMIT // 2
    assert granted(limiter, 30, later) == FIRST_LIMIT // 2
