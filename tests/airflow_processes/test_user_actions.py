"""What users do to a task in Airflow's UI, and how many images they pay for."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from tests.photos import subject_pixels

from .conftest import BUCKET, Run, World


def start(world: World, name: str, seconds: float) -> tuple[Run, str]:
    """Start a run whose job takes some seconds; return the run and its image."""
    image = world.new_photo()
    world.let_job_take(image, seconds)
    return world.start("erase_cleared", "erase", image=image, destination=f"s3://{BUCKET}/{name}.png"), image


def wait_until(run: Run, condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 90
    while not condition():
        run.airflow.ensure_running()
        assert time.monotonic() < deadline, f"{run.tasks()}\n{run.log()}"
        time.sleep(0.1)


def state(run: Run) -> str | None:
    return run.tasks()[0]["state"]


def clear(run: Run) -> None:
    run.airflow.api.post(
        f"dags/{run.dag_id}/clearTaskInstances",
        {"dry_run": False, "dag_run_id": run.run_id, "task_ids": ["erase"], "only_failed": False},
    )


def mark(run: Run, new_state: str) -> None:
    run.airflow.api.patch(
        f"dags/{run.dag_id}/dagRuns/{run.run_id}/taskInstances/{run.task_id}", {"new_state": new_state}
    )


def test_clearing_a_successful_task_submits_a_new_job(world):
    run, image = start(world, "cleared-success", seconds=0.5)
    assert run.succeeded()
    first = run.facts()["request_id"]
    clear(run)
    wait_until(run, lambda: state(run) == "success" and run.facts() is not None and run.facts()["request_id"] != first)

    assert world.posts(image) == 2


def test_clearing_a_task_whose_image_has_changed_submits_a_new_job_and_logs_the_abandoned_one(world):
    images = [world.new_photo(), world.new_photo()]
    world.let_job_take(images[0], seconds=60)
    run = world.start("erase_changing", "erase", images=images, destination=f"s3://{BUCKET}/changed.png")
    wait_until(run, lambda: state(run) == "deferred")
    abandoned = run.airflow.api.xcom(run.dag_id, run.run_id, "erase", key="request_id")
    clear(run)
    wait_until(run, lambda: state(run) != "deferred")

    assert run.succeeded()
    assert f"since request {abandoned} was submitted. A new job is submitted" in run.log(attempt=2)
    assert [world.posts(image) for image in images] == [1, 1]


def test_clearing_a_deferred_task_continues_with_its_job(world):
    run, image = start(world, "cleared-deferred", seconds=12)
    wait_until(run, lambda: state(run) == "deferred")
    clear(run)
    wait_until(run, lambda: state(run) != "deferred")

    assert run.succeeded()
    assert world.posts(image) == 1


@pytest.mark.parametrize("marked", ["failed", "success"])
def test_clearing_a_task_that_was_marked_while_deferred_stores_the_result_of_its_job(world, marked):
    run, image = start(world, f"marked-{marked}", seconds=8)
    wait_until(run, lambda: state(run) == "deferred")
    mark(run, marked)
    assert run.wait() == marked  # SQLite locks no rows, so that a clear is lost while the run is being closed
    clear(run)
    wait_until(run, lambda: state(run) == "success" and run.facts() is not None)

    assert world.posts(image) == 1
    assert subject_pixels(world.s3.read(f"s3://{BUCKET}/marked-{marked}.png")["Body"]) == 0


def test_a_task_that_deferred_before_its_dag_was_paused_stores_its_result_after_unpausing(world):
    run, image = start(world, "paused", seconds=8)
    wait_until(run, lambda: state(run) == "deferred")
    run.airflow.api.patch(f"dags/{run.dag_id}", {"is_paused": True})
    wait_until(run, lambda: state(run) != "deferred")
    run.airflow.api.patch(f"dags/{run.dag_id}", {"is_paused": False})

    assert run.succeeded()
    assert world.posts(image) == 1


def test_two_concurrent_runs_with_the_same_image_submit_two_jobs(world):
    first, image = start(world, "at-once", seconds=8)
    again = world.start("erase_cleared", "erase", image=image, destination=f"s3://{BUCKET}/at-once-2.png")

    assert first.succeeded()
    assert again.succeeded()
    assert world.posts(image) == 2
    assert first.facts()["request_id"] != again.facts()["request_id"]


def test_after_a_run_was_deleted_a_new_run_submits_a_new_job(world):
    run, image = start(world, "deleted", seconds=8)
    wait_until(run, lambda: state(run) == "deferred")
    mark(run, "failed")  # Airflow refuses to delete a run that is active
    assert run.wait() == "failed"
    run.airflow.api.delete(f"dags/{run.dag_id}/dagRuns/{run.run_id}")
    again = world.start("erase_cleared", "erase", image=image, destination=f"s3://{BUCKET}/deleted.png")

    assert again.succeeded()
    assert world.posts(image) == 2
