"""Submitting with a ledger: what another task's submit and a write that is lost or slow lead to."""

from __future__ import annotations

import pytest

from airflow_provider_segmind.api.history import LISTED_WITHIN
from airflow_provider_segmind.exceptions import (
    SegmindInputError,
    SegmindRateLimitError,
    SegmindSubmitPendingError,
    SegmindSubmitUnknownError,
)
from airflow_provider_segmind.files.documents import open_documents, parse_prefix
from airflow_provider_segmind.jobs.acquire import MAX_INTENT_SECONDS, SUBMIT_ENDS_WITHIN
from airflow_provider_segmind.jobs.checkpoint import Checkpoint
from airflow_provider_segmind.jobs.ledger import Ledger
from tests.api.test_history import row
from tests.api.world import CUT, MODEL, NOON, World, always, answer, error, status
from tests.jobs.checkpoints import DIGEST, FINGERPRINT, NEW, acquire, never

ACCOUNT = "api.segmind.com:0123456789ab"


@pytest.fixture
def world():
    return World(account=ACCOUNT)


@pytest.fixture
def ledger(tmp_path, world):
    return Ledger(open_documents(parse_prefix("ledger", f"{tmp_path}/")), world.clock)


@pytest.fixture
def view(ledger):
    def open_as(task, account=ACCOUNT):
        checkpoints = ledger.checkpoints(consumer=task, max_tries=0)
        checkpoints.about(DIGEST, "", account)
        return checkpoints

    return open_as


def intent(at=NOON, account=ACCOUNT):
    return Checkpoint(MODEL, DIGEST, at, account, FINGERPRINT)


def leave_intent(view, task="dead", **fields):
    checkpoints = view(task)
    checkpoints.read()
    checkpoints.write(intent(**fields))


def history(rows, then=NEW):
    """Reply with rows of the history, with a job that runs, and to a POST with a new job."""

    def serve(send):
        if send.method == "POST":
            return then
        return answer(200, rows) if "history" in send.url else status("PROCESSING")

    return serve


def test_a_new_job_is_found_by_the_next_task(world, view):
    acquire(world, view("a"), [NEW])
    assert acquire(world, view("b"), [status("PROCESSING")], payload=never).job.request_id == "new"
    assert len(world.posts) == 1


def test_the_submit_of_a_dead_task_is_found_in_the_history_by_another(world, view):
    leave_intent(view)
    world.clock.now += SUBMIT_ENDS_WITHIN
    got = acquire(world, view("b"), history([row("found", NOON + 60)]), payload=never)
    assert got.job.request_id == "found"
    assert view("c").read().request_id == "found"


def test_the_submit_of_a_dead_task_is_absent_a_minute_after_it_can_have_ended(world, view):
    leave_intent(view)
    world.clock.now += SUBMIT_ENDS_WITHIN
    assert acquire(world, view("b"), history([])).job.request_id == "new"
    (posted_at,) = (at for request, at in zip(world.requests, world.times, strict=True) if request.method == "POST")
    assert posted_at == NOON + SUBMIT_ENDS_WITHIN + LISTED_WITHIN


def test_the_submit_of_an_earlier_process_may_have_been_accepted_late(world, view):
    leave_intent(view, "a")
    world.clock.now += 1
    acquire(world, view("a"), history([]))
    (posted_at,) = (at for request, at in zip(world.requests, world.times, strict=True) if request.method == "POST")
    assert posted_at == NOON + SUBMIT_ENDS_WITHIN + LISTED_WITHIN


def test_a_task_that_searched_the_history_while_another_one_submitted_does_not_submit(world, view):
    leave_intent(view)
    world.clock.now += 1000
    quicker = World(account=ACCOUNT)
    quicker.clock.now = world.clock.now

    def serve(send):
        acquire(quicker, view("c"), [answer(200, []), NEW])
        return answer(200, [])

    with pytest.raises(SegmindSubmitPendingError):
        acquire(world, view("b"), serve)
    assert world.posts == []


