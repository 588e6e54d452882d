"""A batch whose process dies: whatever it has written last, each image is paid for once and each input has its line."""

from __future__ import annotations

import json
import threading
from contextlib import contextmanager

import pytest

from airflow_provider_segmind.exceptions import SegmindStorageError
from airflow_provider_segmind.files.documents import FileDocuments
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


def run_until_it_ends(task):
    """Retry after each crash, as Airflow does."""
    try:
        return task.run()
    except Crash:
        return None


def test_fewer_writes_are_made_than_the_crashes_cover(batch, dies_after):
    with dies_after(10_000) as written:
        batch.task(max_transfers=1, max_wave=2).run()

    assert 10 < len(written) < MOST_WRITES


@pytest.mark.parametrize("number", range(1, MOST_WRITES))
def test_a_retry_after_a_crash_pays_for_no_image_again(segmind, batch, dies_after, number):
    task = batch.task(max_transfers=1, max_wave=2)
    with dies_after(number):
        summary = run_until_it_ends(task)
    summary = summary or task.run()

    assert set(segmind.jobs.posts_per_image.values()) == {1}
    assert (len(segmind.jobs), len(batch.stored()), summary["total"]) == (IMAGES, IMAGES, IMAGES)
    assert set(batch.statuses(task)) <= {"completed", "skipped"}


@pytest.mark.parametrize("number", range(1, MOST_WRITES, 4))
def test_a_new_run_after_a_crash_pays_for_no_image_again(segmind, batch, dies_after, number):
    with dies_after(number):
        run_until_it_ends(batch.task(max_transfers=1, max_wave=2))
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

    entries = [json.loads(path.read_text()) for path in (batch.results / "_segmind" / "ledger").glob("*.json")]
    assert [entry["state"] for entry in entries] == ["delivered"] * IMAGES
    assert (len(segmind.jobs), len(batch.stored())) == (IMAGES, IMAGES)
