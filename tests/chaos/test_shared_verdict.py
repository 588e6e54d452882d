"""The verdict on images that two DAGs share turns red for each thing that must not happen, shown one at a time."""

from __future__ import annotations

import dataclasses

import pytest

from airflow_provider_segmind.emulator.erase import erase_foreground
from chaos import photos
from chaos.airflow_database import CheckpointRecord, TaskRecord
from chaos.evidence import Evidence, LedgerRecord, StoredObject, StoredVersion
from chaos.plan import SHARING_DAGS, Plan, SharedImage
from chaos.verdict import judge

SEED = 7
IMAGES = (SharedImage("shared-0000", ()), SharedImage("shared-0001", ()))
PLAN = Plan(SEED, (), (), shared=IMAGES)
DAG, OTHER_DAG = SHARING_DAGS
FIRST = IMAGES[0]
TARGET, OTHER_TARGET = FIRST.target(DAG), FIRST.target(OTHER_DAG)


@pytest.fixture(scope="module")
def good():
    """The evidence of a run in which both DAGs stored the one job of each image. Its id is the image's stem."""
    erased = [erase_foreground(photos.photo(SEED, number), preserve_alpha=True) for number, _ in enumerate(IMAGES)]
    stored = {image.target(dag_id): number for number, image in enumerate(IMAGES) for dag_id in SHARING_DAGS}
    return Evidence(
        tasks=tuple(
            TaskRecord("erase", number, "success", 1, dag_id)
            for number, _ in enumerate(IMAGES)
            for dag_id in SHARING_DAGS
        ),
        jobs=tuple(job(image.stem, image.stem, created=100.0) for image in IMAGES),
        sources={},
        stored={
            uri: StoredObject(erased[number], {"segmind-request-id": IMAGES[number].stem})
            for uri, number in stored.items()
        },
        runs={dag_id: {"manual": "success"} for dag_id in SHARING_DAGS},
        versions={uri: (StoredVersion(IMAGES[number].stem, 110.0),) for uri, number in stored.items()},
        ledger={f"s3://photos/ledger/{image.stem}.json": LedgerRecord("delivered", image.stem) for image in IMAGES},
    )


def job(stem, request_id, created, state="COMPLETED"):
    address = f"http://s3/photos/incoming/{stem}.jpg"
    return {"request_id": request_id, "image": address, "created": created, "state": state}


def find_faults(evidence, **changes):
    """Return what is wrong with the first image, with the other images, and as a whole."""
    verdict = judge(PLAN, dataclasses.replace(evidence, **changes))
    others = dict(verdict.image_faults)
    return others.pop(FIRST.stem, []), others, verdict.faults


def with_second_job(good, *, created, stored_at=130.0):
    """Return the changes after which the second DAG has stored a second job of the first image."""
    content = good.stored[OTHER_TARGET].content
    return {
        "jobs": (*good.jobs, job(FIRST.stem, "second", created)),
        "stored": {**good.stored, OTHER_TARGET: StoredObject(content, {"segmind-request-id": "second"})},
        "versions": {**good.versions, OTHER_TARGET: (StoredVersion("second", stored_at),)},
    }


def test_one_job_that_both_dags_have_stored_is_no_fault(good):
    verdict = judge(PLAN, good)
    assert (verdict.passed, verdict.shared_jobs) == (True, 2)


def test_a_second_job_after_the_first_was_stored_is_no_fault(good):
    assert find_faults(good, **with_second_job(good, created=111.0)) == ([], {}, [])


def test_a_second_job_before_the_first_was_stored_is_a_fault(good):
    found, others, faults = find_faults(good, **with_second_job(good, created=109.0))
    assert found == ["request second was accepted before the result of shared-0000, which is paid for, was stored"]
    assert (others, faults) == ({}, [])


def test_a_job_that_was_paid_for_and_never_stored_is_a_fault(good):
    versions = {uri: versions for uri, versions in good.versions.items() if uri not in (TARGET, OTHER_TARGET)}
    found, _, _ = find_faults(good, versions=versions)
    assert found == ["request shared-0000 was paid for, and its result was never stored"]


def test_a_failed_job_that_was_never_stored_is_no_fault(good):
    failed = job(FIRST.stem, "failed", 90.0, "FAILED")
    assert find_faults(good, jobs=(failed, *good.jobs)) == ([], {}, [])


def test_three_jobs_of_one_image_are_a_fault(good):
    changes = with_second_job(good, created=120.0)
    versions = (StoredVersion("second", 130.0), StoredVersion("third", 150.0))
    changes["jobs"] += (job(FIRST.stem, "third", 140.0),)
    changes["versions"] |= {OTHER_TARGET: versions}
    assert find_faults(good, **changes) == (["3 jobs were paid for"], {}, [])


def test_a_result_that_one_of_the_dags_has_not_stored_is_a_fault(good):
    stored = {uri: found for uri, found in good.stored.items() if uri != OTHER_TARGET}
    assert find_faults(good, stored=stored) == ([f"its result of {OTHER_DAG} is not stored"], {}, [])


def test_a_task_of_one_of_the_dags_that_failed_is_a_fault(good):
    tasks = tuple(
        dataclasses.replace(task, state="failed") if (task.dag_id, task.map_index) == (OTHER_DAG, 0) else task
        for task in good.tasks
    )
    assert find_faults(good, tasks=tasks) == ([f"its task of {OTHER_DAG} is failed"], {}, [])


@pytest.mark.parametrize(
    "record",
    [LedgerRecord("submitted", "shared-0000"), LedgerRecord("submitting", None), LedgerRecord("delivered", "other")],
)
def test_an_entry_of_the_ledger_that_is_not_about_a_delivered_job_is_a_fault(good, record):
    _, _, [fault] = find_faults(good, ledger={**good.ledger, "s3://photos/ledger/x.json": record})
    assert fault.startswith("the ledger's entry s3://photos/ledger/x.json is not about a delivered job")


def test_a_checkpoint_in_the_task_state_store_of_a_dag_that_must_not_have_one_is_a_fault(good):
    stray = CheckpointRecord("erase", 0, "delivered", "shared-0000", DAG)
    assert find_faults(good, checkpoints=(stray,)) == ([], {}, [f"checkpoints belong to no image: ['{DAG}.erase[0]']"])


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b'{"state": "delivered", "request_id": "r"}', LedgerRecord("delivered", "r")),
        (b"[]", LedgerRecord(None, None)),
        (b"{", LedgerRecord(None, None)),
    ],
)
def test_the_state_of_an_entry_is_read_from_its_object(content, expected):
    assert LedgerRecord.parse(content) == expected
