"""
When a job is polled.

The acceptance figures compare with the optimum that ``benchmarks.poll_schedule`` computes without the package. They are
sums over the true distribution of job times; only the jobs learnt from are random, with fixed seeds.
"""

from __future__ import annotations

import itertools
import random
import threading

import pytest

from airflow_provider_segmind.api import poll_schedule
from airflow_provider_segmind.api.job_times import learn
from airflow_provider_segmind.api.poll_schedule import (
    MAX_INTERVAL,
    MIN_INTERVAL,
    PUBLISHED_SECONDS,
    REQUEST_COST,
    WAVE_REQUEST_COST,
    LatencyMemory,
    PollSchedule,
)
from benchmarks.poll_schedule import (
    best_point,
    cost_ratio,
    follow,
    learnt_from,
    lognormal,
    mean_point,
    official_client,
    optimum,
    polls_of,
    two_lumps,
)

from .world import MODEL

PUBLISHED = PUBLISHED_SECONDS[MODEL]
SIGMAS = [0.05, 0.15, 0.3, 0.6]


def ratio_after(law, jobs, draws=20):
    return cost_ratio(law, mean_point(law, lambda seen: polls_of(learnt_from(seen)), jobs, draws))


def first(memory, model=MODEL):
    return memory.next_poll(model, 0)


@pytest.mark.parametrize("sigma", SIGMAS)
@pytest.mark.parametrize("median", [2.4, 12, 60])
def test_after_30_jobs_the_cost_is_within_5_percent_of_the_optimum(median, sigma):
    assert ratio_after(lognormal(median, sigma), 30) <= 1.05


@pytest.mark.parametrize("sigma", [0.05, 0.15])
@pytest.mark.parametrize("share", [0.8, 0.7, 0.5])
def test_after_100_jobs_of_two_durations_the_cost_is_within_10_percent_of_the_optimum(share, sigma):
    assert ratio_after(two_lumps(share, sigma), 100, draws=10) <= 1.10


@pytest.mark.parametrize("model", [MODEL, "unknown", None])
@pytest.mark.parametrize(("sigma", "most"), [(0.05, 5.5), (0.15, 3), (0.3, 2.1), (0.6, 1.9)])
@pytest.mark.parametrize("scale", [0.2, 0.3, 0.5, 0.7, 1, 1.5, 2, 3, 5])
def test_the_cost_of_a_first_job_is_bounded_if_its_model_is_up_to_5_times_off(scale, sigma, most, model):
    law = lognormal(PUBLISHED * scale, sigma)
    assert cost_ratio(law, follow(law, polls_of(LatencyMemory(), model))) <= most


@pytest.mark.parametrize("model", [MODEL, "unknown", None])
@pytest.mark.parametrize("sigma", SIGMAS)
@pytest.mark.parametrize("scale", [0.2, 1, 5])
def test_a_first_job_needs_at_most_half_as_many_polls_as_with_the_official_client(scale, sigma, model):
    law = lognormal(PUBLISHED * scale, sigma)
    assert follow(law, polls_of(LatencyMemory(), model)).polls <= follow(law, official_client()).polls / 2


@pytest.mark.parametrize(("scale", "most_polls", "most_lag"), [(0.2, 3, 9), (1 / 1.5, 3, 4), (1.5, 12, 2), (5, 25, 4)])
def test_when_jobs_change_their_pace_the_schedule_follows_within_60_jobs(scale, most_polls, most_lag):
    before, after = lognormal(PUBLISHED, 0.15), lognormal(PUBLISHED * scale, 0.15)
    dice = random.Random(7)
    memory = learnt_from(before.draw(dice, 100))
    for seconds in after.draw(dice, 60):
        point = follow(after, polls_of(memory))
        assert point.polls <= most_polls
        assert point.lag <= most_lag
        memory.observe(MODEL, seconds)
    assert cost_ratio(after, follow(after, polls_of(memory))) <= 1.2


def test_the_published_time_is_read_when_it_is_needed(monkeypatch):
    memory = LatencyMemory()
    for published in (0.3, 100.0):
        monkeypatch.setitem(PUBLISHED_SECONDS, MODEL, published)
        assert published / 10 < first(memory) < published * 1.5


def test_each_model_has_a_schedule_of_its_own():
    memory = LatencyMemory()
    before = first(memory)
    for _ in range(60):
        memory.observe("other", 100.0)
    assert first(memory) == before
    assert 80 < first(memory, "other") < 110


@pytest.mark.parametrize("seconds", [None, 0, -5, 1e9, float("nan"), float("inf")])
def test_senseless_job_times_are_ignored(seconds):
    memory = LatencyMemory()
    memory.observe(MODEL, seconds)
    assert first(memory) == first(LatencyMemory())


def test_a_job_of_an_unknown_model_teaches_nothing():
    memory = LatencyMemory()
    memory.observe(None, 100.0)
    assert first(memory, None) == first(LatencyMemory(), None)


