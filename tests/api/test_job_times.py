"""The law of job times that is learnt from observed jobs."""

from __future__ import annotations

import math
import random

import pytest

from airflow_provider_segmind.api.job_times import learn


def drawn(*lumps, seed=7):
    """Return job times of several lumps, each given by its number of jobs, its median and its sigma."""
    dice = random.Random(seed)
    return [median * dice.lognormvariate(0, sigma) for count, median, sigma in lumps for _ in range(count)]


def lumps(law):
    """Return the medians in seconds of the lumps that hold at least a twentieth of the jobs."""
    return [math.exp(lump.log_median) for lump in sorted(law.lumps, key=lambda x: x.log_median) if lump.weight > 0.05]


@pytest.mark.parametrize("seed", range(20))
def test_jobs_around_one_time_are_one_lump(seed):
    assert lumps(learn(drawn((60, 12, 0.15), seed=seed))) == pytest.approx([12], rel=0.1)


@pytest.mark.parametrize("sigma", [0.01, 0.05, 0.15, 0.3])
def test_jobs_around_two_times_are_two_lumps(sigma):
    assert lumps(learn(drawn((48, 8, sigma), (12, 40, sigma)))) == pytest.approx([8, 40], rel=0.2)


def test_jobs_around_three_times_are_three_lumps():
    assert lumps(learn(drawn((20, 2, 0.1), (20, 8, 0.1), (20, 40, 0.1)))) == pytest.approx([2, 8, 40], rel=0.1)


def test_equal_job_times_still_leave_room_for_a_scatter():
    law = learn([12.0] * 60)
    assert law.survival(11.5) > 0.9 > 0.1 > law.survival(12.5) > 0


def test_the_order_of_the_jobs_does_not_matter():
    jobs = drawn((20, 8, 0.15), (10, 40, 0.15))
    assert learn(jobs) == learn(jobs[::-1])


@pytest.mark.parametrize("published", [None, 0.3, 12.0])
@pytest.mark.parametrize("jobs", [[], [12.0], [3.0, 40.0], [5.0] * 60])
def test_a_law_is_a_distribution(jobs, published):
    law = learn(jobs, published)
    alive = [law.survival(1.1**n) for n in range(-100, 300)]
    assert law.survival(0) == 1
    assert alive[0] == pytest.approx(1, abs=1e-2)
    assert alive == sorted(alive, reverse=True)
    assert alive[-1] < 1e-6


def test_the_published_time_fades_as_jobs_are_observed():
    def weight_at_12_s(count):
        law = learn([60.0] * count, 12.0)
        return law.survival(8) - law.survival(18)

    weights = [weight_at_12_s(count) for count in (0, 1, 5, 30)]
    assert weights == sorted(weights, reverse=True)
    assert weights[0] > 0.4
    assert weights[-1] < 0.01


@pytest.mark.parametrize("jobs", [[], [12.0], [12.0] * 60])
def test_a_job_ten_times_as_long_or_as_short_as_all_others_is_thought_possible(jobs):
    law = learn(jobs, 12.0)
    assert law.survival(120) > 1e-4
    assert law.survival(1.2) < 1 - 1e-4
