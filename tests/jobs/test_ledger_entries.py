"""Entries of the ledger that came to nothing, whose image is gone, or that cannot be read."""

from __future__ import annotations

import json

import pytest

from airflow_provider_segmind.exceptions import (
    SegmindCheckpointError,
    SegmindInputError,
    SegmindStorageError,
    SegmindSubmitPendingError,
)
from airflow_provider_segmind.jobs.checkpoint import Checkpoint
from airflow_provider_segmind.jobs.ledger import open_ledger
from airflow_provider_segmind.jobs.ledger_entry import entry_name
from tests.api.world import MODEL, NOON
from tests.jobs.checkpoints import DIGEST
from tests.jobs.ledgers import ACCOUNT, PHOTO, deliver, entries, job, submit

STORED = {
    "version": 1,
    "state": "delivered",
    "model": MODEL,
    "input_digest": "d1",
    "submitted_at": NOON,
    "account": ACCOUNT,
    "payload_fingerprint": {"image": "url:https://a"},
    "request_id": "id-1",
    "image_identity": "i1",
    "image_width": 4,
    "image_height": 3,
    "owner": "task-1",
    "waiting": ["task-2"],
    "delivered_to": {"task-1": {"tries": 3, "at": NOON + 12.0}},
}
"""A frozen copy of a stored entry: later versions must go on reading it."""


# ---------------------------------------------------------------------- forgotten


def test_a_job_that_came_to_nothing_is_no_job_for_anybody(view, clock):
    submit(view("a"), clock)
    checkpoints = view("b")
    checkpoints.read()
    checkpoints.forget()
    assert view("a").read() is view("b").read() is None


def test_a_submit_that_queued_nothing_lets_others_submit_at_once(view, clock):
    first = view("a")
    first.read()
    first.write(job(clock))
    with pytest.raises(SegmindSubmitPendingError):
        view("b").read()
    first.forget()
    assert view("b").read() is None


def test_of_two_tasks_that_forget_a_failed_job_one_may_submit(view, clock):
    submit(view("a"), clock)
    first, second = view("b"), view("c")
    for checkpoints in (first, second):
        checkpoints.read()
    for checkpoints in (first, second):
        checkpoints.forget()
    clock.now += 60
    first.write(job(clock))
    clock.now += 0.1
    with pytest.raises(SegmindSubmitPendingError):
        second.write(job(clock))


def test_a_failed_job_is_not_forgotten_where_another_task_has_bought_a_new_one(view, clock):
    submit(view("a"), clock)
    late = view("b")
    late.read()
    other = view("a")
    other.read()
    other.forget()
    clock.now += 60
    new = submit(other, clock, "r2")
    late.forget()
    assert view("c").read() == new
    with pytest.raises(SegmindSubmitPendingError):
        late.write(job(clock))


def test_a_process_that_stores_forgets_the_job_that_its_trigger_carried(view, clock):
    paid = submit(view("a"), clock)
    resumed = view("a")
    resumed.remember(paid)
    resumed.forget()
    assert view("b").read() is None


def test_a_process_that_stores_does_not_forget_the_job_of_another_one(view, clock):
    paid = submit(view("a"), clock)
    other = view("b")
    other.read()
    other.forget()
    clock.now += 60
    new = submit(view("b"), clock, "r2")
    resumed = view("a")
    resumed.remember(paid)
    resumed.forget()
    assert view("c").read() == new


def test_an_entry_that_a_person_has_deleted_is_no_job_and_can_be_written_again(view, clock, ledger):
    checkpoints = view("a")
    paid = submit(checkpoints, clock)
    ledger.documents.delete(ledger.documents.names()[0])
    view("b").mark_delivered(paid)
    assert view("b").read() is None
    checkpoints.forget()
    clock.now += 60
    checkpoints.write(job(clock))
    assert len(entries(ledger)) == 1


def test_a_task_that_was_resumed_without_a_checkpoint_reads_and_forgets_nothing(ledger):
    checkpoints = ledger.checkpoints(consumer="a")
    checkpoints.remember(None)
    checkpoints.mark_delivered(None)
    checkpoints.forget()
    assert checkpoints.read() is None


# ---------------------------------------------------------------------- an image that cannot be read any more


