"""The ledger's entries: which job a task gets, who writes first, and what is left alone."""

from __future__ import annotations

import json

import pytest

from airflow_provider_segmind.exceptions import (
    SegmindCheckpointError,
    SegmindInputError,
    SegmindStorageError,
    SegmindSubmitPendingError,
)
from airflow_provider_segmind.files.documents import open_documents, parse_prefix
from airflow_provider_segmind.jobs.acquire import SUBMIT_ENDS_WITHIN
from airflow_provider_segmind.jobs.checkpoint import Checkpoint
from airflow_provider_segmind.jobs.ledger import Ledger, consumer_of, open_ledger
from airflow_provider_segmind.jobs.ledger_entry import MAX_WAITING, entry_name
from tests.api.world import MODEL, NOON, FakeClock
from tests.jobs.checkpoints import DAY, DIGEST, FINGERPRINT

ACCOUNT = "api.segmind.com:0123456789ab"
PHOTO = "the photo's identity"

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


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def ledger(tmp_path, clock):
    return Ledger(open_documents(parse_prefix("ledger", f"{tmp_path}/")), clock)


@pytest.fixture
def view(ledger):
    """Return a function that opens the ledger as a task does in a new process."""

    def open_as(task="a", tries=0, *, inputs=DIGEST, identity=PHOTO, account=ACCOUNT):
        checkpoints = ledger.checkpoints(consumer=task, max_tries=tries)
        checkpoints.about(inputs, identity, account)
        return checkpoints

    return open_as


def job(clock, request_id=None, identity=PHOTO, inputs=DIGEST):
    return Checkpoint(MODEL, inputs, clock(), ACCOUNT, FINGERPRINT, request_id, identity)


def submit(checkpoints, clock, request_id="r1", **fields):
    """Write what a submit writes, and return the job's checkpoint."""
    checkpoints.read()
    checkpoints.write(job(clock, **fields))
    checkpoints.write(job(clock, request_id, **fields))
    return job(clock, request_id, **fields)


def deliver(checkpoints, clock, request_id="r1"):
    checkpoints.mark_delivered(submit(checkpoints, clock, request_id))


def entries(ledger):
    return [json.loads(ledger.documents.read(name).data) for name in ledger.documents.names()]


# ---------------------------------------------------------------------- what counts as the same purchase


def test_a_job_that_another_task_has_paid_for_is_found(view, clock):
    paid = submit(view("a"), clock)
    assert view("b").read() == paid


@pytest.mark.parametrize(
    "other", [{"inputs": "other flags"}, {"identity": "another photo"}, {"account": "proxy.example:0123456789ab"}]
)
def test_other_inputs_another_photo_and_another_service_are_other_jobs(view, clock, other):
    submit(view("a"), clock)
    assert view("b", **other).read() is None


def test_a_job_is_found_after_its_key_was_rotated(view, clock):
    paid = submit(view("a"), clock)
    assert view("b", account="api.segmind.com:of-another-key").read() == paid


def test_a_job_without_an_image_has_an_entry(view, clock, ledger):
    paid = submit(view("a", identity=""), clock, identity=None)
    assert view("b", identity="").read() == paid
    assert ledger.documents.names() == [entry_name(ACCOUNT, DIGEST, "")]


def test_a_task_is_told_from_others_by_dag_run_task_and_map_index():
    names = ("dag", "run", "task", -1)
    changed = [(*names[:place], "other", *names[place + 1 :]) for place in range(4)]
    assert len({consumer_of(*each) for each in [names, *changed]}) == 5


# ---------------------------------------------------------------------- submitting


def test_a_submit_of_another_task_is_waited_for_until_it_must_have_ended(view, clock):
    first = view("a")
    first.read()
    first.write(job(clock))
    clock.now += SUBMIT_ENDS_WITHIN - 1
    with pytest.raises(SegmindSubmitPendingError) as pending:
        view("b").read()
    assert (pending.value.until, pending.value.look_at) == (clock.now + 1, clock.now + 1)
    clock.now += 1
    second = view("b")
    found = second.read()
    assert found.request_id is None
    assert second.submit_ended_by(found) == found.submitted_at + SUBMIT_ENDS_WITHIN


