"""What a batch may cost and how much of it may fail."""

from __future__ import annotations

import pytest

from airflow_provider_segmind.exceptions import SegmindInputError
from airflow_provider_segmind.jobs.batch_budget import (
    Budget,
    check_max_cost,
    check_max_failures,
    failures_allowed,
)
from airflow_provider_segmind.jobs.journal import Row, RowStatus

ERASE = "bria-erase-foreground"


def rows(*costs, status=RowStatus.COMPLETED):
    return [Row(str(number), "cup.jpg", status, cost=cost) for number, cost in enumerate(costs)]


@pytest.mark.parametrize("value", [1.5, -1, -0.1, True, "3", None, float("nan")])
def test_max_failures_is_a_count_or_a_share_and_nothing_else(value):
    with pytest.raises(SegmindInputError, match="max_failures"):
        check_max_failures(value)


@pytest.mark.parametrize(("value", "allowed"), [(0, 0), (3, 3), (0.05, 50), (1.0, 1000), (0.0, 0), (0.0015, 1)])
def test_a_whole_number_counts_inputs_and_a_fraction_is_a_share_of_them(value, allowed):
    assert failures_allowed(check_max_failures(value), 1000) == allowed


@pytest.mark.parametrize("value", [0, -1, True, "10", float("inf"), float("nan")])
def test_max_cost_is_an_amount_above_zero(value):
    with pytest.raises(SegmindInputError, match="max_cost"):
        check_max_cost(value)


def test_the_price_is_what_the_run_has_paid_on_average():
    budget = Budget.of(1.0, ERASE, rows(0.1, 0.3), 0.0)

    assert (budget.price, budget.spent) == (pytest.approx(0.2), pytest.approx(0.4))


def test_a_job_whose_cost_is_not_known_counts_with_the_price():
    assert Budget.of(1.0, ERASE, rows(None, 0.05), 0.0).spent == pytest.approx(0.1)


def test_rows_of_inputs_that_were_skipped_or_failed_cost_nothing():
    assert Budget.of(1.0, ERASE, rows(None, status=RowStatus.SKIPPED), 0.0).spent == 0


def test_what_is_in_flight_counts_as_spent():
    budget = Budget(max_cost=1.0, spent=0.4, price=0.1)

    assert [budget.jobs_left(in_flight) for in_flight in (0, 2, 6, 7)] == [6, 4, 0, 0]


def test_what_earlier_tries_have_spent_counts():
    assert Budget.of(0.5, ERASE, [], 0.45).jobs_left(0) == 1


def test_a_model_without_a_known_price_is_bought_once_to_learn_it():
    budget = Budget.of(5.0, "another-model", [], 0.0)

    assert (budget.jobs_left(0), budget.jobs_left(1)) == (1, 0)


def test_without_a_limit_any_number_of_jobs_may_be_bought():
    assert Budget.of(None, ERASE, rows(100.0), 0.0).jobs_left(500) is None