def test_without_the_images_identity_the_newest_job_that_is_not_delivered_is_found(view, clock, ledger):
    deliver(view("x", identity="delivered"), clock, "r0")
    for identity, request_id in (("older", "r1"), ("newer", "r2")):
        clock.now += 60
        submit(view("a", identity=identity), clock, request_id, identity=identity)
    gone = view("b", identity=None)
    assert gone.read().request_id == "r2"
    gone.mark_delivered(gone.read())
    assert view("c", identity=None).read().request_id == "r1"


def test_without_the_images_identity_a_submit_of_another_task_is_waited_for(view, clock):
    first = view("a")
    first.read()
    first.write(job(clock))
    with pytest.raises(SegmindSubmitPendingError):
        view("b", identity=None).read()


def test_without_the_images_identity_and_any_entry_there_is_no_job(view):
    assert view("b", identity=None).read() is None


# ---------------------------------------------------------------------- entries that cannot be read


def test_an_entry_of_version_1_is_read(ledger, clock):
    clock.now += 60
    ledger.documents.create(entry_name(ACCOUNT, "d1", "i1"), json.dumps(STORED).encode())
    checkpoints = ledger.checkpoints(consumer="task-1", max_tries=3)
    checkpoints.about("d1", "i1", ACCOUNT)
    assert checkpoints.read() == Checkpoint(MODEL, "d1", NOON, ACCOUNT, {"image": "url:https://a"}, "id-1", "i1", 4, 3)


def test_an_entry_is_written_as_version_1(ledger, clock):
    first, second = (ledger.checkpoints(consumer=f"task-{number}", max_tries=3) for number in (1, 2))
    paid = Checkpoint(MODEL, "d1", NOON, ACCOUNT, {"image": "url:https://a"}, "id-1", "i1", 4, 3)
    for checkpoints in (first, second):
        checkpoints.about("d1", "i1", ACCOUNT)
        checkpoints.read()
        checkpoints.write(paid)
    clock.now += 12
    first.mark_delivered(paid)
    assert entries(ledger) == [STORED | {"owner": "task-1"}]


@pytest.mark.parametrize(
    "damage",
    [
        {"version": 2},
        {"state": "sold"},
        {"state": None},
        {"state": "submitting"},
        {"request_id": None},
        {"request_id": "../x"},
        {"submitted_at": "yesterday"},
        {"owner": None},
        {"waiting": "task-2"},
        {"delivered_to": None},
        {"delivered_to": {"task-1": 3}},
        {"delivered_to": {"task-1": {"tries": 3, "at": "noon"}}},
    ],
    ids=str,
)
def test_an_entry_that_is_damaged_or_newer_is_an_error_that_names_it(ledger, view, damage):
    name = entry_name(ACCOUNT, DIGEST, PHOTO)
    ledger.documents.create(name, json.dumps({**STORED, **damage}).encode())
    with pytest.raises(SegmindCheckpointError, match=rf"{name} cannot be read.*nothing was submitted.*delete that"):
        view("a").read()


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"7", b"\xff\xfe"])
def test_what_is_not_an_entry_is_an_error(ledger, view, content):
    ledger.documents.create(entry_name(ACCOUNT, DIGEST, PHOTO), content)
    with pytest.raises(SegmindCheckpointError, match="not a JSON object"):
        view("a").read()


@pytest.mark.parametrize("identity", [PHOTO, None])
def test_a_store_that_fails_is_not_taken_for_one_without_a_job(ledger, view, monkeypatch, identity):
    def fail(*_):
        raise SegmindStorageError("ledger: S3 failed (503 SlowDown).")

    monkeypatch.setattr(ledger.documents, "read", fail)
    monkeypatch.setattr(ledger.documents, "names", fail)
    with pytest.raises(SegmindCheckpointError, match=r"503 SlowDown.*nothing was submitted"):
        view("a", identity=identity).read()


def test_an_entry_holds_no_key_and_no_signature(view, clock, ledger):
    deliver(view("a", 3), clock)
    assert set(entries(ledger)[0]) == set(STORED)


def test_a_ledger_must_be_a_prefix():
    with pytest.raises(SegmindInputError, match=r"^ledger is 'https://host/x', and a URL cannot be written to"):
        open_ledger("https://host/x")