def test_a_submit_of_another_task_is_looked_at_again_after_ten_seconds(view, clock):
    first = view("a")
    first.read()
    first.write(job(clock))
    with pytest.raises(SegmindSubmitPendingError) as pending:
        view("b").read()
    assert pending.value.look_at == clock.now + 10


def test_a_submit_of_an_earlier_process_of_the_same_task_is_looked_up_at_once(view, clock):
    first = view("a")
    first.read()
    first.write(job(clock))
    assert view("a").read() == job(clock)


def test_of_two_tasks_that_found_no_job_one_may_submit(view, clock):
    first, second = view("a"), view("b")
    assert first.read() is second.read() is None
    first.write(job(clock))
    clock.now += 0.1
    with pytest.raises(SegmindSubmitPendingError, match=r"Another task is submitting.*nothing was submitted"):
        second.write(job(clock))


def test_a_task_that_may_not_submit_gets_the_other_ones_job_even_if_that_is_stored_meanwhile(view, clock):
    first, second = view("a"), view("b")
    assert first.read() is second.read() is None
    first.write(job(clock))
    with pytest.raises(SegmindSubmitPendingError):
        second.write(job(clock))
    paid = job(clock, "r1")
    first.write(paid)
    first.mark_delivered(paid)
    assert view("b").read() == paid


def test_a_task_that_asked_before_a_job_was_delivered_gets_it_instead_of_submitting(view, clock):
    slow = view("b")
    slow.read()
    deliver(view("a"), clock)
    with pytest.raises(SegmindSubmitPendingError) as pending:
        slow.write(job(clock))
    assert pending.value.look_at == clock.now
    assert view("b").read().request_id == "r1"


def test_of_two_tasks_that_take_over_a_dead_ones_submit_one_may_submit(view, clock):
    dead = view("a")
    dead.read()
    dead.write(job(clock))
    clock.now += 1000
    first, second = view("b"), view("c")
    first.read()
    second.read()
    second.read()  # since the first one has noted meanwhile that it waits
    first.write(job(clock))
    clock.now += 0.1
    with pytest.raises(SegmindSubmitPendingError):
        second.write(job(clock))


def test_a_task_whose_job_comes_while_others_wait_for_it_keeps_them_waiting(view, clock):
    first, second = view("a"), view("b")
    first.read()
    first.write(job(clock))
    with pytest.raises(SegmindSubmitPendingError):
        second.read()
    paid = job(clock, "r1")
    first.write(paid)
    first.mark_delivered(paid)
    assert view("b").read() == paid


def test_a_submit_that_is_repeated_while_others_wait_for_it_is_written_again(view, clock):
    first = view("a")
    first.read()
    first.write(job(clock))
    with pytest.raises(SegmindSubmitPendingError):
        view("b").read()
    clock.now += 5
    first.write(job(clock))
    assert view("a").read().submitted_at == clock.now


def test_a_submit_that_was_taken_over_may_not_be_repeated(view, clock):
    slow = view("a")
    slow.read()
    slow.write(job(clock))
    clock.now += 1000
    submit(view("b"), clock, "r2")
    with pytest.raises(SegmindSubmitPendingError):
        slow.write(job(clock))
    with pytest.raises(SegmindCheckpointError, match=r"request r1 was submitted. Both jobs may be billed"):
        slow.write(job(clock, "r1"))
    assert view("c").read().request_id == "r2"


def test_two_tasks_may_adopt_the_same_job(view, clock, ledger):
    dead = view("a")
    dead.read()
    dead.write(job(clock))
    found = job(clock, "r1")
    clock.now += 1000
    first, second = view("b"), view("c")
    first.read()
    second.read()
    first.write(found)
    second.write(found)
    assert (entries(ledger)[0]["state"], entries(ledger)[0]["waiting"]) == ("submitted", ["a", "b", "c"])


