"""Never pay twice: what each note leads to."""

from __future__ import annotations

import pytest

from airflow_provider_segmind.api.history import fingerprint
from airflow_provider_segmind.api.note import Entry, digest_of
from airflow_provider_segmind.api.submission import MAX_POSTS, acquire_job
from airflow_provider_segmind.exceptions import (
    SegmindAuthError,
    SegmindInputError,
    SegmindJobExpiredError,
    SegmindRateLimitError,
    SegmindRequestError,
    SegmindServiceError,
    SegmindSubmitUnknownError,
)

from .test_history import row
from .world import CUT, ID, MODEL, NOON, REFUSED, always, answer, error, html, queued, result, status

BODY = {"image": "https://photos.example/a.jpg", "preserve_alpha": True}
DIGEST = digest_of(MODEL, BODY)
WANTED = fingerprint(BODY)
FILE = "https://images.segmind.com/generations/a.png"
NEW = queued("new")
DAY = 86_400.0


class Notebook:
    """A note that remembers what was done to it."""

    def __init__(self, entry=None, fail_on=None):
        self.entry, self.events, self.fail_on = entry, [], fail_on

    def read(self):
        return self.entry

    def write(self, entry):
        self.events.append(entry.as_json()["state"])
        if self.events[-1] == self.fail_on:
            raise OSError("the database is away")
        self.entry = Entry.read(entry.as_json())

    def forget(self):
        self.events.append("forgotten")
        self.entry = None


def noted(request_id=ID, age=100.0, digest=DIGEST):
    return Notebook(Entry(MODEL, digest, NOON - age, request_id, WANTED))


def acquire(world, note, script, choice="reconcile", payload=lambda: BODY, model=MODEL):
    flow = acquire_job(world.service, note, model, DIGEST, payload, on_unknown_submit=choice)
    return world.run(flow, script)


def never():
    raise AssertionError("the payload is not needed")


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
    flow = acquire_job(world.service, note, MODEL, DIGEST, never, deadline=NOON)
    with pytest.raises(SegmindServiceError, match="timeout"):
        world.run(flow, [])
    assert note.events == []


def test_no_post_is_repeated_after_the_deadline(world):
    note = Notebook()
    flow = acquire_job(world.service, note, MODEL, DIGEST, lambda: BODY, deadline=NOON + 30)
    with pytest.raises(SegmindServiceError, match="timeout"):
        world.run(flow, lambda send: CUT if send.method == "POST" else answer(200, []))
    assert (len(world.posts), note.entry) == (1, None)


def test_a_payload_is_not_made_where_the_limit_has_no_room_for_it(world):
    world.service.limiter.close_until(NOON + 60)
    with pytest.raises(SegmindRateLimitError):
        acquire(world, Notebook(), [], payload=never)


def test_a_row_of_the_future_is_a_job_of_now(world):
    _, got = unanswered(world, [row("found", NOON + 19_800)])
    assert got.job.submitted_at == NOON


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


def unanswered(world, rows, choice="reconcile", age=100.0):
    def serve(send):
        if send.method == "POST":
            return NEW
        return answer(200, rows) if "history" in send.url else status("PROCESSING")

    note = noted(None, age)
    return note, acquire(world, note, serve, choice)


def test_an_unanswered_submit_is_found_and_adopted(world):
    note, got = unanswered(world, [row("found", NOON - 99)])
    assert (got.job.request_id, note.entry.request_id, world.posts) == ("found", "found", [])


def test_a_surely_absent_one_is_submitted(world):
    assert unanswered(world, [])[1].job.request_id == "new"
    assert len(world.posts) == 1


def test_an_unclear_one_is_kept(world):
    with pytest.raises(SegmindSubmitUnknownError):
        unanswered(world, [row("found", NOON - 99, body=None)])
    assert world.posts == []


def test_fail_asks_a_person(world):
    with pytest.raises(SegmindSubmitUnknownError, match="on_unknown_submit='reconcile'"):
        unanswered(world, [], "fail")
    assert world.sends == []


