"""The verdict of the chaos run turns red for each thing that must not happen, shown one at a time."""

from __future__ import annotations

import dataclasses
import hashlib

import pytest

from airflow_provider_segmind.emulator.erase import erase_foreground
from chaos import photos
from chaos.airflow_database import CheckpointRecord, TaskRecord
from chaos.evidence import Evidence, StoredObject, find_files_with, find_images
from chaos.plan import ImagePlan, Plan
from chaos.verdict import judge

SEED = 7
IMAGES = (
    ImagePlan("photo-0000", "defer_url", 0, ()),
    ImagePlan("photo-0001", "defer_inline", 0, ("post_to_checkpoint",)),
    ImagePlan("photo-0002", "defer_url", 1, ()),
)
PLAN = Plan(SEED, IMAGES, ())
FIRST = IMAGES[0]


@pytest.fixture(scope="module")
def good():
    """The evidence of a run without any fault. The request id of each image's job is the image's stem."""
    sources = {image.source: photos.photo(SEED, number) for number, image in enumerate(IMAGES)}
    erased = {image.target: erase_foreground(sources[image.source], preserve_alpha=True) for image in IMAGES}
    return Evidence(
        tasks=tuple(TaskRecord(image.route, image.map_index, "success", 1) for image in IMAGES),
        jobs=tuple(job(image, sources) for image in IMAGES),
        sources=sources,
        stored={
            image.target: StoredObject(erased[image.target], {"segmind-request-id": image.stem}) for image in IMAGES
        },
        checkpoints=tuple(CheckpointRecord(image.route, image.map_index, "delivered", image.stem) for image in IMAGES),
    )


def job(image, sources, **facts):
    """Return a job as the emulator lists it."""
    digest = hashlib.sha256(sources[image.source]).hexdigest()
    identity = f"sha256:{digest}" if image.route.endswith("inline") else f"http://s3/photos/incoming/{image.stem}.jpg"
    return {"request_id": image.stem, "image": identity, "state": "COMPLETED", **facts}


def find_faults(evidence, **changes):
    """Return what is wrong with the first image, with the other images, and as a whole."""
    verdict = judge(PLAN, dataclasses.replace(evidence, **changes))
    assert verdict.passed == (not verdict.image_faults and not verdict.faults)
    others = dict(verdict.image_faults)
    return others.pop(FIRST.stem, []), others, verdict.faults


def test_a_run_without_faults_passes(good):
    verdict = judge(PLAN, good)
    assert verdict.passed
    assert (verdict.posts, verdict.failed_jobs, verdict.tries, verdict.most_tries) == (3, 0, 3, 1)


def test_a_second_paid_job_for_an_image_is_a_fault(good):
    second = job(FIRST, good.sources, request_id="second")
    assert find_faults(good, jobs=(*good.jobs, second)) == (
        ["2 POSTs were accepted, and 2 of their jobs were paid for"],
        {},
        [],
    )


def test_a_second_paid_job_for_an_inline_image_is_a_fault(good):
    second = job(IMAGES[1], good.sources, request_id="second")
    _, others, _ = find_faults(good, jobs=(*good.jobs, second))
    assert others == {IMAGES[1].stem: ["2 POSTs were accepted, and 2 of their jobs were paid for"]}


def test_a_second_job_after_one_that_failed_without_a_bill_is_no_fault(good):
    failed = job(FIRST, good.sources, request_id="failed", state="FAILED")
    verdict = judge(PLAN, dataclasses.replace(good, jobs=(failed, *good.jobs)))
    assert (verdict.passed, verdict.posts, verdict.failed_jobs) == (True, 4, 1)


def test_a_missing_result_is_a_fault(good):
    stored = {uri: found for uri, found in good.stored.items() if uri != FIRST.target}
    assert find_faults(good, stored=stored) == (["its result is not stored"], {}, [])


def test_the_result_of_another_photo_is_a_fault(good):
    swapped = StoredObject(good.stored[IMAGES[2].target].content, good.stored[FIRST.target].metadata)
    found, others, _ = find_faults(good, stored={**good.stored, FIRST.target: swapped})
    assert (found, others) == (["its stored result is wrong: it has the background of photo 2"], {})


@pytest.mark.parametrize(
    ("metadata", "named"),
    [({"segmind-request-id": "photo-0002"}, "photo-0002"), ({"segmind-request-id": "failed"}, "failed"), ({}, "None")],
    ids=["of another image", "of a job that was not billed", "of no job"],
)
def test_an_object_whose_metadata_does_not_name_the_paid_job_of_its_image_is_a_fault(good, metadata, named):
    failed = job(FIRST, good.sources, request_id="failed", state="FAILED")
    stored = {**good.stored, FIRST.target: StoredObject(good.stored[FIRST.target].content, metadata)}
    assert find_faults(good, jobs=(failed, *good.jobs), stored=stored) == (
        [f"the metadata of its stored result names request {named}, but photo-0000 was paid for"],
        {},
        [],
    )


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (photos.photo(SEED, 0), "the subject still covers"),
        (b"\x89PNG\r\n\x1a\n", "it is not an image (8 bytes)"),
        (erase_foreground(photos.photo(SEED + 1, 0), preserve_alpha=True), "background"),
    ],
    ids=["subject not erased", "truncated", "photo of another seed"],
)
def test_a_result_that_is_not_the_photo_without_its_subject_is_a_fault(good, content, fault):
    stored = {**good.stored, FIRST.target: StoredObject(content, good.stored[FIRST.target].metadata)}
    ([found], _, _) = find_faults(good, stored=stored)
    assert found.startswith("its stored result is wrong: ")
    assert fault in found


