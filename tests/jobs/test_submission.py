"""Never pay twice: what each note leads to."""

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
from airflow_provider_segmind.jobs.acquire import acquire_job
from airflow_provider_segmind.jobs.checkpoint import Checkpoint
from tests.api.test_history import row
from tests.api.world import CUT, ID, MODEL, NOON, always, answer, error, html, result, status

from .notebook import BODY, DAY, DIGEST, FILE, NEW, WANTED, Notebook, acquire, never, noted


def test_a_fresh_task_posts_once_and_notes_before_and_after(world):
    note = Notebook()

    def serve(send):
        note.events.append("POST")
        return NEW

    got = acquire(world, note, serve)
    assert (got.job.request_id, got.outcome) == ("new", None)
    assert note.events == ["submitting", "POST", "submitted"]
    assert (note.entry.request_id, note.entry.at) == ("new", NOON)


@pytest.mark.parametrize("word", ["QUEUED", "PROCESSING", "NEW_WORD"])
def test_a_running_job_is_gone_on_with(world, word):
    got = acquire(world, noted(), [status(word)], payload=never)
    assert (got.job.request_id, got.job.submitted_at, got.outcome) == (ID, NOON - 100, None)


def test_a_completed_job_is_not_waited_for(world):
    got = acquire(world, noted(), [status("COMPLETED"), result()], payload=never)
    assert got.outcome.output_url == FILE


@pytest.mark.parametrize("script", [[status("FAILED")], [status("COMPLETED"), status("FAILED")]])
def test_a_failed_job_is_replaced(world, script):
    note = noted()
    assert acquire(world, note, [*script, NEW]).job.request_id == "new"
    assert note.events == ["forgotten", "submitting", "submitted"]


@pytest.mark.parametrize("file", [answer(200), error(500), CUT, error(405)])
def test_an_expired_job_is_recovered_by_its_record(world, file):
    def serve(send):
        if send.url == FILE:
            assert not send.with_key
            return file
        return error(404) if "/v2/" in send.url else answer(200, row(model_status="COMPLETED", generation_url=FILE))

    got = acquire(world, noted(age=4000), serve, payload=never)
    assert got.outcome.result.output_url == FILE
    assert world.posts == []


def test_a_signed_address_that_answers_only_a_get_is_not_gone(world):
    signed = FILE + "?X-Amz-Signature=of-a-GET"

    def serve(send):
        if send.url == signed:
            return answer(200, b"\x89") if send.method == "GET" else answer(403)
        return error(404) if "/v2/" in send.url else answer(200, row(model_status="COMPLETED", generation_url=signed))

    assert acquire(world, noted(age=4000), serve, payload=never).outcome.result.output_url == signed


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
def test_what_is_lost_is_submitted_anew(world, after):
    assert acquire(world, noted(age=4000), [error(404), *after, NEW]).job.request_id == "new"


@pytest.mark.parametrize(
    "after",
    [
        [answer(404), answer(200)],
        [answer(404), error(503), answer(404), error(503)],
        [answer(403), answer(403), answer(403), answer(403)],
    ],
    ids=["once only", "with trouble between", "a proxy's, for a file that is an hour old"],
)
def test_a_file_is_gone_only_on_its_stores_own_and_repeated_word(world, after):
    script = [error(404), answer(200, row(model_status="COMPLETED", generation_url=FILE)), *after]
    assert acquire(world, noted(age=4000), script, payload=never).outcome.output_url == FILE


@pytest.mark.parametrize("stranger", [html(404), answer(404, "default backend - 404"), answer(404, b"")])
@pytest.mark.parametrize("host", ["/v2/", "history"])
def test_a_strangers_404_is_no_word_about_a_job(world, host, stranger):
    """A proxy, an ingress, a host without a history: taken at their word, a job that runs would be paid for again."""
    note = noted(age=4000)
    with pytest.raises(SegmindServiceError):
        acquire(world, note, lambda send: stranger if host in send.url else error(404), payload=never)
    assert note.entry.request_id == ID