@pytest.mark.parametrize("running", [0, 0.1, 5, 11.9, 14, 60, 100, 1e5, 1e9])
@pytest.mark.parametrize("jobs", [[], [0.01], [12.0] * 30, [8.0] * 50 + [40.0] * 10, [86_400.0] * 5])
@pytest.mark.parametrize("cost", [1e-6, REQUEST_COST, 1000])
def test_polls_are_at_least_the_least_interval_apart_and_at_most_the_greatest_for_overdue_jobs(jobs, cost, running):
    schedule = PollSchedule(learn(jobs), cost)
    delay = schedule.next_poll(running) - running
    assert delay >= MIN_INTERVAL * 0.99
    assert delay <= MAX_INTERVAL * 1.01 or running + delay <= schedule.latest


def test_a_job_long_overdue_is_polled_at_growing_intervals():
    memory = learnt_from([12.0] * 30)
    delays = [memory.next_poll(MODEL, running) - running for running in (20, 60, 300, 1000, 3600, 36_000)]
    assert delays == sorted(delays)
    assert delays[0] < 6
    assert delays[-1] == MAX_INTERVAL


@pytest.mark.parametrize("jobs", [[12.0], [12.0] * 30, [8.0] * 50 + [40.0] * 10])
def test_the_next_poll_is_never_earlier_for_a_job_that_was_seen_running_later(jobs):
    memory = learnt_from(jobs)
    polls = [memory.next_poll(MODEL, running / 10) for running in range(2000)]
    assert all(later >= earlier - MIN_INTERVAL for earlier, later in itertools.pairwise(polls))


def test_between_two_lumps_of_job_times_no_poll_is_made():
    memory = learnt_from([8.0, 8.1, 7.9, 40.0, 40.4, 39.6] * 10)
    assert memory.next_poll(MODEL, 12.0) > 35


@pytest.mark.parametrize("cost", [0.05, 0.25, 1.0, 4.0])
def test_the_schedule_for_a_law_is_its_optimum_at_every_price_of_a_request(cost):
    law = lognormal(12, 0.3)
    learnt = learn(law.draw(random.Random(7), 5000))
    schedule = PollSchedule(learnt, cost)

    def polls():
        time = 0.0
        while True:
            time = schedule.next_poll(time)
            yield time

    assert follow(law, polls()).cost(cost) <= 1.01 * best_point(law, cost).cost(cost)


def test_where_lag_costs_nothing_a_job_is_polled_once_when_it_is_almost_certainly_over():
    law = lognormal(60, 0.15)
    schedule = PollSchedule(learn(law.draw(random.Random(7), 60)), 1000)
    assert law.survival(schedule.next_poll(0)) < 0.01


def wave_polls(memory, model=MODEL):
    """Yield the poll times of a job of a batch."""
    time = 0.0
    while True:
        time = memory.next_poll(model, time, WAVE_REQUEST_COST)
        yield time


@pytest.mark.parametrize("jobs", [0, 1, 3, 10, 30, 60])
def test_a_job_of_a_batch_is_polled_hardly_more_than_once(jobs):
    law = lognormal(12, 0.15)
    point = mean_point(law, lambda seen: wave_polls(learnt_from(seen)), jobs, draws=20)
    assert point.polls <= 1.10
    assert point.lag <= 8


@pytest.mark.parametrize("scale", [0.2, 1, 5])
def test_a_first_job_of_a_batch_is_noticed_in_time_if_its_model_is_up_to_5_times_off(scale):
    law = lognormal(PUBLISHED * scale, 0.15)
    point = follow(law, wave_polls(LatencyMemory()))
    assert point.polls <= 5
    assert point.lag <= max(20, 0.5 * law.mean)


def test_single_jobs_and_jobs_of_a_batch_share_what_was_learned():
    memory = learnt_from([40.0] * 30)
    single, batch = memory.next_poll(MODEL, 0), memory.next_poll(MODEL, 0, WAVE_REQUEST_COST)
    assert 35 < single < batch < 60


def test_the_optimum_of_the_benchmark_is_better_than_schedules_near_it():
    law = lognormal(12, 0.15)
    best = best_point(law).cost()
    for stretch in (0.9, 0.97, 1.03, 1.1):
        assert follow(law, (time * stretch for time in optimum(law))).cost() > best


def test_few_new_jobs_leave_the_schedule_and_surprising_ones_change_it_soon():
    memory = learnt_from(lognormal(12, 0.15).draw(random.Random(7), 60))
    for _ in range(9):
        memory.observe(MODEL, 12.0)
    before = memory._schedule(MODEL)
    memory.observe(MODEL, 12.0)
    assert memory._schedule(MODEL) is before
    memory.observe(MODEL, 2.0)
    memory.observe(MODEL, 2.0)
    assert memory._schedule(MODEL) is not before


def test_only_the_newest_jobs_are_remembered():
    memory = learnt_from([100.0] * 500 + [12.0] * (poll_schedule.WINDOW + 20))
    assert memory._schedule(MODEL).latest < 50


def test_threads_share_a_memory():
    memory = LatencyMemory()

    def work():
        for n in range(300):
            memory.observe(MODEL, 10.0 + n % 5)
            memory.next_poll(MODEL, n % 30)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 8 < first(memory) < 15
