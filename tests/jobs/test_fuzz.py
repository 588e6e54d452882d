"""Whatever the responses are, acquiring a job returns a value or raises an error of this package."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_segmind.api.operation import Response
from airflow_provider_segmind.jobs.acquire import Submission, acquire_job
from tests.api.test_fuzz import NASTY, replies, run_against
from tests.api.world import MODEL
from tests.jobs.checkpoints import BODY, DIGEST, MemoryCheckpoints, checkpointed

CHECKPOINTS = {
    "none": MemoryCheckpoints,
    "submitted": checkpointed,
    "expired": lambda: checkpointed(age=4000),
    "submitting": lambda: checkpointed(None),
}


def acquiring(checkpoint):
    checkpoints = CHECKPOINTS[checkpoint]()
    submission = Submission(MODEL, DIGEST, lambda: BODY)
    return lambda api: acquire_job(api, checkpoints, submission, checkpoints.read())


@pytest.mark.parametrize("checkpoint", CHECKPOINTS)
@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(responses=st.lists(replies, min_size=1, max_size=5))
def test_any_response_to_acquiring_a_job_ends_in_a_job_or_an_error_of_this_package(checkpoint, responses):
    run_against(acquiring(checkpoint), responses)


@pytest.mark.parametrize("nasty", NASTY)
def test_a_hostile_body_ends_in_a_job_or_an_error_of_this_package(nasty):
    run_against(acquiring("none"), [Response(422 if nasty == "half a character" else 200, {}, NASTY[nasty])])
