"""The verdict of a cluster run turns red for each thing that must not happen, shown one at a time."""

from __future__ import annotations

import dataclasses

import pytest

from airflow_provider_segmind.emulator.erase import erase_foreground
from chaos import photos
from chaos.evidence import StoredObject
from cluster.airflow_records import TaskRecord
from cluster.evidence import Evidence
from cluster.killer import Kill
from cluster.limit import LimitUse
from cluster.plan import REQUESTS_PER_MINUTE, SEED, make_part
from cluster.verdict import find_faults

MAPPED = make_part("mapped_dag", "mapped", range(2))
CHUNKED = make_part("chunked_dag", "chunked", range(2, 4), tasks=1)
PARTS = (MAPPED, CHUNKED)
PHOTOS = MAPPED.photos + CHUNKED.photos
FIRST = PHOTOS[0]


def job(photo, request_id=None):
    """Return a job as the emulator lists it. By default its request id is the photo's stem."""
    return {
        "request_id": request_id or photo.stem,
        "image": f"http://s3/photos/{photo.folder}/incoming/{photo.stem}.jpg",
        "state": "COMPLETED",
    }


@pytest.fixture(scope="module")
def good():
    """The evidence of a run without any fault."""
    erased = {photo: erase_foreground(photos.photo(SEED, photo.number), preserve_alpha=True) for photo in PHOTOS}
    return Evidence(
        run_states={part.dag_id: "success" for part in PARTS},
        tasks=[TaskRecord(part.dag_id, index, "success", 1) for part in PARTS for index in range(part.tasks)],
        jobs=[job(photo) for photo in PHOTOS],
        stored={
            photo.target: StoredObject(content, {"segmind-request-id": photo.stem}) for photo, content in erased.items()
        },
        limit=LimitUse({"submit": 4}, REQUESTS_PER_MINUTE, 0),
        started_triggers={(part.dag_id, f"triggerer-{number}"): 5 for part in PARTS for number in (1, 2)},
        worker_parts={"worker-1": 5, "worker-2": 5, "worker-3": 0},
        kills=[Kill(role, f"{role}-1", {part.dag_id: 3 for part in PARTS}) for role in ("worker", "triggerer")],
    )


def faults_with(evidence, **changes):
    return find_faults(PARTS, dataclasses.replace(evidence, **changes))


def test_a_run_without_faults_passes(good):
    assert find_faults(PARTS, good) == []


def test_a_second_post_for_a_photo_is_a_fault(good):
    assert faults_with(good, jobs=[*good.jobs, job(FIRST, "second")]) == [f"{FIRST.source}: 2 POSTs were accepted"]


def test_a_job_of_no_photo_is_a_fault(good):
    stray = {**job(FIRST), "image": "http://s3/photos/other/incoming/x.jpg"}
    assert faults_with(good, jobs=[*good.jobs, stray]) == ["a job belongs to none of the photos: other/incoming/x.jpg"]


def test_a_missing_result_is_a_fault(good):
    stored = {uri: found for uri, found in good.stored.items() if uri != FIRST.target}
    assert faults_with(good, stored=stored) == [f"{FIRST.source}: its result is not stored"]


def test_the_result_of_another_photo_is_a_fault(good):
    swapped = StoredObject(good.stored[PHOTOS[1].target].content, good.stored[FIRST.target].metadata)
    assert faults_with(good, stored={**good.stored, FIRST.target: swapped}) == [
        f"{FIRST.source}: its stored result is wrong: it has the background of photo 1"
    ]


def test_a_result_that_names_a_job_that_was_not_paid_for_is_a_fault(good):
    unnamed = StoredObject(good.stored[FIRST.target].content, {})
    assert faults_with(good, stored={**good.stored, FIRST.target: unnamed}) == [
        f"{FIRST.source}: its stored result names request None, which is not one that was paid for"
    ]


def test_an_object_that_no_photo_accounts_for_is_a_fault(good):
    stored = {**good.stored, "s3://photos/mapped/erased/x.png": good.stored[FIRST.target]}
    assert faults_with(good, stored=stored) == ["an unexpected object is stored: s3://photos/mapped/erased/x.png"]


def test_a_dag_run_that_has_not_succeeded_is_a_fault(good):
    assert faults_with(good, run_states={**good.run_states, MAPPED.dag_id: "running"}) == [
        "the run of mapped_dag is running"
    ]


def test_a_task_that_has_not_succeeded_is_a_fault(good):
    failed = dataclasses.replace(good.tasks[0], state="failed")
    assert faults_with(good, tasks=[failed, *good.tasks[1:]]) == [
        "mapped_dag has {'failed': 1, 'success': 1} instead of 2 tasks that succeeded"
    ]


def test_a_minute_with_more_requests_than_the_limit_is_a_fault(good):
    limit = dataclasses.replace(good.limit, busiest_minute=REQUESTS_PER_MINUTE + 1)
    [fault] = faults_with(good, limit=limit)
    assert fault.startswith(f"{REQUESTS_PER_MINUTE + 1} requests were sent in a minute")


def test_a_refused_request_is_a_fault(good):
    assert faults_with(good, limit=dataclasses.replace(good.limit, refused=1)) == ["1 requests were refused with a 429"]


@pytest.mark.parametrize("second", [0, 1], ids=["has done nothing", "has done almost nothing"])
def test_a_triggerer_that_hardly_takes_part_is_a_fault(good, second):
    started = {
        **good.started_triggers,
        (MAPPED.dag_id, "triggerer-1"): 20,
        (MAPPED.dag_id, "triggerer-2"): second,
    }
    assert faults_with(good, started_triggers=started) == [
        f"the triggers of mapped_dag were not spread over two triggerers: triggerer-1 20, triggerer-2 {second}"
    ]


def test_a_worker_that_does_nothing_is_a_fault(good):
    assert faults_with(good, worker_parts={"worker-1": 10, "worker-2": 0}) == [
        "the tasks were not spread over two workers: worker-1 10, worker-2 0"
    ]


@pytest.mark.parametrize("role", ["worker", "triggerer"])
def test_a_kill_that_did_not_happen_is_a_fault(good, role):
    others = [kill for kill in good.kills if kill.role != role]
    assert faults_with(good, kills=others) == [
        f"no {role} was killed while it worked for mapped_dag",
        f"no {role} was killed while it worked for chunked_dag",
    ]


def test_a_kill_that_met_no_work_of_a_dag_is_a_fault(good):
    worker, triggerer = good.kills
    half_idle = dataclasses.replace(worker, work={MAPPED.dag_id: 2, CHUNKED.dag_id: 0})
    assert faults_with(good, kills=[half_idle, triggerer]) == ["no worker was killed while it worked for chunked_dag"]


def test_a_run_that_was_to_kill_nothing_passes_without_kills(good):
    assert find_faults(PARTS, dataclasses.replace(good, kills=[]), kills_planned=False) == []


def test_a_trigger_that_is_left_behind_is_a_fault(good):
    assert faults_with(good, triggers=2) == ["Airflow still has triggers: 2"]