def test_a_result_that_expires_between_status_and_result_is_recovered(world):
    record = answer(200, row(model_status="COMPLETED", generation_url=FILE))
    script = [status("COMPLETED"), error(404), record, answer(200)]
    assert acquire(world, noted(age=4000), script, payload=never).outcome.output_url == FILE


def test_nothing_is_posted_after_the_deadline(world):
    note = Notebook()
    operation = acquire_job(world.api, note, MODEL, DIGEST, never, deadline=NOON)
    with pytest.raises(SegmindServiceError, match="timeout"):
        world.run(operation, [])
    assert note.events == []


def test_no_post_is_repeated_after_the_deadline(world):
    note = Notebook()
    operation = acquire_job(world.api, note, MODEL, DIGEST, lambda: BODY, deadline=NOON + 30)
    with pytest.raises(SegmindServiceError, match="timeout"):
        world.run(operation, lambda send: CUT if send.method == "POST" else answer(200, []))
    assert (len(world.posts), note.entry) == (1, None)


def test_a_payload_is_not_made_where_the_limit_has_no_room_for_it(world):
    world.api.limiter.close_until(NOON + 60)
    with pytest.raises(SegmindRateLimitError):
        acquire(world, Notebook(), [], payload=never)


def test_resubmitting_pauses_between_its_posts(world):
    with pytest.raises(SegmindSubmitUnknownError):
        acquire(world, Notebook(), always(html(504)), "resubmit")
    assert world.times == sorted(set(world.times))


def test_an_expired_job_still_pending_in_the_history_is_kept(world):
    note = noted(age=4000)
    with pytest.raises(SegmindJobExpiredError):
        acquire(world, note, [error(404), answer(200, row(model_status="PENDING"))], payload=never)
    assert note.entry.request_id == ID


def test_a_404_in_the_first_seconds_is_lag(world):
    assert acquire(world, noted(age=5), [error(404)], payload=never).job.request_id == ID


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (error(401), SegmindAuthError),
        (error(500), SegmindServiceError),
        (error(429, retry_after="900"), SegmindRateLimitError),
    ],
)
def test_trouble_in_asking_keeps_the_note_and_posts_nothing(world, reply, expected):
    note = noted()
    with pytest.raises(expected):
        acquire(world, note, always(reply), payload=never)
    assert (note.entry.request_id, world.posts) == (ID, [])


def test_a_history_that_is_away_keeps_an_expired_job(world):
    note = noted(age=4000)
    with pytest.raises(SegmindServiceError):
        acquire(world, note, lambda send: error(404) if "/v2/" in send.url else html(), payload=never)
    assert note.entry.request_id == ID


def test_other_inputs_are_another_job(world):
    note = noted(digest="other")
    assert acquire(world, note, [NEW]).job.request_id == "new"
    assert note.entry.digest == DIGEST


def test_a_wrong_model_is_told_before_anything_is_noted(world):
    note = Notebook()
    with pytest.raises(SegmindInputError):
        acquire(world, note, [], model="../x")
    assert note.events == []


def test_a_payload_that_cannot_be_made_leaves_no_note(world):
    note = Notebook()
    with pytest.raises(ZeroDivisionError):
        acquire(world, note, [], payload=lambda: 1 / 0)
    assert note.events == []


@pytest.mark.parametrize(
    "stored",
    [None, [], "x", {}, {"model": MODEL, "digest": "d"}, {"model": 1, "digest": "d", "at": 1}]
    + [{"model": MODEL, "digest": "d", "at": at} for at in ("x", 1e300, -1e300, float("nan"))],
)
def test_a_note_that_makes_no_sense_is_none(stored):
    assert Checkpoint.read(stored) is None


def test_a_note_survives_its_store():
    entry = Checkpoint(MODEL, DIGEST, NOON, ID, WANTED)
    assert Checkpoint.read(entry.as_json()) == entry


def test_a_job_that_the_history_does_not_list_yet_is_not_lost(world):
    note = noted(age=20)
    with pytest.raises(SegmindJobExpiredError):
        acquire(world, note, lambda send: error(404), payload=never)
    assert note.entry.request_id == ID