# ---------------------------------------------------------------------- delivered


def test_a_retry_of_a_success_that_airflow_did_not_record_gets_its_job_again(view, clock):
    deliver(view("a", 3), clock)
    assert view("a", 3).read().request_id == "r1"


@pytest.mark.parametrize("tries", [5, None])
def test_a_clear_after_a_success_gets_no_job(view, clock, tries):
    deliver(view("a", 3), clock)
    assert view("a", tries).read() is None


def test_a_task_whose_number_of_tries_is_unknown_gets_no_job_after_its_success(view, clock):
    deliver(view("a", None), clock)
    assert view("a", None).read() is None


def test_another_task_gets_no_job_that_is_delivered(view, clock):
    deliver(view("a", 3), clock)
    assert view("b", 3).read() is None


def test_a_task_that_waits_for_a_job_gets_it_after_another_one_has_stored_it(view, clock):
    paid = submit(view("a"), clock)
    view("b").read()
    view("a").mark_delivered(paid)
    clock.now += 5 * DAY
    assert view("b", 7).read() == paid


def test_a_delivered_entry_counts_for_a_day(view, clock):
    deliver(view("a", 3), clock)
    clock.now += DAY - 1
    assert view("a", 3).read() is not None
    clock.now += 1
    assert view("a", 3).read() is None


def test_a_new_job_takes_the_place_of_a_delivered_one(view, clock, ledger):
    deliver(view("a", 3), clock)
    clock.now += 60
    new = submit(view("b", 3), clock, "r2")
    assert view("c").read() == new
    assert len(entries(ledger)) == 1


def test_a_task_that_waits_does_not_pay_when_another_one_has_bought_the_image_again(view, clock):
    paid = submit(view("a"), clock)
    view("b").read()
    view("a").mark_delivered(paid)
    clock.now += 60
    deliver(view("new run"), clock, "r2")
    assert view("b").read().request_id == "r2"


def test_a_retry_of_a_success_does_not_pay_when_another_task_has_bought_the_image_again(view, clock):
    deliver(view("a", 3), clock)
    clock.now += 60
    deliver(view("new run"), clock, "r2")
    assert view("a", 3).read().request_id == "r2"


def test_storing_an_earlier_job_leaves_the_entry_of_a_newer_one_alone(view, clock, ledger):
    paid = submit(view("a"), clock)
    view("b").read()
    view("a").mark_delivered(paid)
    clock.now += 60
    submit(view("new run"), clock, "r2")
    view("b").mark_delivered(paid)
    assert (entries(ledger)[0]["request_id"], entries(ledger)[0]["state"]) == ("r2", "submitted")


def test_a_job_whose_request_id_could_not_be_written_is_marked_delivered_all_the_same(view, clock, ledger):
    checkpoints = view("a", 3)
    checkpoints.read()
    checkpoints.write(job(clock))
    resumed = view("a", 3)
    resumed.mark_delivered(job(clock, "r1"))
    assert (entries(ledger)[0]["request_id"], entries(ledger)[0]["state"]) == ("r1", "delivered")


def test_deliveries_of_the_last_day_and_a_bounded_number_of_waiting_tasks_are_remembered(view, clock, ledger):
    paid = submit(view("a", 3), clock)
    for number in range(MAX_WAITING + 10):
        view(f"t{number}").read()
    view("a", 3).mark_delivered(paid)
    clock.now += 2 * DAY
    view("b", 3).mark_delivered(paid)
    (entry,) = entries(ledger)
    assert list(entry["delivered_to"]) == ["b"]
    assert entry["waiting"][-1] == f"t{MAX_WAITING + 9}"
    assert len(entry["waiting"]) <= MAX_WAITING


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
