"""What tries and tasks of Airflow's are to Segmind: one job, or several."""

from __future__ import annotations

from tests.photos import subject_pixels

from .conftest import BUCKET


def test_a_timeout_is_retried_at_once_and_goes_on_with_its_job(world, runs):
    run = runs["impatient"]
    assert run.succeeded()  # its retry_delay is half an hour
    [task] = run.tasks()
    assert task["try_number"] > 1
    assert "SegmindJobTimeoutError" in run.log(attempt=1)
    assert world.posts(run.facts()["image"]) == 1


def test_an_image_that_has_changed_at_a_retry_is_a_new_job_and_the_log_names_the_one_it_left(world, runs):
    run = runs["changing"]
    assert run.succeeded()
    [left, made] = _jobs(world, run.airflow.api.get(f"dags/{run.dag_id}/dagRuns/{run.run_id}")["conf"]["images"][:2])
    assert f"The inputs have changed since request {left}" in run.log(attempt=2)
    assert run.facts()["request_id"] == made


def _jobs(world, images):
    """Return the id of the one job of each image."""
    jobs = world.emulator.jobs()["jobs"]
    found = [[job["request_id"] for job in jobs if job["image"].endswith(image.rpartition("/")[2])] for image in images]
    assert [len(ids) for ids in found] == [1] * len(images)
    return [ids[0] for ids in found]


def test_two_tasks_on_the_same_image_are_two_jobs(world, runs):
    run = runs["twice"]
    assert run.succeeded()
    facts = [run.airflow.api.xcom(run.dag_id, run.run_id, name) for name in ("first", "second")]
    assert facts[0]["image"] == facts[1]["image"]
    assert facts[0]["request_id"] != facts[1]["request_id"]
    assert world.posts(facts[0]["image"]) == 2


def test_a_bad_value_among_mapped_images_fails_alone_and_burns_no_retries(world, runs):
    run = runs["expanded"]
    assert run.wait() == "failed"
    tasks = sorted(run.tasks(), key=lambda task: task["map_index"])
    assert [task["state"] for task in tasks] == ["success", "failed", "success"]
    assert (tasks[1]["try_number"], tasks[1]["max_tries"]) == (1, 2)
    assert f"s3://{BUCKET}/folder/" in run.log(map_index=1)
    for good in (0, 2):
        assert subject_pixels(world.s3.read(run.facts(good)["uri"])["Body"]) == 0


def test_payloads_are_mapped(world, runs):
    run = runs["payloads"]
    assert run.succeeded()
    stored = {run.facts(task["map_index"])["uri"] for task in run.tasks()}
    assert len(stored) == 2
    for uri in stored:
        assert subject_pixels(world.s3.read(uri)["Body"]) == 0