def test_an_intent_whose_write_was_slow_is_written_again_before_the_post(world, view, ledger, monkeypatch):
    create, slow = ledger.documents.create, [MAX_INTENT_SECONDS + 5]

    def create_slowly(*arguments):
        world.clock.now += slow.pop()
        return create(*arguments)

    monkeypatch.setattr(ledger.documents, "create", create_slowly)
    seen = []

    def serve(send):
        checkpoints = view("b")
        with pytest.raises(SegmindSubmitPendingError) as pending:
            checkpoints.read()
        seen.append(pending.value.until - world.clock())
        return NEW

    acquire(world, view("a"), serve)
    assert seen == [SUBMIT_ENDS_WITHIN]


def test_a_paid_job_goes_on_where_the_write_of_its_id_was_lost_to_another_task(world, view, caplog):
    def serve(send):
        world.clock.now += 1000  # the machine was suspended
        other = view("b")
        other.read()
        other.write(intent(world.clock()))
        return NEW

    got = acquire(world, view("a"), serve)
    assert got.job.request_id == "new"
    assert "request new could not be written" in caplog.text
    assert "Both jobs may be billed" in caplog.text


def test_a_refused_submit_leaves_the_ledger_without_a_job(world, view):
    with pytest.raises(SegmindRateLimitError):
        acquire(world, view("a"), [error(429, retry_after="900")])
    assert view("b").read() is None


def test_a_failed_job_of_another_task_is_bought_again_once(world, view):
    acquire(world, view("a"), [NEW])
    assert acquire(world, view("b"), [status("FAILED"), NEW]).job.request_id == "new"
    assert acquire(world, view("a"), [status("PROCESSING")], payload=never).job.request_id == "new"


def test_a_job_that_only_another_account_may_know_names_the_entry_to_delete(world, view, ledger):
    leave_intent(view, account="api.segmind.com:of-another-key")
    world.clock.now += 1000
    with pytest.raises(SegmindInputError, match=r"another API key.*delete the ledger's entry .*json"):
        acquire(world, view("b"), history([]), payload=never)
    assert (len(ledger.documents.names()), world.posts) == (1, [])


@pytest.mark.parametrize("choice", ["resubmit", "fail"])
def test_what_the_user_has_chosen_about_unknown_submits_holds_for_those_of_other_tasks(world, view, choice):
    leave_intent(view)
    world.clock.now += SUBMIT_ENDS_WITHIN
    if choice == "fail":
        with pytest.raises(SegmindSubmitUnknownError, match="on_unknown_submit"):
            acquire(world, view("b"), [], choice, payload=never)
    else:
        assert acquire(world, view("b"), [NEW], choice).job.request_id == "new"


# ---------------------------------------------------------------------- reconciling later


def test_an_unknown_outcome_is_put_off_where_the_caller_has_other_things_to_do(world, view):
    with pytest.raises(SegmindSubmitPendingError, match="searched again") as pending:
        acquire(world, view("a"), [CUT], reconcile_later=True)
    assert pending.value.until > NOON + SUBMIT_ENDS_WITHIN + LISTED_WITHIN > pending.value.look_at
    assert view("a").read() == intent()


def test_an_unknown_outcome_is_put_off_until_one_search_is_enough(world, view):
    leave_intent(view, "a")
    world.clock.now += SUBMIT_ENDS_WITHIN
    with pytest.raises(SegmindSubmitPendingError) as pending:
        acquire(world, view("a"), history([]), payload=never, reconcile_later=True)
    world.clock.now = pending.value.until
    acquire(world, view("a"), history([]), reconcile_later=True)
    assert (len(world.requests), world.pauses) == (3, [])


def test_a_request_that_the_history_lists_already_is_adopted_without_waiting(world, view):
    leave_intent(view, "a")
    adopted = acquire(world, view("a"), history([row()]), payload=never, reconcile_later=True)
    assert (adopted.job.request_id, world.posts, world.pauses) == ("req-1", [], [])


def test_a_history_that_fails_puts_an_unknown_outcome_off(world, view):
    leave_intent(view, "a")
    with pytest.raises(SegmindSubmitPendingError):
        acquire(world, view("a"), always(error(400)), payload=never, reconcile_later=True)


@pytest.mark.parametrize("choice", ["resubmit", "fail"])
def test_nothing_is_put_off_where_the_history_is_not_asked(world, view, choice):
    with pytest.raises(SegmindSubmitUnknownError):
        acquire(world, view("a"), always(CUT), choice, reconcile_later=True)
