"""How many jobs Segmind gets for several tries of a task and for several tasks."""

from __future__ import annotations

from tests.photos import subject_pixels

from .conftest import BUCKET


def test_a_retry_after_a_timeout_starts_at_once_and_waits_for_the_same_job(world, runs):
    run = runs["impatient"]
    assert run.succeeded()  # within the timeout of wait(), although its retry_delay is half an hour
    [task] = run.tasks()
    assert task["try_number"] > 1
    assert "SegmindJobTimeoutError" in run.log(attempt=1)
    assert world.posts(run.facts()["image"]) == 1


def test_a_retry_with_another_image_submits_a_new_job_and_logs_the_abandoned_one(world, runs):
    run = runs["changing"]
    assert run.succeeded()
    [abandoned, new] = _jobs(
        world, run.airflow.api.get(f"dags/{run.dag_id}/dagRuns/{run.run_id}")["conf"]["images"][:2]
    )
    assert f"since request {abandoned} was submitted. A new job is submitted" in run.log(attempt=2)
    assert run.facts()["request_id"] == new


def _jobs(world, images):
    """Return the request ids of images that have one job each."""
    jobs = world.emulator.jobs()["jobs"]
    found = [[job["request_id"] for job in jobs if job["image"].endswith(image.rpartition("/")[2])] for image in images]
    assert [len(ids) for ids in found] == [1] * len(images)
    return [ids[0] for ids in found]


def test_two_tasks_with_the_same_image_submit_two_jobs(world, runs):
    run = runs["twice"]
    assert run.succeeded()
    facts = [run.airflow.api.xcom(run.dag_id, run.run_id, name) for name in ("first", "second")]
    assert facts[0]["image"] == facts[1]["image"]
    assert facts[0]["request_id"] != facts[1]["request_id"]
    assert world.posts(facts[0]["image"]) == 2


def test_a_bad_value_among_mapped_images_fails_only_its_own_task_and_without_retries(world, runs):
    run = runs["expanded"]
    assert run.wait() == "failed"
    tasks = sorted(run.tasks(), key=lambda task: task["map_index"])
    assert [task["state"] for task in tasks] == ["success", "failed", "success"]
    assert (tasks[1]["try_number"], tasks[1]["max_tries"]) == (1, 2)
    assert f"s3://{BUCKET}/folder/" in run.log(map_index=1)
    for good in (0, 2):
        assert subject_pixels(world.s3.read(run.facts(good)["uri"])["Body"]) == 0


def test_the_payload_can_be_mapped(world, runs):
    run = runs["payloads"]
    assert run.succeeded()
    stored = {run.facts(task["map_index"])["uri"] for task in run.tasks()}
    assert len(stored) == 2
    for uri in stored:
        assert subject_pixels(world.s3.read(uri)["Body"]) == 0
