"""Crashes at each point between the intent and the stored picture, and what the next try then does."""

from __future__ import annotations

import json

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException, TaskDeferred

from airflow_provider_segmind.exceptions import (
    SegmindJobExpiredError,
    SegmindJobTimeoutError,
    SegmindOutputError,
    SegmindServiceError,
    SegmindStorageError,
    SegmindSubmitUnknownError,
)
from airflow_provider_segmind.jobs.checkpoint import KEY
from tests.operators.task import Crash
from tests.photos import photo, subject_pixels


def crash_when(task, state):
    task.store.crash_after = lambda value: value["state"] == state


def live_on(task):
    task.store.crash_after = lambda value: False


def age_checkpoint(task, seconds):
    checkpoint = task.store.get(KEY)
    checkpoint["submitted_at"] -= seconds
    task.store.set(KEY, checkpoint)


@pytest.mark.parametrize("deferrable", [True, False])
def test_a_crash_before_the_post_pays_once(erase, segmind, destination, deferrable):
    task = erase(deferrable=deferrable)
    crash_when(task, "submitting")
    with pytest.raises(Crash):
        task.run()
    assert len(segmind.jobs) == 0
    live_on(task)
    age_checkpoint(task, 100)  # the history has settled
    task.run()

    assert len(segmind.jobs) == 1
    assert subject_pixels(destination.read_bytes()) == 0


@pytest.mark.parametrize("deferrable", [True, False])
def test_a_crash_between_the_post_and_its_checkpoint_pays_once(erase, segmind, destination, deferrable):
    task = erase(deferrable=deferrable)
    written = []

    def crash(value):  # the write of the id never arrives
        written.append(value["state"])
        if value["state"] == "submitted":
            task.store.values[KEY] = before[0]
            raise Crash
        before[:] = [task.store.values[KEY]]

    before = []
    task.store.crash_after = crash
    with pytest.raises(Crash):
        task.run()
    assert written == ["submitting", "submitted"]
    live_on(task)
    task.run()

    assert len(segmind.jobs) == 1
    assert destination.exists()


@pytest.mark.parametrize("deferrable", [True, False])
def test_a_crash_after_the_checkpoint_pays_once(erase, segmind, destination, deferrable):
    task = erase(deferrable=deferrable)
    crash_when(task, "submitted")
    with pytest.raises(Crash):
        task.run()
    live_on(task)
    facts = task.run()

    assert [job.request_id for job in segmind.jobs] == [facts["request_id"]]


def test_a_try_that_was_lost_while_deferred_goes_on_with_its_job(erase, segmind):
    task = erase()
    assert isinstance(task.submit(), TaskDeferred)
    task.run()

    assert len(segmind.jobs) == 1


def test_a_job_that_completed_meanwhile_is_not_waited_for(erase, segmind):
    task = erase()
    task.wait(task.submit())

    assert isinstance(task.submit(), dict)


def test_a_destination_that_is_down_costs_nothing(erase, segmind, destination):
    task = erase()
    task.before_store = lambda: destination.parent.write_text("a file where a folder should be")
    with pytest.raises((SegmindStorageError, AirflowFailException)):
        task.run()
    destination.parent.unlink()
    task.before_store = lambda: None
    task.run()

    assert len(segmind.jobs) == 1
    assert destination.exists()


def test_a_run_after_a_success_submits_a_new_job(erase, segmind):
    task = erase()
    task.run()
    assert task.store.values == {}
    task.run()

    assert len(segmind.jobs) == 2


def test_a_timeout_names_the_request_and_the_retry_goes_on_with_it(erase, segmind, destination):
    segmind.faults.add("job_takes", seconds=1.5)
    task = erase(timeout=0.5)
    with pytest.raises(SegmindJobTimeoutError) as timeout:
        task.run()
    assert timeout.value.request_id == task.store.get(KEY)["request_id"] == segmind.jobs[0].request_id
    for _ in range(5):
        try:
            task.run()
            break
        except SegmindJobTimeoutError:
            pass

    assert len(segmind.jobs) == 1
    assert destination.exists()


def test_changed_inputs_are_a_new_job(erase, segmind, image, caplog):
    task = erase()
    task.submit()
    other = erase(preserve_alpha=False)
    other.store = task.store
    other.run()

    assert len(segmind.jobs) == 2
    assert "inputs have changed" in caplog.text


def test_a_cut_submit_is_found_in_the_history(erase, segmind, destination):
    segmind.faults.add("cut_after_accept")
    task = erase()
    facts = task.run()

    assert [job.request_id for job in segmind.jobs] == [facts["request_id"]]
    assert task.store.values == {}


def test_a_submit_that_is_never_answered_is_found_in_the_history(erase, segmind, monkeypatch):
    impatient = json.loads(segmind.connection)
    impatient["extra"] = json.dumps({**json.loads(impatient.get("extra") or "{}"), "read_timeout": 0.4})
    monkeypatch.setenv("AIRFLOW_CONN_SEGMIND_DEFAULT", json.dumps(impatient))
    segmind.faults.add("hang_after_accept")
    facts = erase().run()

    assert [job.request_id for job in segmind.jobs] == [facts["request_id"]]


