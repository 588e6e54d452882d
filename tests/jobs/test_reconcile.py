"""A submit whose outcome is unknown, and what is noted around each POST."""

from __future__ import annotations

import pytest

from airflow_provider_segmind.exceptions import (
    SegmindRateLimitError,
    SegmindRequestError,
    SegmindServiceError,
    SegmindSubmitUnknownError,
)
from airflow_provider_segmind.jobs.acquire import MAX_SUBMITS
from tests.api.test_history import row
from tests.api.world import CUT, NOON, REFUSED, always, answer, error, html, status
from tests.jobs.checkpoints import FINGERPRINT, NEW, MemoryCheckpoints, acquire, checkpointed


def unanswered(world, rows, choice="reconcile", age=100.0):
    def serve(send):
        if send.method == "POST":
            return NEW
        return answer(200, rows) if "history" in send.url else status("PROCESSING")

    checkpoints = checkpointed(None, age)
    return checkpoints, acquire(world, checkpoints, serve, choice)


def test_an_unanswered_submit_that_the_history_lists_is_adopted(world):
    checkpoints, got = unanswered(world, [row("found", NOON - 99)])
    assert (got.job.request_id, checkpoints.checkpoint.request_id, world.posts) == ("found", "found", [])


def test_a_row_dated_in_the_future_counts_as_submitted_now(world):
    _, got = unanswered(world, [row("found", NOON + 19_800)])
    assert got.job.submitted_at == NOON


def test_an_unanswered_submit_that_the_history_does_not_list_is_submitted(world):
    assert unanswered(world, [])[1].job.request_id == "new"
    assert len(world.posts) == 1


def test_an_unanswered_submit_that_the_history_cannot_identify_is_not_repeated(world):
    with pytest.raises(SegmindSubmitUnknownError):
        unanswered(world, [row("found", NOON - 99, body=None)])
    assert world.posts == []


def test_on_unknown_submit_fail_asks_for_a_decision(world):
    with pytest.raises(SegmindSubmitUnknownError, match="on_unknown_submit='reconcile'"):
        unanswered(world, [], "fail")
    assert world.sends == []


def test_on_unknown_submit_resubmit_posts_without_a_search(world):
    assert unanswered(world, [row()], "resubmit")[1].job.request_id == "new"
    assert len(world.sends) == 1


@pytest.mark.parametrize("reply", [CUT, html(504), html(502), answer(200, {}), answer(200, b"")])
def test_a_post_without_an_id_in_its_response_is_searched_for_at_once(world, reply):
    checkpoints = MemoryCheckpoints()
    found = row("found", NOON + 1)
    got = acquire(world, checkpoints, [reply, answer(200, [found]), answer(200, []), status("QUEUED")])
    assert (got.job.request_id, checkpoints.checkpoint.request_id, len(world.posts)) == ("found", "found", 1)


@pytest.mark.parametrize(
    "reply", [error(400), error(401), error(404), error(406), error(429), error(500), error(503), REFUSED]
)
def test_a_submit_that_provably_queued_nothing_leaves_no_checkpoint(world, reply):
    checkpoints = MemoryCheckpoints()
    with pytest.raises((SegmindRequestError, SegmindRateLimitError, SegmindServiceError)):
        acquire(world, checkpoints, always(reply))
    assert checkpoints.checkpoint is None
    assert set(checkpoints.events[:-1]) == {"submitting"}
    assert checkpoints.events[-1] == "forgotten"


def test_a_submit_of_unknown_outcome_leaves_submitting(world):
    checkpoints = MemoryCheckpoints()
    with pytest.raises(SegmindSubmitUnknownError):
        acquire(world, checkpoints, always(CUT))
    assert (checkpoints.events, checkpoints.checkpoint.request_id, checkpoints.checkpoint.payload_fingerprint) == (
        ["submitting"],
        None,
        FINGERPRINT,
    )
    assert len(world.posts) == 1


@pytest.mark.parametrize("choice", ["reconcile", "resubmit"])
def test_a_try_makes_few_posts_of_unknown_outcome(world, choice):
    with pytest.raises(SegmindSubmitUnknownError):
        acquire(world, MemoryCheckpoints(), lambda send: CUT if send.method == "POST" else answer(200, []), choice)
    assert len(world.posts) == MAX_SUBMITS


def test_nothing_is_posted_where_the_checkpoint_cannot_be_written(world):
    with pytest.raises(OSError, match="away"):
        acquire(world, MemoryCheckpoints(fail_on="submitting"), [])
    assert world.sends == []


def test_a_job_goes_on_where_its_request_id_cannot_be_written(world, caplog):
    checkpoints = MemoryCheckpoints(fail_on="submitted")
    assert acquire(world, checkpoints, [NEW]).job.request_id == "new"
    assert checkpoints.checkpoint.request_id is None, "it still says submitting"
    assert "new" in caplog.text


def test_an_adopted_job_goes_on_where_its_request_id_cannot_be_written(world):
    checkpoints = checkpointed(None)
    checkpoints.fail_on = "submitted"
    script = [answer(200, [row("found", NOON - 99)]), answer(200, []), status("QUEUED")]
    assert acquire(world, checkpoints, script).job.request_id == "found"


def test_each_post_has_its_own_time_in_the_checkpoint(world):
    checkpoints = MemoryCheckpoints()
    moments = []

    def serve(send):
        moments.append((checkpoints.checkpoint.submitted_at, world.clock()))
        return error(503) if len(moments) < 3 else NEW

    acquire(world, checkpoints, serve)
    assert len(moments) == 3
    assert all(written_at == posted_at for written_at, posted_at in moments)


@pytest.mark.parametrize("start", [MemoryCheckpoints(), checkpointed(None)], ids=["this try's", "an earlier try's"])
def test_an_unresolved_submit_is_checkpointed_again_where_its_resubmit_is_refused(world, start):
    """With on_unknown_submit="resubmit"; a later try with "reconcile" can still adopt its job."""
    script = [CUT, error(406)] if start.checkpoint is None else [error(406)]
    with pytest.raises(SegmindRequestError):
        acquire(world, start, script, "resubmit")
    assert start.checkpoint is not None
    assert start.checkpoint.request_id is None
