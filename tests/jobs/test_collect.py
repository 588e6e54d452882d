"""From the end of a wait to the result: what is asked, and which checkpoints are forgotten."""

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
from airflow_provider_segmind.jobs.collect import collect
from tests.api.test_history import row
from tests.api.world import ID, always, answer, error, result, status
from tests.jobs.checkpoints import FILE, MemoryCheckpoints, checkpointed


def outcome(word, **more):
    return JobOutcome(ID, OutcomeStatus(word), **more)


def collected(world, checkpoints, ended, script=()):
    return world.run(collect(world.api, checkpoints, ended, checkpoints.read()), list(script) or always(error(500)))


def test_a_result_whose_address_is_in_the_event_needs_no_request(world):
    metrics = Metrics(cost=0.03)
    got = collected(world, checkpointed(), outcome("COMPLETED", output_urls=(FILE,), metrics=metrics))
    assert (got.result.output_url, got.metrics, world.sends) == (FILE, metrics, [])


def test_a_result_without_an_address_is_asked_for(world):
    assert collected(world, checkpointed(), outcome("COMPLETED"), [result()]).result.output_url == FILE


@pytest.mark.parametrize("word", ["COMPLETED", "EXPIRED", "ERROR"])
def test_an_expired_result_is_recovered_from_the_history(world, word):
    asked = [] if word == "EXPIRED" else [error(404)]
    record = answer(200, row(model_status="COMPLETED", generation_url=FILE))
    got = collected(world, checkpointed(age=4000), outcome(word, error="gone"), [*asked, record, answer(200)])
    assert got.result.output_url == FILE


@pytest.mark.parametrize(
    ("ended", "script", "expected"),
    [
        (outcome("FAILED", error="no subject"), [], SegmindJobFailedError),
        (outcome("ERROR", error="?"), [status("FAILED")], SegmindJobFailedError),
        (outcome("EXPIRED"), [error(404)], SegmindJobExpiredError),
    ],
)
def test_a_failed_or_lost_job_loses_its_checkpoint(world, ended, script, expected):
    checkpoints = checkpointed(age=4000)
    with pytest.raises(expected):
        collected(world, checkpoints, ended, script)
    assert checkpoints.checkpoint is None


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
def test_a_job_that_may_still_deliver_keeps_its_checkpoint(world, ended, script, expected):
    checkpoints = checkpointed(age=4000)
    with pytest.raises(expected):
        collected(world, checkpoints, ended, script)
    assert checkpoints.checkpoint.request_id == ID


def test_an_address_on_an_untrusted_host_is_not_in_the_outcome(world):
    got = collected(world, checkpointed(), outcome("COMPLETED"), [result(output="https://decoy.example/a.png")])
    assert got.output_url is None


def test_a_job_whose_time_is_not_known_is_never_called_lost(world):
    checkpoints = MemoryCheckpoints()
    with pytest.raises(SegmindJobExpiredError, match="may list it late"):
        collected(world, checkpoints, outcome("EXPIRED"), [error(404)])
    assert checkpoints.events == []


def test_a_403_of_a_file_is_not_believed_where_the_time_of_its_job_is_not_known(world):
    row_without_time = {**row(model_status="COMPLETED", generation_url=FILE), "model_created": None}
    got = collected(world, MemoryCheckpoints(), outcome("EXPIRED"), [answer(200, row_without_time), answer(403)])
    assert got.output_url == FILE


def test_every_output_of_a_result_is_in_its_outcome(world):
    second = FILE.replace("a.png", "b.png")
    got = collected(world, checkpointed(), outcome("COMPLETED", output_urls=(FILE, second)))
    assert [output.url for output in got.result.outputs] == [FILE, second]
