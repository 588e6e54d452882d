"""From a wait's end to its result: what the second leg asks, and what it forgets."""

from __future__ import annotations

import pytest

from airflow_provider_segmind.api.models import JobOutcome, Metrics, OutcomeStatus
from airflow_provider_segmind.exceptions import (
    SegmindAuthError,
    SegmindJobExpiredError,
    SegmindJobFailedError,
    SegmindJobTimeoutError,
    SegmindServiceError,
)
from airflow_provider_segmind.jobs.acquire import collect
from tests.api.test_history import row
from tests.api.world import ID, always, answer, error, result, status

from .notebook import FILE, noted


def outcome(word, **more):
    return JobOutcome(ID, OutcomeStatus(word), **more)


def collected(world, note, ended, script=()):
    return world.run(collect(world.api, note, ended), list(script) or always(error(500)))


def test_an_address_in_the_event_needs_no_request(world):
    metrics = Metrics(cost=0.03)
    got = collected(world, noted(), outcome("COMPLETED", output_url=FILE, metrics=metrics))
    assert (got.result.output_url, got.metrics, world.sends) == (FILE, metrics, [])


def test_a_result_without_an_address_is_asked_for(world):
    assert collected(world, noted(), outcome("COMPLETED"), [result()]).result.output_url == FILE


@pytest.mark.parametrize("word", ["COMPLETED", "EXPIRED", "ERROR"])
def test_what_has_expired_is_recovered(world, word):
    asked = [] if word == "EXPIRED" else [error(404)]
    record = answer(200, row(model_status="COMPLETED", generation_url=FILE))
    got = collected(world, noted(age=4000), outcome(word, error="gone"), [*asked, record, answer(200)])
    assert got.result.output_url == FILE


@pytest.mark.parametrize(
    ("ended", "script", "expected"),
    [
        (outcome("FAILED", error="no subject"), [], SegmindJobFailedError),
        (outcome("ERROR", error="?"), [status("FAILED")], SegmindJobFailedError),
        (outcome("EXPIRED"), [error(404)], SegmindJobExpiredError),
    ],
)
def test_what_is_no_good_any_more_is_forgotten(world, ended, script, expected):
    note = noted(age=4000)
    with pytest.raises(expected):
        collected(world, note, ended, script)
    assert note.entry is None


@pytest.mark.parametrize(
    ("ended", "script", "expected"),
    [
        (outcome("TIMEOUT", error="not ended"), [], SegmindJobTimeoutError),
        (outcome("ERROR", error="401"), [error(401)], SegmindAuthError),
        (outcome("ERROR", error="a hiccup"), [status("PROCESSING")], SegmindServiceError),
        (outcome("EXPIRED"), [answer(200, row(model_status="PENDING"))], SegmindJobExpiredError),
        (outcome("COMPLETED"), [], SegmindServiceError),
    ],
)
def test_what_may_still_come_is_kept(world, ended, script, expected):
    note = noted(age=4000)
    with pytest.raises(expected):
        collected(world, note, ended, script)
    assert note.entry.request_id == ID


def test_an_address_that_is_not_trusted_or_not_public_is_not_told(world):
    got = collected(world, noted(), outcome("COMPLETED"), [result(output="https://decoy.example/a.png")])
    assert got.output_url is None
