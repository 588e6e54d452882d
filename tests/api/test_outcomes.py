"""The one table: complete, and the same in the documentation."""

from __future__ import annotations

from pathlib import Path

import pytest

from airflow_provider_segmind import exceptions
from airflow_provider_segmind.api.errors import ANSWERS, ERRORS, Task, error_of, then
from airflow_provider_segmind.exceptions import SegmindError

from .world import answer, error, html

PAGE = (Path(__file__).parents[2] / "docs" / "reliability.md").read_text()


def cells(*values):
    return "| " + " | ".join(values) + " |"


@pytest.mark.parametrize("row", ANSWERS, ids=lambda row: row.what)
def test_the_documentation_has_each_answer(row):
    assert cells(row.what, f"`{row.submit.__name__}`", f"`{row.other.__name__}`") in PAGE


@pytest.mark.parametrize("kind", ERRORS, ids=lambda kind: kind.__name__)
def test_the_documentation_has_each_error(kind):
    row = ERRORS[kind]
    task = row.task + (f", after {row.delay.total_seconds():g} s" if row.delay else "")
    assert cells(f"`{kind.__name__}`", row.operation, task) in PAGE


@pytest.mark.parametrize("name", exceptions.__all__)
def test_each_error_leads_somewhere(name):
    kind = getattr(exceptions, name)
    assert kind is SegmindError or any(base in ERRORS for base in kind.__mro__)


def test_only_what_proves_that_nothing_was_queued_is_submitted_again():
    assert all(row.unpaid for row in ERRORS.values() if row.resubmit)
    unknown = [row for row in ANSWERS if not row_of(row.submit).unpaid]
    assert [row.what for row in unknown] == [ANSWERS[-1].what]


def row_of(kind):
    return next(ERRORS[base] for base in kind.__mro__ if base in ERRORS)


def test_an_error_without_a_row_of_its_own_has_its_bases():
    refused = exceptions.SegmindCreditsError("no credits left")
    assert then(refused) is ERRORS[exceptions.SegmindRequestError]
    assert then(refused).task is Task.FAIL


@pytest.mark.parametrize(
    ("reply", "submit", "other"),
    [
        (error(408), "SegmindServiceError", "SegmindServiceError"),
        (html(404), "SegmindModelNotFoundError", "SegmindServiceError"),
        (error(404), "SegmindModelNotFoundError", "SegmindJobExpiredError"),
        (error(502), "SegmindServiceError", "SegmindServiceError"),
        (html(502), "SegmindSubmitUnknownError", "SegmindServiceError"),
        (answer(200, {}), "SegmindSubmitUnknownError", "SegmindServiceError"),
    ],
)
def test_the_first_row_that_matches_counts(reply, submit, other):
    assert (error_of(reply, submit=True).__name__, error_of(reply).__name__) == (submit, other)
