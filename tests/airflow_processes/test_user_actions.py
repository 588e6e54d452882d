"""What users do to a task in Airflow's UI, and what it costs them."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from tests.photos import subject_pixels

from .conftest import BUCKET, Run, World


def start(world: World, name: str, seconds: float) -> tuple[Run, str]:
    """Start a run whose job takes a while; return it and its image."""
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


def test_clearing_a_success_makes_a_new_image(world):
    run, image = start(world, "cleared-success", seconds=0.5)
    assert run.succeeded()
    first = run.facts()["request_id"]
    clear(run)
    wait_until(run, lambda: state(run) == "success" and run.facts() is not None and run.facts()["request_id"] != first)

    assert world.posts(image) == 2


def test_clearing_a_task_whose_image_has_changed_is_a_new_job_and_the_log_names_the_one_it_left(world):
    images = [world.new_photo(), world.new_photo()]
    world.let_job_take(images[0], seconds=60)
    run = world.start("erase_changing", "erase", images=images, destination=f"s3://{BUCKET}/changed.png")
    wait_until(run, lambda: state(run) == "deferred")
    left = run.airflow.api.xcom(run.dag_id, run.run_id, "erase", key="request_id")
    clear(run)
    wait_until(run, lambda: state(run) != "deferred")

    assert run.succeeded()
    assert f"The inputs have changed since request {left}" in run.log(attempt=2)
    assert [world.posts(image) for image in images] == [1, 1]


def test_clearing_a_deferred_task_goes_on_with_its_job(world):
    run, image = start(world, "cleared-deferred", seconds=12)
    wait_until(run, lambda: state(run) == "deferred")
    clear(run)
    wait_until(run, lambda: state(run) != "deferred")

    assert run.succeeded()
    assert world.posts(image) == 1


@pytest.mark.parametrize("marked", ["failed", "success"])
def test_a_deferred_task_that_was_marked_is_fetched_by_a_later_clear(world, marked):
    run, image = start(world, f"marked-{marked}", seconds=8)
    wait_until(run, lambda: state(run) == "deferred")
    mark(run, marked)
    assert run.wait() == marked  # in SQLite, which locks no rows, a clear is lost on a run that is just being closed
    clear(run)
    wait_until(run, lambda: state(run) == "success" and run.facts() is not None)

    assert world.posts(image) == 1
    assert subject_pixels(world.s3.read(f"s3://{BUCKET}/marked-{marked}.png")["Body"]) == 0


def test_a_paused_dag_stores_its_picture_when_it_goes_on(world):
    run, image = start(world, "paused", seconds=8)
    wait_until(run, lambda: state(run) == "deferred")
    run.airflow.api.patch(f"dags/{run.dag_id}", {"is_paused": True})
    wait_until(run, lambda: state(run) != "deferred")
    run.airflow.api.patch(f"dags/{run.dag_id}", {"is_paused": False})

    assert run.succeeded()
    assert world.posts(image) == 1


def test_two_runs_on_the_same_image_at_once_are_two_jobs_and_two_notes(world):
    first, image = start(world, "at-once", seconds=8)
    again = world.start("erase_cleared", "erase", image=image, destination=f"s3://{BUCKET}/at-once-2.png")

    assert first.succeeded()
    assert again.succeeded()
    assert world.posts(image) == 2
    assert first.facts()["request_id"] != again.facts()["request_id"]


def test_a_deleted_run_takes_its_note_along_and_a_new_run_is_a_new_job(world):
    run, image = start(world, "deleted", seconds=8)
    wait_until(run, lambda: state(run) == "deferred")
    mark(run, "failed")  # Airflow deletes no run that is under way
    assert run.wait() == "failed"
    run.airflow.api.delete(f"dags/{run.dag_id}/dagRuns/{run.run_id}")
    again = world.start("erase_cleared", "erase", image=image, destination=f"s3://{BUCKET}/deleted.png")

    assert again.succeeded()
    assert world.posts(image) == 2
