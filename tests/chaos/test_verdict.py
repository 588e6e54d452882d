"""The verdict of the chaos run can be a bad one: each thing that must not be, shown to it alone."""

from __future__ import annotations

import dataclasses
import hashlib

import pytest

from airflow_provider_segmind.emulator.erase import erase_foreground
from chaos import photos
from chaos.evidence import Evidence, Stored, files_holding, files_with_a_picture
from chaos.plan import ImagePlan, Plan
from chaos.records import TaskRecord
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
    sources = {image.source: photos.photo(SEED, number) for number, image in enumerate(IMAGES)}
    erased = {image.target: erase_foreground(sources[image.source], preserve_alpha=True) for image in IMAGES}
    return Evidence(
        tasks=tuple(TaskRecord(image.route, image.map_index, "success", 1) for image in IMAGES),
        jobs=tuple(job(image, sources) for image in IMAGES),
        sources=sources,
        stored={image.target: Stored(erased[image.target], {"segmind-request-id": image.stem}) for image in IMAGES},
    )


def job(image, sources, **facts):
    digest = hashlib.sha256(sources[image.source]).hexdigest()
    known_by = f"sha256:{digest}" if image.route.endswith("inline") else f"http://s3/photos/incoming/{image.stem}.jpg"
    return {"request_id": image.stem, "image": known_by, "state": "COMPLETED", **facts}


def faults(evidence, **changes):
    """Return what is wrong with the first image, with the others, and as a whole."""
    verdict = judge(PLAN, dataclasses.replace(evidence, **changes))
    assert verdict.good == (not verdict.wrong_images and not verdict.wrong)
    images = dict(verdict.wrong_images)
    return images.pop(FIRST.stem, []), images, verdict.wrong


def test_a_run_without_fault_is_good(good):
    verdict = judge(PLAN, good)
    assert verdict.good
    assert (verdict.posts, verdict.failed_jobs, verdict.tries, verdict.most_tries) == (3, 0, 3, 1)


def test_a_second_job_is_a_fault(good):
    again = job(FIRST, good.sources, request_id="again")
    assert faults(good, jobs=(*good.jobs, again)) == (
        ["2 accepted POSTs, of which 2 did not fail at the service"],
        {},
        [],
    )


def test_a_second_job_for_an_inline_image_is_a_fault(good):
    again = job(IMAGES[1], good.sources, request_id="again")
    _, others, _ = faults(good, jobs=(*good.jobs, again))
    assert others == {IMAGES[1].stem: ["2 accepted POSTs, of which 2 did not fail at the service"]}


def test_a_second_job_after_one_that_failed_unbilled_is_none(good):
    failed = job(FIRST, good.sources, request_id="failed", state="FAILED")
    verdict = judge(PLAN, dataclasses.replace(good, jobs=(failed, *good.jobs)))
    assert (verdict.good, verdict.posts, verdict.failed_jobs) == (True, 4, 1)


def test_an_object_that_is_missing_is_a_fault(good):
    stored = {uri: found for uri, found in good.stored.items() if uri != FIRST.target}
    assert faults(good, stored=stored) == (["it is not stored"], {}, [])


def test_a_picture_in_the_place_of_another_is_a_fault(good):
    swapped = Stored(good.stored[IMAGES[2].target].content, good.stored[FIRST.target].metadata)
    found, others, _ = faults(good, stored={**good.stored, FIRST.target: swapped})
    assert (found, others) == (["what is stored: it has the background of photo 2"], {})


def test_a_picture_of_another_job_is_a_fault(good):
    strange = Stored(good.stored[FIRST.target].content, {"segmind-request-id": IMAGES[2].stem})
    found, _, _ = faults(good, stored={**good.stored, FIRST.target: strange})
    assert found == ["what is stored comes from no job of its own"]


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (photos.photo(SEED, 0), "its subject is still there"),
        (b"\x89PNG\r\n\x1a\n", "no image, 8 bytes"),
        (erase_foreground(photos.photo(SEED + 1, 0), preserve_alpha=True), "background"),
    ],
    ids=["not erased", "cut short", "of another run"],
)
def test_a_picture_that_is_not_the_photo_without_its_subject_is_a_fault(good, content, fault):
    stored = {**good.stored, FIRST.target: Stored(content, good.stored[FIRST.target].metadata)}
    ([found], _, _) = faults(good, stored=stored)
    assert found.startswith("what is stored: ")
    assert fault in found


@pytest.mark.parametrize(("tasks", "state"), [(slice(1, None), "missing"), (slice(0, None), "failed")])
def test_a_task_that_has_not_succeeded_is_a_fault(good, tasks, state):
    failed = dataclasses.replace(good.tasks[0], state="failed")
    found, others, _ = faults(good, tasks=(failed, *good.tasks[1:])[tasks])
    assert (found, others) == ([f"its task is {state}"], {})


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"uploads": ("erased/photo-0000.png",)}, "unfinished multipart uploads: ['erased/photo-0000.png']"),
        ({"triggers": 2}, "2 triggers are left in Airflow"),
        ({"open_checkpoints": 1}, "1 checkpoints in Airflow are about jobs that are not delivered"),
        ({"run_state": "running"}, "the run is running"),
        ({"pictures": ("tmp/x",)}, "temporary files: ['tmp/x']"),
        ({"key_in": ("logs/airflow.log",)}, "the API key is in ['logs/airflow.log']"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_what_is_left_behind_is_a_fault(good, change, fault):
    assert faults(good, **change) == ([], {}, [fault])


def test_an_object_that_nobody_asked_for_is_a_fault(good):
    stored = {**good.stored, "s3://photos/erased/x.png": good.stored[FIRST.target]}
    assert faults(good, stored=stored) == ([], {}, ["objects that nobody asked for: ['s3://photos/erased/x.png']"])


def test_a_job_of_no_image_is_a_fault(good):
    strange = {"request_id": "stranger", "image": "http://s3/photos/other.jpg", "state": "COMPLETED"}
    assert faults(good, jobs=(*good.jobs, strange)) == ([], {}, ["jobs of no image: ['stranger']"])


def test_the_key_is_found_in_whatever_log_holds_it(tmp_path):
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "attempt=1.log").write_bytes(b"\xff sent with SG_key, alas")
    (tmp_path / "clean.log").write_text("SG_")
    assert list(files_holding(tmp_path, "SG_key")) == [tmp_path / "deep" / "attempt=1.log"]


def test_a_spooled_picture_is_found_whatever_its_name(tmp_path):
    (tmp_path / "tmpab12").write_bytes(photos.photo(SEED, 0)[:1000])
    (tmp_path / "pymp-xy").mkdir()
    (tmp_path / "listener").write_text("of somebody else")
    assert list(files_with_a_picture(tmp_path)) == [tmp_path / "tmpab12"]
