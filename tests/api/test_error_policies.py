"""Which error a response stands for, and what is done about each error: as docs/reliability.md says."""

from __future__ import annotations

from pathlib import Path

import pytest

from airflow_provider_segmind import exceptions
from airflow_provider_segmind.api.parsing import ANSWERS, error_class
from airflow_provider_segmind.exceptions import SegmindError, TaskFate

from .world import error, html, response

PAGE = (Path(__file__).parents[2] / "docs" / "reliability.md").read_text()
ERRORS = [getattr(exceptions, name) for name in exceptions.__all__]
WITH_A_POLICY = [kind for kind in ERRORS if "policy" in vars(kind) and kind is not SegmindError]


def cells(*values):
    return "| " + " | ".join(values) + " |"


def row_of_kind(kind):
    policy = kind.policy
    delay = f", after {policy.retry_delay.total_seconds():g} s" if policy.retry_delay else ""
    return cells(f"`{kind.__name__}`", policy.handling, policy.task + delay)


def row_of_response(row):
    return cells(row.what, f"`{row.submit.__name__}`", f"`{row.other.__name__}`")


@pytest.mark.parametrize("row", ANSWERS, ids=lambda row: row.what)
def test_the_documentation_lists_each_kind_of_response(row):
    assert row_of_response(row) in PAGE


@pytest.mark.parametrize("kind", WITH_A_POLICY, ids=lambda kind: kind.__name__)
def test_the_documentation_lists_what_is_done_about_each_error(kind):
    assert row_of_kind(kind) in PAGE


def test_a_subclass_without_a_policy_has_that_of_its_base():
    assert exceptions.SegmindCreditsError("no credits left").policy is exceptions.SegmindRequestError.policy
    assert exceptions.SegmindCreditsError.policy.task is TaskFate.FAIL


@pytest.mark.parametrize("kind", ERRORS, ids=lambda kind: kind.__name__)
def test_only_what_proves_that_nothing_was_queued_is_submitted_again(kind):
    assert kind.policy.not_queued or not kind.policy.repeat_submit


def test_only_the_last_kind_of_response_leaves_a_submit_unknown():
    unknown = [row for row in ANSWERS if not row.submit.policy.not_queued]
    assert unknown == [ANSWERS[-1]]


@pytest.mark.parametrize("kind", ERRORS, ids=lambda kind: kind.__name__)
def test_a_retry_delay_comes_with_a_reason(kind):
    assert (kind.policy.retry_delay is None) == (kind.policy.retry_reason == "")


@pytest.mark.parametrize(
    ("reply", "submit", "other"),
    [
        (error(408), "SegmindServiceError", "SegmindServiceError"),
        (html(404), "SegmindModelNotFoundError", "SegmindServiceError"),
        (error(404), "SegmindModelNotFoundError", "SegmindJobExpiredError"),
        (error(502), "SegmindServiceError", "SegmindServiceError"),
        (html(502), "SegmindSubmitUnknownError", "SegmindServiceError"),
        (response(200, {}), "SegmindSubmitUnknownError", "SegmindServiceError"),
    ],
)
def test_the_first_kind_that_matches_a_response_decides(reply, submit, other):
    assert (error_class(reply, submit=True).__name__, error_class(reply).__name__) == (submit, other)
