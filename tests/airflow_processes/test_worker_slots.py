"""While the job runs at Segmind, a deferrable task occupies no worker. Observed while it happens."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing
from typing import Any, NamedTuple

import psutil
import pytest
from cryptography.fernet import Fernet

from demo.emulator import KEY

from .conftest import JOB_SECONDS, Run, World


class Deferred(NamedTuple):
    """A run, and what was observed just after its task had deferred."""

    run: Run
    pool: dict[str, Any]
    trigger: tuple[str, str]
    processes: list[str]


@pytest.fixture(scope="module")
def deferred(world: World) -> Deferred:
    run = world.start_variant("deferrable")
    history = run.history()
    deadline = time.monotonic() + 90
    while history.update() != "deferred":
        assert time.monotonic() < deadline, history.seen
        time.sleep(0.05)
    task = run.tasks()[0]
    with closing(sqlite3.connect(f"file:{world.airflow.home / 'airflow.db'}?mode=ro", uri=True)) as database:
        trigger = database.execute(
            "SELECT classpath, kwargs FROM trigger"
            " WHERE id IN (SELECT trigger_id FROM task_instance WHERE id IN (?, ?))",
            (task["id"], task["id"].replace("-", "")),
        ).fetchone()
    pool = world.airflow.api.get("pools/single")
    while run.tasks()[0]["state"] == "deferred" and (processes := processes_of(task)):
        time.sleep(0.1)
    assert run.tasks()[0]["state"] == "deferred", "The job ended before the process of the task had."
    return Deferred(run, pool, trigger, processes)


def processes_of(task: dict[str, Any]) -> list[str]:
    """Return the command lines of a task's processes. Airflow puts the id of the task instance into their titles."""
    lines = [" ".join(process.info["cmdline"] or []) for process in psutil.process_iter(["cmdline"])]
    return [line for line in lines if task["id"] in line]


def test_a_deferred_task_frees_its_pool_slot(deferred):
    pool = deferred.pool
    assert (pool["open_slots"], pool["deferred_slots"], pool["running_slots"]) == (1, 1, 0)


def test_a_deferred_task_has_no_process(deferred):
    assert deferred.processes == []


def test_the_trigger_row_has_the_request_id_but_no_secret(world, deferred):
    classpath, kwargs = deferred.trigger
    if not kwargs.startswith("{"):  # some versions of Airflow encrypt it
        kwargs = Fernet(world.airflow.env["AIRFLOW__CORE__FERNET_KEY"]).decrypt(kwargs.encode()).decode()
    assert classpath == "airflow_provider_segmind.triggers.segmind.SegmindJobTrigger"
    assert '"request_id"' in kwargs
    assert KEY not in kwargs
    assert "X-Amz-Signature" not in kwargs


def test_the_job_runs_while_the_task_is_deferred(world, deferred):
    run = deferred.run
    assert run.succeeded()
    moments: dict[str, list[float]] = {}
    for moment, state in run.history().states():
        moments.setdefault(state, []).append(moment)
    submitting, storing = moments["running"]
    [deferral], [end] = moments["deferred"], moments["success"]
    assert submitting < deferral < storing < end
    [job] = [job for job in world.emulator.jobs()["jobs"] if job["request_id"] == run.facts()["request_id"]]
    # The job starts shortly before the deferral, when the worker submits it.
    assert storing - deferral > JOB_SECONDS * 0.8
    assert storing > job["created"] + JOB_SECONDS


def test_after_the_deferral_the_worker_only_downloads_the_file(world, deferred):
    run = deferred.run
    assert run.succeeded()
    storing = [moment for moment, state in run.history().states() if state == "running"][1]
    requests = [(entry["kind"], entry["time"] > storing) for entry in world.requests(run.facts()["request_id"])]
    assert [kind for kind, by_the_worker in requests if by_the_worker] == ["file"]
    assert ("result", False) in requests, "The trigger should have asked for the address of the file."


def test_a_task_that_is_not_deferrable_runs_until_its_job_has_ended(world, runs):
    run = runs["waiting"]
    assert run.succeeded()
    [(start, first), (end, last)] = run.history().states()
    assert [first, last] == ["running", "success"]
    assert end - start > JOB_SECONDS
