from __future__ import annotations

import hashlib

import pytest

from demo.s3_server import split
from tests.photos import subject_pixels

from .conftest import file_name

ERASED = ["waiting", "inline", "uri_connection", "database_connection", "one", "any_model"]


@pytest.mark.parametrize("name", ERASED)
def test_the_picture_without_its_subject_is_in_s3(world, runs, name):
    assert runs[name].succeeded()
    facts = runs[name].facts()
    stored = world.s3.read(facts["uri"])
    assert subject_pixels(stored["Body"]) == 0
    assert stored["ContentType"] == facts["content_type"] == "image/png"
    assert (len(stored["Body"]), hashlib.sha256(stored["Body"]).hexdigest()) == (facts["size"], facts["sha256"])
    assert (facts["width"], facts["height"]) == (120, 90)


def test_the_object_says_where_it_comes_from(world, runs):
    assert runs["one"].succeeded()
    facts = runs["one"].facts()
    metadata = world.s3.read(facts["uri"])["Metadata"]
    assert metadata == {
        "segmind-request-id": facts["request_id"],
        "segmind-model": "bria-erase-foreground",
        "segmind-source": facts["image"],
    }


def test_a_given_key_is_used_as_it_is(runs):
    assert runs["one"].succeeded()
    assert runs["one"].facts()["uri"] == "s3://photos/examples/one.png"


def test_the_task_returns_the_jobs_metrics(world, runs):
    assert runs["one"].succeeded()
    facts = runs["one"].facts()
    [job] = [job for job in world.emulator.jobs()["jobs"] if job["request_id"] == facts["request_id"]]
    assert facts["metrics"]["cost"] == job["cost"] > 0
    assert facts["metrics"]["inference_time"] > 0


def test_each_photo_under_a_prefix_becomes_a_picture(world, runs):
    assert runs["prefix"].succeeded()
    assert world.s3.keys("photos", "examples/erased") == [f"examples/erased/holiday-{n}.png" for n in range(3)]
    for task in runs["prefix"].tasks():
        uri = runs["prefix"].facts(task["map_index"])["uri"]
        assert subject_pixels(world.s3.read(uri)["Body"]) == 0


def test_images_and_destinations_are_mapped_together(world, runs):
    assert runs["each"].succeeded()
    uris = {runs["each"].facts(task["map_index"])["uri"] for task in runs["each"].tasks()}
    assert uris == {"s3://photos/each/a.png", "s3://photos/each/b.png"}
    assert all(split(uri)[1] in world.s3.keys("photos", "each/") for uri in uris)


def test_each_image_was_submitted_once(world, runs):
    for run in runs.values():
        run.wait()
    posts = world.emulator.jobs()["posts_per_image"]
    twice = file_name(runs["twice"].facts()["image"])  # asked for by two tasks
    assert {count for image, count in posts.items() if not image.endswith(f"/{twice}")} == {1}


def test_a_refused_key_fails_the_task_without_burning_retries(world, runs):
    run = runs["refused_key"]
    assert run.wait() == "failed"
    [task] = run.tasks()
    assert (task["state"], task["try_number"], task["max_tries"]) == ("failed", 1, 2)
    assert "SegmindAuthError" in run.log()