@pytest.mark.parametrize(("tasks", "state"), [(slice(1, None), "missing"), (slice(0, None), "failed")])
def test_a_task_that_has_not_succeeded_is_a_fault(good, tasks, state):
    failed = dataclasses.replace(good.tasks[0], state="failed")
    found, others, _ = find_faults(good, tasks=(failed, *good.tasks[1:])[tasks])
    assert (found, others) == ([f"its task is {state}"], {})


@pytest.mark.parametrize("state", ["submitting", "submitted", None])
def test_a_checkpoint_that_is_neither_delivered_nor_forgotten_is_a_fault(good, state):
    left = dataclasses.replace(good.checkpoints[0], state=state)
    assert find_faults(good, checkpoints=(left, *good.checkpoints[1:])) == (
        [f"its checkpoint is neither delivered nor forgotten: state {state}"],
        {},
        [],
    )


def test_a_forgotten_checkpoint_is_no_fault(good):
    assert judge(PLAN, dataclasses.replace(good, checkpoints=good.checkpoints[1:])).passed


def test_a_delivered_checkpoint_of_a_job_that_was_not_paid_for_is_a_fault(good):
    other = dataclasses.replace(good.checkpoints[0], request_id="other")
    assert find_faults(good, checkpoints=(other, *good.checkpoints[1:])) == (
        ["its checkpoint says that request other is delivered, but photo-0000 was paid for"],
        {},
        [],
    )


def test_a_checkpoint_of_no_image_is_a_fault(good):
    stray = CheckpointRecord("defer_url", 9, "delivered", "photo-0000")
    assert find_faults(good, checkpoints=(*good.checkpoints, stray)) == (
        [],
        {},
        ["checkpoints belong to no image: ['erase_many.defer_url[9]']"],
    )


@pytest.mark.parametrize(
    ("text", "state", "request_id"),
    [
        ('{"version": 1, "state": "submitting", "request_id": null}', "submitting", None),
        ('{"version": 1, "state": "delivered", "delivered_in": 2, "request_id": "r"}', "delivered", "r"),
        ('"delivered"', None, None),
        ("{", None, None),
    ],
)
def test_the_state_of_a_checkpoint_is_read_from_its_row_in_the_database(text, state, request_id):
    assert CheckpointRecord.parse("defer_url", 0, text) == CheckpointRecord("defer_url", 0, state, request_id)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (
            {"unfinished_uploads": ("erased/photo-0000.png",)},
            "multipart uploads were not completed: ['erased/photo-0000.png']",
        ),
        ({"triggers": 2}, "Airflow still has triggers: 2"),
        ({"runs": {"erase_many": {"manual": "running"}}}, "the states of the runs of erase_many are running"),
        ({"leftover_images": ("tmp/x",)}, "temporary files were left behind: ['tmp/x']"),
        ({"logs_with_key": ("logs/airflow.log",)}, "log files contain the API key: ['logs/airflow.log']"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_anything_left_behind_is_a_fault(good, change, fault):
    assert find_faults(good, **change) == ([], {}, [fault])


def test_an_unexpected_object_is_a_fault(good):
    stored = {**good.stored, "s3://photos/erased/x.png": good.stored[FIRST.target]}
    assert find_faults(good, stored=stored) == ([], {}, ["unexpected objects are stored: ['s3://photos/erased/x.png']"])


def test_a_job_of_no_image_is_a_fault(good):
    unknown = {"request_id": "unknown", "image": "http://s3/photos/other.jpg", "state": "COMPLETED"}
    assert find_faults(good, jobs=(*good.jobs, unknown)) == ([], {}, ["jobs belong to no image: ['unknown']"])


def test_the_api_key_is_found_in_any_log_file_that_contains_it(tmp_path):
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "attempt=1.log").write_bytes(b"\xff sent with SG_key")
    (tmp_path / "clean.log").write_text("SG_")
    assert list(find_files_with("SG_key", tmp_path)) == [tmp_path / "deep" / "attempt=1.log"]


def test_a_temporary_image_is_found_under_any_name(tmp_path):
    (tmp_path / "tmpab12").write_bytes(photos.photo(SEED, 0)[:1000])
    (tmp_path / "pymp-xy").mkdir()
    (tmp_path / "listener").write_text("not an image")
    assert list(find_images(tmp_path)) == [tmp_path / "tmpab12"]
