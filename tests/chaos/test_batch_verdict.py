"""The verdict on a batch turns red for each thing that must not happen, shown one at a time."""

from __future__ import annotations

import dataclasses

import pytest

from airflow_provider_segmind.emulator.erase import erase_foreground
from chaos import photos
from chaos.airflow_database import TaskRecord
from chaos.evidence import Evidence, LedgerRecord, StoredObject
from chaos.plan import BatchPlan, Plan
from chaos.verdict import judge

SEED = 7
BATCH = BatchPlan("erase_batch", 2, (), ())
PLAN = Plan(SEED, (), (), batches=(BATCH,))
FIRST, SECOND = BATCH.stems
MANIFEST = f"{BATCH.stored_at}_segmind/runs/erase_batch/manual/erase/manifest.jsonl"


def line(stem, **changes):
    found = {
        "source": f"{BATCH.folder}{stem}.jpg",
        "uri": BATCH.target(stem),
        "status": "completed",
        "request_id": stem,
    }
    return found | changes


def job(stem, request_id, state="COMPLETED"):
    return {"request_id": request_id, "image": f"http://s3/batches/erase_batch/{stem}.jpg", "state": state}


@pytest.fixture(scope="module")
def good():
    """The evidence of a batch without any fault. The request id of each image's job is the image's stem."""
    results = {
        BATCH.target(stem): StoredObject(
            erase_foreground(photos.photo(SEED, number), preserve_alpha=True), {"segmind-request-id": stem}
        )
        for number, stem in enumerate(BATCH.stems)
    }
    return Evidence(
        tasks=(TaskRecord("erase", -1, "success", 40, "erase_batch"),),
        jobs=tuple(job(stem, stem) for stem in BATCH.stems),
        sources={},
        stored=results,
        runs={"erase_batch": {"manual": "success"}},
        manifests={MANIFEST: tuple(line(stem) for stem in BATCH.stems)},
    )


def find_faults(evidence, **changes):
    """Return what is wrong with the first image, with the other one, and as a whole."""
    verdict = judge(PLAN, dataclasses.replace(evidence, **changes))
    others = dict(verdict.image_faults)
    return others.pop(FIRST, []), others, verdict.faults


def with_manifest(*lines):
    return {"manifests": {MANIFEST: lines}}


def test_one_paid_job_one_result_and_one_line_for_each_image_are_no_fault(good):
    verdict = judge(PLAN, good)
    assert (verdict.passed, verdict.batch_jobs) == (True, {"erase_batch": 2})


def test_a_second_paid_job_of_an_image_is_a_fault(good):
    found = find_faults(good, jobs=(*good.jobs, job(FIRST, "second")))
    assert found == (["2 POSTs were accepted, and 2 of their jobs were paid for"], {}, [])


def test_a_second_job_after_one_that_failed_without_a_bill_is_no_fault(good):
    assert find_faults(good, jobs=(*good.jobs, job(FIRST, "failed", "FAILED"))) == ([], {}, [])


def test_a_result_that_is_not_stored_is_a_fault(good):
    stored = {uri: found for uri, found in good.stored.items() if uri != BATCH.target(FIRST)}
    assert find_faults(good, stored=stored) == (["its result is not stored"], {}, [])


def test_the_result_of_another_image_of_the_batch_is_a_fault(good):
    swapped = StoredObject(good.stored[BATCH.target(SECOND)].content, {"segmind-request-id": FIRST})
    found, _, _ = find_faults(good, stored={**good.stored, BATCH.target(FIRST): swapped})
    assert found == ["its stored result is wrong: it has the background of photo 1"]


def test_an_image_without_a_line_in_the_manifest_is_a_fault(good):
    found, others, faults = find_faults(good, **with_manifest(line(SECOND)))
    assert found == ["the manifest has 0 lines about it"]
    assert (others, faults) == ({}, ["the manifest of erase_batch has 1 lines for 2 images"])


def test_an_image_with_two_lines_in_the_manifest_is_a_fault(good):
    found, _, faults = find_faults(good, **with_manifest(line(FIRST), line(FIRST), line(SECOND)))
    assert found == ["the manifest has 2 lines about it"]
    assert faults == ["the manifest of erase_batch has 3 lines for 2 images"]


@pytest.mark.parametrize("change", [{"status": "failed"}, {"uri": None}, {"request_id": "other"}], ids=str)
def test_a_line_of_the_manifest_that_does_not_name_the_stored_result_of_the_paid_job_is_a_fault(good, change):
    [fault], _, _ = find_faults(good, **with_manifest(line(FIRST, **change), line(SECOND)))
    assert fault.startswith("its line of the manifest is wrong")


def test_a_line_of_an_image_that_was_stored_before_is_no_fault(good):
    assert find_faults(good, **with_manifest(line(FIRST, status="skipped"), line(SECOND))) == ([], {}, [])


def test_the_manifest_of_a_deleted_run_does_not_count(good):
    runs = {"erase_batch": {"again": "success"}}
    _, _, faults = find_faults(good, runs=runs)
    assert faults == ["the manifest of erase_batch has 0 lines for 2 images"]


def test_a_batch_task_that_has_not_succeeded_is_a_fault(good):
    failed = dataclasses.replace(good.tasks[0], state="failed")
    assert find_faults(good, tasks=(failed,)) == ([], {}, ["the task of erase_batch is failed"])


@pytest.mark.parametrize(
    ("record", "is_fault"),
    [
        (LedgerRecord("submitted", FIRST), False),
        (LedgerRecord("forgotten", "lost"), False),
        (LedgerRecord("submitted", "lost"), True),
        (LedgerRecord("submitting", None), False),
        (LedgerRecord(None, None), True),
    ],
    ids=["submitted and stored", "forgotten", "submitted and not stored", "submitting", "unreadable"],
)
def test_an_entry_of_a_batchs_ledger_may_lag_behind_but_not_be_about_a_job_that_is_not_stored(good, record, is_fault):
    _, _, faults = find_faults(good, ledger={f"{BATCH.stored_at}_segmind/ledger/x.json": record})
    assert bool(faults) == is_fault