def test_resubmit_pays_without_looking(world):
    assert unanswered(world, [row()], "resubmit")[1].job.request_id == "new"
    assert len(world.sends) == 1


@pytest.mark.parametrize("reply", [CUT, html(504), html(502), answer(200, {}), answer(200, b"")])
def test_a_post_that_breaks_off_is_looked_up_at_once(world, reply):
    note = Notebook()
    found = row("found", NOON + 1)
    got = acquire(world, note, [reply, answer(200, [found]), answer(200, []), status("QUEUED")])
    assert (got.job.request_id, note.entry.request_id, len(world.posts)) == ("found", "found", 1)


@pytest.mark.parametrize(
    "reply", [error(400), error(401), error(404), error(406), error(429), error(500), error(503), REFUSED]
)
def test_a_submit_that_surely_queued_nothing_leaves_no_note(world, reply):
    note = Notebook()
    with pytest.raises((SegmindRequestError, SegmindRateLimitError, SegmindServiceError)):
        acquire(world, note, always(reply))
    assert note.entry is None
    assert set(note.events[:-1]) == {"submitting"}
    assert note.events[-1] == "forgotten"


def test_an_unknown_outcome_leaves_submitting(world):
    note = Notebook()
    with pytest.raises(SegmindSubmitUnknownError):
        acquire(world, note, always(CUT))
    assert (note.events, note.entry.request_id, note.entry.wanted) == (["submitting"], None, WANTED)
    assert len(world.posts) == 1


@pytest.mark.parametrize("choice", ["reconcile", "resubmit"])
def test_posts_of_unknown_outcome_are_bounded(world, choice):
    with pytest.raises(SegmindSubmitUnknownError):
        acquire(world, Notebook(), lambda send: CUT if send.method == "POST" else answer(200, []), choice)
    assert len(world.posts) == MAX_POSTS


def test_no_note_no_post(world):
    with pytest.raises(OSError, match="away"):
        acquire(world, Notebook(fail_on="submitting"), [])
    assert world.sends == []


def test_an_id_that_cannot_be_noted_is_gone_on_with(world, caplog):
    note = Notebook(fail_on="submitted")
    assert acquire(world, note, [NEW]).job.request_id == "new"
    assert note.entry.request_id is None, "it still says submitting"
    assert "new" in caplog.text


def test_an_adopted_id_that_cannot_be_noted_is_gone_on_with(world):
    note = noted(None)
    note.fail_on = "submitted"
    script = [answer(200, [row("found", NOON - 99)]), answer(200, []), status("QUEUED")]
    assert acquire(world, note, script).job.request_id == "found"


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
    assert Entry.read(stored) is None


def test_a_note_survives_its_store():
    entry = Entry(MODEL, DIGEST, NOON, ID, WANTED)
    assert Entry.read(entry.as_json()) == entry


def test_a_job_that_the_history_does_not_list_yet_is_not_lost(world):
    note = noted(age=20)
    with pytest.raises(SegmindJobExpiredError):
        acquire(world, note, lambda send: error(404), payload=never)
    assert note.entry.request_id == ID


def test_each_post_is_noted_with_its_own_moment(world):
    note = Notebook()
    moments = []

    def serve(send):
        moments.append((note.entry.at, world.clock()))
        return error(503) if len(moments) < 3 else NEW

    acquire(world, note, serve)
    assert len(moments) == 3
    assert all(noted_at == posted_at for noted_at, posted_at in moments)


@pytest.mark.parametrize("start", [Notebook(), noted(None)], ids=["this try's", "an earlier try's"])
def test_a_submit_given_up_as_unknown_is_still_noted_where_the_next_is_refused(world, start):
    """With on_unknown_submit="resubmit"; a later try with "reconcile" can still adopt its job."""
    script = [CUT, error(406)] if start.entry is None else [error(406)]
    with pytest.raises(SegmindRequestError):
        acquire(world, start, script, "resubmit")
    assert start.entry is not None
    assert start.entry.request_id is None
