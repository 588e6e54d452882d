"""Which job a task gets from the ledger, and who writes first."""

from __future__ import annotations

import pytest

from airflow_provider_segmind.exceptions import (
    SegmindCheckpointError,
    SegmindStorageError,
    SegmindSubmitPendingError,
)
from airflow_provider_segmind.jobs.acquire import SUBMIT_ENDS_WITHIN
from airflow_provider_segmind.jobs.ledger import consumer_of
from airflow_provider_segmind.jobs.ledger_entry import MAX_WAITING, entry_name
from tests.jobs.checkpoints import DAY, DIGEST
from tests.jobs.ledgers import ACCOUNT, deliver, entries, job, submit

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


def test_a_result_that_this_task_has_stored_since_a_moment_is_told_from_those_of_other_tasks(view, clock):
    began = clock.now
    deliver(view("a"), clock)
    assert view("a").settle_stored("r1", began)
    assert not view("a").settle_stored("r1", began + 1)
    assert not view("a").settle_stored("of another job", began)
    assert not view("b").settle_stored("r1", began)


def test_a_job_whose_process_died_after_storing_its_result_is_marked_delivered_once_that_is_found(view, clock, ledger):
    began = clock.now
    submit(view("a"), clock)
    assert view("a").settle_stored("r1", began)
    assert entries(ledger)[0]["state"] == "delivered"


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


def test_a_job_is_marked_delivered_where_the_response_to_the_write_of_its_id_was_lost(view, clock, ledger, monkeypatch):
    checkpoints = view("a", 3)
    checkpoints.read()
    checkpoints.write(job(clock))
    clock.now += 30
    found = job(clock, "r1")  # in the history, which dates it otherwise
    replace = ledger.documents.replace

    def lose_response(*arguments):
        replace(*arguments)
        raise SegmindStorageError("S3 cannot be reached")

    with monkeypatch.context() as broken:
        broken.setattr(ledger.documents, "replace", lose_response)
        with pytest.raises(SegmindStorageError):
            checkpoints.write(found)
    checkpoints.mark_delivered(found)
    assert entries(ledger)[0]["state"] == "delivered"


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
