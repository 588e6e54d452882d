"""Never pay twice: what each checkpoints leads to."""

from __future__ import annotations

import pytest

from airflow_provider_segmind.exceptions import (
    SegmindAuthError,
    SegmindInputError,
    SegmindJobExpiredError,
    SegmindRateLimitError,
    SegmindServiceError,
    SegmindSubmitUnknownError,
)
from tests.api.test_history import row
from tests.api.world import CUT, ID, NOON, always, answer, error, html, queued, result, status
from tests.jobs.checkpoints import (
    DAY,
    DIGEST,
    FILE,
    NEW,
    MemoryCheckpoints,
    acquire,
    checkpointed,
    never,
)


def test_a_new_job_is_posted_once_with_a_checkpoint_before_and_after(world):
    checkpoints = MemoryCheckpoints()

    def serve(send):
        checkpoints.events.append("POST")
        return NEW

    got = acquire(world, checkpoints, serve)
    assert (got.job.request_id, got.outcome) == ("new", None)
    assert checkpoints.events == ["submitting", "POST", "submitted"]
    assert (checkpoints.checkpoint.request_id, checkpoints.checkpoint.submitted_at) == ("new", NOON)


@pytest.mark.parametrize("word", ["QUEUED", "PROCESSING", "NEW_WORD"])
def test_a_job_that_still_runs_is_waited_for_without_a_post(world, word):
    got = acquire(world, checkpointed(), [status(word)], payload=never)
    assert (got.job.request_id, got.job.submitted_at, got.outcome) == (ID, NOON - 100, None)


def test_a_job_that_has_completed_is_not_waited_for(world):
    got = acquire(world, checkpointed(), [status("COMPLETED"), result()], payload=never)
    assert got.outcome.output_url == FILE


@pytest.mark.parametrize("script", [[status("FAILED")], [status("COMPLETED"), status("FAILED")]])
def test_a_job_that_failed_is_forgotten_and_submitted_again(world, script):
    checkpoints = checkpointed()
    assert acquire(world, checkpoints, [*script, NEW]).job.request_id == "new"
    assert checkpoints.events == ["forgotten", "submitting", "submitted"]


@pytest.mark.parametrize("file", [answer(200), error(500), CUT, error(405)])
def test_an_expired_job_is_recovered_from_the_history(world, file):
    def serve(send):
        if send.url == FILE:
            assert not send.with_key
            return file
        return error(404) if "/v2/" in send.url else answer(200, row(model_status="COMPLETED", generation_url=FILE))

    got = acquire(world, checkpointed(age=4000), serve, payload=never)
    assert got.outcome.result.output_url == FILE
    assert world.posts == []


def test_a_signed_file_that_refuses_other_methods_than_get_is_not_gone(world):
    signed = FILE + "?X-Amz-Signature=of-a-GET"

    def serve(send):
        if send.url == signed:
            return answer(200, b"\x89") if send.method == "GET" else answer(403)
        return error(404) if "/v2/" in send.url else answer(200, row(model_status="COMPLETED", generation_url=signed))

    assert acquire(world, checkpointed(age=4000), serve, payload=never).outcome.result.output_url == signed


@pytest.mark.parametrize(
    "after",
    [
        [error(404)],
        [answer(200, row(model_status="FAILED"))],
        [answer(200, row(model_status="COMPLETED"))],
        [answer(200, row(model_status="COMPLETED", generation_url=FILE)), answer(404), answer(410)],
        [answer(200, row(at=NOON - 7 * DAY, model_status="COMPLETED", generation_url=FILE)), answer(403), answer(403)],
    ],
)
def test_a_lost_job_is_submitted_again(world, after):
    assert acquire(world, checkpointed(age=4000), [error(404), *after, NEW]).job.request_id == "new"


@pytest.mark.parametrize(
    "after",
    [
        [answer(404), answer(200)],
        [answer(404), error(503), answer(404), error(503)],
        [answer(403), answer(403), answer(403), answer(403)],
    ],
    ids=["once only", "with trouble between", "a proxy's, for a file that is an hour old"],
)
def test_a_file_is_gone_only_after_its_host_has_said_so_twice(world, after):
    script = [error(404), answer(200, row(model_status="COMPLETED", generation_url=FILE)), *after]
    assert acquire(world, checkpointed(age=4000), script, payload=never).outcome.output_url == FILE


@pytest.mark.parametrize("stranger", [html(404), answer(404, "default backend - 404"), answer(404, b"")])
@pytest.mark.parametrize("host", ["/v2/", "history"])
def test_a_404_that_is_not_segminds_own_does_not_make_a_job_lost(world, host, stranger):
    """A proxy, an ingress, a host without a history: taken at their word, a job that runs would be paid for again."""
    checkpoints = checkpointed(age=4000)
    with pytest.raises(SegmindServiceError):
        acquire(world, checkpoints, lambda send: stranger if host in send.url else error(404), payload=never)
    assert checkpoints.checkpoint.request_id == ID


def test_a_result_that_expires_after_its_status_was_asked_is_recovered(world):
    record = answer(200, row(model_status="COMPLETED", generation_url=FILE))
    script = [status("COMPLETED"), error(404), record, answer(200)]
    assert acquire(world, checkpointed(age=4000), script, payload=never).outcome.output_url == FILE


