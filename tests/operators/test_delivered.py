"""What a checkpoint is worth after a success: it spares a retry from paying, and does not stop a Clear."""

from __future__ import annotations

from airflow_provider_segmind.jobs.checkpoint import KEY


def test_a_retry_of_a_success_that_airflow_did_not_record_pays_nothing(erase, segmind, destination):
    task = erase()
    task.ti.max_tries = 3
    first = task.run()
    destination.unlink()
    again = task.run()  # Airflow retries: the number of the last allowed try is what it was

    assert len(segmind.jobs) == 1
    assert again["request_id"] == first["request_id"]
    assert destination.exists()


def test_a_clear_after_a_success_submits_a_new_job(erase, segmind):
    task = erase()
    task.ti.max_tries = 3
    task.run()
    task.ti.max_tries = 5  # as a Clear does: this try's number and the retries
    task.run()

    assert len(segmind.jobs) == 2


def test_a_success_marks_the_checkpoint_delivered(erase, segmind):
    task = erase()
    task.ti.max_tries = 0
    facts = task.run()

    assert task.store.get(KEY)["state"] == "delivered"
    assert task.store.get(KEY)["request_id"] == facts["request_id"]


def test_a_success_leaves_no_checkpoint_where_the_number_of_tries_is_unknown(erase, segmind):
    task = erase()
    task.run()

    assert task.store.values == {}
