"""Threads for the inputs of a batch."""

from __future__ import annotations

import threading
from contextvars import ContextVar

import pytest

from airflow_provider_segmind.jobs.batch_threads import each_in_threads

READINGS: ContextVar[dict] = ContextVar("readings")


def feed(*things):
    left = list(things)
    return lambda: left.pop(0) if left else None


def test_each_thing_is_worked_on_once():
    assert sorted(each_in_threads(lambda n: n * n, feed(1, 2, 3, 4, 5), 2)) == [
        (1, 1),
        (2, 4),
        (3, 9),
        (4, 16),
        (5, 25),
    ]


def test_no_more_are_under_way_than_there_are_threads():
    at_once = threading.Barrier(3)
    under_way, most = [], []

    def work(thing):
        under_way.append(thing)
        most.append(len(under_way))
        at_once.wait(5)
        under_way.remove(thing)

    list(each_in_threads(work, feed(*range(9)), 3))

    assert max(most) == 3


def test_an_exception_is_what_came_of_its_thing_and_does_not_stop_the_others():
    def work(thing):
        if thing == 2:
            raise ValueError("two")
        return thing

    outcomes = dict(each_in_threads(work, feed(1, 2, 3), 1))

    assert (outcomes[1], outcomes[3], str(outcomes[2])) == (1, 3, "two")


def test_what_ends_the_process_is_raised():
    def work(thing):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(each_in_threads(work, feed(1), 1))


def test_the_next_thing_is_asked_for_again_when_one_is_done():
    released = iter([1, None, 2, None, None])

    assert [thing for thing, _ in each_in_threads(str, lambda: next(released), 2)] == [1, 2]


def test_the_threads_share_what_the_caller_has_read():
    READINGS.set({})

    list(each_in_threads(lambda thing: READINGS.get().setdefault("aws", thing), feed("first", "second"), 1))

    assert READINGS.get() == {"aws": "first"}


def test_what_is_under_way_is_waited_for_when_the_caller_leaves():
    started, done = threading.Event(), []

    def work(thing):
        if thing == 2:
            started.wait(5)
            done.append(thing)

    outcomes = each_in_threads(work, feed(1, 2), 2)
    next(outcomes)
    started.set()
    outcomes.close()

    assert done == [2]