def test_nothing_is_posted_after_the_deadline(world):
    checkpoints = MemoryCheckpoints()
    with pytest.raises(SegmindServiceError, match="timeout"):
        acquire(world, checkpoints, [], payload=never, deadline=NOON)
    assert checkpoints.events == []


def test_no_post_is_repeated_after_the_deadline(world):
    checkpoints = MemoryCheckpoints()
    with pytest.raises(SegmindServiceError, match="timeout"):
        acquire(world, checkpoints, lambda send: CUT if send.method == "POST" else answer(200, []), deadline=NOON + 30)
    assert (len(world.posts), checkpoints.checkpoint) == (1, None)


def test_a_payload_is_not_built_while_the_rate_limit_has_no_slot(world):
    world.api.limiter.close_until(NOON + 60)
    with pytest.raises(SegmindRateLimitError):
        acquire(world, MemoryCheckpoints(), [], payload=never)


def test_a_submission_with_patience_waits_in_line_for_its_slot(world):
    for _ in range(5):
        world.api.limiter.take(world.api.limiter.ticket(), NOON)
    world.api.limiter.configure(5)
    assert acquire(world, MemoryCheckpoints(), [queued()], deadline=NOON + 600, patience=600).job.request_id == ID
    assert world.times == [NOON + 60]


def test_there_is_a_pause_between_resubmits(world):
    with pytest.raises(SegmindSubmitUnknownError):
        acquire(world, MemoryCheckpoints(), always(html(504)), "resubmit")
    assert world.times == sorted(set(world.times))


def test_an_expired_job_that_is_pending_in_the_history_keeps_its_checkpoint(world):
    checkpoints = checkpointed(age=4000)
    with pytest.raises(SegmindJobExpiredError):
        acquire(world, checkpoints, [error(404), answer(200, row(model_status="PENDING"))], payload=never)
    assert checkpoints.checkpoint.request_id == ID


def test_a_404_in_the_first_seconds_after_a_submit_is_waited_out(world):
    assert acquire(world, checkpointed(age=5), [error(404)], payload=never).job.request_id == ID


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (error(401), SegmindAuthError),
        (error(500), SegmindServiceError),
        (error(429, retry_after="900"), SegmindRateLimitError),
    ],
)
def test_a_status_request_that_fails_keeps_the_checkpoint_and_posts_nothing(world, reply, expected):
    checkpoints = checkpointed()
    with pytest.raises(expected):
        acquire(world, checkpoints, always(reply), payload=never)
    assert (checkpoints.checkpoint.request_id, world.posts) == (ID, [])


def test_an_expired_job_keeps_its_checkpoint_while_the_history_is_down(world):
    checkpoints = checkpointed(age=4000)
    with pytest.raises(SegmindServiceError):
        acquire(world, checkpoints, lambda send: error(404) if "/v2/" in send.url else html(), payload=never)
    assert checkpoints.checkpoint.request_id == ID


def test_a_checkpoint_of_other_inputs_is_replaced_by_a_new_job(world):
    checkpoints = checkpointed(input_digest="other")
    assert acquire(world, checkpoints, [NEW]).job.request_id == "new"
    assert checkpoints.checkpoint.input_digest == DIGEST


def test_a_payload_that_cannot_be_built_leaves_no_checkpoint(world):
    checkpoints = MemoryCheckpoints()
    with pytest.raises(ZeroDivisionError):
        acquire(world, checkpoints, [], payload=lambda: 1 / 0)
    assert checkpoints.events == []


def test_a_job_that_the_history_may_still_list_is_not_lost(world):
    checkpoints = checkpointed(age=20)
    with pytest.raises(SegmindJobExpiredError):
        acquire(world, checkpoints, lambda send: error(404), payload=never)
    assert checkpoints.checkpoint.request_id == ID


def test_an_unknown_job_of_another_account_is_not_lost(world):
    checkpoints = checkpointed(age=4000, account="api.segmind.com:of another key")
    with pytest.raises(SegmindInputError, match="another API key or base URL"):
        acquire(world, checkpoints, always(error(404)), payload=never)
    assert (checkpoints.checkpoint.request_id, world.posts) == (ID, [])


def test_an_unanswered_submit_of_another_account_is_not_repeated(world):
    checkpoints = checkpointed(None, account="api.segmind.com:of another key")
    with pytest.raises(SegmindInputError, match="another API key or base URL"):
        acquire(world, checkpoints, always(answer(200, [])), payload=never)
    assert (checkpoints.events, world.posts) == ([], [])


def test_a_job_goes_on_after_its_accounts_key_was_rotated(world):
    checkpoints = checkpointed(account="api.segmind.com:of the key before")
    assert acquire(world, checkpoints, [status("PROCESSING")], payload=never).job.request_id == ID


def test_a_replaced_image_is_a_new_job(world, caplog):
    checkpoints = checkpointed(image_identity="the photo before")
    got = acquire(world, checkpoints, [NEW], image_identity="the photo now")
    assert (got.job.request_id, got.checkpoint.image_identity) == ("new", "the photo now")
    assert f"image has been replaced since request {ID}" in caplog.text


@pytest.mark.parametrize("now", [None, "the photo before"])
def test_an_image_that_is_the_same_or_cannot_be_read_goes_on_with_its_job(world, now):
    checkpoints = checkpointed(image_identity="the photo before")
    got = acquire(world, checkpoints, [status("QUEUED")], payload=never, image_identity=now)
    assert got.job.request_id == ID
