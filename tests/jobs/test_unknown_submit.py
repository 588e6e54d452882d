"""A submit whose outcome is unknown, and what is noted around each POST."""

from __future__ import annotations

import pytest

from airflow_provider_segmind.exceptions import (
    SegmindRateLimitError,
    SegmindRequestError,
    SegmindServiceError,
    SegmindSubmitUnknownError,
)
from airflow_provider_segmind.jobs.acquire import MAX_POSTS
from tests.api.test_history import row
from tests.api.world import CUT, NOON, REFUSED, always, answer, error, html, status

from .notebook import NEW, WANTED, Notebook, acquire, noted


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


def test_a_row_of_the_future_is_a_job_of_now(world):
    _, got = unanswered(world, [row("found", NOON + 19_800)])
    assert got.job.submitted_at == NOON


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
