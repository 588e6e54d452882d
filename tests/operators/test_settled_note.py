"""What a note is worth after its task's success: something to a retry of that success, nothing to a user's Clear."""

from __future__ import annotations

from airflow_provider_segmind.jobs.checkpoint import FINISHED, KEY


def test_a_try_that_died_before_airflow_knew_of_its_success_pays_nothing_again(erase, segmind, destination):
    task = erase()
    task.ti.max_tries = 3
    first = task.run()
    destination.unlink()
    again = task.run()  # Airflow retries: the number of the last allowed try is what it was

    assert len(segmind.jobs) == 1
    assert again["request_id"] == first["request_id"]
    assert destination.exists()


def test_a_clear_after_a_success_is_a_new_image(erase, segmind):
    task = erase()
    task.ti.max_tries = 3
    task.run()
    task.ti.max_tries = 5  # as a Clear does: this try's number and the retries
    task.run()

    assert len(segmind.jobs) == 2


def test_a_settled_note_says_so(erase, segmind):
    task = erase()
    task.ti.max_tries = 0
    facts = task.run()

    assert task.store.get(KEY)[FINISHED] == 0
    assert task.store.get(KEY)["request_id"] == facts["request_id"]


def test_where_the_retries_are_not_known_a_success_leaves_no_note(erase, segmind):
    task = erase()
    task.run()

    assert task.store.values == {}