def test_a_key_refused_while_polling_fails_without_retries_and_keeps_the_checkpoint(erase, segmind, destination):
    refused = segmind.faults.add("error", on=["status", "result"], status=401, times=None)
    task = erase()
    with pytest.raises(AirflowFailException, match="password"):
        task.run()
    assert task.store.get(KEY)["request_id"] == segmind.jobs[0].request_id
    assert segmind.requests.counts == {"submit": 1, "status": 1, "result": 1}  # an endless 401 is asked few times
    segmind.faults.remove(refused.id)
    task.run()

    assert len(segmind.jobs) == 1
    assert destination.exists()


def test_a_submit_answered_without_an_id_is_found_in_the_history(erase, segmind):
    segmind.faults.add("no_request_id")
    erase().run()

    assert len(segmind.jobs) == 1


def test_a_submit_answered_by_a_proxys_error_is_found_in_the_history(erase, segmind):
    segmind.faults.add("error_after_accept", status=504)
    erase().run()

    assert len(segmind.jobs) == 1


def test_a_record_that_lands_late_is_waited_for(erase, segmind):
    segmind.faults.add("history_late", seconds=2.0)
    segmind.faults.add("cut_after_accept")
    erase().run()

    assert len(segmind.jobs) == 1


def test_a_history_that_is_down_fails_the_try_and_the_retry_searches_again(erase, segmind, quick_retries):
    segmind.faults.add("cut_after_accept")
    outage = segmind.faults.add("error", on="history", status=500, times=None)
    task = erase()
    with pytest.raises(SegmindSubmitUnknownError, match="history"):
        task.run()
    assert task.store.get(KEY)["state"] == "submitting"
    segmind.faults.remove(outage.id)
    task.run()

    assert len(segmind.jobs) == 1


def test_on_unknown_submit_fail_leaves_it_to_the_user(erase, segmind):
    segmind.faults.add("cut_after_accept")
    task = erase(on_unknown_submit="fail")
    for _ in range(2):
        with pytest.raises(AirflowFailException, match="on_unknown_submit='reconcile'"):
            task.run()

    assert len(segmind.jobs) == 1
    assert "history" not in segmind.requests.counts


def test_on_unknown_submit_resubmit_pays_again(erase, segmind):
    segmind.faults.add("cut_after_accept")
    erase(on_unknown_submit="resubmit").run()

    assert len(segmind.jobs) == 2


@pytest.mark.parametrize("leg", [1, 2])
def test_an_expired_record_is_recovered_from_the_history(erase, segmind, destination, leg):
    task = erase()
    deferral = task.submit()
    event = task.wait(deferral)
    segmind.faults.add("expire_record")
    age_checkpoint(task, 4000)
    if leg == 1:
        task.run()
    else:
        task.resume({**event, "status": "EXPIRED", "output_url": None})

    assert len(segmind.jobs) == 1
    assert subject_pixels(destination.read_bytes()) == 0


def test_an_expired_job_whose_file_is_gone_is_logged_as_lost_and_submitted_again(erase, segmind, caplog):
    task = erase()
    task.wait(task.submit())
    segmind.faults.add("expire_record")
    segmind.faults.add("expire_file")
    age_checkpoint(task, 4000)
    task.run()

    assert len(segmind.jobs) == 2
    assert "is lost" in caplog.text


def test_an_expired_job_that_is_still_pending_is_looked_up_again(erase, segmind):
    segmind.faults.add("job_takes", seconds=30.0)
    segmind.faults.add("expire_record", times=None)
    task = erase()
    task.submit()
    age_checkpoint(task, 4000)
    with pytest.raises(SegmindJobExpiredError, match="pending"):
        task.run()

    assert len(segmind.jobs) == 1
    assert task.store.get(KEY)["request_id"]


def test_an_outage_of_the_service_while_polling_is_waited_out(erase, segmind, quick_retries):
    segmind.faults.add("error", on="status", status=503, times=8, style="html")
    erase().run()

    assert len(segmind.jobs) == 1


def test_a_service_that_is_down_before_the_submit_leaves_no_checkpoint(erase, segmind, quick_retries):
    segmind.faults.add("error", on="submit", status=503, times=None)
    task = erase()
    with pytest.raises(SegmindServiceError):
        task.run()

    assert task.store.values == {}
    assert segmind.requests.counts["submit"] == 5


def test_a_truncated_file_is_fetched_again(erase, segmind, destination, quick_retries):
    segmind.faults.add("truncated_file", times=2)
    segmind.faults.add("truncated_chunked", nth=3)
    erase().run()

    assert subject_pixels(destination.read_bytes()) == 0
    assert photo() != destination.read_bytes()


def test_a_file_that_stays_truncated_keeps_the_checkpoint(erase, segmind, destination, quick_retries):
    cut = segmind.faults.add("truncated_file", times=None)
    task = erase()
    with pytest.raises(SegmindOutputError, match="paid for"):
        task.run()
    assert task.store.get(KEY)["request_id"]
    segmind.faults.remove(cut.id)
    task.run()

    assert len(segmind.jobs) == 1
    assert destination.exists()
