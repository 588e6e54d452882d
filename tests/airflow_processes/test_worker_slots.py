"""While the job runs at Segmind, the task holds no worker; watched as it happens."""

from __future__ import annotations

import sqlite3
import time

import psutil
import pytest
from cryptography.fernet import Fernet

from demo.emulator import KEY

from .conftest import JOB_SECONDS, Run, World


@pytest.fixture(scope="module")
def deferrable(world: World) -> Run:
    return world.start_variant("deferrable")


@pytest.fixture(scope="module")
def seen_while_deferred(world: World, deferrable: Run) -> dict:
    """Look at everything at the moment when the task has just been deferred."""
    history = deferrable.history()
    deadline = time.monotonic() + 90
    while history.look() != "deferred":
        assert time.monotonic() < deadline, history.seen
        time.sleep(0.05)
    task = deferrable.tasks()[0]
    with sqlite3.connect(f"file:{world.airflow.home / 'airflow.db'}?mode=ro", uri=True) as database:
        rows = database.execute(
            "SELECT classpath, kwargs FROM trigger"
            " WHERE id IN (SELECT trigger_id FROM task_instance WHERE id IN (?, ?))",
            (task["id"], task["id"].replace("-", "")),
        ).fetchall()
    database.close()
    pool = world.airflow.api.get("pools/single")
    while deferrable.tasks()[0]["state"] == "deferred" and (processes := processes_of(task)):
        time.sleep(0.1)
    assert deferrable.tasks()[0]["state"] == "deferred", "the job was over first"
    return {"pool": pool, "task": task, "trigger": rows, "processes": processes}


def processes_of(task: dict) -> list[str]:
    """Return the command lines of the processes that are about a task: Airflow puts its id into their titles."""
    lines = [" ".join(process.info["cmdline"] or []) for process in psutil.process_iter(["cmdline"])]
    return [line for line in lines if task["id"] in line]


def test_a_deferred_task_leaves_its_pool_slot_free(seen_while_deferred):
    pool = seen_while_deferred["pool"]
    assert (pool["open_slots"], pool["deferred_slots"], pool["running_slots"]) == (1, 1, 0)


def test_a_deferred_task_has_no_process(seen_while_deferred):
    assert seen_while_deferred["processes"] == []


def test_the_trigger_row_holds_the_job_and_no_secret(world, seen_while_deferred):
    [(classpath, kwargs)] = seen_while_deferred["trigger"]
    if not kwargs.startswith("{"):  # whether Airflow encrypts them depends on its version
        kwargs = Fernet(world.airflow.env["AIRFLOW__CORE__FERNET_KEY"]).decrypt(kwargs.encode()).decode()
    assert classpath == "airflow_provider_segmind.triggers.segmind.SegmindJobTrigger"
    assert '"request_id"' in kwargs
    assert KEY not in kwargs
    assert "X-Amz-Signature" not in kwargs


def test_the_job_runs_between_two_short_worker_legs(world, deferrable):
    assert deferrable.succeeded()
    states = deferrable.history().states()
    moments: dict[str, list[float]] = {}
    for moment, state in states:
        moments.setdefault(state, []).append(moment)
    leg_1, leg_2 = moments["running"]
    [deferred], [end] = moments["deferred"], moments["success"]
    assert leg_1 < deferred < leg_2 < end
    job = world.emulator.jobs()["jobs"]
    [mine] = [one for one in job if one["request_id"] == deferrable.facts()["request_id"]]
    # The whole job lies in the time without a worker, but for the moment in which leg 1 ends.
    assert leg_2 - deferred > JOB_SECONDS * 0.8
    assert leg_2 > mine["created"] + JOB_SECONDS


def test_the_second_worker_leg_asks_the_api_for_nothing(world, deferrable):
    assert deferrable.succeeded()
    leg_2 = [moment for moment, state in deferrable.history().states() if state == "running"][1]
    kinds = [(entry["kind"], entry["time"] > leg_2) for entry in world.requests(deferrable.facts()["request_id"])]
    assert [kind for kind, in_leg_2 in kinds if in_leg_2] == ["file"]
    assert ("result", False) in kinds, "the trigger asks where the file is"


def test_a_waiting_task_does_the_same_in_one_leg(world, runs):
    waiting = runs["waiting"]
    assert waiting.succeeded()
    states = waiting.history().states()
    assert [state for _, state in states] == ["running", "success"]
    assert states[1][0] - states[0][0] > JOB_SECONDS
