"""A batch whose process dies: whatever it has written last, each image is paid for once and each input has its line."""

from __future__ import annotations

import threading
from contextlib import closing, contextmanager

import pytest

from airflow_provider_segmind.api.polling import watch
from airflow_provider_segmind.exceptions import SegmindStorageError
from airflow_provider_segmind.files.documents import FileDocuments
from airflow_provider_segmind.hooks import session
from airflow_provider_segmind.hooks.segmind import SegmindHook
from airflow_provider_segmind.jobs.batch_budget import PUBLISHED_PRICES
from tests.operators.task import Crash
from tests.operators.test_batch import Batch

pytestmark = pytest.mark.usefixtures("quick_jobs")

TIMES = (
    ("api.history", "LISTED_WITHIN"),
    ("jobs.acquire", "LISTED_WITHIN"),
    ("jobs.acquire", "LISTED_MARGIN"),
    ("jobs.acquire", "SEARCH_AGAIN_SECONDS"),
    ("jobs.acquire", "SUBMIT_ENDS_WITHIN"),
    ("jobs.ledger", "SUBMIT_ENDS_WITHIN"),
)
"""How long an unanswered submit is looked for: minutes, which these tests would spend asleep."""

WRITES = ("create", "replace", "write", "delete")
IMAGES = 3
MOST_WRITES = 40
"""More than a batch of ``IMAGES`` makes, which a test checks."""

SUBMITTED_ALL = 3 + 2 * IMAGES
"""The writes until all is submitted: inputs, results that are there, state, and two of each ledger entry."""


@pytest.fixture
def batch(segmind, tmp_path, monkeypatch):
    for module, name in TIMES:
        monkeypatch.setattr(f"airflow_provider_segmind.{module}.{name}", 0.3)
    batch = Batch(tmp_path)
    batch.put(*[f"{number}.png" for number in range(IMAGES)])
    return batch


@pytest.fixture
def dies_after():
    """Return a context in which the process dies right after the n-th write of a document, with all its threads."""

    @contextmanager
    def context(number):
        lock, written = threading.Lock(), []

        def dying(write):
            def writing(self, *arguments):
                with lock:
                    written.append(write.__name__)
                    count = len(written)
                if count > number:
                    raise Crash
                result = write(self, *arguments)
                if count == number:
                    raise Crash
                return result

            return writing

        with pytest.MonkeyPatch.context() as patch:
            for name in WRITES:
                patch.setattr(FileDocuments, name, dying(getattr(FileDocuments, name)))
            yield written

    return context


def run_or_die(task):
    """Return the task's summary, or ``None`` where its process dies, with all that it knew of the connection."""
    try:
        return task.run()
    except Crash:
        session._learned.clear()
        return None


def test_fewer_writes_are_made_than_the_crashes_cover(batch, dies_after):
    with dies_after(10_000) as written:
        batch.task(max_transfers=1, max_wave=2).run()

    assert 10 < len(written) < MOST_WRITES


@pytest.mark.parametrize("number", range(1, MOST_WRITES))
def test_a_retry_after_a_crash_pays_for_no_image_again(segmind, batch, dies_after, number):
    task = batch.task(max_transfers=1, max_wave=2)
    with dies_after(number):
        summary = run_or_die(task)
    summary = summary or task.run()

    assert set(segmind.jobs.posts_per_image.values()) == {1}
    assert (len(segmind.jobs), len(batch.stored()), summary["total"]) == (IMAGES, IMAGES, IMAGES)
    assert batch.statuses(task) == ["completed"] * IMAGES
    assert {entry["state"] for entry in batch.ledger_entries()} == {"delivered"}


@pytest.mark.parametrize("number", range(3, 9))
def test_max_cost_counts_images_whose_rows_were_lost_when_a_retry_died_too(segmind, batch, dies_after, number):
    task = batch.task(max_transfers=1, max_cost=1.0)
    with dies_after(SUBMITTED_ALL):
        run_or_die(task)
    with closing(SegmindHook()) as hook:
        for job in segmind.jobs:
            hook.run_operation(
                watch(hook.api, job.request_id, None, submitted_at=0.0, deadline=job.created + 30, poll_interval=0.1)
            )
    with dies_after(number):  # while it stores what the first try has paid for
        assert run_or_die(task) is None
    summary = task.run()

    assert len(segmind.jobs) == IMAGES
    # One whose row was lost counts with what the others have cost, or with the published price.
    assert segmind.jobs.spent - 1e-6 <= summary["cost"] <= IMAGES * PUBLISHED_PRICES["bria-erase-foreground"]
    assert batch.statuses(task) == ["completed"] * IMAGES
    assert [entry["state"] for entry in batch.ledger_entries()] == ["delivered"] * IMAGES


@pytest.mark.parametrize("number", range(1, MOST_WRITES, 4))
def test_a_new_run_after_a_crash_pays_for_no_image_again(segmind, batch, dies_after, number):
    with dies_after(number):
        run_or_die(batch.task(max_transfers=1, max_wave=2))
    summary = batch.task().run()

    assert (len(segmind.jobs), len(batch.stored())) == (IMAGES, IMAGES)
    assert summary["completed"] + summary["skipped"] == IMAGES


def test_a_job_whose_request_id_the_ledger_could_not_write_is_delivered_in_the_ledger_too(segmind, batch):
    replace = FileDocuments.replace

    def lose_request_ids(self, name, data, version):
        if b'"submitted"' in data:
            raise SegmindStorageError("the disk is full")
        return replace(self, name, data, version)

    task = batch.task()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FileDocuments, "replace", lose_request_ids)
        deferral = task.submit()
    task.resume(task.wait(deferral))

    assert [entry["state"] for entry in batch.ledger_entries()] == ["delivered"] * IMAGES
    assert (len(segmind.jobs), len(batch.stored())) == (IMAGES, IMAGES)
