"""A batch whose process dies: whatever it has written last, each image is paid for once and each input has its line."""

from __future__ import annotations

import threading

import pytest

from airflow_provider_segmind.files.documents import FileDocuments
from airflow_provider_segmind.jobs import acquire
from tests.operators.task import Crash
from tests.operators.test_batch import Batch

pytestmark = pytest.mark.usefixtures("quick_jobs")

WRITES = ("create", "replace", "write", "delete")
IMAGES = 3
MOST_WRITES = 40
"""More than a batch of ``IMAGES`` makes, which a test checks."""


@pytest.fixture
def batch(segmind, tmp_path, monkeypatch):
    monkeypatch.setattr("airflow_provider_segmind.api.history.LISTED_WITHIN", 0.5)
    monkeypatch.setattr(acquire, "LISTED_WITHIN", 0.5)
    batch = Batch(tmp_path)
    batch.put(*[f"{number}.png" for number in range(IMAGES)])
    return batch


@pytest.fixture
def dies_after(monkeypatch):
    """Return a function after which the process dies right after the n-th write of a document, of all threads."""
    lock, written = threading.Lock(), []

    def let_write_and_die(name, number):
        write = getattr(FileDocuments, name)

        def writing(self, *arguments):
            with lock:
                written.append(name)
                alive = len(written) <= number
            if not alive:
                raise Crash
            result = write(self, *arguments)
            if len(written) == number:
                raise Crash
            return result

        monkeypatch.setattr(FileDocuments, name, writing)

    def arm(number):
        for name in WRITES:
            let_write_and_die(name, number)
        return written

    yield arm


def run_until_it_ends(task):
    """Retry after each crash, as Airflow does."""
    try:
        return task.run()
    except Crash:
        return None


def test_fewer_writes_are_made_than_the_crashes_cover(batch, dies_after):
    written = dies_after(10_000)
    batch.task(max_transfers=1, max_wave=2).run()

    assert 10 < len(written) < MOST_WRITES


@pytest.mark.parametrize("number", range(1, MOST_WRITES))
def test_a_retry_after_a_crash_pays_for_no_image_again(segmind, batch, dies_after, number, monkeypatch):
    task = batch.task(max_transfers=1, max_wave=2)
    with monkeypatch.context():
        dies_after(number)
        summary = run_until_it_ends(task)
    monkeypatch.undo()
    monkeypatch.setenv("AIRFLOW_CONN_SEGMIND_DEFAULT", segmind.connection)
    summary = summary or task.run()

    assert set(segmind.jobs.posts_per_image.values()) == {1}
    assert (len(segmind.jobs), len(batch.stored()), summary["total"]) == (IMAGES, IMAGES, IMAGES)
    assert set(batch.statuses(task)) <= {"completed", "skipped"}


@pytest.mark.parametrize("number", range(1, MOST_WRITES, 4))
def test_a_new_run_after_a_crash_pays_for_no_image_again(segmind, batch, dies_after, number, monkeypatch):
    dies_after(number)
    run_until_it_ends(batch.task(max_transfers=1, max_wave=2))
    monkeypatch.undo()
    monkeypatch.setenv("AIRFLOW_CONN_SEGMIND_DEFAULT", segmind.connection)
    summary = batch.task().run()

    assert (len(segmind.jobs), len(batch.stored())) == (IMAGES, IMAGES)
    assert summary["completed"] + summary["skipped"] == IMAGES
